"""Resampling of a raster to another grid while it is read.

Supports grids with the same axes in the same CRS only, where it is several times faster than GDAL's warp. virtual.py
handles all other cases.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple, Optional

import numpy as np

from ..windows import Grid, Window, tiles
from .raster_io import RasterReader, can_hold

NEAREST, BILINEAR, AVERAGE = "near", "bilinear", "average"
# How many source values are processed at once.
VALUES_AT_ONCE = 8_000_000
# Weights below this are rounding errors.
ROUNDING = 1e-6


class Taps(NamedTuple):
    """The source pixels and their weights for each output pixel along one axis.

    Both arrays are (n, k). Weights sum to 1, or to 0 for pixels outside of the source. `nearest` is (n,).
    """

    pixels: np.ndarray
    weight: np.ndarray
    nearest: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """(n,) bool, true for output pixels that have source pixels."""
        return self.weight.sum(axis=1) > 0

    def from_pixel(self, first: int) -> Taps:
        """The same taps for an array that starts at the source pixel `first`."""
        return Taps(self.pixels - first, self.weight, self.nearest - first)


def find_taps(method: str, start: float, scale: float, count: int, size: int) -> Taps:
    """Compute the taps of output pixels along one axis.

    Args:
        method: "near", "bilinear" or "average".
        start: Where the first output pixel begins, in source pixels.
        scale: The size of an output pixel in source pixels.
        count: The number of output pixels.
        size: The number of source pixels.
    """
    begin = start + scale * np.arange(count)
    middle = begin + scale / 2
    nearest = np.floor(middle + ROUNDING).astype(np.int64)
    if method == AVERAGE:
        index = np.floor(begin + ROUNDING).astype(np.int64)[:, None] + np.arange(math.ceil(scale) + 1)
        weight = np.minimum(begin[:, None] + scale, index + 1) - np.maximum(begin[:, None], index)
    elif method == BILINEAR:
        index = np.floor(middle - 0.5 + ROUNDING).astype(np.int64)[:, None] + np.arange(2)
        weight = 1 - abs(middle[:, None] - 0.5 - index)
        weight[(nearest < 0) | (nearest >= size)] = 0
    else:
        index, weight = nearest[:, None], np.ones((count, 1))
    weight[(weight < ROUNDING * scale) | (index < 0) | (index >= size)] = 0
    used = weight.any(axis=0)
    used[0] = True
    index, weight = np.clip(index[:, used], 0, size - 1), weight[:, used]
    total = weight.sum(axis=1, keepdims=True)
    return Taps(index, np.divide(weight, total, where=total > 0, out=weight), np.clip(nearest, 0, size - 1))


def _along(data: np.ndarray, taps: Taps, axis: int, dtype: type) -> np.ndarray:
    """Apply the weights of taps along one axis of (C, H, W)."""
    shape = (1, -1, 1) if axis == 1 else (1, 1, -1)

    def part(place: int) -> np.ndarray:
        index, weight = taps.pixels[:, place], taps.weight[:, place]
        steps = np.diff(index)
        if len(steps) and steps[0] > 0 and (steps == steps[0]).all():  # a view instead of a copy
            run = slice(index[0], index[-1] + 1, steps[0])
            picked = data[:, run] if axis == 1 else data[..., run]
        else:
            picked = data.take(index, axis=axis)
        factor: np.ndarray = weight.astype(dtype)
        if (weight == weight[0]).all():
            return np.multiply(picked, factor[0], dtype=dtype)
        return np.multiply(picked, factor.reshape(shape), dtype=dtype)

    total = part(0)
    for place in range(1, taps.pixels.shape[1]):
        total += part(place)
    return total


def _both(data: np.ndarray, rows: Taps, cols: Taps, dtype: type) -> np.ndarray:
    """(C, h, w) from (C, H, W); the axis that shrinks most is processed first."""
    if len(rows.pixels) < data.shape[1]:
        return _along(_along(data, rows, 1, dtype), cols, 2, dtype)
    return _along(_along(data, cols, 2, dtype), rows, 1, dtype)


class ResampledReader(RasterReader):
    """Reads a raster resampled to another grid.

    An output pixel has data if its centre has data in the source; with "average", if any of its source pixels has.

    Args:
        base: The source raster.
        grid: The output grid, with the same axes.
        method: "near", "bilinear" or "average".
    """

    def __init__(self, base: RasterReader, grid: Grid, method: str) -> None:
        self.base, self.method = base, method
        self.source, self.name = base.source, base.name
        own = base.info.grid
        self._scale = grid.step_x / own.step_x, grid.step_y / own.step_y
        self._start = (grid.left - own.left) / own.step_x, (grid.top - own.top) / own.step_y
        if min(self._scale) <= 0:
            raise AssertionError("the axes of both grids must run the same way")
        dtype = base.info.dtype
        nodata = [value if value is not None and can_hold(dtype, value) else None for value in base.info.nodata]
        if dtype.kind == "f":
            nodata = [math.nan if value is None else value for value in nodata]
        self.info = dataclasses.replace(base.info, grid=grid, nodata=tuple(nodata))

    def files(self) -> list[str]:
        """The files of the source."""
        return self.base.files()

    def close(self) -> None:
        """Close the source's file."""
        self.base.close()

    def cache_bytes(self, rows: int) -> int:
        """The bytes of cache for the source; see `RasterReader`."""
        return self.base.cache_bytes(math.ceil(rows * self._scale[1]))

    def read(self, window: Window, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Read a window: (C, H, W) in the raster's data type, or in `out`."""
        if out is None:
            out = self.buffer(window)
        for _ in self._read_parts(window, out):
            pass
        return out

    def read_marked(self, window: Window, out: Optional[np.ndarray] = None) -> tuple[np.ndarray, Optional[np.ndarray]]:
        """Read a window, and mark its missing values; see `RasterReader`."""
        if out is None:
            out = self.buffer(window)
        missing = np.zeros(out.shape, bool)
        for rows, cols, known in self._read_parts(window, out):
            if known is not None:
                missing[:, rows, cols] = ~known
        return out, missing if missing.any() else None

    def _read_parts(self, window: Window, out: np.ndarray) -> Iterator[tuple[slice, slice, Optional[np.ndarray]]]:
        """Read a window into `out`, and yield for each part where it is, and which of its values are known."""
        area = max(1.0, self._scale[0]) * max(1.0, self._scale[1])
        side = max(1, math.isqrt(int(VALUES_AT_ONCE / len(out) / area)))
        for part in tiles(window, side):
            rows, cols = part.slices_in(window)
            yield rows, cols, self._read_part(part, out[:, rows, cols])

    def shown(self, window: Window) -> Optional[np.ndarray]:
        """(H, W) bool, true inside the source where its mask is not 0; None for all pixels."""
        rows, cols = self._taps(window)
        inside = rows.inside[:, None] & cols.inside
        if inside.any():
            source = _window_of(rows, cols)
            shown = self.base.shown(source)
            if shown is not None:
                rows, cols = rows.from_pixel(source.row_off), cols.from_pixel(source.col_off)
                inside &= self._known(shown[None], rows, cols)[0]
        return None if inside.all() else inside

    def _taps(self, window: Window) -> tuple[Taps, Taps]:
        (scale_x, scale_y), (start_x, start_y) = self._scale, self._start
        own = self.base.info.grid
        rows = find_taps(self.method, start_y + scale_y * window.row_off, scale_y, window.height, own.height)
        cols = find_taps(self.method, start_x + scale_x * window.col_off, scale_x, window.width, own.width)
        return rows, cols

    def _known(self, valid: np.ndarray, rows: Taps, cols: Taps) -> np.ndarray:
        """(C, h, w) bool from (C, H, W): the output pixels that have data."""
        if self.method == AVERAGE:
            return _both(valid, rows, cols, np.float32) > 0
        known: np.ndarray = valid.take(rows.nearest, axis=1).take(cols.nearest, axis=2)
        return known

    def _read_part(self, window: Window, out: np.ndarray) -> Optional[np.ndarray]:
        """Read a window into `out`; returns (C, h, w) bool, true for known values, or None for all."""
        rows, cols = self._taps(window)
        inside = rows.inside[:, None] & cols.inside
        if not inside.any():
            return self._filled(out, np.zeros(out.shape, bool))
        source = _window_of(rows, cols)
        data, missing = self.base.read_marked(source)
        shown = self.base.shown(source)
        rows, cols = rows.from_pixel(source.row_off), cols.from_pixel(source.col_off)
        valid: Optional[np.ndarray] = None if missing is None else ~missing
        if shown is not None:
            valid = np.broadcast_to(shown, data.shape) if valid is None else valid & shown
        if self.method == NEAREST:
            out[:] = data.take(rows.nearest, axis=1).take(cols.nearest, axis=2)
            known = None if valid is None else self._known(valid, rows, cols)
        else:
            known = self._mix(data, valid, rows, cols, out)
        if known is None and inside.all():
            return None
        return self._filled(out, np.broadcast_to(inside, out.shape) if known is None else known & inside)

    def _mix(
        self, data: np.ndarray, valid: Optional[np.ndarray], rows: Taps, cols: Taps, out: np.ndarray
    ) -> Optional[np.ndarray]:
        """Write weighted means into `out`; returns where they are valid, None for all."""
        # float32 is exact enough for sums of a few 16-bit values.
        dtype = np.float32 if data.dtype.itemsize <= 2 or data.dtype == np.float32 else np.float64
        known: Optional[np.ndarray] = None
        if valid is None:
            found = _both(data, rows, cols, dtype)
        else:
            known = self._known(valid, rows, cols)
            found = _both(np.where(valid, data, 0), rows, cols, dtype)
            share = _both(valid, rows, cols, dtype)
            np.divide(found, share, out=found, where=share > 0)
        if out.dtype.kind in "iu":
            np.rint(found, out=found)
        out[:] = found
        return known

    def _filled(self, out: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Set values that are not known to the band's nodata value, or to 0 if it has none; returns `known`."""
        for band, value in enumerate(self.info.nodata):
            out[band][~known[band]] = 0 if value is None else value
        return known


def _window_of(rows: Taps, cols: Taps) -> Window:
    """The window of source pixels that taps need."""
    row, col = int(min(rows.pixels.min(), rows.nearest.min())), int(min(cols.pixels.min(), cols.nearest.min()))
    end_row = int(max(rows.pixels.max(), rows.nearest.max())) + 1
    end_col = int(max(cols.pixels.max(), cols.nearest.max())) + 1
    return Window(col, row, end_col - col, end_row - row)
