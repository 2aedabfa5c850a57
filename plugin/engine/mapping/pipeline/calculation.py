"""Calculates a map unit by unit, or takes what is kept of it.

Several ranks share the work in the same way: each keeps its pieces, of which the first one makes the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from ... import ranks
from ...device import Later
from ...events import Reporter, Stage
from ...torchrun import own_rank
from ..reading.tile_reader import Batch
from ..reading.tiling import Tiles
from .keeping import Kept, Unit
from .loop import Advance, Sink, run
from .pieces import Piece

# The share of the progress of several ranks for their pieces; the rest is for the map that is made from them.
SHARED = 0.8

Found = TypeVar("Found")


@dataclass(frozen=True)
class Work:
    """A unit that was read: from the raster, or from what is kept."""

    unit: Unit
    batch: Batch | Piece


class Keeper(Generic[Found]):
    """Reads, calculates and writes the units of a map in the pipeline, or takes them from what is kept.

    Args:
        kept: What is kept of the map.
        read_tiles: Reads tiles; None where there is nothing to map.
        network: Turns them into what the sinks receive.
        sinks: Receive everything, whether calculated or kept. What they take is a `Later`; they write it as an array.
    """

    def __init__(
        self, kept: Kept, read_tiles: Callable[[Tiles], Batch | None], network: Callable[[Batch, Advance], Found],
        sinks: Sequence[Sink[Batch | Piece, Found]],
    ) -> None:  # fmt: skip
        self.kept, self.read_tiles, self.network, self.sinks = kept, read_tiles, network, sinks

    def run(self, units: Iterable[Unit], stage: Stage) -> None:
        """Do all units; returns and raises as `loop.run`."""
        run(units, self.read, self.calculate, [self], stage)

    def read(self, unit: Unit) -> Work | None:
        """Read a unit, on the reading thread; None if there is nothing to map."""
        batch: Batch | Piece | None = self.kept.pieces.read(unit.number, unit.tiles)
        if batch is None:
            batch = self.read_tiles(unit.tiles)
            if batch is None:
                self.kept.keep(unit, Piece([], [], []))
        return Work(unit, batch) if batch is not None and batch.tiles else None

    def calculate(self, work: Work, advance: Advance) -> Found | Piece:
        """Return what the sinks receive."""
        if isinstance(work.batch, Batch):
            return self.network(work.batch, advance)
        advance(1)
        return work.batch

    def take(self, found: Found | Piece) -> Sequence[Later | np.ndarray]:
        """As `Sink.take`: what each sink takes."""
        return found.taken if isinstance(found, Piece) else [sink.take(found) for sink in self.sinks]

    def write(self, work: Work, taken: Sequence[Later | np.ndarray]) -> None:
        """As `Sink.write`; keeps what was calculated before the sinks get it, because they change it."""
        fetched = [one.read() if isinstance(one, Later) else one for one in taken]
        if isinstance(work.batch, Batch):
            self.kept.keep(work.unit, Piece(work.batch.tiles, work.batch.wanted, fetched))
        for sink, one in zip(self.sinks, fetched):
            sink.write(work.batch, one)


class Taker(Generic[Found]):
    """A `Sink` that writes nothing.

    Args:
        take: What it takes.
    """

    def __init__(self, take: Callable[[Found], Later]) -> None:
        self.take = take

    def write(self, work: Batch | Piece, taken: np.ndarray) -> None:
        """As `Sink.write`."""


def share_out(
    keeper: Keeper[Any], planned: Callable[[], Iterable[Unit]], in_turn: int, reporter: Reporter
) -> None:  # fmt: skip
    """Calculate the pieces of a map together with other ranks.

    Args:
        keeper: Keeps them.
        planned: Returns all units.
        in_turn: Units that follow each other and are calculated by one rank.
        reporter: Receives the progress.

    Raises:
        As `loop.run`.
    """
    rank, kept = own_rank(), keeper.kept
    stage = Stage(reporter, kept.pixels // rank.count, "Mapping", end=SHARED)
    if rank.number == 0:  # until all is decided
        for unit in planned():
            if kept.begun:
                break
            keeper.run([unit], stage)
        ranks.of_first(kept.begun)
    mine = (unit for unit in planned() if unit.number // in_turn % rank.count == rank.number)
    keeper.run((unit for unit in mine if unit.number not in kept.pieces), stage)
    kept.pieces.close()
    ranks.wait()
    if rank.number == 0:
        kept.pieces.find()


@dataclass(frozen=True)
class Calculation(Generic[Found]):
    """How a map is calculated, by one or several ranks.

    Attributes:
        kept: What is kept of the map.
        units: Returns all units.
        read: Reads tiles; None where there is nothing to map.
        network: Turns them into what the sinks receive.
        at_work: Returns the context in which that happens.
        in_turn: Units that follow each other and are calculated by one rank.
    """

    kept: Kept
    units: Callable[[], Iterable[Unit]]
    read: Callable[[Tiles], Batch | None]
    network: Callable[[Batch, Advance], Found]
    at_work: Callable[[], AbstractContextManager[None]]
    in_turn: int = 1

    def share(self, takes: Iterable[Callable[[Found], Later]], reporter: Reporter) -> bool:
        """Calculate the pieces together with the other ranks, if there are any.

        Args:
            takes: Return what each sink of the map takes.
            reporter: Receives the progress.

        Returns:
            Whether this rank makes the map of them.

        Raises:
            As `loop.run`.
        """
        rank = own_rank()
        if rank.count > 1:
            with self.at_work():
                keeper = Keeper(self.kept, self.read, self.network, [Taker(take) for take in takes])
                share_out(keeper, self.units, self.in_turn, reporter)
        return rank.number == 0

    def make(self, sinks: Sequence[Sink[Batch | Piece, Found]], text: str, end: float, reporter: Reporter) -> None:
        """Make the map of the pieces that are kept, and of others, which are calculated.

        Args:
            sinks: Receive it.
            text: A short description, for the progress.
            end: The share of the job's progress that is reached when it is done.
            reporter: Receives the progress.

        Raises:
            As `loop.run`.
        """
        start = SHARED if own_rank().count > 1 else 0.0
        with self.at_work():
            keeper = Keeper(self.kept, self.read, self.network, sinks)
            keeper.run(self.units(), Stage(reporter, self.kept.pixels, text, start, end))
