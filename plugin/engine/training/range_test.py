"""The learning rate range test (Smith 2017): steps at ever higher rates, and what their losses say of the best one.

Sizes: n steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice

import numpy as np

from ..events import Reporter, Stage
from ..recipe.schedule import ScheduleSettings
from .chips import StreamedChips, shuffled
from .optimization import Optimization
from .pace import Pace
from .ready import Training

# Losses of single batches differ by chance: steps on either side that a smoothed loss takes in, by their weights.
SMOOTH_STEPS = 4.0  # standard deviation
REMEMBERED = 0.9  # of the running mean that tells a divergence, in each step
DIVERGED = 4.0  # times the lowest running mean
LEAST = 1e-6  # fall that is more than rounding, as a share of the lowest loss
BEGUN, ENDED = 0.1, 0.98  # the shares of its fall that the loss has lost where the valley begins and ends
# How far in it the suggestion is, by the logarithm of the rate. Not halfway: of a schedule it is the highest rate only.
WAY = 2 / 3


class RisingPace(Pace):
    """Rates that rise by the same factor in each step, from `first` (a share of the last one) to 1."""

    def __init__(self, first: float, steps: int) -> None:
        super().__init__(ScheduleSettings(steps=steps), steps, 0, 0.0)
        self.first = first

    def share(self, first_epoch: int) -> float:
        """The rate of the step as a share of the last one; 0 for weights that do not learn in the first epoch."""
        return float(self.first ** (1 - self.steps / (self.end - 1))) if first_epoch == 1 else 0.0


def measure_losses(
    training: Training, rates: tuple[float, float], steps: int, reporter: Reporter
) -> tuple[np.ndarray, np.ndarray]:
    """Let a network learn at rates that rise by the same factor in each step, until its loss diverges.

    Args:
        training: Ready; its network is changed.
        rates: The first and the last one.
        steps: How many.
        reporter: Is asked in each step whether this is still wanted.

    Returns:
        (n,) rates and (n,) losses before each step, all finite.

    Raises:
        InputError: A chip cannot be read.
        ResourceError: Memory is not enough.
        Cancelled: The user asked for the end.
    """
    config, first, last = training.config, *rates
    pace = RisingPace(first / last, steps)
    optimization = Optimization(
        training.network, training.plan, config.optimizer.replace(learning_rate=last), pace, config.batch_size,
        config.mixed_precision, config.seed, training.device, reporter,
    )  # fmt: skip
    training.plan.begin(1)
    training.network.train()
    stage = Stage(reporter, steps, "Range test")
    chips = StreamedChips(training.reader, training.splits["training"], training.device)
    found: list[tuple[float, float]] = []
    lowest, mean = math.inf, 0.0
    for batch in chips.batches(islice(_orders(training), steps)):
        total, weight = optimization.step(training.task, batch).totals().tolist()
        loss = total / weight if weight else math.nan
        if weight and not math.isfinite(loss):
            break
        stage.advance()
        if not weight:  # augmentation has covered all labels
            continue
        found.append((optimization.rate, loss))
        mean = REMEMBERED * mean + (1 - REMEMBERED) * loss
        running = mean / (1 - REMEMBERED ** len(found))
        lowest = min(lowest, running)
        if running > DIVERGED * lowest:
            break
    rows = np.array(found).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _orders(training: Training) -> Iterator[np.ndarray]:
    """Batches of chip numbers, epoch after epoch."""
    config = training.config
    for epoch in count(1):
        yield from shuffled(training.sampling, config.step_size, config.seed, epoch)


def smooth(losses: np.ndarray) -> np.ndarray:
    """(n,) → (n,): weighted means of neighbours, as far as there are some; without the delay of a running mean."""
    steps = np.arange(len(losses))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / SMOOTH_STEPS) ** 2)
    means: np.ndarray = weights @ losses / weights.sum(axis=1)
    return means


def suggest(rates: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, float | None, float | None]:
    """What losses at rising rates say of the best one.

    Args:
        rates: (n,).
        losses: (n,).

    Returns:
        (n,) smoothed losses; the rate in the valley, two thirds of the way from where a tenth of the fall is done to
        where nearly all of it is; and the rate where the fall is steepest. None where the loss does not fall more than
        it varies from batch to batch.
    """
    smoothed = smooth(losses)
    lowest = int(np.argmin(smoothed))
    before = smoothed[: lowest + 1]
    fall = float(before.max() - before[-1])
    if fall <= max(np.std(losses[: lowest + 1] - before), LEAST * abs(before[-1])):
        return smoothed, None, None
    begun = int(np.nonzero(before > before.max() - BEGUN * fall)[0][-1])
    place = int(np.argmin(np.diff(before)))
    ended = int(np.argmax(before <= before.max() - ENDED * fall))
    valley = float(rates[begun] * (rates[ended] / rates[begun]) ** WAY)
    return smoothed, valley, float(math.sqrt(rates[place] * rates[place + 1]))
