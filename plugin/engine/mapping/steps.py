"""Where a classifier looks when it goes over a raster in steps, and the coarse grid of its answers. Pure arithmetic.

A step is a square of `stride` pixels of ground, counted from the raster's corner, and the pixel of the result. The
chip that answers for it has the step's centre for its own; where both cannot be met by whole pixels, the chip lies
half a pixel further up and left, so that at stride 1 an even chip has the pixel right below its centre.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..rasters.raster_io import RasterInfo
from ..windows import Grid, Window, tiles

# Steps of a block are a power of two a side up to this, so that blocks of a written GeoTIFF fit.
MOST_STEPS = 256


@dataclass(frozen=True)
class Steps:
    """The steps over a raster.

    Attributes:
        chip_size, stride: In pixels of the raster.
        grid: The raster's.
    """

    chip_size: int
    stride: int
    grid: Grid

    @property
    def coarse(self) -> Grid:
        """The grid whose pixels are the steps; the last ones may reach out of the raster."""
        left, top, step_x, step_y, width, height = self.grid
        cols, rows = math.ceil(width / self.stride), math.ceil(height / self.stride)
        return Grid(left, top, step_x * self.stride, step_y * self.stride, cols, rows)

    def over(self, window: Window) -> Window:
        """The steps that touch a window of pixels."""
        left, top = window.col_off // self.stride, window.row_off // self.stride
        right, bottom = -(-window.col_end // self.stride), -(-window.row_end // self.stride)
        return Window(left, top, right - left, bottom - top)

    def chips(self, steps: Window) -> Window:
        """The pixels that all chips of a rectangle of steps cover; it may reach out of the raster."""
        shift = (self.stride - self.chip_size) // 2
        return Window(
            steps.col_off * self.stride + shift,
            steps.row_off * self.stride + shift,
            (steps.width - 1) * self.stride + self.chip_size,
            (steps.height - 1) * self.stride + self.chip_size,
        )

    @property
    def core(self) -> int:
        """The side of the ground in the middle of a step that its chip certainly covers."""
        return min(self.stride, self.chip_size)

    def ground(self, steps: Window) -> Window:
        """The pixels from the first to the last core of a rectangle of steps."""
        shift = max(0, (self.stride - self.chip_size) // 2)
        return Window(
            steps.col_off * self.stride + shift,
            steps.row_off * self.stride + shift,
            (steps.width - 1) * self.stride + self.core,
            (steps.height - 1) * self.stride + self.core,
        )

    def inside(self, steps: Window) -> np.ndarray:
        """(rows, cols) bool, true where the chip of a step does not reach out of the raster."""
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
        """(rows, cols) bool, true where some of a step's core lies on the raster.

        Of the last steps it may not, where the stride is larger than a chip: all that they would see is a mirror image.
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
        """(rows, cols) float64: which share of each core has data, of what of it lies on the raster.

        Args:
            valid: (H, W) bool of `window`, which is `ground(steps)` as far as that lies on the raster.
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
        """Cut a rectangle of steps into blocks of `side` steps; blocks are counted from the raster's corner."""
        left, top = steps.col_off // side * side, steps.row_off // side * side
        for block in tiles(Window(left, top, steps.col_end - left, steps.row_end - top), side):
            yield block.intersection(steps)

    def described(self, info: RasterInfo) -> RasterInfo:
        """The raster, as if its pixels were the steps."""
        return dataclasses.replace(info, grid=self.coarse)


def _overlaps(begin: np.ndarray, end: np.ndarray, there: slice) -> np.ndarray:
    """(n,) how many pixels the ranges from `begin` to `end` share with another."""
    found: np.ndarray = np.minimum(end, there.stop) - np.maximum(begin, there.start)
    return np.maximum(0, found)


def block_side(stride: int, pixels: int) -> int:
    """How many steps a block has a side, so that they cover about `pixels` pixels: a power of two."""
    return 2 ** int(math.log2(min(max(1, pixels // stride), MOST_STEPS)))
