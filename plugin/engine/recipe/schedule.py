"""The schedule: how long a training lasts, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..errors import InputError
from ..settings import Choice, Settings, setting

WARM_UP = 0.25  # of one_cycle, where WARM_UP is empty
START = 1 / 25  # of the peak: where a warm-up begins
MILESTONES = (0.5, 0.75)  # where MILESTONES is empty

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
        step: From 0 to steps − 1, after the warm-up.
        steps: All steps of the training after the warm-up.
        settings: The schedule's.
    """
    return 1.0


def equal_drops(step: int, steps: int, settings: ScheduleSettings) -> float:
    """Times `drop_factor` between equal parts; arguments here and below as for `constant`."""
    return settings.drop_factor ** (step * (settings.drops + 1) // steps)


def drops_at_milestones(step: int, steps: int, settings: ScheduleSettings) -> float:
    """Times `drop_factor` at each of the milestones."""
    milestones = [max(1, round(share * steps)) for share in settings.milestones or MILESTONES]
    return settings.drop_factor ** sum(step >= milestone for milestone in milestones)


def exponential(step: int, steps: int, settings: ScheduleSettings) -> float:
    """Down to `lowest_rate`, by the same factor in each step."""
    return settings.lowest_rate ** _share(step, steps)


def cosine(step: int, steps: int, settings: ScheduleSettings) -> float:
    """Along half a cosine down to `lowest_rate`."""
    return 1 - (1 - settings.lowest_rate) * _rise(_share(step, steps))


def cyclic(step: int, steps: int, settings: ScheduleSettings) -> float:
    """Along straight lines up from `lowest_rate` and down again, several times; as often as there are steps for it."""
    cycles = min(settings.cycles, (steps - 1) // 2)
    if not cycles:
        return 1.0
    up = 1 - abs(2 * (_share(step, steps) * cycles % 1) - 1)
    return settings.lowest_rate + (1 - settings.lowest_rate) * up


def one_cycle(step: int, steps: int, settings: ScheduleSettings) -> float:
    """Along cosines up from 1/25 to 1 while the warm-up lasts, then down to `lowest_rate`.

    However short the training, one step is at the peak.
    """
    warm_up = WARM_UP if settings.warm_up is None else settings.warm_up
    top = min(max(warm_up * (steps - 1), 1), steps - 1)
    if step < top:
        return START + (1 - START) * _rise(step / top)
    share = (step - top) / (steps - 1 - top) if step > top else 0.0
    return 1 - (1 - settings.lowest_rate) * _rise(share)


def _share(step: int, steps: int) -> float:
    """0 for the first step, 1 for the last one."""
    return step / max(1, steps - 1)


def _rise(share: float) -> float:
    """Half a cosine, from 0 to 1."""
    return (1 - math.cos(math.pi * share)) / 2


def drops_on_plateaus(improved: Sequence[bool], epochs: int) -> int:
    """How often the rate dropped because nothing better came for so many epochs in a row.

    Args:
        improved: Of each epoch so far, whether it was the best one until then.
        epochs: How long to wait, each time.
    """
    drops = waited = 0
    for better in improved:
        waited = 0 if better else waited + 1
        if waited == epochs:
            drops, waited = drops + 1, 0
    return drops


class ScheduleChoice(Choice):
    """A schedule."""

    rate: Callable[[int, int, ScheduleSettings], float] = constant  # of a step, as a share of the peak
    warms_up: bool = False  # by itself; else a rise goes before it
    watches: bool = False  # the epochs, and drops when they bring nothing better


SCHEDULES = {
    "one_cycle": ScheduleChoice(
        "Rises to the highest rate in the first quarter, then falls to almost nothing: good in short trainings.",
        "Smith 2018",
        rate=one_cycle,
        warms_up=True,
    ),
    "constant": ScheduleChoice("The same rate in all steps.", rate=constant),
    "step": ScheduleChoice(
        "Drops after each of a few equal parts of the training: DROPS, DROP_FACTOR.", rate=equal_drops
    ),
    "multi_step": ScheduleChoice("Drops at shares of the training: MILESTONES, DROP_FACTOR.", rate=drops_at_milestones),
    "exponential": ScheduleChoice("Falls by the same factor in each step, to LOWEST_RATE.", rate=exponential),
    "cosine": ScheduleChoice(
        "Falls along half a cosine, slowly at both ends, to LOWEST_RATE.", "Loshchilov and Hutter 2017", rate=cosine
    ),
    "cyclic": ScheduleChoice(
        "Rises and falls along straight lines, again and again: CYCLES.", "Smith 2017", rate=cyclic
    ),
    "plateau": ScheduleChoice(
        "Drops when several epochs in a row brought nothing better: PLATEAU_EPOCHS, DROP_FACTOR.", watches=True
    ),
}


class ScheduleSettings(Settings):
    """The length of the training, and the rates of its steps."""

    # The length, one of three; if none is given, epochs by the amount of chips.
    epochs: int | None = setting(None, low=1, high=100000)
    steps: int | None = setting(None, low=1, high=10**9)
    minutes: float | None = setting(None, low=0.01, high=100000)  # of the whole job
    schedule: str = setting("one_cycle", choices=SCHEDULES)
    # The share of the training in which the rate rises; None = a quarter for one_cycle, 0 for others.
    warm_up: float | None = setting(None, low=0, high=0.9)
    # A share of the peak: where exponential, cosine and one_cycle end, cyclic turns, and plateau drops no more.
    lowest_rate: float = setting(0.001, low=1e-6, high=1)
    drop_factor: float = setting(0.1, low=1e-6, high=1)  # of step, multi_step and plateau
    drops: int = setting(2, low=1, high=100)  # of step
    milestones: tuple[float, ...] = ()  # of multi_step: shares of the training; empty = `MILESTONES`
    cycles: int = setting(3, low=1, high=1000)  # of cyclic
    plateau_epochs: int = setting(3, low=1, high=100000)  # of plateau

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = self.milestones
        if any(not 0 < share < 1 for share in shares) or list(shares) != sorted(set(shares)):
            raise InputError(
                f"MILESTONES is {','.join(f'{share:g}' for share in shares)}.",
                "Give shares of the training between 0 and 1, in rising order, such as 0.5,0.75.",
            )

    @property
    def has_length(self) -> bool:
        """Whether it is settled how long the training lasts."""
        return (self.epochs, self.steps, self.minutes) != (None, None, None)

    def known_epochs(self, steps_an_epoch: int) -> int | None:
        """How many epochs there will be, the last one perhaps not whole; None where the clock decides."""
        return -(-self.steps // steps_an_epoch) if self.steps else self.epochs

    def rate(self, step: int, steps: int, improved: Sequence[bool] = ()) -> float:
        """The learning rate of a step as a share of the highest.

        Args:
            step: From 0 to steps − 1.
            steps: All steps of the training.
            improved: Of each epoch so far, whether it was the best one until then.
        """
        row = SCHEDULES[self.schedule]
        rising = 0 if row.warms_up else min(round((self.warm_up or 0) * steps), steps - 1)
        if step < rising:
            return START + (1 - START) * step / rising
        if row.watches:
            return max(self.lowest_rate, self.drop_factor ** drops_on_plateaus(improved, self.plateau_epochs))
        return row.rate(step - rising, steps - rising, self)


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
