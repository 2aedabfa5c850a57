"""Images from all over a raster, by which something is measured that holds for the whole map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...models.networks import STRIDE
from ...windows import Window
from .tile_reader import Images, TileReader


@dataclass(frozen=True)
class Sample(Images):
    """A square image."""

    valid: np.ndarray  # (1, h, w) bool, true for the pixels of the raster that have data; false for mirrored ones


def samples(part: Window, across: int, side: int, reader: TileReader) -> Iterator[Sample]:
    """Yield square images, if most of their part of the raster has data.

    Args:
        part: The part of the raster, which is divided into `across` parts along each side; an image is in the middle of
            each.
        across: See `part`.
        side: Of an image, in pixels.
        reader: Reads the raster.
    """
    for number in range(across**2):
        row, col = divmod(number, across)
        top = part.row_off + (2 * row + 1) * part.height // (2 * across) - side // 2
        left = part.col_off + (2 * col + 1) * part.width // (2 * across) - side // 2
        window = Window(left // STRIDE * STRIDE, top // STRIDE * STRIDE, side, side)
        data, missing = reader.read_mirrored(window)
        inside = window.intersection(reader.raster.info.grid.window)
        rows, cols = inside.slices_in(window)
        known = reader.raster.valid(inside, None if missing is None else missing[:, rows, cols])
        valid = np.zeros((1, side, side), bool)
        valid[:, rows, cols] = True if known is None else known
        if valid[:, rows, cols].mean() > 0.5:
            yield Sample(data[None], None if missing is None else missing[None], valid)
