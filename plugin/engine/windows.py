"""Arithmetic with windows, grids and bounds.

A window is `(col_off, row_off, width, height)` in pixels of a raster. Bounds are `(left, bottom, right, top)` in CRS
units. Sizes are `(height, width)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Optional

import numpy as np

# Differences below this share of a pixel are rounding errors.
TOLERANCE = 1e-4

Bounds = tuple


class Window(NamedTuple):
    """A rectangle of pixels of a raster."""

    col_off: int
    row_off: int
    width: int
    height: int

    @property
    def col_end(self) -> int:
        """The column after the last one."""
        return self.col_off + self.width

    @property
    def row_end(self) -> int:
        """The row after the last one."""
        return self.row_off + self.height

    def expanded(self, halo: int) -> Window:
        """The window with `halo` more pixels on each side; it may extend beyond the raster."""
        return Window(self.col_off - halo, self.row_off - halo, self.width + 2 * halo, self.height + 2 * halo)

    def intersection(self, other: Window) -> Window:
        """The pixels in both windows; width or height is 0 if there are none."""
        col_off, row_off = max(self.col_off, other.col_off), max(self.row_off, other.row_off)
        width = max(0, min(self.col_end, other.col_end) - col_off)
        height = max(0, min(self.row_end, other.row_end) - row_off)
        return Window(col_off, row_off, width, height)

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """(rows, columns) slices that select this window from an array of `outer`."""
        row, col = self.row_off - outer.row_off, self.col_off - outer.col_off
        return slice(row, row + self.height), slice(col, col + self.width)

    @property
    def empty(self) -> bool:
        """Whether the window has no pixels."""
        return self.width <= 0 or self.height <= 0


class Grid(NamedTuple):
    """The pixel grid of a raster without rotation: its origin in CRS units, its pixel size, and its size in pixels.

    `step_y` is negative for north-up rasters.
    """

    left: float
    top: float
    step_x: float
    step_y: float
    width: int
    height: int

    @property
    def window(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, self.width, self.height)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The bounds of the raster in CRS units."""
        return self.bounds_of(self.window)

    def geotransform(self, window: Window) -> tuple[float, float, float, float, float, float]:
        """The GDAL geotransform of a raster that covers `window`."""
        left = self.left + window.col_off * self.step_x
        top = self.top + window.row_off * self.step_y
        return left, self.step_x, 0.0, top, 0.0, self.step_y

    def part(self, window: Window) -> Grid:
        """The grid of a window."""
        left, step_x, _, top, _, step_y = self.geotransform(window)
        return Grid(left, top, step_x, step_y, window.width, window.height)

    def bounds_of(self, window: Window) -> tuple[float, float, float, float]:
        """The bounds of a window in CRS units."""
        x = self.left + window.col_off * self.step_x, self.left + window.col_end * self.step_x
        y = self.top + window.row_off * self.step_y, self.top + window.row_end * self.step_y
        return min(x), min(y), max(x), max(y)

    def window_of(self, bounds: tuple[float, float, float, float], inner: bool = False) -> Window:
        """The window of pixels that touch `bounds`, or with `inner` those completely inside; clipped to the raster."""
        left, bottom, right, top = bounds
        cols = sorted(((left - self.left) / self.step_x, (right - self.left) / self.step_x))
        rows = sorted(((bottom - self.top) / self.step_y, (top - self.top) / self.step_y))
        up, down = (math.ceil, math.floor) if inner else (math.floor, math.ceil)
        slack = -TOLERANCE if inner else TOLERANCE
        first_col, first_row = up(cols[0] + slack), up(rows[0] + slack)
        end_col, end_row = down(cols[1] - slack), down(rows[1] - slack)
        found = Window(first_col, first_row, max(0, end_col - first_col), max(0, end_row - first_row))
        return found.intersection(self.window)


def tiles(area: Window, width: int, height: Optional[int] = None) -> Iterator[Window]:
    """Divide `area` into tiles, row by row; those at the right and lower edge are smaller. They are square if no
    `height` is given.
    """
    for row_off in range(area.row_off, area.row_end, height or width):
        rows = min(height or width, area.row_end - row_off)
        for col_off in range(area.col_off, area.col_end, width):
            yield Window(col_off, row_off, min(width, area.col_end - col_off), rows)


def count_tiles(area: Window, tile_size: int) -> int:
    """The number of windows that `tiles` yields."""
    return math.ceil(area.width / tile_size) * math.ceil(area.height / tile_size)


def offsets(start: int, end: int, size: int, stride: int, edges: str) -> np.ndarray:
    """The start positions of chips along one axis of the range [start, end).

    Args:
        start, end: The range in pixels.
        size: The chip size.
        stride: The distance between chips.
        edges: "shift" moves the last chip inside, so that the whole range is covered; ranges shorter than a chip have
            none. With "pad" the last chip may extend beyond the end.

    Returns:
        (n,) int64, ascending.
    """
    length = end - start
    if length <= 0 or (edges == "shift" and length < size):
        return np.empty(0, np.int64)
    inside = np.arange(start, max(start, end - size) + 1, stride, dtype=np.int64)
    covered = int(inside[-1]) + size
    if covered >= end:
        return inside
    last = end - size if edges == "shift" else int(inside[-1]) + stride
    return np.append(inside, last) if last < end else inside


def mirror(start: int, end: int, size: int) -> np.ndarray:
    """Return (end − start,) indices of a mirrored row of `size` pixels from `start` to `end`: 2 1 | 0 1 2 3 | 2 1 0."""
    period = max(1, 2 * (size - 1))
    place = np.arange(start, end) % period
    return np.minimum(place, period - place) if size > 1 else np.zeros_like(place)


def mirrored_span(start: int, end: int, size: int) -> tuple[int, int]:
    """Return the first place of a row, and the one after the last, that `mirror` shows from `start` to `end`."""
    places = mirror(start, end, size)
    return int(places.min()), int(places.max()) + 1


def mirrored(values: np.ndarray, axis: int, first: int, start: int, end: int, size: int) -> np.ndarray:
    """Return the places from `start` to `end` of a mirrored row along an axis, as `mirror` does.

    Args:
        values: The places of the row that are seen there, from `first` on.
        axis: Along which they lie.
    """
    before, after = max(0, -start), max(0, end - size)
    if start >= size or end <= 0 or max(before, after) >= values.shape[axis]:  # far beyond the row
        return values.take(mirror(start, end, size) - first, axis)
    if before or after:  # a tenth of the time of picking place by place
        edges = [(0, 0)] * values.ndim
        edges[axis] = before, after
        values = np.pad(values, edges, "reflect")
    begin = start - first + before
    return values[(slice(None),) * axis + (slice(begin, begin + end - start),)]


def union(first: Optional[Bounds], second: Bounds) -> Bounds:
    """The smallest bounds around both; `first` may be None."""
    if first is None:
        return second
    return (
        min(first[0], second[0]), min(first[1], second[1]), max(first[2], second[2]), max(first[3], second[3]),
    )  # fmt: skip


def overlap(first: Bounds, second: Bounds) -> bool:
    """Return whether two bounds overlap."""
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
