"""How far a training has come, and what that makes of the learning rate: by its steps, or by the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ..errors import not_none
from ..recipe.schedule import ScheduleSettings

CLOCK_TICKS = 1_000_000  # positions of a training that ends by the clock
MOST_RESERVED = 0.5  # of the time, for what follows the last step


class Pace:
    """The position of a training, from 0 to `end`: steps that are done, or ticks of the time that it has.

    Args:
        settings: The schedule's; its length is settled: epochs, steps or minutes.
        steps_an_epoch: Steps of a whole epoch.
        closing_looks: Looks at chips (see `plan.STEP_COST`) that follow the last step. By the clock, time is kept for
            them.
        spent: Seconds that the job has lasted when the training begins.
    """

    def __init__(self, settings: ScheduleSettings, steps_an_epoch: int, closing_looks: int, spent: float) -> None:
        self.settings, self.steps_an_epoch, self.closing_looks = settings, steps_an_epoch, closing_looks
        self.by_clock = settings.minutes is not None
        self.end = CLOCK_TICKS if self.by_clock else settings.steps or steps_an_epoch * not_none(settings.epochs)
        self.allowed = 60 * (settings.minutes or 0) - spent  # seconds
        self.position = 0
        self.steps = 0  # that are done
        self.looks = 0  # at chips so far
        self.starts: dict[int, int] = {}  # epoch → the position at which it began
        self.improved: Sequence[bool] = ()
        self.earlier = 0.0  # seconds of a training that this one resumes
        self.begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the training has lasted."""
        return self.earlier + time.monotonic() - self.begun

    @property
    def over(self) -> bool:
        """Whether no step is left."""
        return self.position >= self.end

    @property
    def epochs(self) -> int | None:
        """How many epochs there will be, the last one perhaps not whole; None by the clock."""
        return self.settings.known_epochs(self.steps_an_epoch)

    def begin(self, epoch: int, improved: Sequence[bool]) -> None:
        """Begin an epoch, or go on in it.

        Args:
            epoch: From 1.
            improved: Of each epoch so far, whether it was the best one until then.
        """
        self.starts.setdefault(epoch, self.position)
        self.improved = improved

    def share(self, first_epoch: int) -> float:
        """The learning rate as a share of the highest, for weights that learn from an epoch on: 0 before it."""
        start = self.starts.get(first_epoch)
        return 0.0 if start is None else self.settings.rate(self.position - start, self.end - start, self.improved)

    def step(self) -> None:
        """Count a step."""
        self.steps += 1
        if not self.by_clock:
            self.position = self.steps

    def look(self, looks: int) -> int:
        """Count looks at chips; returns how much of `work` that was."""
        self.looks += looks
        if not self.by_clock:
            return looks
        seconds, before = self.seconds, self.position
        reserved = min(MOST_RESERVED * self.allowed, seconds / self.looks * self.closing_looks)
        share = seconds / max(self.allowed - reserved, 1e-9)
        self.position = max(before, min(self.end, int(share * self.end)))
        return self.position - before

    def state(self) -> dict[str, Any]:
        """What `restore` needs, ready for JSON."""
        return {
            "position": self.position,
            "steps": self.steps,
            "looks": self.looks,
            "seconds": self.seconds,
            "starts": [[epoch, start] for epoch, start in self.starts.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another one was."""
        self.position, self.steps, self.looks = (int(state[name]) for name in ("position", "steps", "looks"))
        self.earlier, self.begun = float(state["seconds"]), time.monotonic()
        self.starts = {int(epoch): int(start) for epoch, start in state["starts"]}
