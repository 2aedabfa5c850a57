"""Chooses the columns in which a network that can be run in strips maps a raster; see `strips.StripSource`.

They are made of blocks, squares of `BLOCK_SIZE` pixels, of which those that the polygons of an area do not touch are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...chips.features import AREA_LAYER, FeatureFile
from ...models.cost import most_memory
from ...models.reach import HALOS
from ...models.streamable import Streamable
from ...strangers.rules import whole
from ...windows import Grid, Window, tiles
from ..reading.steps import Steps
from ..reading.tiling import BLOCK_SIZE, SEAM_SHARE
from .strips import strip_rows

# Finding the layers of a network takes less time than a map of so many pixels gains.
WORTHWHILE = 2048**2
# In narrower columns, the halo costs as much as that of tiles.
NARROWEST = 2 * BLOCK_SIZE
# The memory that a column needs grows with its width; it is counted for this one.
COUNTED = 2048


def is_width(value: Any) -> bool:
    """Return whether a value is a width that `widths` could have returned."""
    return whole(0, 2**31)(value) and value % BLOCK_SIZE == 0


def touched_blocks(part: Window, grid: Grid, area: str | None) -> np.ndarray:
    """Return (rows, cols) bool, true for each block of a part of a raster that polygons touch.

    Args:
        part: The part; blocks are counted from its corner.
        grid: Of the raster.
        area: GeoPackage of the polygons. None = all blocks.
    """
    blocks = Steps(BLOCK_SIZE, BLOCK_SIZE, grid.part(part)).coarse
    if area is None:
        return np.ones((blocks.height, blocks.width), bool)
    return FeatureFile(area, AREA_LAYER, blocks, all_touched=True).burn(blocks.window, 0) == 1


def divide(part: Window, width: int, touched: np.ndarray) -> list[Window]:
    """Divide a part of a raster into columns, which end where no block is touched.

    Args:
        part: The part.
        width: Of a column at most, a multiple of `BLOCK_SIZE`.
        touched: The result of `touched_blocks`.
    """
    blocks = tiles(Window(0, 0, *touched.shape[::-1]), width // BLOCK_SIZE, len(touched))
    columns = [Window(*(BLOCK_SIZE * side for side in one)) for some in blocks for one in _without_gaps(some, touched)]
    moved = [one._replace(col_off=one.col_off + part.col_off, row_off=one.row_off + part.row_off) for one in columns]
    return sorted(one.intersection(part) for one in moved)


def _without_gaps(blocks: Window, touched: np.ndarray) -> list[Window]:
    """Cut blocks at each row and column of them in which none is touched, as long as there are such."""
    rows, cols = blocks.slices_in(Window(0, 0, 0, 0))
    here: np.ndarray = touched[rows, cols]
    parts = [
        Window(blocks.col_off + left, blocks.row_off + top, across, down)
        for top, down in _runs(np.any(here, 1))
        for left, across in _runs(np.any(here, 0))
    ]
    if parts in ([], [blocks]):
        return parts
    return [one for part in parts for one in _without_gaps(part, touched)]


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """Return the beginning and the length of each run of true values."""
    changes = np.flatnonzero(np.diff(values, prepend=False, append=False)).tolist()
    return [(begin, end - begin) for begin, end in zip(changes[::2], changes[1::2])]


def widths(widest: int) -> list[int]:
    """Return the widths of columns to choose from: the widest ones, and half of them as long as that is useful."""
    found = [widest]
    while found[-1] >= 2 * NARROWEST:
        found.append(-(-found[-1] // (2 * BLOCK_SIZE)) * BLOCK_SIZE)
    return found


def pixels_seen(columns: Sequence[Window], halo: int = 0) -> int:
    """Return how many pixels a network sees in columns with a halo."""
    return sum((column.width + 2 * halo) * (column.height + 2 * halo) for column in columns)


def widest_columns(strips: Streamable, bands: int, outputs: int, width: int, memory: float) -> int | None:
    """Return the width of columns, in which a map that is `width` pixels wide is divided into equal parts.

    Args:
        strips: The network.
        bands, outputs: Numbers of bands and of logits.
        width: Of the map, in pixels.
        memory: What the network may need of it, in bytes.

    Returns:
        A multiple of `BLOCK_SIZE`; 0 if the memory is enough for narrower columns than `NARROWEST` only; None if it
        cannot be counted.
    """
    rows = strip_rows(COUNTED)
    steps = 2 * strips.reach // rows + 2
    stream = strips.begin(rows * steps * 2)

    def push() -> None:
        for _ in range(steps):
            stream.push(torch.empty(1, bands, rows, COUNTED, device="meta", memory_format=torch.channels_last))

    # Beside it the logits of a tile, and what the sinks make of them; three images, two of them read ahead, and masks.
    beside = 12 * outputs * BLOCK_SIZE + 6 * bands * (BLOCK_SIZE + 2 * strips.reach)
    pushed = most_memory(push)
    if pushed is None:
        return None
    needed = pushed / COUNTED + beside  # per column of pixels
    most = int(memory / needed) - 2 * HALOS[-1]
    if most < min(width, NARROWEST):
        return 0
    count = -(-width // max(BLOCK_SIZE, most // BLOCK_SIZE * BLOCK_SIZE))
    return -(-width // (count * BLOCK_SIZE)) * BLOCK_SIZE


def choose_halo(seams: Sequence[float], columns: Sequence[Window], part: Window) -> int:
    """Choose the halo so that columns leave practically no seams.

    Args:
        seams: The result of `reach.seam_costs`; empty if unknown, then the largest of its halos is taken.
        columns: The columns.
        part: The part of the raster that they divide.
    """
    edges = sum(2 * column.height + 2 * column.width * (column.height < part.height) for column in columns)
    for halo, cost in zip(HALOS, seams):
        if cost * edges <= SEAM_SHARE * pixels_seen(columns):
            return halo
    return HALOS[-1]
