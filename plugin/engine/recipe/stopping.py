"""Which epoch is the best, and when a training stops early."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..settings import Choice, Settings, setting
from ..tasks import CLASS_TASKS, NUMBER_TASKS


class Monitor(Choice):
    """A figure on validation chips."""

    tasks: tuple[str, ...] = CLASS_TASKS  # that have it
    sign: int = 1  # −1 where less is better


MONITORS = {
    "loss": Monitor("The loss.", tasks=(*CLASS_TASKS, *NUMBER_TASKS), sign=-1),
    "overall_accuracy": Monitor("The share of pixels or chips that are right."),
    "mean_iou": Monitor("The mean intersection over union of the classes.", tasks=("segmentation",)),
    "mean_f1": Monitor("The mean F1 of the classes."),
    "rmse": Monitor("The root mean square error.", tasks=NUMBER_TASKS, sign=-1),
    "mae": Monitor("The mean absolute error.", tasks=NUMBER_TASKS, sign=-1),
    "r2": Monitor("The share of the variance that is explained.", tasks=NUMBER_TASKS),
    "mean_average_precision": Monitor("The mean average precision of the classes.", tasks=("multilabel",)),
}
AUTO = {
    "auto": Choice(
        "The mean IoU for segmentation, the RMSE for regression and chip_regression, the mean F1 for classification, "
        "the mean average precision for multilabel; the loss where there are few chips."
    )
}


class StoppingSettings(Settings):
    """When a training stops before its length, and what of it is kept."""

    # epochs without a better one; 0 never stops early: with the one-cycle schedule the last epochs gain most
    patience: int = setting(0, low=0, high=100000)
    monitor: str = setting("auto", choices={**AUTO, **MONITORS})

    def check(self, task: str) -> None:
        """Refuse a figure that a task does not have.

        Raises:
            InputError: There is no such figure.
        """
        if self.monitor != "auto" and task not in MONITORS[self.monitor].tasks:
            fitting = ["auto", *(name for name, row in MONITORS.items() if task in row.tasks)]
            raise InputError(
                f'MONITOR is "{self.monitor}", and the chips are for {task}.', f"Choose one of {', '.join(fitting)}."
            )

    def score(self, figures: dict[str, Any]) -> float | None:
        """What the best epoch has most of, from the figures on validation chips; None where it is no number."""
        figure = figures[self.monitor]
        return None if figure is None else MONITORS[self.monitor].sign * float(figure)
