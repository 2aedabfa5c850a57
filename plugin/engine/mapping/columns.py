"""Chooses the columns in which a network that can be run in strips maps a raster; see `StripSource`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..models.cost import most_memory
from ..models.reach import HALOS
from ..models.streamable import Streamable
from ..strangers.rules import whole
from .strip_source import strip_rows
from .tiling import BLOCK_SIZE, SEAM_SHARE

# Finding the layers of a network takes less time than a map of so many pixels gains.
WORTHWHILE = 2048**2
# In narrower columns, the halo costs as much as that of tiles.
NARROWEST = 2 * BLOCK_SIZE
# The memory that a column needs grows with its width; it is counted for this one.
COUNTED = 2048


def is_width(value: Any) -> bool:
    """Return whether a value is a width that `choose_columns` could have returned."""
    return whole(0, 2**31)(value) and value % BLOCK_SIZE == 0


def choose_columns(strips: Streamable, bands: int, outputs: int, width: int, memory: float) -> int:
    """Return the width of columns, in which a map that is `width` pixels wide is divided into equal parts.

    Args:
        strips: The network.
        bands, outputs: Numbers of bands and of logits.
        width: Of the map, in pixels.
        memory: What the network may need of it, in bytes.

    Returns:
        A multiple of `BLOCK_SIZE`; 0 if the memory is enough for narrower columns than `NARROWEST` only.
    """
    rows = strip_rows(COUNTED)
    steps = 2 * strips.reach // rows + 2
    stream = strips.begin(rows * steps * 2)

    def push() -> None:
        for _ in range(steps):
            stream.push(torch.empty(1, bands, rows, COUNTED, device="meta", memory_format=torch.channels_last))

    # Beside it the logits of a tile, and what the sinks make of them; three images, two of them read ahead, and masks.
    beside = 12 * outputs * BLOCK_SIZE + 6 * bands * (BLOCK_SIZE + 2 * strips.reach)
    needed = most_memory(push) / COUNTED + beside  # per column of pixels
    most = int(memory / needed) - 2 * HALOS[-1]
    if most < min(width, NARROWEST):
        return 0
    count = -(-width // max(BLOCK_SIZE, most // BLOCK_SIZE * BLOCK_SIZE))
    return -(-width // (count * BLOCK_SIZE)) * BLOCK_SIZE


def choose_halo(seams: Sequence[float], width: int) -> int:
    """Choose the halo so that columns leave practically no seams.

    Args:
        seams: The result of `reach.seam_costs`; empty if unknown, then the largest of its halos is taken.
        width: Of a column.
    """
    for halo, cost in zip(HALOS, seams):
        if 2 * cost <= SEAM_SHARE * width:
            return halo
    return HALOS[-1]
