"""The schedule: how long a training lasts, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..settings import Choice, Settings, setting

WARM_UP = 0.25  # of all steps
START = 1 / 25  # of the peak
END = 1 / 1000

# How much an automatic training looks at: million pixels, counted once an epoch. On two cores of a CPU it takes about
# ten minutes with U-Net and a light encoder; a GPU does more in less.
LOOKED_AT = {"cpu": 200, "cuda": 1000}
FEWEST_EPOCHS, MOST_EPOCHS = 8, 60

# The same for classifiers, which differ far more in what they cost: work (see models/cost.py) of looks at a chip.
# On two cores it is about ten minutes as well. A pretrained network needs fewer epochs.
WORK = {"cpu": 50e12, "cuda": 250e12}
MOST_EPOCHS_PRETRAINED = 20
# In fewer steps a network has hardly begun, however few the chips are.
FEWEST_STEPS = 300


def constant(step: int, steps: int, settings: ScheduleSettings) -> float:
    """The learning rate of a step as a share of the peak: always 1.

    Args:
        step: From 0 to steps − 1.
        steps: All steps of the training.
        settings: The schedule's.
    """
    return 1.0


def one_cycle(step: int, steps: int, settings: ScheduleSettings) -> float:
    """Along cosines up from 1/25 to 1, then down to 1/1000 (Smith 2018); arguments as for `constant`.

    However short the training, one step is at the peak.
    """
    top = min(max(WARM_UP * (steps - 1), 1), steps - 1)
    if step < top:
        return START + (1 - START) * _rise(step / top)
    share = (step - top) / (steps - 1 - top) if step > top else 0.0
    return 1 - (1 - END) * _rise(share)


def _rise(share: float) -> float:
    """Half a cosine, from 0 to 1."""
    return (1 - math.cos(math.pi * share)) / 2


class ScheduleChoice(Choice):
    """A schedule."""

    rate: Callable[[int, int, ScheduleSettings], float] = constant  # of a step, as a share of the peak


SCHEDULES = {
    "one_cycle": ScheduleChoice(
        "Rises to the highest rate in the first quarter, then falls to almost nothing: good in short trainings.",
        "Smith 2018",
        rate=one_cycle,
    ),
    "constant": ScheduleChoice("The same rate in all steps.", rate=constant),
}


class ScheduleSettings(Settings):
    """The length of the training, and the rates of its steps."""

    epochs: int | None = setting(None, low=1, high=100000)  # None = by the amount of chips
    # epochs without a better one; 0 never stops early: with the one-cycle schedule the last epochs gain most
    patience: int = setting(0, low=0, high=100000)
    schedule: str = setting("one_cycle", choices=SCHEDULES)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, from 0 to steps − 1, as a share of the highest."""
        return SCHEDULES[self.schedule].rate(step, steps, self)


def automatic_epochs(chips: int, chip_size: int, device_type: str) -> int:
    """How many epochs to train where the user does not say: few for many chips, many for few.

    Args:
        chips: Training chips.
        chip_size: Pixels a side.
        device_type: "cpu" or "cuda".
    """
    epochs = round(LOOKED_AT[device_type] * 1e6 / (chips * chip_size**2))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, epochs))


def automatic_classifier_epochs(chips: int, work: float, device_type: str, pretrained: bool, batch_size: int) -> int:
    """As `automatic_epochs`, for a classifier.

    Args:
        chips: Training chips.
        work: Of one look at a chip, see `cost.work_per_chip`.
        device_type: "cpu" or "cuda".
        pretrained: Whether the network starts from pretrained weights.
        batch_size: Chips a step.
    """
    most = MOST_EPOCHS_PRETRAINED if pretrained else MOST_EPOCHS
    most = max(most, math.ceil(FEWEST_STEPS / math.ceil(chips / batch_size)))
    return min(most, max(FEWEST_EPOCHS, round(WORK[device_type] / (chips * work))))


def automatic_frozen_epochs(epochs: int) -> int:
    """How many of the epochs the encoder of a pretrained network stays as it is: about an eighth, at least one."""
    return max(1, round(epochs / 8))
