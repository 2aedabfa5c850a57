"""How a job tells how it goes and hears that it should stop.

A job gets a `Reporter` and neither knows nor cares whether a worker writes JSON lines with it or QGIS
fills a progress bar.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .errors import Cancelled

# Of the job file and the lines between a worker and whoever started it.
PROTOCOL = 1


class Reporter:
    """Where a job reports to; this base class says nothing and never asks for the end."""

    def progress(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Tell how much is done: `fraction` from 0 to 1, `text` in a few words, seconds still to go if known."""

    def log(self, text: str) -> None:
        """Tell something worth a line in the log."""

    def warning(self, text: str) -> None:
        """Tell something the user should look at, although the job goes on."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Tell the figures of a finished training epoch."""

    def cancel_requested(self) -> bool:
        """Whether the user asked for the end; a job calls `check_wanted` instead."""
        return False

    def finish_requested(self) -> bool:
        """Whether training should end after this epoch and keep its best."""
        return False

    def orphaned(self) -> bool:
        """Whether whoever started the job is gone."""
        return False

    def saving(self) -> AbstractContextManager[None]:
        """A block that may last although whoever started the job is gone: it saves what took long to make."""
        return nullcontext()

    def check_wanted(self) -> None:
        """Raise `Cancelled` where the user asked for the end, or nobody is there any more to use what comes out."""
        if self.cancel_requested() or self.orphaned():
            raise Cancelled


class Stage:
    """A part of a job with a known number of steps, from `start` to `end` of its progress.

    Reports at most five times a second, however often `advance` is called, and estimates the time left from
    the steps of this stage.

    Args:
        reporter: Where the progress goes.
        steps: How many steps the stage has.
        text: What it does, in a few words.
        start, end: The stage's share of the whole job, 0 to 1.
    """

    INTERVAL = 0.2  # seconds between two reports

    def __init__(self, reporter: Reporter, steps: int, text: str, start: float = 0.0, end: float = 1.0) -> None:
        self.reporter = reporter
        self.steps = max(1, steps)
        self.text = text
        self.start, self.end = start, end
        self.done = 0.0
        self.begun = time.monotonic()
        self.reported = -self.INTERVAL

    def advance(self, steps: float = 1, text: str | None = None) -> None:
        """Count `steps` as done; raises `Cancelled` where nobody wants the rest, see `Reporter.check_wanted`."""
        self.reporter.check_wanted()
        self.done += steps
        if text is not None:
            self.text = text
        now = time.monotonic()
        if now - self.reported < self.INTERVAL and self.done < self.steps:
            return
        self.reported = now
        share = min(1.0, self.done / self.steps)
        left = (now - self.begun) * (1 - share) / share if share > 0 else None
        self.reporter.progress(self.start + share * (self.end - self.start), self.text, left)


def readable_time(seconds: float) -> str:
    """Seconds in words: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
