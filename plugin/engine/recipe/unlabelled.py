"""Unlabelled chips: what a network learns from its own answers to them.

`training.pseudo_labels` has the method.
"""

from __future__ import annotations

import math

from ..errors import InputError
from ..settings import Settings, setting
from .augmentation import PRESETS, AugmentationSettings, Preset

TASKS = ("segmentation", "classification")  # whose answers are one class, with a probability
COLORS = {
    "brightness": 0.5, "contrast": 0.5, "gamma_jitter": 0.5, "radiometric_jitter": 0.1, "hue": 20, "saturation": 0.5,
    "blur": 1.5, "noise": 0.1, "cutout": 0.2,
}  # fmt: skip
STRONG = {
    "colors": Preset("Other colours, blurred, noisy and partly covered; nothing moves.", strengths=COLORS),
    "cutmix": Preset(
        "The same, and every second batch with squares of other chips.",
        "French et al. 2020",
        strengths={**COLORS, "cutmix": 0.5},
    ),
    "standard": PRESETS["standard"],
    "strong": PRESETS["strong"],
}


class UnlabelledSettings(Settings):
    """What a network learns from unlabelled chips, and how much."""

    unlabelled_weight: float = setting(1.0, low=0, high=100)  # of their loss beside that of the labelled chips
    unlabelled_ramp: float = setting(0.25, low=0, high=1)  # the share of the training in which the weight rises
    unlabelled_ratio: int = setting(1, low=1, high=16)  # unlabelled chips beside each labelled one
    unlabelled_augmentation: str = setting("cutmix", choices=STRONG)
    pseudo_label_confidence: float = setting(0.95, low=0, high=0.9999)  # the lowest probability of a pseudo-label
    baseline: bool = False  # also train without the unlabelled chips, to compare

    def check(self, task: str, classes: int, smoothing: float) -> None:
        """Check that the settings fit chips of a task.

        Args:
            task: Of the labelled chips.
            classes: How many there are.
            smoothing: The label smoothing.

        Raises:
            InputError: The task has no pseudo-labels, or no answer could be as sure as it has to be.
        """
        if task not in TASKS:
            raise InputError(
                f"UNLABELLED_CHIPS is given, and the chips are for {task}, for which there are no pseudo-labels.",
                f"Leave it empty, or train on chips for {' or '.join(TASKS)}.",
            )
        highest = 1 - smoothing + smoothing / classes
        if self.pseudo_label_confidence >= highest:
            raise InputError(
                f"PSEUDO_LABEL_CONFIDENCE is {self.pseudo_label_confidence:g}, and with LABEL_SMOOTHING {smoothing:g} "
                f"a network learns to be no more than {highest:.2g} sure.",
                "Lower either.",
            )

    def weight(self, progress: float) -> float:
        """Return the weight of the unlabelled chips' loss.

        It rises as in Laine and Aila 2017, along a Gaussian.

        Args:
            progress: How far the training has come, 0 to 1.
        """
        if progress <= 0 and self.unlabelled_ramp:
            return 0.0
        left = max(0.0, 1 - progress / self.unlabelled_ramp) if self.unlabelled_ramp else 0.0
        return self.unlabelled_weight * math.exp(-5 * left**2)

    def strong(self) -> AugmentationSettings:
        """Return how the chips are varied for the network that learns from them; flips come before."""
        return AugmentationSettings(
            augmentation="none", augment=False, **STRONG[self.unlabelled_augmentation].strengths
        )
