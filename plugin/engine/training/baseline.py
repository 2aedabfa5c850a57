"""The baseline of a training on unlabelled chips: the same training without them."""

from __future__ import annotations

from typing import Any, TypeVar

from ..config import TrainingConfig
from ..events import Part, Reporter
from ..files import baseline_path

Config = TypeVar("Config", bound=TrainingConfig)

SHARE = 0.3  # of the time of both trainings, with as many unlabelled chips as labelled ones


def without_unlabelled(config: Config) -> Config:
    """Return the settings of the baseline, of which nothing but a checkpoint is written."""
    return config.replace(
        unlabelled_chips=None, baseline=False, output=str(baseline_path(config.output)), report=None, history=None,
        tensorboard=None,
    )  # fmt: skip


class BaselineReporter(Part):
    """Reports the training of a baseline; its epochs and steps are not told, since they are not those of the model."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(reporter, 0.0, SHARE)

    def progress(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Report the progress."""
        super().progress(fraction, f"Baseline: {text}")

    def log(self, text: str) -> None:
        """Log a message."""
        self.reporter.log(f"Baseline: {text}")

    def warning(self, text: str) -> None:
        """Log a warning, which the training itself will repeat if it concerns it as well."""
        self.log(text)

    def step(self, record: dict[str, Any]) -> None:
        """Do nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Do nothing."""

    def finish_requested(self) -> bool:
        """Return False: a baseline that is cut short is none."""
        return False
