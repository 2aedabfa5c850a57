"""Sources of a map whose network looks at its whole input: chips that overlap and are blended."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...models.normalisation import Normaliser
from ...windows import Window
from ..pipeline.loop import Advance
from ..reading.steps import Steps
from ..reading.tile_reader import Batch
from .source import Maps, normalised

# The weights of blended chips fall to zero over half a chip, so with this overlap a pixel is seen by several.
USUAL_OVERLAP = 2


class ChipSource:
    """A `Source` for networks that look at their whole input: in overlapping chips as large as those of training.

    Each chip is weighted most at its centre and zero at its edge. A pixel is the mean of the same chips with the same
    weights in whatever tile it is computed, so tiles leave no seams, and chips blend into each other.

    Args:
        steps: Positions of the chips.
        normalise: Normalises the network's bands; defines the device.
        maps: The network.
        channels: Values per pixel.
        batch_size: Chips per batch.
    """

    def __init__(self, steps: Steps, normalise: Normaliser, maps: Maps, channels: int, batch_size: int) -> None:
        self.steps, self.normalise, self.maps = steps, normalise, maps
        self.channels, self.batch_size = channels, batch_size
        self.device = normalise.mean.device
        rise = np.sin(np.pi * (np.arange(steps.chip_size) + 0.5) / steps.chip_size) ** 2
        self.weight = torch.from_numpy(np.outer(rise, rise).astype(np.float32)).to(self.device)

    def steps_at(self, tile: Window) -> Window:
        """Return the steps whose chips overlap a tile."""
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
        """As `Source.outer`: the tile and all chips that overlap it."""
        steps = self.steps_at(tile)
        if steps.empty:
            return tile
        chips = self.steps.chips(steps)
        left, top = min(tile.col_off, chips.col_off), min(tile.row_off, chips.row_off)
        return Window(left, top, max(tile.col_end, chips.col_end) - left, max(tile.row_end, chips.row_end) - top)

    @torch.no_grad()
    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`, of one tile; NaN where there is no chip, or only chips without data."""
        (tile,), size = batch.tiles, self.steps.chip_size
        block = normalised(batch, self.normalise)[0]
        total = torch.zeros(self.channels, *block.shape[1:], device=self.device)
        weight = torch.zeros(block.shape[1:], device=self.device)
        places = self.places(batch)
        for begin in range(0, len(places), self.batch_size):
            some = [(slice(row, row + size), slice(col, col + size)) for row, col in places[begin:][: self.batch_size]]
            found = self.maps(torch.stack([block[:, rows, cols] for rows, cols in some])).mul_(self.weight)
            for (rows, cols), one in zip(some, found):
                total[:, rows, cols] += one
                weight[rows, cols] += self.weight
            advance(len(some) / len(places))
        if not places:
            advance(1)
        rows, cols = tile.core.slices_in(tile.outer)
        return total[None, :, rows, cols].div_(weight[rows, cols])  # 0 / 0 is NaN

    def places(self, batch: Batch) -> list[tuple[int, int]]:
        """Return the (row, column) in a batch's image at which each chip with data begins."""
        (tile,), size, stride = batch.tiles, self.steps.chip_size, self.steps.stride
        steps = self.steps_at(tile.core)
        if steps.empty:
            return []
        chips = self.steps.chips(steps)
        top, left = chips.row_off - tile.outer.row_off, chips.col_off - tile.outer.col_off
        places = [
            (top + row * stride, left + col * stride) for row in range(steps.height) for col in range(steps.width)
        ]
        if batch.missing is None:
            return places
        empty = np.asarray(batch.missing[0].all(axis=0))
        return [(row, col) for row, col in places if not empty[row : row + size, col : col + size].all()]


class WindowSource(ChipSource):
    """Turns blended probabilities back into logits, whose softmax gives the same probabilities.

    Args:
        steps, normalise, channels, batch_size: As for `ChipSource`.
        logits: The network.
    """

    def __init__(self, steps: Steps, normalise: Normaliser, logits: Maps, channels: int, batch_size: int) -> None:
        super().__init__(steps, normalise, lambda chips: logits(chips).softmax(1), channels, batch_size)

    @torch.inference_mode()
    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`."""
        return super().values(batch, advance).log_()
