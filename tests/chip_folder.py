"""Small chip datasets, written by hand, with whatever oddities a test needs."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
from osgeo import gdal, ogr

from plugin.engine.chips.dataset import DatasetInfo
from plugin.engine.classes import ClassTable

gdal.UseExceptions()

CLASSES = [(10, "water", "#3366cc"), (20, "field", "#cccc33"), (30, "forest", "#116622")]
UNLABELLED = 0


def write_chip_folder(
    folder: Path,
    splits: dict[str, int],
    size: int = 64,
    bands: int = 3,
    dtype: str = "uint8",
    nodata: Optional[float] = None,
    band_names: Optional[tuple[str, ...]] = None,
    only: Optional[int] = None,
    seed: int = 0,
    folds: int = 0,
) -> str:
    """Write chips whose left, middle and right parts show the three classes, each in a value of its own.

    Args:
        splits: How many chips each split has.
        only: The one class value that all labels have.
        folds: Chips that are not for the test are dealt out to so many.
    """
    rng = np.random.default_rng(seed)
    table = ClassTable.from_rows(CLASSES)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    target = gdal.GetDriverByName("GPKG").Create(str(folder / "chips.gpkg"), 0, 0, 0, gdal.GDT_Unknown)
    layer = target.CreateLayer("chips", None, ogr.wkbPolygon)
    for name in ("image", "label", "split"):
        layer.CreateField(ogr.FieldDefn(name, ogr.OFTString))
    if folds:
        layer.CreateField(ogr.FieldDefn("fold", ogr.OFTInteger))
    for value in table.values.tolist():
        layer.CreateField(ogr.FieldDefn(f"pixels_{value}", ogr.OFTInteger))
    names = [split for split, count in splits.items() for _ in range(count)]
    counted = {split: np.zeros(len(table), int) for split in ("training", "validation", "test")}
    kept = []
    for number, split in enumerate(names):
        edges = np.sort(rng.integers(size // 8, size - size // 8, 2))
        column = np.searchsorted(edges, np.arange(size), side="right")
        mask = np.broadcast_to(table.values[column].astype(np.uint8), (size, size)).copy()
        if only is not None:
            mask[:] = only
        image = (mask[None] * np.arange(1, bands + 1)[:, None, None] + rng.normal(0, 3, (bands, size, size))).astype(
            dtype
        )
        mask[:3] = UNLABELLED
        if nodata is not None:
            image[:, -3:] = nodata
        _write(folder / f"images/{number}.tif", image)
        _write(folder / f"labels/{number}.tif", mask[None])
        kept.append(image)
        pixels = (mask[..., None] == table.values).sum(axis=(0, 1))
        counted[split] += pixels
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetField("image", f"images/{number}.tif")
        feature.SetField("label", f"labels/{number}.tif")
        feature.SetField("split", split)
        if folds:
            feature.SetField("fold", 0 if split == "test" else number % folds + 1)
        for value, count in zip(table.values.tolist(), pixels.tolist()):
            feature.SetField(f"pixels_{value}", count)
        layer.CreateFeature(feature)
    target.FlushCache()
    seen = np.stack([image[:, : size - 3] for image in kept]).astype(float)
    info = DatasetInfo(
        task="segmentation",
        band_names=band_names or tuple(f"band {number}" for number in range(1, bands + 1)),
        bands=tuple(range(1, bands + 1)),
        dtype=dtype,
        nodata=nodata,
        chip_size=size,
        stride=size,
        crs="",
        pixel_size=0.5,
        classes=table,
        label_nodata=UNLABELLED,
        sources=({"raster": "made up", "labels": "made up"},),
        split={"method": "blocks", "seed": 0},
        mean=tuple(seen.mean(axis=(0, 2, 3)).tolist()),
        std=tuple(seen.std(axis=(0, 2, 3)).tolist()),
        minimum=tuple(seen.min(axis=(0, 2, 3)).tolist()),
        maximum=tuple(seen.max(axis=(0, 2, 3)).tolist()),
        chip_counts={split: splits.get(split, 0) for split in counted},
        pixel_counts={split: counts.tolist() for split, counts in counted.items()},
    )
    (folder / "dataset.json").write_text(info.to_json())
    return str(folder)


def _write(path: Path, data: np.ndarray) -> None:
    code = {"uint8": gdal.GDT_Byte, "int16": gdal.GDT_Int16, "uint16": gdal.GDT_UInt16, "float32": gdal.GDT_Float32}
    bands, height, width = data.shape
    options = ["PROFILE=BASELINE", "PHOTOMETRIC=MINISBLACK"]
    target = gdal.GetDriverByName("GTiff").Create(str(path), width, height, bands, code[data.dtype.name], options)
    target.WriteArray(data)
    target.FlushCache()
