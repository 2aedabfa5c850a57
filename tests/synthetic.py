"""Tiny scenes with labels, used by all tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal, ogr, osr

gdal.UseExceptions()
ogr.UseExceptions()
osr.UseExceptions()

UTM = 32633
LEFT, TOP = 400000.0, 5500000.0
CLASSES = [(1, "water", "#3366cc"), (2, "field", "#cccc33"), (3, "forest", "#116622")]


def reference(epsg: int) -> osr.SpatialReference:
    """A CRS with x before y."""
    found = osr.SpatialReference()
    found.ImportFromEPSG(epsg)
    found.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return found


def write_raster(
    path: Path | str,
    data: np.ndarray,
    left: float = LEFT,
    top: float = TOP,
    step: float = 1.0,
    epsg: Optional[int] = UTM,
    nodata: Optional[float] = None,
    options: Sequence[str] = (),
) -> str:
    """Write (C, H, W) or (H, W) data as a GeoTIFF; gives its path."""
    data = data if data.ndim == 3 else data[None]
    code = gdal.GetDataTypeByName(
        {"uint8": "Byte", "int16": "Int16", "uint16": "UInt16", "int32": "Int32", "float32": "Float32"}[data.dtype.name]
    )
    bands, height, width = data.shape
    target = gdal.GetDriverByName("GTiff").Create(str(path), width, height, bands, code, list(options))
    target.SetGeoTransform((left, step, 0, top, 0, -step))
    if epsg is not None:
        target.SetSpatialRef(reference(epsg))
    if nodata is not None:
        target.GetRasterBand(1).SetNoDataValue(nodata)
    target.WriteArray(data)
    target.FlushCache()
    return str(path)


def class_mask(height: int = 256, width: int = 320) -> np.ndarray:
    """(H, W) uint8 with the values of `CLASSES` in a pattern of stripes and a lake, 0 in a corner without labels."""
    row, col = np.mgrid[:height, :width]
    mask = np.where((col // 40 + row // 48) % 2 == 0, 2, 3).astype(np.uint8)
    mask[(row - height / 2) ** 2 + (col - width / 2) ** 2 < (min(height, width) / 3.5) ** 2] = 1
    mask[: height // 16, : width // 16] = 0
    return mask


def scene(mask: np.ndarray, bands: int = 3, seed: int = 0) -> np.ndarray:
    """(C, H, W) uint8: each class has a colour of its own, plus noise, so that a network learns it in moments."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(1).integers(40, 215, (bands, 256))
    return np.clip(means[:, mask] + rng.normal(0, 12, (bands, *mask.shape)), 0, 255).astype(np.uint8)


def write_scene(folder: Path, height: int = 256, width: int = 320, bands: int = 3, **raster: Any) -> tuple[str, str]:
    """Write an image and its label raster with colours and names; gives both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    mask = class_mask(height, width)
    image = write_raster(folder / "image.tif", scene(mask, bands), **raster)
    labels = write_raster(folder / "labels.tif", mask, **{**raster, "nodata": 0})
    source = gdal.Open(labels, gdal.GA_Update)
    table = gdal.ColorTable()
    for value, _, color in CLASSES:
        table.SetColorEntry(value, (*(int(color[at : at + 2], 16) for at in (1, 3, 5)), 255))
    source.GetRasterBand(1).SetColorTable(table)
    source.GetRasterBand(1).SetCategoryNames(["unlabelled", *(name for _, name, _ in CLASSES)])
    source.FlushCache()
    return image, labels


def rectangle(left: float, bottom: float, right: float, top: float) -> str:
    """A rectangle as WKT."""
    return f"POLYGON(({left} {bottom},{right} {bottom},{right} {top},{left} {top},{left} {bottom}))"


def write_polygons(
    path: Path | str, polygons: Sequence[tuple[float, str]], layer: str = "labels", epsg: int = UTM,
    kind: int = ogr.OFTInteger,
) -> str:  # fmt: skip
    """Write (value, WKT) polygons as the GeoPackage that the engine takes; gives its path."""
    target = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
    made = target.CreateLayer(layer, reference(epsg), ogr.wkbPolygon)
    made.CreateField(ogr.FieldDefn("value", kind))
    for value, wkt in polygons:
        feature = ogr.Feature(made.GetLayerDefn())
        feature.SetField("value", value)
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkt(wkt))
        made.CreateFeature(feature)
    return str(path)


def write_dataset(folder: Path, bands: int = 3, chip_size: int = 64, **settings: Any) -> str:
    """Export a small chip dataset of `write_scene`; gives its folder."""
    from plugin.engine.chips.export import export_chips
    from plugin.engine.config import ExportChipsConfig
    from plugin.engine.events import Reporter

    image, labels = write_scene(folder / "scene", bands=bands)
    config = ExportChipsConfig(
        input=(image,), label_rasters=(labels,), output=str(folder / "chips"), chip_size=chip_size, **settings
    )
    export_chips(config, Reporter())
    return config.output
