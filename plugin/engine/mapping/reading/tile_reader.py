"""Reads tiles with their surroundings, and determines which of their pixels are mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...chips.features import Area
from ...errors import InputError, without_key
from ...rasters.opening import ASK_SERVER
from ...rasters.raster_io import RasterReader
from ...windows import Window, mirrored, mirrored_span
from .steps import Steps

if TYPE_CHECKING:
    from .tiling import Tile, Tiles  # these need torch, but early checks must work without it

# Data types that torch accepts from NumPy and converts on the device; all others are sent as float32.
COMPACT_TYPES = (np.uint8, np.int16, np.float32)


@dataclass(frozen=True)
class Images:
    """Images of the same size, ready for the network."""

    data: np.ndarray  # (N, B, h, w)
    missing: np.ndarray | None  # bool of the same shape; None if nothing is missing

    @property
    def asked(self) -> np.ndarray:
        """Bool, true for each image that gets an answer."""
        return np.ones(len(self.data), bool)


@dataclass(frozen=True)
class Batch(Images):
    """Tiles of the same size that were read together."""

    tiles: list[Tile]
    wanted: list[np.ndarray | None]  # for each tile, (rows, cols) bool of its core; None = every pixel

    @property
    def asked(self) -> np.ndarray:
        """As `Images.asked`, but (N, rows, cols)."""
        return asked_of(self.tiles, self.wanted)


def asked_of(tiles: Sequence[Tile], wanted: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return (N, rows, cols) bool of the pixels to map of each tile, of which None means all."""
    everywhere = np.ones((tiles[0].core.height, tiles[0].core.width), bool)
    return np.stack([everywhere if one is None else one for one in wanted])


class TileReader:
    """Reads tiles of a map, whose pixels are steps over a raster; to be used by one thread.

    Args:
        raster: The raster, with its bands in the order of the model's.
        steps: The pixels of the map.
        area: GeoPackage of polygons; nothing outside them is mapped. None = everywhere.
        mirrored: Whether chips that extend beyond the raster see its mirror image; otherwise their steps are left out.
        least: Minimum share of a step's ground with data, 0 to 1.
    """

    def __init__(
        self, raster: RasterReader, steps: Steps, area: str | None, mirrored: bool = True, least: float = 0.0
    ) -> None:
        self.raster, self.steps, self.mirrored, self.least = raster, steps, mirrored, least
        self.area = Area(area, steps.coarse) if area else None

    def read(self, unit: Tiles) -> Batch | None:
        """Read tiles of the same size, without those that have no pixel to map; None if there are no others.

        Raises:
            InputError: The raster cannot be read.
        """
        tiles, images, gaps, masks = [], [], [], []
        for tile in unit.tiles:
            wanted = self._asked(tile.core)
            if wanted is not None and not wanted.any():
                continue
            data, missing = self.read_mirrored(tile.outer)
            wanted = self._with_data(tile, missing, wanted)
            if wanted is not None and not wanted.any():
                continue
            tiles.append(tile)
            images.append(data)
            gaps.append(missing)
            masks.append(wanted)
        return Batch(_stack(images), _stack_gaps(gaps, images), tiles, masks) if tiles else None

    def _asked(self, core: Window) -> np.ndarray | None:
        """Return (rows, cols) bool of the map's pixels to map, whatever the raster contains; None = all."""
        masks = [] if self.area is None else [self.area.read(core)]
        if self.steps.stride > self.steps.chip_size:
            masks.append(self.steps.on_raster(core))
        if not self.mirrored:
            masks.append(self.steps.inside(core))
        return np.logical_and.reduce(masks) if masks else None

    def _with_data(self, tile: Tile, missing: np.ndarray | None, wanted: np.ndarray | None) -> np.ndarray | None:
        """Return those of the wanted pixels that have data."""
        ground = self.steps.ground(tile.core).intersection(self.raster.info.grid.window)
        rows, cols = ground.slices_in(tile.outer)
        valid = self.raster.valid(ground, None if missing is None else missing[:, rows, cols])
        if valid is None:
            return wanted
        if self.steps.stride > 1:
            shares = self.steps.valid_shares(tile.core, valid, ground)
            valid = (shares >= self.least) & (shares > 0)
        return valid if wanted is None else wanted & valid

    def read_mirrored(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (B, h, w) values and where they are missing; outside the raster they are its mirror image, at any
        distance.

        Thus the network sees no artificial edge, and the same mirror image whatever the tile size.
        """
        grid = self.raster.info.grid
        rows, cols = (window.row_off, window.row_end, grid.height), (window.col_off, window.col_end, grid.width)
        (top, bottom), (left, right) = mirrored_span(*rows), mirrored_span(*cols)
        source = Window(left, top, right - left, bottom - top)
        with explain_reading(self.raster.info.path):
            data, missing = self.raster.read_marked(source)
        if data.dtype not in COMPACT_TYPES:
            data = data.astype(np.float32)
        if source != window:

            def seen(values: np.ndarray) -> np.ndarray:
                return mirrored(mirrored(values, 1, top, *rows), 2, left, *cols)

            data, missing = seen(data), None if missing is None else seen(missing)
        return data, missing


class ColumnReader(TileReader):
    """Reads tiles that follow each other in a column, whose surroundings overlap: no row is read twice."""

    _last: tuple[Window, np.ndarray, np.ndarray | None] | None = None

    def read_mirrored(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """As `TileReader.read_mirrored`."""
        before, here = self._last, window
        if before is not None and _continues(window, before[0]):
            here = Window(window.col_off, before[0].row_end, window.width, window.row_end - before[0].row_end)
        data, missing = super().read_mirrored(here)
        if before is not None and here != window:
            rows = slice(window.row_off - before[0].row_off, None)
            above, gaps = before[1][:, rows], None if before[2] is None else before[2][:, rows]
            if missing is not None or gaps is not None:
                missing = np.concatenate([_gaps(gaps, above), _gaps(missing, data)], 1)
            data = np.concatenate([above, data], 1)
        self._last = window, data, missing
        return data, missing


def _continues(window: Window, before: Window) -> bool:
    same_columns = (window.col_off, window.width) == (before.col_off, before.width)
    return same_columns and before.row_off <= window.row_off < before.row_end < window.row_end


@contextmanager
def explain_reading(path: str) -> Iterator[None]:
    """Turn GDAL's errors in the block into an `InputError`."""
    try:
        yield
    except RuntimeError as error:
        reason = without_key(str(error)) or "it is incomplete or damaged"
        remedy = ASK_SERVER if "://" in path else "Check that the file is complete."
        raise InputError(f"The raster {path} cannot be read ({reason}).", remedy) from None


def _stack(images: Sequence[np.ndarray]) -> np.ndarray:
    return images[0][None] if len(images) == 1 else np.stack(images)


def _stack_gaps(gaps: Sequence[np.ndarray | None], images: Sequence[np.ndarray]) -> np.ndarray | None:
    if all(gap is None for gap in gaps):
        return None
    return _stack([_gaps(gap, image) for gap, image in zip(gaps, images)])


def _gaps(gaps: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape, bool) if gaps is None else gaps
