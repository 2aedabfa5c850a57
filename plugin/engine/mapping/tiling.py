"""Which tiles a raster is mapped in, and what is read around each. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..models.networks import STRIDE
from ..windows import Window, tiles

# GeoTIFF blocks; tiles above this size are a whole number of halves of it, so that each block is written once.
BLOCK_SIZE = 512
BLOCK_STEP = 16  # of TIFF 6.0: sides of tiles are multiples of it


class Tile(NamedTuple):
    """A unit of work: the pixels that are written, and those around them that the network sees.

    `outer` may reach out of the raster.
    """

    core: Window
    outer: Window

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns) of the core in an array of `outer`."""
        return self.core.slices_in(self.outer)


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


def plan_tiles(area: Window, tile_size: int, outer: Callable[[Window], Window]) -> Iterator[Tile]:
    """Cut an area into tiles, with what `outer` says is seen around each."""
    for core in tiles(area, tile_size):
        yield Tile(core, outer(core))


def plan_batches(planned: Iterable[Tile], batch_size: int) -> Iterator[list[Tile]]:
    """Gather tiles of the same sizes into batches; those at the edges of the area wait for their like."""
    waiting: dict[tuple[int, ...], list[Tile]] = {}
    for tile in planned:
        alike = waiting.setdefault((*tile.core[2:], *tile.outer[2:]), [])
        alike.append(tile)
        if len(alike) == batch_size:
            yield alike.copy()
            alike.clear()
    yield from (rest for rest in waiting.values() if rest)
