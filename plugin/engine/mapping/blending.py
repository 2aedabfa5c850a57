"""Maps of overlapping chips laid into one: each counts most in its middle, and nothing at its edge.

A pixel is the mean of the same chips with the same weights, whatever tile it is calculated in; so tiles leave no
seams, and chips fade into each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from ..models.normalisation import Normaliser
from ..windows import Window
from .regions import Ground, Region
from .steps import Steps

# The weights of blended chips fall to nothing over half a chip, so this is where a pixel is seen by several.
USUAL_OVERLAP = 2


class ChipBlender:
    """A `MapSource` of values a pixel.

    Args:
        steps: Where chips lie.
        normalise: As the network wants its bands; tells the device.
        maps: (N, B, S, S) normalised chips → (N, K, S, S).
        channels: K.
        batch_size: Chips at once.
    """

    def __init__(
        self, steps: Steps, normalise: Normaliser, maps: Callable[[torch.Tensor], torch.Tensor], channels: int,
        batch_size: int,
    ) -> None:  # fmt: skip
        self.steps, self.normalise, self.maps = steps, normalise, maps
        self.channels, self.batch_size = channels, batch_size
        self.device = normalise.mean.device
        rise = np.sin(np.pi * (np.arange(steps.chip_size) + 0.5) / steps.chip_size) ** 2
        self.weight = torch.from_numpy(np.outer(rise, rise).astype(np.float32)).to(self.device)

    def steps_at(self, tile: Window) -> Window:
        """The steps whose chips show something of a tile."""
        coarse = self.steps.coarse
        left, width = self._span(tile.col_off, tile.col_end, coarse.width)
        top, height = self._span(tile.row_off, tile.row_end, coarse.height)
        return Window(left, top, width, height)

    def _span(self, begin: int, end: int, count: int) -> tuple[int, int]:
        size, stride = self.steps.chip_size, self.steps.stride
        shift = (stride - size) // 2
        first = max(0, (begin - shift - size) // stride + 1)
        return first, max(0, min(count, math.ceil((end - shift) / stride)) - first)

    def outer(self, tile: Window) -> Window:
        """As `MapSource.outer`: the tile, and all of the chips that show something of it."""
        steps = self.steps_at(tile)
        if steps.empty:
            return tile
        chips = self.steps.chips(steps)
        left, top = min(tile.col_off, chips.col_off), min(tile.row_off, chips.row_off)
        return Window(left, top, max(tile.col_end, chips.col_end) - left, max(tile.row_end, chips.row_end) - top)

    def values(self, region: Region, advance: Callable[[float], object]) -> np.ndarray:
        """As `MapSource.values`; NaN where no chip lies, or only such without data."""
        values: np.ndarray = self.blend(region, advance).cpu().numpy()
        return values

    def blend(self, region: Ground, advance: Callable[[float], object]) -> torch.Tensor:
        """As `values`, on the device."""
        size = self.steps.chip_size
        block = region.normalised(self.normalise)
        total = torch.zeros(self.channels, *block.shape[1:], device=self.device)
        weight = torch.zeros(block.shape[1:], device=self.device)
        places = self.places(region)
        for begin in range(0, len(places), self.batch_size):
            some = [(slice(row, row + size), slice(col, col + size)) for row, col in places[begin:][: self.batch_size]]
            found = self.maps(torch.stack([block[:, rows, cols] for rows, cols in some])).mul_(self.weight)
            for (rows, cols), one in zip(some, found):
                total[:, rows, cols] += one
                weight[rows, cols] += self.weight
            advance(len(some) / len(places))
        if not places:
            advance(1)
        rows, cols = region.tile.slices_in(region.outer)
        return total[:, rows, cols].div_(weight[rows, cols])  # 0 / 0 is NaN

    def places(self, region: Ground) -> list[tuple[int, int]]:
        """Where in the region the chips with data begin, by rows and columns."""
        steps, size, stride = self.steps_at(region.tile), self.steps.chip_size, self.steps.stride
        if steps.empty:
            return []
        chips = self.steps.chips(steps)
        top, left = chips.row_off - region.outer.row_off, chips.col_off - region.outer.col_off
        places = [
            (top + row * stride, left + col * stride) for row in range(steps.height) for col in range(steps.width)
        ]
        if region.missing is None:
            return places
        empty = np.asarray(region.missing.all(axis=0))
        return [(row, col) for row, col in places if not empty[row : row + size, col : col + size].all()]
