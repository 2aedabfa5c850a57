"""The tiles of a grid that features touch, found without looking at each tile of the rectangle around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from osgeo import gdal

from ..errors import InputError
from ..windows import Grid, Window
from .raster_io import same_crs, spatial_reference

# Features are rasterised at this many parts of a tile per side, so a tile counts as touched up to a part too early.
PARTS = 8
# Tiles per side that are rasterised at once.
SIDE = 64
# Tiles per side of the rectangle around features; a raster of more could hardly be handled.
MOST_ACROSS = 2**16
# Tiles that are counted exactly, also where fewer are wanted at most.
COUNTED = 1_000_000
# Straight lines may be curves in another CRS: parts of the rectangle around features that are straight in both.
STRAIGHT_PARTS = 1024


def touched_tiles(path: str, layer: str, grid: Grid, crs: str, side: int, margin: float, most: int) -> np.ndarray:
    """Find the tiles with ground near features.

    Args:
        path: A GeoPackage with the features, in any CRS.
        layer: Its layer.
        grid: The pixels of the tiles, whose first tile begins at its corner.
        crs: Their CRS, as WKT.
        side: Side of a tile in pixels.
        margin: How far around the features ground is near, in units of the CRS.
        most: With more tiles than this, not all need be found.

    Returns:
        (n, 2) int64, row and column of each tile, row by row.

    Raises:
        InputError: The features cannot be transformed to the CRS, or lie very far apart.
    """
    cols, rows = -(-grid.width // side), -(-grid.height // side)
    if max(cols, rows) > MOST_ACROSS:
        raise InputError(
            f"The places to fetch lie up to {max(cols, rows) * side:,} pixels apart.",
            "Choose a larger PIXEL_SIZE, or features of one place at a time.",
        )
    large = grid._replace(step_x=grid.step_x * side, step_y=grid.step_y * side, width=cols, height=rows)
    file = f"/vsimem/near_{id(large)}.gpkg"
    try:
        dataset = _in_crs(path, layer, crs, file)
        found, count = [np.zeros((0, 2), np.int64)], 0
        for part in _parts(dataset.GetLayer(0), large, large.window, margin):
            corner = np.array([part.row_off, part.col_off])
            found.append(corner + np.argwhere(_touched(dataset.GetLayer(0), large, part, margin)))
            count += len(found[-1])
            if count > max(most, COUNTED):
                break
        del dataset
    except RuntimeError as error:
        raise InputError(
            f"The features cannot be placed in the CRS of the web layer ({error}).", "Choose features elsewhere."
        ) from None
    finally:
        gdal.Unlink(file)
    tiles = np.concatenate(found)
    return tiles[np.lexsort((tiles[:, 1], tiles[:, 0]))]


def _in_crs(path: str, layer: str, crs: str, file: str) -> gdal.Dataset:
    """Write the features to a file in memory, in the CRS."""
    source = gdal.OpenEx(path, gdal.OF_VECTOR, allowed_drivers=["GPKG"])
    opened = source.GetLayerByName(layer)
    reference, own = spatial_reference(crs), opened.GetSpatialRef()
    options: dict[str, Any] = {}
    if reference is not None and own is not None and not same_crs(own.ExportToWkt(), crs):
        left, right, bottom, top = opened.GetExtent()
        options = {"dstSRS": reference.ExportToWkt(), "reproject": True}
        options["segmentizeMaxDist"] = max(right - left, top - bottom) / STRAIGHT_PARTS
    return gdal.VectorTranslate(file, source, format="GPKG", layers=[layer], layerName="near", **options)


def _parts(layer: Any, grid: Grid, window: Window, margin: float) -> Iterator[Window]:
    """Parts of a window, small enough to be rasterised, with the bounds of a feature near; counted in tiles."""
    _filter(layer, grid, window, margin)
    if layer.GetNextFeature() is None:
        return
    if max(window.width, window.height) <= SIDE:
        yield window
        return
    width, height = (max(SIDE, 1 << (size - 1).bit_length() - 1) for size in (window.width, window.height))
    for row in range(0, window.height, height):
        for col in range(0, window.width, width):
            part = Window(window.col_off + col, window.row_off + row, width, height)
            yield from _parts(layer, grid, part.intersection(window), margin)


def _touched(layer: Any, grid: Grid, window: Window, margin: float) -> np.ndarray:
    """(H, W) bool, true for the tiles of a window with ground near features."""
    fine = grid._replace(step_x=grid.step_x / PARTS, step_y=grid.step_y / PARTS)
    reach = [int(-(-margin // abs(step))) for step in (fine.step_y, fine.step_x)]
    col, row, width, height = (PARTS * number for number in window)
    around = Window(col - reach[1], row - reach[0], width + 2 * reach[1], height + 2 * reach[0])
    target = gdal.GetDriverByName("MEM").Create("", around.width, around.height, 1, gdal.GDT_Byte)
    target.SetGeoTransform(fine.geotransform(around))
    if layer.GetSpatialRef() is not None:
        target.SetSpatialRef(layer.GetSpatialRef())
    _filter(layer, grid, window, margin)
    gdal.RasterizeLayer(target, [1], layer, burn_values=[1], options=["ALL_TOUCHED=TRUE"])
    found = target.GetRasterBand(1).ReadAsArray() != 0
    for axis, cells_near in enumerate(reach):
        found = _any_of(found, 2 * cells_near + 1, axis)
    return found.reshape(window.height, PARTS, window.width, PARTS).any(axis=(1, 3))


def _any_of(found: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Whether any of `count` neighbours along an axis is true; the result is shorter by `count` − 1."""
    sums = np.cumsum(found, axis=axis, dtype=np.int32)
    sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
    length = found.shape[axis] - count + 1
    ends, begins = (sums.take(range(begin, begin + length), axis) for begin in (count, 0))
    answer: np.ndarray = ends > begins
    return answer


def _filter(layer: Any, grid: Grid, window: Window, margin: float) -> None:
    left, bottom, right, top = grid.bounds_of(window)
    layer.SetSpatialFilterRect(left - margin, bottom - margin, right + margin, top + margin)
    layer.ResetReading()
