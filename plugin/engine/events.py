"""Reporting of progress and messages from a job, and requests to stop it.

A job gets a `Reporter`, and does not depend on whether a worker writes JSON lines with it or QGIS shows a progress bar.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .errors import Cancelled

# The version of the job file, and of the messages between a worker and its parent process.
PROTOCOL = 1


class Reporter:
    """Receives the messages of a job; this base class ignores them and never cancels."""

    def progress(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Report the progress: `fraction` from 0 to 1, a short `text`, and the remaining time if known."""

    def log(self, text: str) -> None:
        """Log a message."""

    def warning(self, text: str) -> None:
        """Warn of a problem that does not stop the job."""

    def step(self, record: dict[str, Any]) -> None:
        """Report `step`, `loss` (the mean of the epoch so far) and `learning_rate` of some training steps."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Report the record of a finished training epoch."""

    def cancel_requested(self) -> bool:
        """Return whether the user cancelled the job; jobs call `check_wanted` instead."""
        return False

    def finish_requested(self) -> bool:
        """Return whether training should end after this epoch and keep the best weights."""
        return False

    def orphaned(self) -> bool:
        """Return whether the process that started the job has ended."""
        return False

    def saving(self) -> AbstractContextManager[None]:
        """A context in which an orphaned job may continue for some time, to save results that took long."""
        return nullcontext()

    def check_wanted(self) -> None:
        """Raise `Cancelled` if the user cancelled the job or it is orphaned."""
        if self.cancel_requested() or self.orphaned():
            raise Cancelled


class Relay(Reporter):
    """Passes on to another reporter whatever its subclasses do not handle.

    Args:
        reporter: The other one.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        for name, method in vars(Reporter).items():
            if not name.startswith("_") and name != "check_wanted" and getattr(type(self), name) is method:
                setattr(self, name, getattr(reporter, name))


class Part(Relay):
    """Reports a part of a job.

    Args:
        reporter: Receives the progress of the whole job.
        start, end: The share of the part, 0 to 1.
    """

    def __init__(self, reporter: Reporter, start: float, end: float) -> None:
        super().__init__(reporter)
        self.start, self.end = start, end

    def progress(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Report the progress, without the remaining time, which is that of the part."""
        self.reporter.progress(self.start + fraction * (self.end - self.start), text)


class Stage:
    """A part of a job with a known number of steps.

    Reports at most five times a second, however often `advance` is called, and estimates the remaining time of this
    stage.

    Args:
        reporter: Receives the progress.
        steps: The number of steps.
        text: A short description.
        start, end: The stage's share of the job, 0 to 1.
    """

    INTERVAL = 0.2  # seconds between reports

    def __init__(self, reporter: Reporter, steps: int, text: str, start: float = 0.0, end: float = 1.0) -> None:
        self.reporter = reporter
        self.steps = max(1, steps)
        self.text = text
        self.start, self.end = start, end
        self.done = 0.0
        self.begun = time.monotonic()
        self.reported = -self.INTERVAL

    def advance(self, steps: float = 1, text: str | None = None) -> None:
        """Count `steps` as done; raises `Cancelled` like `Reporter.check_wanted`."""
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
    """Format a duration: "40 s", "3 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
