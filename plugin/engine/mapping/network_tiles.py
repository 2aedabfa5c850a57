"""Maps of layers that look so far and no further: tile by tile, with so much around each that edges are not felt.

What is read begins at a multiple of the network's stride, counted from the raster's corner, so that a pixel lies in
the same place of every coarse map, whatever the tile.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..models.networks import STRIDE
from ..models.normalisation import Normaliser
from ..models.reach import sees_whole_window
from ..windows import Window
from .regions import Region
from .taps import Tap, TappedNetwork
from .tiling import with_halo

PROBE = 128  # pixels a side, a multiple of every stride


def spacing(tap: Tap, bands: int, device: torch.device) -> int | None:
    """How many pixels a value of a layer's map stands for; None where maps of tiles would not be those of chips.

    That is so where the number depends on the image's size, or the values on all that the network is shown.
    """
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
    if found[0] != found[1] or STRIDE % found[0] or sees_whole_window(TappedNetwork(tap), bands):
        return None
    return found[0]


class Tiles:
    """What maps of a network share that go tile by tile."""

    def __init__(self, tap: Tap, normalise: Normaliser, halo: int) -> None:
        self.tap, self.normalise, self.halo = tap, normalise, halo

    def outer(self, tile: Window) -> Window:
        """As `MapSource.outer`."""
        return with_halo(tile, self.halo)

    def images(self, region: Region) -> torch.Tensor:
        """(1, B, h, w) normalised."""
        return region.normalised(self.normalise)[None]


class FeatureTiles(Tiles):
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
