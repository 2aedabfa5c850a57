"""Reads blocks of steps with all their chips, and tells which steps are to get an answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..chips.features import Area
from ..raster_io import RasterReader
from ..windows import Window
from .reading import TileReader
from .steps import Steps


@dataclass(frozen=True)
class StepBlock:
    """A rectangle of steps, ready for the network."""

    steps: Window
    wanted: np.ndarray  # (rows, cols) bool
    data: np.ndarray  # (B, h, w) of all chips' pixels; empty where no step is wanted
    missing: np.ndarray | None  # bool of that shape; None where nothing is missing


class StepReader:
    """Reads blocks; to be used by one thread.

    Args:
        raster: The raster, with its bands in the order of the model's.
        nodata: One value a band that means "no data".
        steps: Over that raster.
        area: Polygons on the grid of the steps, outside of which nothing is answered; None = everywhere.
        mirrored: Whether chips that reach out of the raster see its mirror image there; else their steps get none.
        least: The share of a step's ground that must have data, 0 to 1.
    """

    def __init__(
        self, raster: RasterReader, nodata: tuple[float | None, ...], steps: Steps, area: Area | None, mirrored: bool,
        least: float,
    ) -> None:  # fmt: skip
        self.raster, self.steps, self.area, self.mirrored, self.least = raster, steps, area, mirrored, least
        self.tiles = TileReader(raster, nodata, None)

    def read(self, block: Window) -> StepBlock:
        """Read the chips of a block, unless no step of it is to get an answer.

        Raises:
            InputError: The raster cannot be read.
        """
        wanted = self.steps.on_raster(block)
        if self.area is not None:
            wanted &= self.area.read(block)
        if not self.mirrored:
            wanted &= self.steps.inside(block)
        if not wanted.any():
            return StepBlock(block, wanted, np.empty(0), None)
        outer = self.steps.chips(block)
        data, missing = self.tiles.read_mirrored(outer)
        ground = self.steps.ground(block).intersection(self.raster.info.grid.window)
        rows, cols = ground.slices_in(outer)
        valid = self.raster.valid(ground, None if missing is None else missing[:, rows, cols])
        if valid is not None:
            shares = self.steps.valid_shares(block, valid, ground)
            wanted &= (shares >= self.least) & (shares > 0)
        return StepBlock(block, wanted, data, missing)
