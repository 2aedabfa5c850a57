"""What a job reports, shown in QGIS."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Optional

from qgis.core import QgsProcessingFeedback

from ..plugin.engine.events import Reporter, readable_time

# The log of the desktop is HTML, where plain spaces collapse.
NO_BREAK = "\u00a0"

# QGIS writes every progress text into the log as well, so they are sent now and then: after so many seconds, and not
# before so much of the time that was left then has gone by.
SECONDS_BETWEEN_TEXTS, SHARE_BETWEEN_TEXTS = 30.0, 0.2

# What the best epoch has most of: the first of these figures that a task has.
SCORES = {"mean_iou": "mean IoU", "mean_average_precision": "mean average precision", "mean_f1": "mean F1"}


class FeedbackReporter(Reporter):
    """Passes on to QGIS's feedback what a job reports, and to the job the user's wish to cancel.

    Args:
        feedback: QGIS's.
        worded: Puts a message of the engine into the words of the dialog.
    """

    def __init__(self, feedback: QgsProcessingFeedback, worded: Callable[[str], str] = str) -> None:
        self.feedback, self.worded = feedback, worded
        # What a training and its dialog tell each other; a feedback of QGIS knows of Cancel alone.
        self.feedback.has_best, self.feedback.finish_wanted = False, False
        self.stages: set[str] = set()
        self.next = 0.0  # when the same may be said again

    def progress(self, fraction: float, text: str = "", seconds_left: Optional[float] = None) -> None:
        """Move the bar; say what is done when that changes, and now and then how long it will still take."""
        self.feedback.setProgress(100 * fraction)
        stage = re.sub(r"\d+", "", text)  # "Epoch 1 of 30" and "Epoch 2 of 30" are the same
        now = time.monotonic()
        new = stage not in self.stages
        if not text or fraction >= 1 or (not new and now < self.next):
            return
        left = None if new else seconds_left  # at the beginning it tells little
        self.stages.add(stage)
        self.next = now + max(SECONDS_BETWEEN_TEXTS, SHARE_BETWEEN_TEXTS * (left or 0))
        self.feedback.setProgressText(text if left is None else f"{text}, about {readable_time(left)} left")

    def log(self, text: str) -> None:
        """A line in the log."""
        self.feedback.pushInfo(self.worded(text))

    def warning(self, text: str) -> None:
        """A warning in the log."""
        self.feedback.pushWarning(self.worded(text))

    def epoch(self, record: dict[str, Any]) -> None:
        """A line of figures under those of the epochs before, in the log's even spaced font."""
        self.feedback.pushCommandInfo(epoch_line(record))
        self.feedback.has_best = True

    def cancel_requested(self) -> bool:
        """Whether the user pressed Cancel."""
        return self.feedback.isCanceled()

    def finish_requested(self) -> bool:
        """Whether the user chose in a training's dialog to keep its best epoch."""
        return self.feedback.finish_wanted


def epoch_line(record: dict[str, Any]) -> str:
    """The figures of one epoch, in columns that stand under each other."""
    epochs = str(record["epochs"])
    validation = record["validation"]
    figures = validation or record["training"]
    parts = [
        f"epoch {record['epoch']:>{len(epochs)}}/{epochs}",
        f"loss {_number(record['training']['loss'])}",
        *([f"validation {_number(validation['loss'])}"] if validation else []),
        f"accuracy {_percent(figures['overall_accuracy'])}",
        next(f"{title} {_percent(figures[name])}" for name, title in SCORES.items() if name in figures),
        *(["best"] if record["best"] else []),
    ]
    return "   ".join(parts).replace(" ", NO_BREAK)


def _number(value: Optional[float]) -> str:
    return f"{'–' if value is None else format(value, '.3f'):>6}"


def _percent(value: Optional[float]) -> str:
    return f"{'–' if value is None else format(100 * value, '.1f'):>5} %"
