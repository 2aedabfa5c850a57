"""Overviews of rasters of classes: each pixel is the most frequent value of the four below it.

GDAL's own (`MODE`) take as long as a small network, because they count the values below each pixel of each level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from osgeo import gdal

from ...threads import WORKERS, work_ahead
from ...windows import Window, tiles
from .phases import Phase

# Windows of this side give the pixels of all levels above them. Of more levels than it has halvings, the last ones get
# the values of one of their pixels.
SIDE = 2048


class Part(NamedTuple):
    """A part of a band."""

    band: int  # number, from 1
    window: Window
    values: np.ndarray  # (H, W), or half of that


class Halves:
    """A raster in half its size, in a file that grows while the raster is written.

    From it follow all overviews, so the raster need not be read again, which takes as long as writing it. They are not
    written along with the raster: GDAL does not support that while other threads read rasters, since any of them may
    write blocks of its cache, and the raster and its overviews are one file with locks of their own
    (https://github.com/OSGeo/gdal/issues/1488).

    Args:
        path: The file.
        size: (height, width) of the raster.
        dtype, nodata: Of the raster.
        levels: The factors of the overviews.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], dtype: np.dtype[Any], nodata: int, levels: Sequence[int]
    ) -> None:  # fmt: skip
        self.path, self._size, self._dtype, self._nodata = path, size, dtype, nodata
        self._step = min(levels[-1], SIDE)
        self._windows: list[tuple[int, Window]] = []
        self.complete = True  # whether it has all that was written

    def add(self, window: Window, values: np.ndarray) -> None:
        """Add (bands, rows, cols) values of a window; of one that ends within pixels of the overviews, nothing is kept.

        Raises:
            OSError: The disk is full.
        """
        if not self.complete or not self._fits(window):
            self.complete = False
            return
        parts = (
            Part(number, part, one[part.slices_in(window)])
            for number, one in enumerate(values, start=1)
            for part in tiles(window, SIDE)
        )
        with (
            self.path.open("ab") as file,
            closing(work_ahead(lambda part: halved(part.values, self._nodata), parts, waiting=WORKERS + 1)) as found,
        ):
            for part, half in found:
                file.write(half.data)
                self._windows.append((part.band, part.window))

    def _fits(self, window: Window) -> bool:
        rows, cols = (window.row_off, window.row_end), (window.col_off, window.col_end)
        return all(
            begin % self._step == 0 and (end % self._step == 0 or end == size)
            for (begin, end), size in zip((rows, cols), self._size)
        )

    def read(self) -> Iterator[Part]:
        """Yield what was added."""
        if not self._windows:
            return
        with self.path.open("rb") as file:
            for band, window in self._windows:
                shape = -(-window.height // 2), -(-window.width // 2)
                values = np.fromfile(file, self._dtype, shape[0] * shape[1]).reshape(shape)
                yield Part(band, window, values)

    @property
    def pixels(self) -> int:
        """The number of the raster's pixels that were added, in all bands."""
        return sum(window.width * window.height for _, window in self._windows)


def write_modes(dataset: gdal.Dataset, levels: Sequence[int], phase: Phase, halves: Halves) -> None:
    """Write overviews into a raster that is open for update.

    Args:
        dataset: The raster; all bands have a nodata value.
        levels: The factors of the overviews: powers of 2, from 2 on, without gaps.
        phase: Receives progress.
        halves: The raster in half its size.
    """

    def above(part: Part) -> list[np.ndarray]:
        return [part.values, *halved_often(part.values, len(levels) - 1, nodata[part.band])]

    nodata = _add(dataset, levels)
    _write(dataset, levels, halves.read(), above, halves.pixels, phase)


def write_modes_again(
    dataset: gdal.Dataset, levels: Sequence[int], phase: Phase, written: Callable[[Window], bool]
) -> None:  # fmt: skip
    """Write overviews into a raster that is open for update, and is read for that.

    Args:
        dataset, levels, phase: As for `write_modes`.
        written: Whether anything was written to a window of the raster; elsewhere, GDAL fills overviews with nodata.
    """

    def above(part: Part) -> list[np.ndarray]:
        return halved_often(part.values, len(levels), nodata[part.band])

    nodata = _add(dataset, levels)
    windows = list(filter(written, tiles(Window(0, 0, dataset.RasterXSize, dataset.RasterYSize), SIDE)))
    # Not read by a thread: the raster is being written to.
    parts = (
        Part(number, window, dataset.GetRasterBand(number).ReadAsArray(*window))
        for number in nodata
        for window in windows
    )
    pixels = sum(window.width * window.height for window in windows) * len(nodata)
    _write(dataset, levels, parts, above, pixels, phase)


def _add(dataset: gdal.Dataset, levels: Sequence[int]) -> dict[int, int]:
    """Add overviews without values; returns the nodata value of each band by its number."""
    dataset.BuildOverviews("NONE", list(levels))
    numbers = range(1, dataset.RasterCount + 1)
    return {number: int(dataset.GetRasterBand(number).GetNoDataValue()) for number in numbers}


def _write(
    dataset: gdal.Dataset, levels: Sequence[int], parts: Iterable[Part], above: Callable[[Part], list[np.ndarray]],
    pixels: int, phase: Phase,
) -> None:  # fmt: skip
    """Write all levels `above` some parts, which have so many pixels."""
    done = 0
    with closing(work_ahead(above, parts, waiting=WORKERS + 1)) as pieces:
        for (number, window, _), smaller in pieces:
            band = dataset.GetRasterBand(number)
            for place, (level, values) in enumerate(zip(levels, smaller)):
                overview = band.GetOverview(place)
                overview.WriteArray(values, window.col_off // level, window.row_off // level)
            done += window.width * window.height
            phase.reach(done / pixels)


def halved_often(values: np.ndarray, times: int, nodata: int) -> list[np.ndarray]:
    """Return values `halved` once, twice and so on."""
    found: list[np.ndarray] = []
    for _ in range(times):
        found.append(halved(found[-1] if found else values, nodata))
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
