"""Reads tiles with what lies around them, and tells which of their pixels are to be mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..chips.features import Area
from ..errors import InputError
from ..raster_io import RasterReader, missing_values
from ..windows import Window

if TYPE_CHECKING:
    from .tiling import Tile  # which needs torch; what checks rasters early does without

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
            data, missing = self.read_mirrored(tile.outer)
            rows, cols = tile.slices
            valid = self.raster.valid(tile.core, None if missing is None else missing[:, rows, cols])
            if valid is not None:
                wanted = valid if wanted is None else wanted & valid
                if not wanted.any():
                    continue
            kept.append(tile)
            images.append(data)
            gaps.append(missing)
            masks.append(wanted)
        return Batch(kept, _stack(images), _stack_gaps(gaps, images), masks, len(tiles) - len(kept))

    def read_mirrored(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """(B, h, w) values and where they are missing; out of the raster its mirror image, to any distance.

        So the network sees no edge that is not in the image, and the same mirror image whatever the tile size.
        """
        grid = self.raster.info.grid
        rows, cols = (
            mirror(window.row_off, window.row_end, grid.height),
            mirror(window.col_off, window.col_end, grid.width),
        )
        top, left = int(rows.min()), int(cols.min())
        source = Window(left, top, int(cols.max()) - left + 1, int(rows.max()) - top + 1)
        with explain_reading(self.raster.info.path):
            data = self.raster.read(source)
        missing = missing_values(data, self.nodata)
        if data.dtype not in COMPACT_TYPES:
            data = data.astype(np.float32)
        if source != window:
            here = np.ix_(np.arange(len(data)), rows - top, cols - left)
            data, missing = data[here], None if missing is None else missing[here]
        return data, missing


def mirror(start: int, end: int, size: int) -> np.ndarray:
    """(end − start,) pixels of a row of `size` that stand for those from `start` to `end`: 2 1 | 0 1 2 3 | 2 1 0."""
    period = max(1, 2 * (size - 1))
    place = np.arange(start, end) % period
    return np.minimum(place, period - place) if size > 1 else np.zeros_like(place)


@contextmanager
def explain_reading(path: str) -> Iterator[None]:
    """Turn GDAL's errors inside the block into an `InputError`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error) or "it breaks off or is damaged"
        raise InputError(f"The raster {path} cannot be read ({reason}).", "Check that the file is whole.") from error


def _stack(images: list[np.ndarray]) -> np.ndarray:
    return np.stack(images) if images else np.empty(0)


def _stack_gaps(gaps: list[np.ndarray | None], images: list[np.ndarray]) -> np.ndarray | None:
    if all(gap is None for gap in gaps):
        return None
    return np.stack([np.zeros(image.shape, bool) if gap is None else gap for gap, image in zip(gaps, images)])
