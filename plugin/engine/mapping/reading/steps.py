"""The positions of chips when a classifier moves over a raster in steps, and the coarse grid of its answers.

Pure arithmetic. A step is a square of `stride` pixels, counted from the raster's corner, and a pixel of the result. Its
chip has the same centre; if whole pixels do not allow that, the chip lies half a pixel further up and left, so that at
stride 1, an even chip has the pixel at the lower right of its centre.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...rasters.raster_io import RasterInfo
from ...windows import Grid, Window, tiles

# A block has a power of two steps per side, up to this, so that it fits the blocks of the written GeoTIFF.
MOST_STEPS = 256


@dataclass(frozen=True)
class Steps:
    """The steps over a raster.

    Attributes:
        chip_size, stride: In pixels of the raster.
        grid: Grid of the raster.
    """

    chip_size: int
    stride: int
    grid: Grid

    @property
    def coarse(self) -> Grid:
        """The grid whose pixels are the steps; the last ones may extend beyond the raster."""
        left, top, step_x, step_y, width, height = self.grid
        cols, rows = math.ceil(width / self.stride), math.ceil(height / self.stride)
        return Grid(left, top, step_x * self.stride, step_y * self.stride, cols, rows)

    def over(self, window: Window) -> Window:
        """Return the steps that touch a window of pixels."""
        left, top = window.col_off // self.stride, window.row_off // self.stride
        right, bottom = -(-window.col_end // self.stride), -(-window.row_end // self.stride)
        return Window(left, top, right - left, bottom - top)

    def chips(self, steps: Window) -> Window:
        """Return the pixels covered by all chips of a window of steps; it may extend beyond the raster."""
        shift = (self.stride - self.chip_size) // 2
        return Window(
            steps.col_off * self.stride + shift,
            steps.row_off * self.stride + shift,
            (steps.width - 1) * self.stride + self.chip_size,
            (steps.height - 1) * self.stride + self.chip_size,
        )

    @property
    def core(self) -> int:
        """Side of the ground in the middle of a step that its chip always covers."""
        return min(self.stride, self.chip_size)

    def ground(self, steps: Window) -> Window:
        """Return the pixels from the first to the last core of a window of steps."""
        shift = max(0, (self.stride - self.chip_size) // 2)
        return Window(
            steps.col_off * self.stride + shift,
            steps.row_off * self.stride + shift,
            (steps.width - 1) * self.stride + self.core,
            (steps.height - 1) * self.stride + self.core,
        )

    def inside(self, steps: Window) -> np.ndarray:
        """Return (rows, cols) bool, true if the chip of a step does not extend beyond the raster."""
        chips = self.chips(steps)
        fits = []
        for first, count, size in (
            (chips.row_off, steps.height, self.grid.height),
            (chips.col_off, steps.width, self.grid.width),
        ):
            begin = first + self.stride * np.arange(count)
            fits.append((begin >= 0) & (begin + self.chip_size <= size))
        found: np.ndarray = fits[0][:, None] & fits[1][None, :]
        return found

    def on_raster(self, steps: Window) -> np.ndarray:
        """Return (rows, cols) bool, true if a part of a step's core lies on the raster.

        If the stride is larger than a chip, the last steps may lie outside: they would only see a mirror image.
        """
        ground, there = self.ground(steps), []
        for first, count, size in (
            (ground.row_off, steps.height, self.grid.height),
            (ground.col_off, steps.width, self.grid.width),
        ):
            begin = first + self.stride * np.arange(count)
            there.append(_overlaps(begin, begin + self.core, slice(0, size)) > 0)
        found: np.ndarray = there[0][:, None] & there[1][None, :]
        return found

    def valid_shares(self, steps: Window, valid: np.ndarray, window: Window) -> np.ndarray:
        """Return (rows, cols) float64: the share of each core with data, relative to its part on the raster.

        Args:
            steps: The steps.
            valid: (H, W) bool of `window`.
            window: The part of `ground(steps)` that lies on the raster.
        """
        ground = self.ground(steps)
        sums = np.zeros((ground.height + 1, ground.width + 1), np.int32)  # of the pixels above and left of each corner
        rows, cols = window.slices_in(ground)
        sums[1:, 1:][rows, cols] = valid
        np.cumsum(sums, axis=0, out=sums)
        np.cumsum(sums, axis=1, out=sums)
        begin_row, begin_col = (self.stride * np.arange(count) for count in (steps.height, steps.width))
        end_row, end_col = begin_row + self.core, begin_col + self.core
        counts = (
            sums[np.ix_(end_row, end_col)]
            - sums[np.ix_(begin_row, end_col)]
            - sums[np.ix_(end_row, begin_col)]
            + sums[np.ix_(begin_row, begin_col)]
        )
        heights = _overlaps(begin_row, end_row, rows)
        widths = _overlaps(begin_col, end_col, cols)
        return counts / np.maximum(1, heights[:, None] * widths[None, :])

    def blocks(self, steps: Window, side: int) -> Iterator[Window]:
        """Cut a window of steps into blocks of `side` steps; blocks are counted from the raster's corner."""
        left, top = steps.col_off // side * side, steps.row_off // side * side
        for block in tiles(Window(left, top, steps.col_end - left, steps.row_end - top), side):
            yield block.intersection(steps)

    def described(self, info: RasterInfo) -> RasterInfo:
        """Return the description of the raster, as if its pixels were the steps."""
        return dataclasses.replace(info, grid=self.coarse)


def _overlaps(begin: np.ndarray, end: np.ndarray, there: slice) -> np.ndarray:
    """Return (n,) the number of pixels that the ranges from `begin` to `end` share with another."""
    found: np.ndarray = np.minimum(end, there.stop) - np.maximum(begin, there.start)
    return np.maximum(0, found)


def block_side(stride: int, pixels: int) -> int:
    """Return the steps per side of a block that covers about `pixels` pixels: a power of two."""
    return 2 ** int(math.log2(min(max(1, pixels // stride), MOST_STEPS)))
