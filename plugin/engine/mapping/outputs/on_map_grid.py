"""Writes what is computed into a raster on other pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..reading.map_grid import MapGrid

if TYPE_CHECKING:
    from ..pipeline.pieces import Piece
    from ..reading.tile_reader import Batch
    from .map_raster import MapRaster


class OnMapGrid:
    """A `Sink` that hands what is computed on to a raster with the pixels of a `MapGrid`.

    Tiles then do not end where the raster's blocks do. Some blocks are written twice, and the first place that they had
    in the file stays empty: GeoTIFFs get about 8 % larger, but the memory does not grow with the width of the map.

    Args:
        raster: The raster.
        grid: Its pixels.
    """

    def __init__(self, raster: MapRaster, grid: MapGrid) -> None:
        self.raster, self.grid, self.take = raster, grid, raster.take

    def write(self, batch: Batch | Piece, taken: np.ndarray) -> None:
        """As `Sink.write`; raises as `MapRaster.write`."""
        for tile, wanted, values in zip(batch.tiles, batch.wanted, taken):
            for window, rows, cols in self.grid.parts(tile.core):
                there = None if wanted is None else _picked(wanted, rows, cols)
                self.raster.write_tile(window, there, _picked(values, rows, cols))


def _picked(values: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(..., H, W) → (..., h, w)."""
    return values.take(cols, axis=-1).take(rows, axis=-2)
