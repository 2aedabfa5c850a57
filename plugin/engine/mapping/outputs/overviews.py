"""Overviews of rasters of classes: each pixel is the most frequent value of the four below it.

GDAL's own (`MODE`) take as long as a small network, because they count the values below each pixel of each level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

import numpy as np
from osgeo import gdal

from ...threads import WORKERS, work_ahead
from ...windows import Window, tiles
from .phases import Phase

# Windows of this side are read at a time, and give the pixels of all levels above them. Of more levels than it has
# halvings, the last ones get the values of one of their pixels.
SIDE = 2048


def write_modes(
    dataset: gdal.Dataset, levels: Sequence[int], phase: Phase, written: Callable[[Window], bool]
) -> None:  # fmt: skip
    """Write overviews into a raster that is open for update.

    Args:
        dataset: The raster; all bands have a nodata value.
        levels: The factors of the overviews: powers of 2, from 2 on, without gaps.
        phase: Receives progress.
        written: Whether anything was written to a window of the raster; elsewhere, GDAL fills overviews with nodata.
    """
    dataset.BuildOverviews("NONE", list(levels))  # without values
    windows = list(filter(written, tiles(Window(0, 0, dataset.RasterXSize, dataset.RasterYSize), SIDE)))
    done, total = 0, sum(window.width * window.height for window in windows) * dataset.RasterCount
    for number in range(1, dataset.RasterCount + 1):
        band = dataset.GetRasterBand(number)
        nodata = int(band.GetNoDataValue())
        overviews = [band.GetOverview(place) for place in range(len(levels))]
        values = (band.ReadAsArray(*window) for window in windows)  # not by a thread: the raster is being written to
        halve = partial(halved_often, times=len(levels), nodata=nodata)
        with closing(work_ahead(halve, values, waiting=WORKERS + 1)) as pieces:
            for window, (_, smaller) in zip(windows, pieces):
                for level, overview, part in zip(levels, overviews, smaller):
                    overview.WriteArray(part, window.col_off // level, window.row_off // level)
                done += window.width * window.height
                phase.reach(done / total)


def halved_often(values: np.ndarray, times: int, nodata: int) -> list[np.ndarray]:
    """Return values `halved` once, twice and so on."""
    found = [halved(values, nodata)]
    for _ in range(times - 1):
        found.append(halved(found[-1], nodata))
    return found


def halved(values: np.ndarray, nodata: int) -> np.ndarray:
    """(H, W) → (⌈H / 2⌉, ⌈W / 2⌉): the most frequent value of each 2 × 2 pixels, without nodata.

    If several are as frequent, it is the one that comes first, row by row: no class is preferred to others.
    """
    height, width = values.shape
    if height % 2 or width % 2:  # of two pixels at the edge, each counts twice
        values = np.pad(values, ((0, height % 2), (0, width % 2)), "edge")
    first, second, third, fourth = (np.ascontiguousarray(values[row::2, col::2]) for row in (0, 1) for col in (0, 1))
    there = [one != nodata for one in (first, second, third)]
    found = fourth.copy()
    for one, known in ((third, there[2]), (second, there[1]), (first, there[0])):
        np.copyto(found, one, where=known)
    # Of four values, one that is there twice is not outnumbered.
    np.copyto(found, third, where=(third == fourth) & there[2])
    np.copyto(found, second, where=((second == third) | (second == fourth)) & there[1])
    np.copyto(found, first, where=((first == second) | (first == third) | (first == fourth)) & there[0])
    return found
