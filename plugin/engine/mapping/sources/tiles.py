"""A source of a map whose network has a limited receptive field: tile by tile, with a halo."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...device import lacks_memory
from ...models.networks import STRIDE
from ...models.normalisation import Normaliser
from ...windows import Window, tiles
from ..pipeline.loop import Advance
from ..reading.tile_reader import Batch
from ..reading.tiling import SMALLEST_TILE, Tile, with_halo
from .source import Maps, normalised


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
