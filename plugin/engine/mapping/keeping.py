"""Keeps the finished pieces of a map while it is made, and takes those of an interrupted job in place of new ones.

Several ranks share the work in the same way: each keeps its pieces, of which the first one makes the map.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np

from .. import ranks
from ..drafts import PIECES, claim, hidden_folder
from ..errors import Cancelled, InputError, ResourceError
from ..events import Reporter, Stage
from ..torchrun import own_rank
from ..windows import Window
from .decisions import Decisions
from .fingerprint import differences
from .pieces import Piece, Pieces
from .pipeline import Advance, Sink, run
from .reading import Batch
from .tiling import Tiles, plan_tiles

# A job that takes fewer seconds is soon done again.
LONG_JOB = 120.0
# The disk needs so many times the space that the rest of the pieces will take, because the results need some as well.
SPARE = 2

# The share of the progress of several ranks for their pieces; the rest is for the map that is made from them.
SHARED = 0.8

Found = TypeVar("Found")


@dataclass(frozen=True)
class Unit:
    """A unit of work, and its number in the plan of the map."""

    number: int
    tiles: Tiles

    def __len__(self) -> int:
        """Number of the map's pixels in it."""
        return len(self.tiles)


def plan_units(cores: Iterable[Window], outer: Callable[[Window], Window], at_once: int = 1) -> Iterator[Unit]:
    """Yield the units of a map; the arguments are those of `plan_tiles`."""
    for number, unit in enumerate(plan_tiles(cores, outer, at_once)):
        yield Unit(number, unit)


@dataclass(frozen=True)
class Work:
    """A unit that was read: from the raster, or from what is kept."""

    unit: Unit
    batch: Batch | Piece


class Kept:
    """What is kept of a map.

    Args:
        pieces: Its files.
        facts: Returns what the map is made from, ready for JSON, by what it is called in a message.
        pixels: The size of the map, until `plan` says how much of it is work.
        always: Whether to keep pieces of a short job, too.
        reporter: Receives warnings.

    Attributes:
        begun: Whether anything is kept.
        decisions: Decisions that hold for all pieces.
        share: How much of the map is kept, 0 to 1.
    """

    def __init__(
        self, pieces: Pieces, facts: Callable[[], dict[str, Any]], pixels: int, always: bool, reporter: Reporter
    ) -> None:
        self.pieces, self.facts, self.pixels, self.always, self.reporter = pieces, facts, pixels, always, reporter
        self.begun, self.decisions = False, Decisions()
        self._active, self._lock, self._started = True, Lock(), time.monotonic()
        self._found, self._calculated, self._kept, self._written = 0, 0, 0, 0  # pixels; bytes

    @property
    def share(self) -> float:
        """See the class."""
        return min(1.0, (self._found + self._kept) / self.pixels)

    def plan(self, pixels: int) -> None:
        """Begin with a map of so many pixels, and say how much of it is kept of an interrupted job."""
        self.pixels = pixels
        if self._found:
            self.reporter.log(f"Mapping resumes: {self.share:.0%} of the map is kept from an interrupted job.")

    def find(self) -> list[str]:
        """Look for pieces of an interrupted job.

        Returns:
            In what it differs from this job, whose pieces they then are not.
        """
        job = self.pieces.read_job()
        if job is None:
            return []
        different = differences(job["facts"], self.facts())
        if not different:
            self.begun, self.decisions, self._found = True, Decisions(job["decisions"]), self.pieces.find()
        return different

    def keep(self, unit: Unit, piece: Piece) -> None:
        """Keep a piece, if that is worth it and there is space; may be called by several threads.

        Raises:
            ResourceError: It cannot be written, although other ranks need it.
        """
        with self._lock:
            self._calculated += len(unit)
            # A unit without data leads to no decisions.
            if not self._active or not (self.begun or (piece.tiles and self._worthwhile())):
                return
            try:
                if not self.begun:
                    self.pieces.begin(self.facts(), self.decisions.made)
                    self.begun = True
                self._written += self.pieces.write(unit.number, unit.tiles, piece)
                self._kept += len(unit)
                why = self._shortage()
            except OSError as error:
                why = error.strerror or str(error)
                if own_rank().count > 1:
                    raise ResourceError(
                        f"{self.pieces.folder}, through which the ranks share the map, cannot be written ({why}).",
                        "Free some space on its disk, or write OUTPUT to another one.",
                    ) from error
            if why:
                self._active = False
                self.reporter.warning(
                    f"From now on nothing more of the map is kept ({why}). If the job is interrupted, RESUME continues "
                    f"from {self.share:.0%}."
                )

    def forget(self) -> None:
        """Remove all pieces."""
        self.pieces.close()
        shutil.rmtree(self.pieces.folder, ignore_errors=True)
        self.begun = self._active = False

    def _worthwhile(self) -> bool:
        expected = (time.monotonic() - self._started) * self.pixels / self._calculated
        return self.always or expected > LONG_JOB

    def _shortage(self) -> str:
        """Why the rest of the pieces should not be kept; "" if it can be."""
        rest = self._written / self._kept * (1 - self.share) * self.pixels
        enough = own_rank().count > 1 or shutil.disk_usage(self.pieces.folder).free >= SPARE * rest
        return "" if enough else "the disk has too little space"


@contextmanager
def kept_beside(
    output: str, resume: bool, facts: Callable[[], dict[str, Any]], pixels: int, examples: Sequence[np.ndarray],
    reporter: Reporter,
) -> Iterator[Kept]:  # fmt: skip
    """Keep pieces of a map beside it while a block makes it; they stay if the block fails.

    Ranks but the first one wait here until that has decided what holds for all of them.

    Args:
        output: The map, which the first rank claims.
        resume: Whether to continue from the pieces of an interrupted job.
        facts, pixels, reporter: As for `Kept`.
        examples: As for `Pieces`.

    Raises:
        InputError: The ranks do not do the same, or another job is writing the map.
        ResourceError: The folder cannot be written.
    """
    rank = own_rank()
    if rank.number:
        kept = Kept(Pieces(hidden_folder(output) / PIECES, examples), facts, pixels, True, reporter)
        if ranks.of_first(0):
            different = kept.find()
            if different:
                raise InputError(
                    f"Rank {rank.number} does not do the same as the first one: different are {', '.join(different)}.",
                    "Start all ranks with the same job file, Terrazzo, model and kind of device.",
                )
            if not kept.begun:
                raise InputError(
                    f"What the first rank has written to {kept.pieces.folder} is not there for rank {rank.number}.",
                    "Write OUTPUT to a disk that all machines share, under the same path.",
                )
        try:
            yield kept
        finally:
            kept.pieces.close()
        return
    with claim(output) as draft:
        kept = Kept(Pieces(draft.pieces, examples), facts, pixels, resume or rank.count > 1, reporter)
        different = kept.find() if resume else []
        if different:
            reporter.warning(
                "What is kept of an interrupted map is of another job, so this one starts from the beginning: "
                f"different are {', '.join(different)}."
            )
        elif resume and not kept.begun:
            reporter.log(f"Nothing is kept of an interrupted map {output}: mapping starts from the beginning.")
        if not kept.begun:
            draft.clear()
        try:
            yield kept
        except BaseException as error:
            kept.pieces.close()
            if isinstance(error, Cancelled) and not (resume or reporter.orphaned()):
                draft.clear()
            elif kept.begun:
                reporter.warning(f"{kept.share:.0%} of the map is kept beside it: RESUME continues from there.")
            raise
        kept.pieces.close()


class Keeper(Generic[Found]):
    """Reads, calculates and writes the units of a map in the pipeline, or takes them from what is kept.

    Args:
        kept: What is kept of the map.
        read_tiles: Reads tiles; None where there is nothing to map.
        network: Turns them into what the sinks receive.
        sinks: Receive everything, whether calculated or kept.
    """

    def __init__(
        self, kept: Kept, read_tiles: Callable[[Tiles], Batch | None], network: Callable[[Batch, Advance], Found],
        sinks: Sequence[Sink[Batch | Piece, Found]],
    ) -> None:  # fmt: skip
        self.kept, self.read_tiles, self.network, self.sinks = kept, read_tiles, network, sinks

    def run(self, units: Iterable[Unit], stage: Stage) -> None:
        """Do all units; returns and raises as `pipeline.run`."""
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

    def take(self, found: Found | Piece) -> list[Any]:
        """As `Sink.take`: what each sink takes."""
        return found.taken if isinstance(found, Piece) else [sink.take(found) for sink in self.sinks]

    def write(self, work: Work, taken: list[Any]) -> None:
        """As `Sink.write`; keeps what was calculated before the sinks get it, because they change it."""
        if isinstance(work.batch, Batch):
            self.kept.keep(work.unit, Piece(work.batch.tiles, work.batch.wanted, taken))
        for sink, one in zip(self.sinks, taken):
            sink.write(work.batch, one)


class Taker(Generic[Found]):
    """A `Sink` that writes nothing.

    Args:
        take: What it takes.
    """

    def __init__(self, take: Callable[[Found], np.ndarray]) -> None:
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
        As `pipeline.run`.
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
