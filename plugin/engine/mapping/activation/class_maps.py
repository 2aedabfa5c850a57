"""Grad-CAM of segmentation networks over a raster: where they see a class, as one value per pixel.

The weights of the layer's channels are computed first, from many parts of the raster, and are the same everywhere: with
weights of their own, the edges of the tiles would show.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...errors import InputError, not_none
from ...strangers.rules import LARGEST, within
from ..reading.tile_reader import Batch
from ..sources.blended import ChipSource
from ..sources.source import normalised
from ..sources.tiles import TileSource
from .grad_cam import enlarged, pixel_gradients, weighted
from .taps import Tap


class ClassWeights:
    """The weights of a layer's channels for a class.

    Args:
        tap: The network and its layer.
        target: Index of the class.
        channels: The number of channels.
    """

    def __init__(self, tap: Tap, target: int, channels: int) -> None:
        self.tap, self.target, self.channels = tap, target, channels
        self.weights: torch.Tensor | None = None  # (1, F)
        # First over the pixels predicted as the class, then over all pixels.
        self.sums: list[torch.Tensor | None] = [None, None]
        self.counts = [0, 0]

    def activation(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, h, w) → (N, 1, h, w), once the weights are settled."""
        found = weighted(self.tap.maps(images), not_none(self.weights))[:, None]
        height, width = images.shape[-2:]
        return enlarged(found, (self.tap.covers(height), self.tap.covers(width)), (height, width))

    def look(self, source: TileSource | ChipSource, batch: Batch) -> None:
        """Add the gradients for a batch, as the source shows it to the network."""
        for images, counted in _tiles(source, batch) if isinstance(source, TileSource) else _chips(source, batch):
            for place, only_predicted in enumerate((True, False)):
                if place and self.counts[0]:
                    break  # the class was found
                gradient, number = pixel_gradients(self.tap, images, self.target, counted, only_predicted)
                before = self.sums[place]
                self.sums[place] = gradient if before is None else before + gradient
                self.counts[place] += number

    def settle(self) -> tuple[list[float], int]:
        """Compute the weights; if no pixel of the class was found, all pixels count.

        Returns:
            The weights, and the number of pixels of the class.

        Raises:
            InputError: No pixel was shown.
        """
        place = 0 if self.counts[0] else 1
        total = self.sums[place]
        if total is None or not self.counts[place]:
            raise InputError("The raster has no data in the area to map.", "Choose another raster, extent or area.")
        return (total / self.counts[place]).tolist(), self.counts[0]

    def fits(self, weights: object) -> bool:
        """Return whether these could be the weights, of which nothing is known."""
        return (
            isinstance(weights, list) and len(weights) == self.channels and all(map(within(-LARGEST, LARGEST), weights))
        )

    def take(self, weights: list[float], device: torch.device) -> None:
        """Use weights that are settled."""
        self.weights = torch.tensor([weights], dtype=torch.float32, device=device)


# Images (N, B, h, w) as shown to the network, and (N, h, w) bool of the pixels that count. Every wanted pixel of a
# batch counts once.
_Shown = Iterator[tuple[torch.Tensor, torch.Tensor]]


def _tiles(source: TileSource, batch: Batch) -> _Shown:
    images = normalised(batch, source.normalise)
    yield images, _counted(batch, images.device)[None]


def _chips(source: ChipSource, batch: Batch) -> _Shown:
    """Of each chip, only the step in its middle counts."""
    size, core = source.steps.chip_size, source.steps.core
    margin = (size - core + 1) // 2
    middle = slice(margin, margin + core)
    block = normalised(batch, source.normalise)[0]
    wanted = _counted(batch, block.device)
    places = source.places(batch)
    for begin in range(0, len(places), source.batch_size):
        some = places[begin:][: source.batch_size]
        counted = torch.zeros(len(some), size, size, dtype=torch.bool, device=block.device)
        for one, (row, col) in zip(counted, some):
            one[middle, middle] = wanted[row : row + size, col : col + size][middle, middle]
        yield torch.stack([block[:, row : row + size, col : col + size] for row, col in some]), counted


def _counted(batch: Batch, device: torch.device) -> torch.Tensor:
    """Return (h, w) bool of the wanted pixels in the window read for a batch of one tile."""
    ((core, outer),) = batch.tiles
    counted = torch.zeros(batch.data.shape[-2:], dtype=torch.bool, device=device)
    counted[core.slices_in(outer)] = torch.from_numpy(batch.asked[0]).to(device)
    return counted
