"""Which tiles a raster is mapped in, and what is read around each. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..models.networks import STRIDE
from ..windows import Window

# GeoTIFF blocks; tiles above this size are a whole number of halves of it, so that each block is written once.
BLOCK_SIZE = 512
BLOCK_STEP = 16  # of TIFF 6.0: sides of tiles are multiples of it


class Tile(NamedTuple):
    """A part of a map, and what the network sees for it."""

    core: Window  # of the map's pixels, those that are written
    outer: Window  # of the raster's pixels, those that are read; it may reach out of the raster


@dataclass(frozen=True)
class Tiles:
    """Tiles of the same sizes, which go through the network together."""

    tiles: list[Tile]

    def __len__(self) -> int:
        """How many pixels of the map they have."""
        return sum(tile.core.width * tile.core.height for tile in self.tiles)


def round_tile_size(tile_size: int) -> int:
    """The tile size that is used: the next multiple of the stride, above `BLOCK_SIZE` of half a block."""
    step = STRIDE if tile_size <= BLOCK_SIZE else BLOCK_SIZE // 2
    return -(-tile_size // step) * step


def block_size(tile_size: int) -> int:
    """The block size of a GeoTIFF that is written in such tiles."""
    if tile_size <= BLOCK_SIZE:
        return -(-tile_size // BLOCK_STEP) * BLOCK_STEP
    return BLOCK_SIZE if tile_size % BLOCK_SIZE == 0 else BLOCK_SIZE // 2


def with_halo(core: Window, halo: int) -> Window:
    """A window with at least `halo` pixels around it.

    It begins and ends at multiples of the network's stride counted from the raster's corner, so that a pixel lies in
    the same place of the network's coarse grids whatever the tile size or extent.
    """
    wanted = core.expanded(halo)
    left, top = wanted.col_off // STRIDE * STRIDE, wanted.row_off // STRIDE * STRIDE
    right, bottom = -(-wanted.col_end // STRIDE) * STRIDE, -(-wanted.row_end // STRIDE) * STRIDE
    return Window(left, top, right - left, bottom - top)


def plan_tiles(cores: Iterable[Window], outer: Callable[[Window], Window], at_once: int = 1) -> Iterator[Tiles]:
    """Parts of a map with what `outer` says is seen for each, gathered by their sizes.

    Those at the edges of the map wait for their like.
    """
    waiting: dict[tuple[int, ...], list[Tile]] = {}
    for core in cores:
        tile = Tile(core, outer(core))
        alike = waiting.setdefault((*tile.core[2:], *tile.outer[2:]), [])
        alike.append(tile)
        if len(alike) == at_once:
            yield Tiles(alike.copy())
            alike.clear()
    yield from (Tiles(rest) for rest in waiting.values() if rest)
