"""Where a segmentation network sees a class: Grad-CAM of a raster, a value a pixel.

What each channel of the layer weighs is found first, over many parts of the raster, and is the same for all: each part
with weights of its own would show its edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch

from ..errors import InputError
from ..models.normalisation import Normaliser
from .blending import ChipBlender
from .grad_cam import enlarged, pixel_gradients, weighted
from .network_tiles import Tiles
from .regions import Region
from .steps import Steps
from .taps import Tap

# Images (N, B, h, w), and (N, h, w) bool of the pixels that count.
Seen = tuple[torch.Tensor, torch.Tensor]


class ClassMap(Protocol):
    """What is asked for the weights of a class.

    Attributes:
        weights: (1, F).
    """

    tap: Tap
    target: int
    weights: torch.Tensor | None

    def seen(self, region: Region) -> Iterator[Seen]:
        """A region as the network is shown it, in which every pixel of the tile that has data counts once."""


class ClassTiles(Tiles):
    """A `MapSource` for networks that see so far and no further: tile by tile.

    Args:
        target: The class.
    """

    def __init__(self, tap: Tap, normalise: Normaliser, halo: int, target: int) -> None:
        super().__init__(tap, normalise, halo)
        self.target = target
        self.weights: torch.Tensor | None = None

    def seen(self, region: Region) -> Iterator[Seen]:
        """As `ClassMap.seen`."""
        yield self.images(region), _wanted(region, self.normalise.mean.device)[None]

    def values(self, region: Region, advance: Callable[[float], object]) -> np.ndarray:
        """As `MapSource.values`."""
        found = _activation(self, self.images(region))[0]
        rows, cols = region.tile.slices_in(region.outer)
        values: np.ndarray = found[:, rows, cols].cpu().numpy()
        advance(1)
        return values


class ClassChips(ChipBlender):
    """A `MapSource` for networks that look at all they are shown: maps of chips, blended.

    Args:
        steps, normalise, batch_size: As of `ChipBlender`.
        tap, target: As of `ClassTiles`.
    """

    def __init__(self, tap: Tap, steps: Steps, normalise: Normaliser, target: int, batch_size: int) -> None:
        super().__init__(steps, normalise, lambda chips: _activation(self, chips), 1, batch_size)
        self.tap, self.target = tap, target
        self.weights: torch.Tensor | None = None

    def seen(self, region: Region) -> Iterator[Seen]:
        """As `ClassMap.seen`: of each chip, the step in its middle counts."""
        size, core = self.steps.chip_size, self.steps.core
        margin = (size - core + 1) // 2
        block, wanted = region.normalised(self.normalise), _wanted(region, self.device)
        places = self.places(region)
        for begin in range(0, len(places), self.batch_size):
            some = places[begin:][: self.batch_size]
            counted = torch.zeros(len(some), size, size, dtype=torch.bool, device=self.device)
            middle = slice(margin, margin + core)
            for one, (row, col) in zip(counted, some):
                one[middle, middle] = wanted[row : row + size, col : col + size][middle, middle]
            yield torch.stack([block[:, row : row + size, col : col + size] for row, col in some]), counted


def weigh(source: ClassMap, regions: Iterable[Region]) -> int:
    """Find the weights of the channels; gives the pixels of the class that were seen.

    Where the network sees the class nowhere, all pixels count.

    Raises:
        InputError: No region shows anything.
    """
    sums: list[torch.Tensor | None] = [None, None]
    counts = [0, 0]
    for region in regions:
        for images, wanted in source.seen(region):
            for place, only_predicted in enumerate((True, False)):
                if place and counts[0]:
                    break  # the class is there
                gradient, number = pixel_gradients(source.tap, images, source.target, wanted, only_predicted)
                before = sums[place]
                sums[place] = gradient if before is None else before + gradient
                counts[place] += number
    place = 0 if counts[0] else 1
    total = sums[place]
    if total is None or not counts[place]:
        raise InputError("The raster has no data in the area to map.", "Choose another raster, extent or area.")
    source.weights = total[None] / counts[place]
    return counts[0]


def _activation(source: ClassMap, images: torch.Tensor) -> torch.Tensor:
    """(N, B, h, w) → (N, 1, h, w)."""
    assert source.weights is not None
    with torch.no_grad():
        found = weighted(source.tap.maps(images), source.weights)[:, None]
    height, width = images.shape[-2:]
    return enlarged(found, (source.tap.covers(height), source.tap.covers(width)), (height, width))


def _wanted(region: Region, device: torch.device) -> torch.Tensor:
    """(h, w) bool of what was read: the pixels of the tile that are shown."""
    wanted = torch.zeros(region.data.shape[-2:], dtype=torch.bool, device=device)
    wanted[region.tile.slices_in(region.outer)] = torch.from_numpy(region.shown).to(device)
    return wanted
