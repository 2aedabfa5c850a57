"""Sources on top of others: a model of an ensemble, and means of what several sources say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...windows import Window
from ..pipeline.loop import Advance
from ..reading.tile_reader import Batch
from ..reading.tiling import Tile
from .averaging import Kind, mean
from .loading import Model
from .source import Source

# Turns the logits (N, C, rows, cols) of one of several sources into (N, 1, rows, cols) to be averaged beside them.
Beside = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class MemberSource:
    """A `Source` of a model of an ensemble: it sees its own bands, and answers in the classes of all."""

    source: Source
    model: Model[Any]

    def outer(self, core: Window) -> Window:
        """As `Source.outer`."""
        return self.source.outer(core)

    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`."""
        return self.model.in_common(self.source.values(self.model.part(batch), advance))


class MeanSource:
    """A `Source` of the logits of the mean of what others say; each tile is read once, as far as any of them looks.

    Args:
        sources: Their values have the same shape.
        kind: What is averaged.
        beside: Computes one more channel from each source's values; its mean follows the logits.
    """

    def __init__(self, sources: Sequence[Source], kind: Kind, beside: Beside | None = None) -> None:
        self.sources, self.kind, self.beside = sources, kind, beside

    def outer(self, core: Window) -> Window:
        """As `Source.outer`."""
        windows = [source.outer(core) for source in self.sources]
        left, top = min(window.col_off for window in windows), min(window.row_off for window in windows)
        right, bottom = max(window.col_end for window in windows), max(window.row_end for window in windows)
        return Window(left, top, right - left, bottom - top)

    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`, of one tile."""
        if self.beside is None:
            return mean(self._values(batch, advance), self.kind)
        more: list[torch.Tensor] = []
        found = mean(self._watched(self._values(batch, advance), more, self.beside), self.kind)
        return torch.cat([found, torch.stack(more).mean(0)], 1)

    def _values(self, batch: Batch, advance: Advance) -> Iterator[torch.Tensor]:
        for source in self.sources:
            yield source.values(_part(batch, source), lambda share: advance(share / len(self.sources)))

    @staticmethod
    def _watched(values: Iterator[torch.Tensor], more: list[torch.Tensor], beside: Beside) -> Iterator[torch.Tensor]:
        for one in values:
            more.append(beside(one))
            yield one


def mean_of(sources: Sequence[Source], kind: Kind, beside: Beside | None = None) -> Source:
    """Return a `MeanSource`, or the only source there is."""
    return sources[0] if len(sources) == 1 else MeanSource(sources, kind, beside)


def _part(batch: Batch, source: Source) -> Batch:
    """Return what a source needs of a batch of one tile."""
    (tile,) = batch.tiles
    outer = source.outer(tile.core)
    rows, cols = outer.slices_in(tile.outer)
    missing = None if batch.missing is None else batch.missing[..., rows, cols]
    return replace(batch, data=batch.data[..., rows, cols], missing=missing, tiles=[Tile(tile.core, outer)])
