"""The tiles in which a raster is mapped, and the window read for each. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...models.networks import STRIDE
from ...models.reach import HALOS
from ...strangers.rules import whole
from ...windows import Window, tiles

# GeoTIFF blocks; larger tiles are a multiple of half a block, so that each block is written once.
BLOCK_SIZE = 512
BLOCK_STEP = 16  # TIFF 6.0: sides of blocks are multiples of it
# Of the pixels of a map, so many may have another class than in a map that is made in one piece. Between two grids of
# tiles it is about twice as much, and twice as much again where the places that were measured are easy ones: then it
# is what is promised, 0.2 %.
SEAM_SHARE = 0.0004
# Tiles are not larger than necessary for this much work per pixel of the map.
LITTLE_WORK = 1.06
SMALLEST_TILE, USUAL_TILE, LARGEST_TILE = 64, 1024, 8192
# A GPU waits while the first tile is read and the last one written: about as long as for the network on so many times
# their pixels. It needs less time for smaller tiles than Python to start their layers.
WAIT, SMALLEST_ON_GPU = 3.0, 2048
LONGEST_TURN = 16  # tiles of a column
LARGEST_GIVEN = 2**14  # by the user, of the halo, too


class Tile(NamedTuple):
    """A tile of a map, and the window that the network sees for it."""

    core: Window  # window of the map's pixels to write
    outer: Window  # window of the raster's pixels to read; it may extend beyond the raster


@dataclass(frozen=True)
class Tiles:
    """Tiles of the same sizes, which go through the network together."""

    tiles: list[Tile]

    def __len__(self) -> int:
        """Number of the map's pixels in the tiles."""
        return sum(tile.core.width * tile.core.height for tile in self.tiles)


def round_tile_size(tile_size: int) -> int:
    """Return the tile size that is used: the next multiple of the stride, or of half a block above `BLOCK_SIZE`."""
    step = STRIDE if tile_size <= BLOCK_SIZE else BLOCK_SIZE // 2
    return -(-tile_size // step) * step


class Layout(NamedTuple):
    """How a map is divided into tiles."""

    tile_size: int
    halo: int


class Tiling(NamedTuple):
    """The tiles of a map, and how they are taken."""

    parts: Sequence[Window]  # of the raster, one after the other
    width: int
    height: int
    at_once: int  # that go through the network together
    in_columns: bool = False  # whether the parts are columns, in which a tile follows the one above it

    @property
    def pixels(self) -> int:
        """Number of pixels in all tiles."""
        return sum(part.width * part.height for part in self.parts)

    def cores(self) -> Iterator[Window]:
        """Divide the parts, row by row."""
        return (tile for part in self.parts for tile in tiles(part, self.width, self.height))

    def in_turn(self, ranks: int) -> int:
        """Return how many tiles a rank takes before the next one has its turn.

        Each turn begins a column anew, but where a part of the raster has no data, long turns are unequal.
        """
        if not self.in_columns:
            return 1
        count = sum(-(-part.height // self.height) for part in self.parts)
        return min(LONGEST_TURN, -(-count // ranks))


def is_layout(values: Any) -> bool:
    """Return whether values are those of a layout that could have been chosen."""
    return (
        isinstance(values, list)
        and len(values) == 2
        and whole(1, LARGEST_GIVEN)(values[0])
        and values[0] == round_tile_size(values[0])
        and whole(0, LARGEST_GIVEN)(values[1])
    )


def choose_layout(
    seams: Sequence[float], fits: Callable[[Layout], bool], tile_size: int | None = None, halo: int | None = None,
    waits: int | None = None,
) -> Layout:  # fmt: skip
    """Choose the halo so that tiles leave practically no seams, and the tile size so that the halo costs little.

    Args:
        seams: The result of `reach.seam_costs`; empty if unknown, then the largest of its halos is taken.
        fits: Returns whether the memory is enough for such tiles.
        tile_size, halo: What the user gives; None = chosen here.
        waits: Pixels of the map, if the device is a GPU, which waits for the first tile; None for processors.
    """
    halos = [halo] if halo is not None else list(HALOS) if seams else [HALOS[-1]]
    layouts = [Layout(round_tile_size(tile_size or _fitting_tile(each, fits, waits)), each) for each in halos]
    for layout, cost in zip(layouts, seams):
        if 4 * cost <= SEAM_SHARE * layout.tile_size:
            return layout
    return layouts[-1]


def _fitting_tile(halo: int, fits: Callable[[Layout], bool], waits: int | None) -> int:
    """Return the smallest tile size with little extra work, or the largest that the memory is enough for.

    On a GPU, with P pixels, a halo h and tiles of side t, the halo costs as much as 4 h P / t more pixels, and waiting
    for the first tile and the last one as much as `WAIT` t²: t³ = 2 h P / `WAIT` is best.
    """
    enough = max(BLOCK_SIZE, round_tile_size(math.ceil(2 * halo / (math.sqrt(LITTLE_WORK) - 1))))
    if waits is not None:
        best = (2 * halo * waits / WAIT) ** (1 / 3)
        enough = max(SMALLEST_ON_GPU, min(enough, round_tile_size(round(best))))
    sizes = {round_tile_size(size) for size in range(SMALLEST_TILE, min(LARGEST_TILE, enough) + 1, STRIDE)}
    return max((size for size in sizes if fits(Layout(size, halo))), default=SMALLEST_TILE)


def block_size(tile_size: int) -> int:
    """Return the block size of a GeoTIFF that is written in tiles of this size."""
    if tile_size <= BLOCK_SIZE:
        return -(-tile_size // BLOCK_STEP) * BLOCK_STEP
    return BLOCK_SIZE if tile_size % BLOCK_SIZE == 0 else BLOCK_SIZE // 2


def with_halo(core: Window, halo: int, step: int = STRIDE) -> Window:
    """Return a window extended by at least `halo` pixels.

    It begins and ends at multiples of `step`, the network's stride, counted from the raster's corner, so that a pixel
    has the same position in the network's coarse grids whatever the tile size or extent.
    """
    wanted = core.expanded(halo)
    left, top = wanted.col_off // step * step, wanted.row_off // step * step
    right, bottom = -(-wanted.col_end // step) * step, -(-wanted.row_end // step) * step
    return Window(left, top, right - left, bottom - top)


def plan_tiles(cores: Iterable[Window], outer: Callable[[Window], Window], at_once: int = 1) -> Iterator[Tiles]:
    """Yield the parts of a map with the windows read for them, in groups whose parts lie in their windows alike.

    Args:
        cores: The parts of the map; those at its edges wait for others of their kind.
        outer: Returns the window read for a part.
        at_once: Tiles per group.
    """
    waiting: dict[tuple[int, ...], list[Tile]] = {}
    for core in cores:
        tile = Tile(core, outer(core))
        place = core.col_off - tile.outer.col_off, core.row_off - tile.outer.row_off
        alike = waiting.setdefault((*tile.core[2:], *tile.outer[2:], *place), [])
        alike.append(tile)
        if len(alike) == at_once:
            yield Tiles(alike.copy())
            alike.clear()
    yield from (Tiles(rest) for rest in waiting.values() if rest)
