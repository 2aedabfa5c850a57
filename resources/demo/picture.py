"""A picture of an image, its labels and a class raster side by side.

    python picture.py IMAGE LABELS FIELD MAP CHIPS OUTPUT.png

LABELS are polygons with the class in FIELD, all of one class where FIELD is empty, or a class raster. Classes are
named and coloured as in MAP. The white outlines are the test chips of the dataset CHIPS. Needs numpy, GDAL and
matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from osgeo import gdal, ogr

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

gdal.UseExceptions()
ogr.UseExceptions()

WIDTH = 900  # pixels of each panel, at most


def main() -> None:
    """Draw the picture that the command line asks for."""
    image, labels, field, result, chips, output = sys.argv[1:]
    shown = gdal.Open(result)
    scale = min(1.0, WIDTH / max(shown.RasterXSize, shown.RasterYSize))
    size = max(1, round(shown.RasterXSize * scale)), max(1, round(shown.RasterYSize * scale))
    classes = read_classes(shown)
    mapped = gdal.Translate("", shown, format="MEM", width=size[0], height=size[1], resampleAlg="nearest")
    try:
        polygons = gdal.OpenEx(labels, gdal.OF_VECTOR)
    except RuntimeError:
        truth = warp_to(labels, mapped)
    else:
        truth = burn_polygons(polygons, field, classes, mapped)
    values = mapped.ReadAsArray(), truth
    present = [value for value in classes if any((array == value).any() for array in values)]

    figure, axes = plt.subplots(1, 3, figsize=(16.5, 6.2), dpi=100)
    panels = (true_color(image, mapped), *(paint(array, classes) for array in reversed(values)))
    outlines = test_outlines(chips, mapped)
    for axis, title, panel in zip(axes, ("Image", "Labels (outlined: test chips)", "Map"), panels):
        axis.imshow(panel, interpolation="antialiased")
        axis.set_title(title)
        axis.set_axis_off()
        for ring in outlines if title != "Image" else ():
            axis.plot(*ring.T, color="white", linewidth=1.1)
        axis.set_xlim(0, size[0])
        axis.set_ylim(size[1], 0)
    patches = [Patch(color=np.array(classes[value][1]) / 255, label=classes[value][0]) for value in present]
    figure.legend(handles=patches, loc="lower center", ncol=min(len(patches), 8), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(output)
    print(f"{output}: image, labels and map")


def read_classes(raster: gdal.Dataset) -> dict[int, tuple[str, tuple[int, int, int]]]:
    """value → (name, colour) of a class raster, from its attribute table."""
    table = raster.GetRasterBand(1).GetDefaultRAT()
    columns = {table.GetUsageOfCol(column): column for column in range(table.GetColumnCount())}
    value, name = columns.get(gdal.GFU_MinMax, 0), columns.get(gdal.GFU_Name, 1)
    colors = [columns[usage] for usage in (gdal.GFU_Red, gdal.GFU_Green, gdal.GFU_Blue)]
    return {
        table.GetValueAsInt(row, value): (
            table.GetValueAsString(row, name),
            tuple(table.GetValueAsInt(row, column) for column in colors),
        )
        for row in range(table.GetRowCount())
    }  # type: ignore[return-value]


def true_color(path: str, grid: gdal.Dataset) -> np.ndarray:
    """(H, W, 3) uint8: the first three bands (or one) on the grid, stretched between their 2nd and 98th percentiles."""
    source = gdal.Open(path)
    bands = [1, 2, 3] if source.RasterCount >= 3 else [1, 1, 1]
    left, step, _, top, _, down = grid.GetGeoTransform()
    size = grid.RasterXSize, grid.RasterYSize
    bounds = (left, top + down * size[1], left + step * size[0], top)
    small = gdal.Warp(
        "", source, format="MEM", outputBounds=bounds, width=size[0], height=size[1], resampleAlg="average"
    )
    data = np.stack([small.GetRasterBand(band).ReadAsArray() for band in bands], axis=-1).astype(float)
    known = np.isfinite(data).all(axis=-1) & (data != 0).any(axis=-1)
    low, high = np.percentile(data[known], (1, 99), axis=0) if known.any() else (0.0, 1.0)
    low, high = np.min(low), np.max(high)  # one stretch for all bands keeps the hues
    return (np.clip((np.nan_to_num(data) - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)


def burn_polygons(polygons: gdal.Dataset, field: str, classes: dict, grid: gdal.Dataset) -> np.ndarray:
    """(H, W) class values of polygons on a grid; text is looked up among the class names."""
    values = {name: value for value, (name, _) in classes.items()}
    background = values.pop("background", None)
    nodata = next(value for value in range(-1, -1000, -1) if value not in classes)
    target = gdal.GetDriverByName("MEM").Create("", grid.RasterXSize, grid.RasterYSize, 1, gdal.GDT_Int32)
    target.SetGeoTransform(grid.GetGeoTransform())
    target.SetProjection(grid.GetProjection())
    target.GetRasterBand(1).Fill(nodata if background is None else background)
    moved = gdal.VectorTranslate("", polygons, format="Memory", dstSRS=grid.GetProjection())
    layer = moved.GetLayer(0)
    layer.CreateField(ogr.FieldDefn("burnt", ogr.OFTInteger))
    for feature in layer:
        written = feature.GetFieldAsString(field) if field else next(iter(values))
        whole = written.lstrip("-").isdigit()
        if written not in values and not whole:
            layer.DeleteFeature(feature.GetFID())
            continue
        feature.SetField("burnt", values[written] if written in values else int(written))
        layer.SetFeature(feature)
    gdal.RasterizeLayer(target, [1], layer, options=["ATTRIBUTE=burnt"])
    return target.ReadAsArray()


def warp_to(path: str, grid: gdal.Dataset) -> np.ndarray:
    """(H, W) a class raster on the grid, by nearest neighbour."""
    target = gdal.GetDriverByName("MEM").Create("", grid.RasterXSize, grid.RasterYSize, 1, gdal.GDT_Int32)
    target.SetGeoTransform(grid.GetGeoTransform())
    target.SetProjection(grid.GetProjection())
    gdal.Warp(target, path, resampleAlg="nearest")
    return target.ReadAsArray()


def paint(values: np.ndarray, classes: dict) -> np.ndarray:
    """(H, W, 3) uint8: class values in their colours, all else light grey."""
    painted = np.full((*values.shape, 3), 235, np.uint8)
    for value, (_, color) in classes.items():
        painted[values == value] = color
    return painted


def test_outlines(chips: str, grid: gdal.Dataset) -> list[np.ndarray]:
    """The outlines of the ground of the test chips, each (n, 2) in pixels of the grid."""
    left, step, _, top, _, down = grid.GetGeoTransform()
    source = gdal.OpenEx(str(Path(chips) / "chips.gpkg"), gdal.OF_VECTOR)
    layer = source.GetLayer(0)
    layer.SetAttributeFilter("split = 'test'")
    together = ogr.Geometry(ogr.wkbMultiPolygon)
    for feature in layer:
        together.AddGeometry(feature.GetGeometryRef())
    if together.IsEmpty():
        return []
    border = together.UnionCascaded().Boundary()
    lines = [border.GetGeometryRef(i) for i in range(border.GetGeometryCount())] or [border]
    return [(np.array(line.GetPoints())[:, :2] - (left, top)) / (step, down) for line in lines]


if __name__ == "__main__":
    main()
