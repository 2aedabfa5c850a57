"""Maps of networks that take images of any size: tile by tile, with so much around each that edges are not felt.

What is read begins at a multiple of the network's stride, counted from the raster's corner, so that a pixel lies in
the same place of every coarse map, whatever the tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from ..errors import InputError
from ..models.networks import STRIDE
from ..models.normalisation import Normaliser
from ..windows import Window
from .grad_cam import enlarged, pixel_gradients, weighted
from .regions import Region
from .taps import Tap
from .tiling import plan_tiles

PROBE = 128  # pixels a side, a multiple of every stride


def spacing(tap: Tap, bands: int, device: torch.device) -> int | None:
    """How many pixels a value of a layer's map stands for; None where that depends on the image's size."""
    found = []
    for side in (PROBE, 2 * PROBE):
        try:
            maps = tap.maps(torch.zeros(1, bands, side, side, device=device))
        except (RuntimeError, AssertionError, ValueError):  # a network for chips of one size
            return None
        height, width = maps.shape[-2:]
        if height != width or side % width:
            return None
        found.append(side // width)
    return found[0] if found[0] == found[1] and STRIDE % found[0] == 0 else None


class _Tiles:
    """What both kinds of maps share."""

    def __init__(self, tap: Tap, normalise: Normaliser, halo: int) -> None:
        self.tap, self.normalise, self.halo = tap, normalise, halo

    def outer(self, tile: Window) -> Window:
        """As `MapSource.outer`."""
        return next(plan_tiles(tile, max(tile.width, tile.height), self.halo)).outer

    def images(self, region: Region) -> torch.Tensor:
        """(1, B, h, w) normalised."""
        return region.normalised(self.normalise)[None]


class FeatureTiles(_Tiles):
    """A `MapSource`: the first channels of a layer, as they are.

    Args:
        unit: The pixels that a value stands for.
        channels: How many.
    """

    def __init__(self, tap: Tap, normalise: Normaliser, halo: int, unit: int, channels: int) -> None:
        super().__init__(tap, normalise, halo)
        self.unit, self.channels = unit, channels

    def values(self, region: Region, advance: Callable[[float], object]) -> np.ndarray:
        """As `MapSource.values`."""
        maps = self.tap.maps(self.images(region))[0, : self.channels]
        tile, outer, unit = region.tile, region.outer, self.unit
        top, left = (tile.row_off - outer.row_off) // unit, (tile.col_off - outer.col_off) // unit
        found: np.ndarray = maps[:, top : top + tile.height // unit, left : left + tile.width // unit].cpu().numpy()
        advance(1)
        return found


class ClassTiles(_Tiles):
    """A `MapSource`: where a segmentation network sees a class, a value a pixel.

    What each channel of the layer weighs is found by `weigh` over many tiles, and is the same for all: each tile with
    weights of its own would show its edges.

    Args:
        target: The class.
    """

    def __init__(self, tap: Tap, normalise: Normaliser, halo: int, target: int) -> None:
        super().__init__(tap, normalise, halo)
        self.target = target
        self.weights: torch.Tensor | None = None  # (1, F)

    def weigh(self, regions: Iterable[Region]) -> int:
        """Find the weights of the channels; gives the pixels of the class that were seen.

        Where the network sees the class nowhere, all pixels count.

        Raises:
            InputError: No region shows anything.
        """
        sums: list[torch.Tensor | None] = [None, None]
        counts = [0, 0]
        for region in regions:
            images = self.images(region)
            wanted = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
            wanted[region.tile.slices_in(region.outer)] = torch.from_numpy(region.shown).to(images.device)
            for place, only_predicted in enumerate((True, False)):
                if place and counts[0]:
                    break  # the class is there
                gradient, number = pixel_gradients(self.tap, images, self.target, wanted, only_predicted)
                before = sums[place]
                sums[place] = gradient if before is None else before + gradient
                counts[place] += number
        place = 0 if counts[0] else 1
        total = sums[place]
        if total is None or not counts[place]:
            raise InputError("The raster has no data in the area to map.", "Choose another raster, extent or area.")
        self.weights = total[None] / counts[place]
        return counts[0]

    def values(self, region: Region, advance: Callable[[float], object]) -> np.ndarray:
        """As `MapSource.values`."""
        assert self.weights is not None
        images = self.images(region)
        with torch.no_grad():
            found = weighted(self.tap.maps(images), self.weights)[None]
        height, width = images.shape[-2:]
        found = enlarged(found, (self.tap.covers(height), self.tap.covers(width)), (height, width))[0]
        rows, cols = region.tile.slices_in(region.outer)
        values: np.ndarray = found[:, rows, cols].cpu().numpy()
        advance(1)
        return values
