"""Parts of a raster with what lies around them, for maps that are made of more than their own ground."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ..chips.features import Area
from ..models.normalisation import Normaliser
from ..raster_io import RasterReader
from ..windows import Window
from .reading import TileReader
from .steps import Steps


@dataclass(frozen=True)
class Ground:
    """Pixels of a raster, read."""

    tile: Window  # pixels that are written; it may reach out of the raster
    outer: Window  # all that was read
    data: np.ndarray  # (B, h, w) of `outer`; empty where nothing of it is needed
    missing: np.ndarray | None  # bool of that shape; None where nothing is missing

    def normalised(self, normalise: Normaliser) -> torch.Tensor:
        """(B, h, w) float32 on the normaliser's device."""
        device = normalise.mean.device
        gaps = None if self.missing is None else torch.from_numpy(self.missing).to(device)
        with torch.no_grad():
            return normalise(torch.from_numpy(self.data).to(device), gaps)


@dataclass(frozen=True)
class Region(Ground):
    """Pixels of a raster, and what is wanted of them."""

    shown: np.ndarray  # (rows, cols) bool, of the values of the tile those that have data and lie in the area


class MapSource(Protocol):
    """Makes the values of a tile from a region."""

    def outer(self, tile: Window) -> Window:
        """The pixels that are needed for a tile; they hold the tile."""

    def values(self, region: Region, advance: Callable[[float], object]) -> np.ndarray:
        """(K, rows, cols) float32; NaN where there is no value.

        `advance` is called with the shares of the work that are done, which sum to 1; it may end the job.
        """


class RegionReader:
    """Reads the regions that a map is made of; to be used by one thread.

    Args:
        raster: With its bands in the order of the model's.
        nodata: One value a band that means "no data".
        units: The values of the map: its chip size and stride are the pixels that a value stands for.
        area: Polygons on the grid of the units; None = everywhere.
        source: What the regions are for.
    """

    def __init__(
        self, raster: RasterReader, nodata: tuple[float | None, ...], units: Steps, area: Area | None,
        source: MapSource,
    ) -> None:  # fmt: skip
        self.raster, self.units, self.area, self.source = raster, units, area, source
        self.tiles = TileReader(raster, nodata, None)

    def tile_of(self, block: Window) -> Window:
        """The pixels of a block of values."""
        unit = self.units.stride
        return Window(block.col_off * unit, block.row_off * unit, block.width * unit, block.height * unit)

    def read(self, block: Window) -> tuple[Window, Region]:
        """A block of values, and its region.

        Raises:
            InputError: The raster cannot be read.
        """
        tile = self.tile_of(block)
        outer = self.source.outer(tile)
        shown = np.ones((block.height, block.width), bool) if self.area is None else self.area.read(block)
        if not shown.any():
            return block, Region(tile, outer, np.empty(0), None, shown)
        data, missing = self.tiles.read_mirrored(outer)
        ground = tile.intersection(self.raster.info.grid.window)
        rows, cols = ground.slices_in(outer)
        valid = self.raster.valid(ground, None if missing is None else missing[:, rows, cols])
        if valid is not None:
            shown = shown & (self.units.valid_shares(block, valid, ground) > 0)
        return block, Region(tile, outer, data, missing, shown)


def spread(blocks: list[Window], most: int) -> Iterator[Window]:
    """At most so many of some blocks, evenly."""
    count = min(most, len(blocks))
    for number in range(count):
        yield blocks[(2 * number + 1) * len(blocks) // (2 * count)]
