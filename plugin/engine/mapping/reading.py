"""Reads tiles with what lies around them, and tells which of their pixels are to be mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chips.labels import Area
from ..raster_io import RasterReader, missing_values
from .tiling import Tile

# The data types that torch takes from numpy and scales on the device; all others travel as float32.
COMPACT_TYPES = (np.uint8, np.int16, np.float32)


@dataclass(frozen=True)
class Batch:
    """Tiles of one size with pixels to map, ready for the network."""

    tiles: list[Tile]
    data: np.ndarray  # (N, B, h, w) of the tiles' outer windows
    missing: np.ndarray | None  # bool of that shape; None where nothing is missing
    wanted: list[np.ndarray | None]  # for each tile (H, W) bool of its core; None = every pixel
    skipped: int  # tiles of the batch without a pixel to map


class TileReader:
    """Reads batches of tiles; to be used by one thread.

    Args:
        raster: The raster, with its bands in the order of the model's.
        nodata: One value a band that means "no data".
        area: Where to map; None = everywhere.
    """

    def __init__(self, raster: RasterReader, nodata: tuple[float | None, ...], area: Area | None) -> None:
        self.raster, self.nodata, self.area = raster, nodata, area

    def read(self, tiles: Sequence[Tile]) -> Batch:
        """Read tiles of one size, but for those without a pixel to map."""
        kept, images, gaps, masks = [], [], [], []
        for tile in tiles:
            wanted = None if self.area is None else self.area.read(tile.core)
            if wanted is not None and not wanted.any():
                continue
            inside = tile.outer.intersection(self.raster.info.grid.window)
            data = self.raster.read(inside)
            missing = missing_values(data, self.nodata)
            rows, cols = tile.core.slices_in(inside)
            valid = self.raster.valid(tile.core, None if missing is None else missing[:, rows, cols])
            if valid is not None:
                wanted = valid if wanted is None else wanted & valid
                if not wanted.any():
                    continue
            if data.dtype not in COMPACT_TYPES:
                data = data.astype(np.float32)
            # The mirrored surroundings show the network no edge that is not in the image.
            top, left = inside.row_off - tile.outer.row_off, inside.col_off - tile.outer.col_off
            bottom, right = tile.outer.row_end - inside.row_end, tile.outer.col_end - inside.col_end
            margins = (0, 0), (top, bottom), (left, right)
            kept.append(tile)
            images.append(np.pad(data, margins, mode="reflect"))
            gaps.append(None if missing is None else np.pad(missing, margins, mode="reflect"))
            masks.append(wanted)
        return Batch(kept, _stack(images), _stack_gaps(gaps, images), masks, len(tiles) - len(kept))


def _stack(images: list[np.ndarray]) -> np.ndarray:
    return np.stack(images) if images else np.empty(0)


def _stack_gaps(gaps: list[np.ndarray | None], images: list[np.ndarray]) -> np.ndarray | None:
    if all(gap is None for gap in gaps):
        return None
    return np.stack([np.zeros(image.shape, bool) if gap is None else gap for gap, image in zip(gaps, images)])
