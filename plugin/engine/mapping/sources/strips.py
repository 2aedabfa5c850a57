"""A source of a map whose network runs in strips, down columns of the raster that are as wide as the memory allows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import torch

from ...device import lacks_memory
from ...errors import not_none
from ...models.networks import STRIDE
from ...models.normalisation import Normaliser
from ...models.streamable import Streamable
from ...models.streaming import Stream, cut
from ...windows import Window
from ..pipeline.loop import Advance
from ..reading.tile_reader import Batch, Images
from ..reading.tiling import Tile, with_halo
from .inference import Inference
from .source import normalised

# Pixels of a strip: enough for all threads, and a fraction of a second. Its rows are a power of 2 times the stride.
STRIP = 2**18


def strip_rows(width: int) -> int:
    """Return the rows of a strip of an image that is `width` pixels wide."""
    times = max(1, STRIP // (STRIDE * width))
    return STRIDE * 2 ** (times.bit_length() - 1)


class StripSource:
    """A `Source` that takes the tiles of a column from top to bottom, and computes no row of it twice.

    A tile that does not follow the last one begins the column anew, as far above as the network can look, so that the
    map is the same. A column has a halo on all sides.

    Args:
        network: The network.
        strips: The same, in strips.
        normalise: Normalises its bands; defines the device.
        columns: Parts of the raster, sorted by their first column and row.
        halo: In pixels.
        tell: Called with a sentence when the memory is not enough.
    """

    def __init__(
        self, network: Inference, strips: Streamable, normalise: Normaliser, columns: Sequence[Window],
        halo: int, tell: Callable[[str], object],
    ) -> None:  # fmt: skip
        self.network, self.strips, self.normalise, self.halo, self.tell = network, strips, normalise, halo, tell
        self.columns = columns
        self.parts = 1  # of a strip, for want of memory
        self._forget()

    def _forget(self) -> None:
        self.stream: Stream | None = None
        self.whole = Window(0, 0, 0, 0)  # the column with its halo
        self.seen = self.next = 0  # rows of the raster up to which it was pushed, and up to which there are results
        self.ready: list[torch.Tensor] = []  # results above `next` that no tile has taken

    def outer(self, core: Window) -> Window:
        """As `Source.outer`."""
        beside = with_halo(core, self.strips.reach)
        whole = self._whole(core)
        first, end = max(beside.row_off, whole.row_off), min(beside.row_end, whole.row_end)
        return Window(whole.col_off, first, whole.width, end - first)

    def _whole(self, core: Window) -> Window:
        """The column of a tile, with its halo."""
        column = self.columns[bisect_right(self.columns, core[:2], key=lambda column: column[:2]) - 1]
        return with_halo(column, self.halo)

    @torch.inference_mode()
    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`, of one tile."""
        (tile,) = batch.tiles
        done = 0

        def advance_to(row: int) -> None:
            nonlocal done
            row = min(max(done, row), tile.core.height)  # rows that are computed again count once
            advance((row - done) / tile.core.height)  # also of nothing: it may end the job
            done = row

        while True:
            self._begin(tile)
            try:
                return self._values(batch, tile, advance_to)
            except (RuntimeError, MemoryError) as error:
                if self._rows(tile) == STRIDE or not lacks_memory(error):
                    raise
            # Not in the handler, since the traceback of the error holds references to the tensors.
            self._forget()
            self.parts *= 2
            self.tell(f"The memory is not enough for strips, so they have {self._rows(tile)} rows now.")

    def _begin(self, tile: Tile) -> None:
        """Begin a column, unless the tile follows the last one."""
        outer, whole = tile.outer, self._whole(tile.core)
        if self.stream is None or whole != self.whole or self.next - _height(self.ready) != tile.core.row_off:
            self._forget()
            self.stream = self.strips.begin(whole.row_end - outer.row_off)
            self.whole, self.seen, self.next = whole, outer.row_off, outer.row_off

    def _values(self, batch: Batch, tile: Tile, advance_to: Callable[[int], None]) -> torch.Tensor:
        core, outer = tile
        rows = self._rows(tile)
        while self.next < core.row_end:
            # Strips end at the same rows wherever a column begins, so all values are calculated in the same way.
            end = min(outer.row_end, self.seen + rows - (self.seen - self.whole.row_off) % rows)
            there = slice(self.seen - outer.row_off, end - outer.row_off)
            strip = self._part(batch, there, slice(None)) if end > self.seen else None
            found = self.network.push(not_none(self.stream), strip)
            self.seen = end
            if found is not None:
                self.next += found.shape[-2]
                self.ready = [*self.ready, found] if self.next > core.row_off else []
            advance_to(self.next - core.row_off)
        advance_to(core.height)
        ready = torch.cat(self.ready, -2)
        first = self.next - ready.shape[-2]
        self.ready = [cut(ready, core.row_end - first, self.next - first).clone()]
        left = core.col_off - outer.col_off
        return cut(ready, core.row_off - first, core.row_end - first)[..., left : left + core.width]

    def _part(self, batch: Batch, rows: slice, cols: slice) -> torch.Tensor:
        missing = None if batch.missing is None else batch.missing[..., rows, cols]
        return normalised(Images(batch.data[..., rows, cols], missing), self.normalise)

    def _rows(self, tile: Tile) -> int:
        """The rows of a strip."""
        return max(STRIDE, strip_rows(tile.outer.width) // self.parts)


def _height(parts: list[torch.Tensor]) -> int:
    return sum(part.shape[-2] for part in parts)
