"""A source that averages what other sources say: a network that sees images in several sizes, or several networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ..windows import Window
from .averaging import Kind, mean
from .pipeline import Advance
from .reading import Batch
from .sources import Source
from .tiling import Tile


@dataclass(frozen=True)
class Aligned:
    """A `Source` whose windows begin and end at multiples of `step` pixels, counted from the raster's corner."""

    source: Source
    step: int

    def outer(self, core: Window) -> Window:
        """As `Source.outer`."""
        found = self.source.outer(core)
        left, top = (start // self.step * self.step for start in (found.col_off, found.row_off))
        right, bottom = (-(-end // self.step) * self.step for end in (found.col_end, found.row_end))
        return Window(left, top, right - left, bottom - top)

    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`."""
        return self.source.values(batch, advance)


class MeanSource:
    """A `Source` of the logits of the mean of what others say; each tile is read once, as far as any of them looks.

    Args:
        sources: Their values have the same shape.
        kind: What is averaged.
    """

    def __init__(self, sources: Sequence[Source], kind: Kind) -> None:
        self.sources, self.kind = sources, kind

    def outer(self, core: Window) -> Window:
        """As `Source.outer`."""
        windows = [source.outer(core) for source in self.sources]
        left, top = min(window.col_off for window in windows), min(window.row_off for window in windows)
        right, bottom = max(window.col_end for window in windows), max(window.row_end for window in windows)
        return Window(left, top, right - left, bottom - top)

    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`, of one tile."""
        return mean(self._values(batch, advance), self.kind)

    def _values(self, batch: Batch, advance: Advance) -> Iterator[torch.Tensor]:
        for source in self.sources:
            yield source.values(_part(batch, source), lambda share: advance(share / len(self.sources)))


def _part(batch: Batch, source: Source) -> Batch:
    """Return what a source needs of a batch of one tile."""
    (tile,) = batch.tiles
    outer = source.outer(tile.core)
    rows, cols = outer.slices_in(tile.outer)
    missing = None if batch.missing is None else batch.missing[..., rows, cols]
    return replace(batch, data=batch.data[..., rows, cols], missing=missing, tiles=[Tile(tile.core, outer)])
