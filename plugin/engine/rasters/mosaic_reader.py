"""Reading of several rasters on one grid as one raster."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np

from ..windows import Window
from .raster_io import VIRTUAL_CACHE, RasterInfo, RasterReader, can_hold


class MosaicReader(RasterReader):
    """Reads windows of several rasters; where they overlap, the last one with data is on top.

    Each raster keeps its own nodata values and its mask. Values that no raster has are missing; they are read as the
    nodata value of the first raster that has one.

    Args:
        pieces: For each raster, its window in the grid of the mosaic, and a reader of these pixels. The window may
            extend beyond the grid.
        like: Describes the mosaic, but for its data type and nodata values.
    """

    def __init__(self, pieces: Sequence[tuple[Window, RasterReader]], like: RasterInfo) -> None:
        self.source, self.name = "", like.path
        self._readers = [reader for _, reader in pieces]
        self._windows = np.array([window for window, _ in pieces])
        dtype = np.result_type(*{reader.info.dtype for reader in self._readers})
        declared = zip(*(reader.info.nodata for reader in self._readers))
        nodata = tuple(_first_usable(values, dtype) for values in declared)
        self.info = dataclasses.replace(like, dtype=dtype, nodata=nodata)

    def close(self) -> None:
        """Close all files."""
        for reader in self._readers:
            reader.close()

    def files(self) -> list[str]:
        """The files of all rasters."""
        return [file for reader in self._readers for file in reader.files()]

    def cache_bytes(self, rows: int) -> int:
        """The bytes of cache for all rasters; see `RasterReader`."""
        total = 0
        for reader in self._readers:
            total += reader.cache_bytes(rows)
            if total >= VIRTUAL_CACHE:
                return VIRTUAL_CACHE
        return total

    def read(self, window: Window, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Read a window: (C, H, W) in a data type that can hold the values of all rasters, or in `out`."""
        return self.read_marked(window, out)[0]

    def read_marked(self, window: Window, out: Optional[np.ndarray] = None) -> tuple[np.ndarray, Optional[np.ndarray]]:
        """Read a window, and mark its missing values; see `RasterReader`."""
        data = self.buffer(window) if out is None else out
        missing = np.ones(data.shape, bool)
        for place, part in self._parts(window):
            rows, cols = part.slices_in(window)
            found, gaps = self._read_piece(place, part)
            if gaps is None:
                data[:, rows, cols], missing[:, rows, cols] = found, False
            else:
                np.copyto(data[:, rows, cols], found, casting="unsafe", where=~gaps)
                missing[:, rows, cols] &= gaps
        if not missing.any():
            return data, None
        for band, value in enumerate(self.info.nodata):
            data[band][missing[band]] = 0 if value is None else value
        return data, missing

    def shown(self, window: Window) -> Optional[np.ndarray]:
        """None, because masked values count as missing."""
        return None

    def _parts(self, window: Window) -> Iterator[tuple[int, Window]]:
        """The rasters that touch a window, and the part of it that they cover, in drawing order."""
        begin, size = self._windows[:, :2], self._windows[:, 2:]
        touching = ((begin < (window.col_end, window.row_end)) & (begin + size > window[:2])).all(axis=1)
        for place in np.flatnonzero(touching).tolist():
            yield place, Window(*self._windows[place].tolist()).intersection(window)

    def _read_piece(self, place: int, part: Window) -> tuple[np.ndarray, Optional[np.ndarray]]:
        """Read a part of the mosaic from one raster: (C, h, w), and where it has no data, None for nowhere."""
        reader, (col_off, row_off) = self._readers[place], self._windows[place, :2].tolist()
        own = part._replace(col_off=part.col_off - col_off, row_off=part.row_off - row_off)
        data, missing = reader.read_marked(own)
        shown = reader.shown(own)
        if shown is not None:
            hidden = np.broadcast_to(~shown, data.shape)
            missing = hidden if missing is None else missing | hidden
        return data, missing


def _first_usable(values: Sequence[Optional[float]], dtype: np.dtype[Any]) -> Optional[float]:
    """The first nodata value that a data type can hold; NaN for floats without any."""
    found = next((value for value in values if value is not None and can_hold(dtype, value)), None)
    return math.nan if found is None and dtype.kind == "f" else found
