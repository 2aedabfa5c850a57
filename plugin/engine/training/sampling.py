"""Which training chips an epoch shows, how often, and in which order.

n training chips, C classes. All follows from seed and epoch alone, so that a training can go on at any epoch.
"""

from __future__ import annotations

import math

import numpy as np

from ..chips.dataset import DatasetInfo
from ..events import Reporter
from ..recipe.sampling import SamplingSettings

POWERS = {"none": 0.0, "root": 0.5, "balanced": 1.0, "oversample": 1.0}
# So often an epoch shows a chip, and hardly more: a single one would rule it otherwise.
MOST_TIMES = 10


class Sampling:
    """Draws the chips of each epoch.

    A class's frequency is its mean share of a chip's labels. A chip's weight is the mean of the inverse frequencies of
    what it shows: with "balanced" each class then has the same share of what is drawn, as far as chips that show
    several allow. A chip is drawn as often as its weight says, rounded up or down by chance.

    Args:
        settings: The sampling's.
        info: The dataset's description.
        counts: (n, C) labelled pixels of each class in each chip, or 1 where a chip shows a class, else 0.
    """

    def __init__(self, settings: SamplingSettings, info: DatasetInfo, counts: np.ndarray) -> None:
        chips, self.counts = len(counts), counts
        counts = np.asarray(counts, np.float64)
        self.plain = settings.sampling == "none" and settings.background_share == 1
        # What shows no class at all is a class of its own.
        counts = np.hstack([counts, counts.sum(axis=1, keepdims=True) == 0])
        spare = np.zeros(chips, bool)
        if settings.background_share < 1:
            background = settings.background(info.classes)
            others = np.delete(counts[:, :-1], [] if background is None else background, axis=1)
            spare = others.sum(axis=1) == 0
        self.kept, self.spare = np.flatnonzero(~spare), np.flatnonzero(spare)
        self.taken = round(settings.background_share * len(self.spare))  # of the spare ones, in an epoch
        there = np.where(spare, self.taken / max(len(self.spare), 1), 1.0)  # (n,) in how many epochs a chip may be
        self.weights = _weights(counts, there, POWERS[settings.sampling])
        if settings.sampling == "oversample":
            self.weights = np.maximum(self.weights, 1)
        # (n,) how often an epoch shows each chip, on average.
        self.often = there * self.weights
        self.size = max(math.ceil(round(self.often.sum(), 6)), 1)

    def __len__(self) -> int:
        """The chips of an epoch."""
        return self.size

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The chip numbers, 0 to n − 1, of an epoch."""
        generator = np.random.default_rng([seed, epoch])
        if self.plain:
            return generator.permutation(self.size)
        pool = np.concatenate([self.kept, generator.permutation(self.spare)[: self.taken]])
        pool = generator.permutation(pool)
        # Steps of one along the sum of the weights, from anywhere in the first: a chip is met as often as it is long.
        ends = np.cumsum(self.weights[pool])
        met = np.searchsorted(ends * (self.size / ends[-1]), np.arange(self.size) + generator.random(), side="right")
        return generator.permutation(pool[np.minimum(met, len(pool) - 1)])


def settle_sampling(settings: SamplingSettings, info: DatasetInfo, counts: np.ndarray, reporter: Reporter) -> Sampling:
    """The sampling of the training chips; the log tells what it does."""
    sampling = Sampling(settings, info, counts)
    if not sampling.plain and len(info.classes):
        chips = f"An epoch shows {len(sampling)} chips, drawn from {len(counts)}"
        if settings.sampling != "none":
            chips += f", a chip up to {int(np.ceil(sampling.often.max()))} times"
        before, after = (found / max(found.sum(), 1) for found in (counts.sum(axis=0), sampling.often @ counts))
        shares = ", ".join(
            f"{name} {share:.1%} (of all {total:.1%})" for name, share, total in zip(info.classes.names, after, before)
        )
        reporter.log(f"{chips}: {shares}.")
    return sampling


def _weights(counts: np.ndarray, there: np.ndarray, power: float) -> np.ndarray:
    """(n,) how often each chip is drawn when it may be; 1 on average over what may be."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    frequency = there @ shares / there.sum()
    rarity = np.divide(1.0, frequency**power, out=np.zeros_like(frequency), where=frequency > 0)
    weights = shares @ rarity
    weights = np.minimum(weights * (there.sum() / (there @ weights)), MOST_TIMES)
    found: np.ndarray = weights + (1 - there @ weights / there.sum())  # all get what the commonest had too much
    return found
