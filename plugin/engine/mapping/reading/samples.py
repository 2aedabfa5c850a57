"""Images from all over a raster, by which something is measured that holds for the whole map."""

from __future__ import annotations

from collections.abc import Iterator

from ...models.networks import STRIDE
from ...windows import Window
from .tile_reader import Images, TileReader


def samples(part: Window, across: int, side: int, reader: TileReader) -> Iterator[Images]:
    """Yield square images, if most of their pixels have data.

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
        data, missing = reader.read_mirrored(Window(left // STRIDE * STRIDE, top // STRIDE * STRIDE, side, side))
        if missing is None or missing.mean() < 0.5:
            yield Images(data[None], None if missing is None else missing[None])
