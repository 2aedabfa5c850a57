"""Progress and cancelling of the work that follows when all pixels are mapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...events import Reporter, Stage

# The share of a job's progress for this work.
SHARE = 0.15
STEPS = 1000


class Phase:
    """A long call; `callback` is for GDAL, `reach` for loops."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.failure: BaseException | None = None

    def reach(self, share: float) -> None:
        """Report the share of the work that is done, 0 to 1; raises `Cancelled` as `Stage.advance`."""
        self._stage.advance(share * STEPS - self._stage.done)

    def callback(self, share: float, _message: str, _data: object) -> int:
        """Report progress from GDAL, and end its call if the job is cancelled: an exception must not pass through C."""
        try:
            self.reach(share)
        except BaseException as error:
            self.failure = error
            return 0
        return 1


class Phases:
    """The phases after mapping; each gets the same share of the progress.

    Args:
        reporter: Receives progress, and tells whether the job is cancelled.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.planned = self._begun = 0

    def plan(self, count: int) -> None:
        """Announce phases, before mapping begins."""
        self.planned += count

    @property
    def begin(self) -> float:
        """The share of the job's progress before the first phase."""
        return 1.0 - SHARE if self.planned else 1.0

    @contextmanager
    def one(self, text: str) -> Iterator[Phase]:
        """A phase, announced before.

        Args:
            text: A short description.

        Raises:
            Cancelled: The user cancelled the job, or QGIS has ended.
        """
        width = (1.0 - self.begin) / max(1, self.planned)
        start = min(1.0 - width, self.begin + self._begun * width)
        self._begun += 1
        phase = Phase(Stage(self.reporter, STEPS, text, start, start + width))
        try:
            phase.reach(0)
            yield phase
        except RuntimeError:
            if phase.failure is None:
                raise
        if phase.failure is not None:
            raise phase.failure
