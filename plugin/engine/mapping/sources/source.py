"""What calculates a map's values.

A source returns logits, whose softmax gives the probabilities, or maps of a layer. Sources can be built on other
sources.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch

from ...device import pinned, to_device
from ...models.normalisation import Normaliser
from ...windows import Window
from ..pipeline.loop import Advance
from ..reading.tile_reader import Batch, Images
from ..reading.tiling import Tiles

# (N, B, h, w) normalised images → (N, K, h / unit, w / unit).
Maps = Callable[[torch.Tensor], torch.Tensor]


class Source(Protocol):
    """Computes the values of tiles."""

    def outer(self, core: Window) -> Window:
        """Return the window of the raster needed for a window of the map; it contains the ground of the latter."""

    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """Return (N, K, rows, cols) of the tiles' cores, on the device; NaN where there is no value."""


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
