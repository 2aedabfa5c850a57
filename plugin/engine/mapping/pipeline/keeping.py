"""Keeps the finished pieces of a map beside it while it is made; they stay if the job is interrupted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ... import ranks
from ...drafts import PIECES, claim, hidden_folder
from ...errors import Cancelled, InputError, ResourceError
from ...events import Reporter
from ...torchrun import own_rank
from ...windows import Window
from ..reading.tiling import Tiles, plan_tiles
from .decisions import Decisions
from .fingerprint import differences
from .pieces import Piece, Pieces

# A job that takes fewer seconds is soon done again.
LONG_JOB = 120.0
# The disk needs so many times the space that the rest of the pieces will take, because the results need some as well.
SPARE = 2


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
