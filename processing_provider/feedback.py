"""Passes the reports of a job on to QGIS."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Optional

from qgis.core import QgsProcessingFeedback

from ..plugin.engine.errors import without_key
from ..plugin.engine.events import Reporter, readable_time

# The log of QGIS is HTML, which collapses ordinary spaces.
NO_BREAK = "\u00a0"

# QGIS also writes every progress text to the log, so texts are sent at most every so many seconds, and not before this
# share of the time left has passed.
SECONDS_BETWEEN_TEXTS, SHARE_BETWEEN_TEXTS = 30.0, 0.2

# The score that selects the best epoch: the first of these that the task has, if it has classes.
SCORES = {"mean_iou": "mean IoU", "mean_average_precision": "mean average precision", "mean_f1": "mean F1"}


class FeedbackReporter(Reporter):
    """Passes a job's reports to QGIS's feedback, and the user's Cancel to the job.

    Args:
        feedback: QGIS's feedback.
        worded: Puts the dialog's labels into a message of the engine.
    """

    def __init__(self, feedback: QgsProcessingFeedback, worded: Callable[[str], str] = str) -> None:
        self.feedback, self.worded = feedback, worded
        # Shared by a training and its dialog; QGIS's own feedback only knows Cancel.
        self.feedback.has_best, self.feedback.finish_wanted = False, False
        self.stages: set[str] = set()
        self.next = 0.0  # earliest time to repeat a text
        self.loss: Optional[float] = None  # of the epoch under way

    def progress(self, fraction: float, text: str = "", seconds_left: Optional[float] = None) -> None:
        """Set the progress bar; report each new stage, and from time to time how long it will still take."""
        self.feedback.setProgress(100 * fraction)
        stage = re.sub(r"\d+", "", text)  # "Epoch 1 of 30" and "Epoch 2 of 30" are the same stage
        now = time.monotonic()
        new = stage not in self.stages
        if not text or fraction >= 1 or (not new and now < self.next):
            return
        left = None if new else seconds_left  # not yet a good estimate at the start of a stage
        self.stages.add(stage)
        self.next = now + max(SECONDS_BETWEEN_TEXTS, SHARE_BETWEEN_TEXTS * (left or 0))
        if left is not None:
            loss = "" if self.loss is None else f", loss {self.loss:.3f}"
            text += f"{loss}, about {readable_time(left)} left"
        self.feedback.setProgressText(text)

    def log(self, text: str) -> None:
        """Write a line to the log."""
        self.feedback.pushInfo(self.worded(without_key(text)))

    def warning(self, text: str) -> None:
        """Write a warning to the log."""
        self.feedback.pushWarning(self.worded(without_key(text)))

    def step(self, record: dict[str, Any]) -> None:
        """Keep the loss for the next text, so that a long epoch shows that it falls."""
        self.loss = record["loss"]

    def epoch(self, record: dict[str, Any]) -> None:
        """Write a line of figures, in the log's monospaced font, so that epochs form a table."""
        self.loss = None
        self.feedback.pushCommandInfo(epoch_line(record))
        self.feedback.has_best = True

    def cancel_requested(self) -> bool:
        """Return whether the user pressed Cancel."""
        return self.feedback.isCanceled()

    def finish_requested(self) -> bool:
        """Return whether the user chose to stop the training and keep its best epoch."""
        return self.feedback.finish_wanted


def epoch_line(record: dict[str, Any]) -> str:
    """Format the figures of an epoch in fixed-width columns."""
    epochs = str(record["epochs"])
    validation = record["validation"]
    figures = validation or record["training"]
    parts = [
        f"epoch {record['epoch']:>{len(epochs)}}/{epochs}",
        f"loss {_number(record['training']['loss'])}",
        *([f"validation {_number(validation['loss'])}"] if validation else []),
        *_scores(figures),
        *(["best"] if record["best"] else []),
    ]
    return "   ".join(parts).replace(" ", NO_BREAK)


def _scores(figures: dict[str, Any]) -> list[str]:
    if "rmse" in figures:
        return [f"RMSE {_number(figures['rmse'], '.4g')}", f"R² {_number(figures['r2'])}"]
    return [
        f"accuracy {_percent(figures['overall_accuracy'])}",
        next(f"{title} {_percent(figures[name])}" for name, title in SCORES.items() if name in figures),
    ]


def _number(value: Optional[float], how: str = ".3f") -> str:
    return f"{'–' if value is None else format(value, how):>6}"


def _percent(value: Optional[float]) -> str:
    return f"{'–' if value is None else format(100 * value, '.1f'):>5} %"
