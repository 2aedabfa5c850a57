"""The loss: what wrong answers cost.

`training.losses.LOSS_FUNCTIONS` has their formulas.
"""

from __future__ import annotations

from ..errors import InputError
from ..settings import Choice, Settings, setting

# How classes are weighted → the power of a class's share that its weight is, see `training.losses.class_weights`.
CLASS_WEIGHTS = {"none": 0.0, "root": -0.5, "balanced": -1.0}


class LossChoice(Choice):
    """A loss."""

    tasks: tuple[str, ...] = ()  # that it is for


LOSSES = {
    "cross_entropy": LossChoice(
        "Cross-entropy of the softmax probabilities: the usual loss where each pixel or chip has one class.",
        tasks=("segmentation", "classification"),
    ),
    "binary_cross_entropy": LossChoice(
        "Cross-entropy of a yes or no for each class: the usual loss where a chip may show several classes.",
        tasks=("multilabel",),
    ),
    "dice": LossChoice(
        "1 minus the mean Dice coefficient of the classes: each class counts the same, however rare.",
        "Milletari et al. 2016",
        tasks=("segmentation",),
    ),
}
# What "auto" is for each task.
USUAL = {
    "segmentation": "cross_entropy",
    "classification": "cross_entropy",
    "multilabel": "binary_cross_entropy",
}
AUTO = {"auto": Choice("The usual one for the chips' task.")}


class LossSettings(Settings):
    """The loss."""

    loss: str = setting("auto", choices={**AUTO, **LOSSES})
    class_weights: str = setting("root", choices=CLASS_WEIGHTS.keys())
    label_smoothing: float = setting(0.0, low=0, high=0.9)

    def chosen(self, task: str) -> str:
        """The loss for a task, one of `LOSSES`.

        Raises:
            InputError: It is not for this task.
        """
        loss = USUAL[task] if self.loss == "auto" else self.loss
        if task not in LOSSES[loss].tasks:
            fitting = [name for name, row in LOSSES.items() if task in row.tasks]
            raise InputError(f'LOSS is "{loss}", and the chips are for {task}.', f"Choose {' or '.join(fitting)}.")
        return loss
