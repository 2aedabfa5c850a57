"""The loss: what wrong answers cost.

`training.losses` has the formulas, and how classes are weighted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Optional

from ..errors import InputError
from ..settings import Choice, Settings, setting
from ..tasks import CLASS_TASKS, NUMBER_TASKS

if TYPE_CHECKING:
    from ..classes import ClassTable

AREAS = ("segmentation", "multilabel")
MOST_BY_HAND = 1e6


class LossChoice(Choice):
    """A loss."""

    tasks: tuple[str, ...] = ()  # that it is for
    balanced: bool = False  # whether rare classes count as much as others in it, whatever their weights


LOSSES = {
    "cross_entropy": LossChoice(
        "Cross-entropy of the softmax probabilities: the usual loss where each pixel or chip has one class.",
        tasks=("segmentation", "classification"),
    ),
    "binary_cross_entropy": LossChoice(
        "Cross-entropy of a yes or no for each class: the usual loss where a chip may show several classes. Else of "
        "each class against the rest; the probabilities still sum to 1.",
        tasks=CLASS_TASKS,
    ),
    "dice": LossChoice(
        "1 minus the mean Dice coefficient of the classes: each class counts the same, however rare.",
        "Milletari et al. 2016",
        tasks=AREAS,
        balanced=True,
    ),
    "jaccard": LossChoice(
        "1 minus the mean intersection over union: as dice, but costs more where little is right.",
        "Rahman and Wang 2016",
        tasks=AREAS,
        balanced=True,
    ),
    "tversky": LossChoice(
        "Dice with weights of its own for what is wrongly found and what is missed: finds more of small things.",
        "Salehi et al. 2017",
        tasks=AREAS,
        balanced=True,
    ),
    "focal": LossChoice(
        "Cross-entropy that looks away from what is nearly right already: for many easy pixels and few hard ones.",
        "Lin et al. 2017",
        tasks=CLASS_TASKS,
    ),
    "focal_tversky": LossChoice(
        "Tversky that looks at the classes that are still poor.",
        "Abraham and Khan 2019",
        tasks=AREAS,
        balanced=True,
    ),
    "unified_focal": LossChoice(
        "A focal and a focal Tversky loss together, with few numbers to choose: for rare classes.",
        "Yeung et al. 2022",
        tasks=("segmentation",),
        balanced=True,
    ),
    "ohem": LossChoice(
        "Cross-entropy of the costliest share of the pixels or chips alone (hard example mining, top-k). Each of "
        "several ranks looks for its own.",
        "Shrivastava et al. 2016",
        tasks=CLASS_TASKS,
    ),
    "lovasz": LossChoice(
        "A smooth stand-in for the intersection over union itself: good to end with, or beside cross_entropy.",
        "Berman et al. 2018",
        tasks=("segmentation",),
        balanced=True,
    ),
    "symmetric_cross_entropy": LossChoice(
        "Cross-entropy in both directions: wrong labels do less harm.",
        "Wang et al. 2019",
        tasks=CLASS_TASKS,
    ),
    "generalized_cross_entropy": LossChoice(
        "Between cross-entropy and mean absolute error: wrong labels do less harm, and training takes longer.",
        "Zhang and Sabuncu 2018",
        tasks=CLASS_TASKS,
    ),
    "mse": LossChoice("Mean squared error: the usual loss of regression.", tasks=NUMBER_TASKS),
    "mae": LossChoice("Mean absolute error: single values far off do less harm.", tasks=NUMBER_TASKS),
    "huber": LossChoice("Squares of small errors, and large ones as they are.", "Huber 1964", tasks=NUMBER_TASKS),
}
# What "auto" is for each task.
USUAL = {
    "segmentation": "cross_entropy",
    "classification": "cross_entropy",
    "multilabel": "binary_cross_entropy",
    "regression": "mse",
    "chip_regression": "mse",
}
AUTO = {"auto": Choice("The usual one for the chips' task.")}
# How classes are weighted; `training.losses.weights` has the formulas.
CLASS_WEIGHTS = {
    "auto": Choice("none for losses that count all classes the same by themselves, such as dice; root for others."),
    "none": Choice("A class counts as much as it has pixels or chips."),
    "root": Choice("Halfway between none and balanced: by the inverse square root of a class's frequency."),
    "balanced": Choice("All classes count the same: by the inverse frequency."),
    "effective_number": Choice(
        "By how many pixels or chips say something new: as balanced for rare classes, while common ones count alike.",
        "Cui et al. 2019",
    ),
    "median_frequency": Choice(
        "By the inverse of a class's frequency in the chips that show it; as balanced where chips have no masks.",
        "Eigen and Fergus 2015",
    ),
}


class LossSettings(Settings):
    """The loss."""

    loss: str = setting("auto", choices={**AUTO, **LOSSES})
    second_loss: str = setting("none", choices=("none", *LOSSES))
    second_loss_share: float = setting(0.5, low=0, high=1)  # of the sum; the first has the rest
    class_weights: str = setting("auto", choices=CLASS_WEIGHTS)
    class_weight_list: str = ""  # by hand, instead: "1, 2.5, 1" or "water=2.5"
    effective_number_beta: float | None = setting(None, low=0, high=1 - 1e-12)  # None = by the size of the classes
    label_smoothing: float = setting(0.0, low=0, high=0.9)
    focal_gamma: float = setting(2.0, low=0, high=10)
    tversky_alpha: float = setting(0.3, low=0.01, high=10)  # of what is wrongly found
    tversky_beta: float = setting(0.7, low=0.01, high=10)  # of what is missed
    focal_tversky_gamma: float = setting(4 / 3, low=1, high=3)
    unified_focal_lambda: float = setting(0.5, low=0, high=1)
    unified_focal_delta: float = setting(0.6, low=0.01, high=0.99)
    unified_focal_gamma: float = setting(0.5, low=0.05, high=0.95)
    ohem_share: float = setting(0.25, low=0.001, high=1)
    symmetric_alpha: float = setting(0.1, low=0.001, high=100)
    symmetric_beta: float = setting(1.0, low=0, high=100)
    generalized_q: float = setting(0.7, low=0.01, high=1)
    huber_delta: float = setting(1.0, low=0.001, high=1000)  # standard deviations of the target

    def terms(self, task: str) -> list[tuple[str, float]]:
        """The losses for a task, of `LOSSES`, each with its share in the sum.

        Raises:
            InputError: One is not for this task.
        """
        first = USUAL[task] if self.loss == "auto" else self.loss
        if self.second_loss == "none":
            found = {"LOSS": (first, 1.0)}
        else:
            share = self.second_loss_share
            found = {"LOSS": (first, 1 - share), "SECOND_LOSS": (self.second_loss, share)}
        for setting_name, (loss, _) in found.items():
            if task not in LOSSES[loss].tasks:
                fitting = [name for name, row in LOSSES.items() if task in row.tasks]
                raise InputError(
                    f'{setting_name} is "{loss}", and the chips are for {task}.',
                    f"Choose one of {', '.join(fitting)}.",
                )
        return list(found.values())

    def weights_of(self, loss: str) -> str:
        """How classes are weighted in a loss: one of `CLASS_WEIGHTS` but for "auto"."""
        if self.class_weights == "auto":
            return "none" if LOSSES[loss].balanced else "root"
        return self.class_weights

    def check(self, task: str, classes: ClassTable) -> None:
        """Whether the settings fit chips of a task, and their classes.

        Raises:
            InputError: A loss is for another task, or class weights are given where they do not fit the classes.
        """
        self.terms(task)
        if task in NUMBER_TASKS and (self.class_weight_list.strip() or self.class_weights not in ("auto", "none")):
            name = "CLASS_WEIGHT_LIST" if self.class_weight_list.strip() else "CLASS_WEIGHTS"
            raise InputError(f"{name} is given, and the chips are for {task}, which has no classes.", "Leave it.")
        given_weights(self.class_weight_list, classes)


def given_weights(text: str, classes: ClassTable) -> Optional[list[float]]:
    """Read weights of the classes that were given by hand.

    Args:
        text: A number a class, in the order of the class values, such as "1, 2.5, 1"; or some classes by name or
            value, such as "water=2.5, 7=0", of which the others weigh 1.
        classes: The classes.

    Returns:
        (C,) numbers; None where the text is empty.

    Raises:
        InputError: The text is no such list, or does not fit the classes.
    """
    parts = [part.strip() for part in text.replace(";", ",").replace("\n", ",").split(",") if part.strip()]
    if not parts:
        return None
    known = ", ".join(f"{kind.value} {kind.name}" for kind in classes.classes)
    named = [part.rpartition("=") for part in parts]
    if all(sign for _, sign, _ in named):
        found = [1.0] * len(classes)
        places = [classes.find(word.strip()) for word, _, _ in named]
        for (word, _, number), place in zip(named, places):
            if place is None or places.count(place) > 1:
                fault = "names no class" if place is None else "is named twice"
                raise InputError(f'CLASS_WEIGHT_LIST is "{text}": {word.strip()} {fault}.', f"The classes are {known}.")
            found[place] = _number(number, text)
    else:
        found = [_number(part, text) for part in parts]
        if len(found) != len(classes):
            raise InputError(
                f'CLASS_WEIGHT_LIST is "{text}", {len(found)} numbers, and there are {len(classes)} classes.',
                f'Give one for each of {known}, in this order; or some by their names, such as "{classes.names[0]}=2".',
            )
    if not any(found):
        raise InputError(f'CLASS_WEIGHT_LIST is "{text}": no class counts.', "Give a class a weight above 0.")
    return found


def _number(word: str, text: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 <= number <= MOST_BY_HAND:
        raise InputError(
            f'CLASS_WEIGHT_LIST is "{text}", and "{word.strip()}" is no weight.',
            f'Give numbers from 0 to {MOST_BY_HAND:g}, such as "1, 2.5, 1", or "water=2.5".',
        )
    return number
