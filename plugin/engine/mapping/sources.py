"""Sources of a map's values: a network on tiles or on overlapping chips; evaluation.py has a third one.

A source returns logits, whose softmax gives the probabilities, or maps of a layer. Sources can be built on other
sources.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from ..device import lacks_memory, pinned, to_device
from ..models.networks import STRIDE
from ..models.normalisation import Normaliser
from ..windows import Window, tiles
from .pipeline import Advance
from .reading import Batch, Images
from .steps import Steps
from .tiling import SMALLEST_TILE, Tile, Tiles, with_halo

# The weights of blended chips fall to zero over half a chip, so with this overlap a pixel is seen by several.
USUAL_OVERLAP = 2
# (N, B, h, w) normalised images → (N, K, h / unit, w / unit).
Maps = Callable[[torch.Tensor], torch.Tensor]


class Source(Protocol):
    """Computes the values of tiles."""

    def outer(self, core: Window) -> Window:
        """Return the window of the raster needed for a window of the map; it contains the ground of the latter."""

    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """Return (N, K, rows, cols) of the tiles' cores, on the device; NaN where there is no value."""


class TileSource:
    """A `Source` for networks with a limited receptive field: tile by tile, with a halo.

    If the memory is not enough for a tile, it and all further ones are computed in parts.

    Args:
        maps: The network.
        normalise: Normalises its bands; defines the device.
        halo: In pixels.
        unit: Pixels per value, a divisor of the network's stride.
        tell: Called with a sentence when the memory is not enough.
        step: Windows begin and end at multiples of it.
    """

    def __init__(
        self, maps: Maps, normalise: Normaliser, halo: int, unit: int = 1, tell: Callable[[str], object] | None = None,
        step: int = STRIDE,
    ) -> None:  # fmt: skip
        self.maps, self.normalise, self.halo, self.unit, self.tell = maps, normalise, halo, unit, tell
        self.step = step
        self.parts = 1  # of a tile, along each side

    def outer(self, core: Window) -> Window:
        """As `Source.outer`."""
        return with_halo(Window(*(side * self.unit for side in core)), self.halo, self.step)

    @torch.inference_mode()
    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`."""
        while True:
            try:
                found = self._in_parts(normalised(batch, self.normalise), batch.tiles[0])
                break
            except (RuntimeError, MemoryError) as error:
                smaller = max(batch.tiles[0].core[2:]) * self.unit // (2 * self.parts)
                if smaller < SMALLEST_TILE or not lacks_memory(error):
                    raise
            # Not in the handler, since the traceback of the error holds references to the tensors.
            self.parts *= 2
            if self.tell is not None:
                self.tell(
                    f"The memory is not enough for whole tiles, so they are computed in parts of {smaller} pixels."
                )
            if self.normalise.mean.is_cuda:
                torch.cuda.empty_cache()
        advance(1)
        return found

    def _in_parts(self, images: torch.Tensor, tile: Tile) -> torch.Tensor:
        """Return the values of a tile's core; all tiles of a batch lie in their images alike."""
        core, outer = tile
        parts = [core]
        if self.parts > 1:
            step = STRIDE // self.unit
            parts = list(tiles(core, -(-max(core[2:]) // (self.parts * step)) * step))
        found = torch.empty(0)
        for part in parts:
            seen = self.outer(part).intersection(outer)
            rows, cols = part.slices_in(Window(*(side // self.unit for side in seen)))
            here = (slice(None), slice(None), *seen.slices_in(outer))
            values = self.maps(images[here])[..., rows, cols]
            if part == core:
                return values
            if not found.numel():
                found = values.new_empty(*values.shape[:2], core.height, core.width)
            there = part.slices_in(core)
            found[:, :, there[0], there[1]] = values
        return found


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


@torch.no_grad()
def normalised(images: Images, normalise: Normaliser) -> torch.Tensor:
    """(N, B, h, w) float32, normalised, on the normaliser's device."""
    device = normalise.mean.device
    gaps = None if images.missing is None else to_device(torch.from_numpy(images.missing), device)
    return normalise(to_device(torch.from_numpy(images.data), device), gaps)


def pinned_reading(read: Callable[[Tiles], Batch | None], device: torch.device) -> Callable[[Tiles], Batch | None]:
    """Return a function that also moves what it reads to memory from which a GPU can fetch it by itself."""

    def read_pinned(unit: Tiles) -> Batch | None:
        batch = read(unit)
        if batch is None:
            return None
        return dataclasses.replace(batch, data=pinned(torch.from_numpy(batch.data), device).numpy())

    return read_pinned if device.type == "cuda" else read
