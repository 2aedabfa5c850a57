"""Unlabelled chips beside the labelled ones of each step: which, in which order, and from where."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee

import numpy as np

from ..chips.dataset import ChipDataset, open_dataset
from ..config import TrainingConfig
from ..errors import InputError
from ..events import Reporter
from ..rasters.likeness import far_off
from .chips import Batch, ChipReader, Chips, Draws

DRAW = 1  # beside the seed: the order of unlabelled chips does not follow that of labelled ones


class UnlabelledReader(ChipReader):
    """Reads chips without their labels; a target is an empty array."""

    @property
    def target_shape(self) -> tuple[int, ...]:
        """(0,)."""
        return (0,)

    def target(self, place: int) -> np.ndarray:
        """Return an empty array."""
        return np.empty(0, self.target_dtype)


@dataclass(frozen=True)
class Unlabelled:
    """The unlabelled chips of a training."""

    dataset: ChipDataset
    places: np.ndarray  # (m,) of its chips


def open_unlabelled(config: TrainingConfig, labelled: ChipDataset, reporter: Reporter) -> Unlabelled | None:
    """Open the dataset of unlabelled chips; None if there is none.

    If it has labels, its training chips are used, since the others are there to judge by.

    Raises:
        InputError: It cannot be read, or has no chips to use.
    """
    folder = config.unlabelled_chips
    if not folder:
        return None
    dataset, places = open_dataset(folder), np.arange(0)
    if dataset.info.task == "unlabelled":
        places = np.arange(len(dataset.images))
    else:
        same = os.path.realpath(folder) == os.path.realpath(labelled.folder)
        places = dataset.indices("training", config.fold if same else None)
    if not len(places):
        raise InputError(f"The chip dataset {folder} (UNLABELLED_CHIPS) has no training chips.", "Choose another one.")
    reporter.log(f"The network also learns from {len(places)} chips of {folder} without their labels.")
    one, other = dataset.info, labelled.info
    for name, mean, std, usual_mean, usual_std in zip(other.band_names, one.mean, one.std, other.mean, other.std):
        if far_off(mean, std, usual_mean, usual_std):
            reporter.warning(
                f"Band {name} of the unlabelled chips has values of {mean:.4g} ± {std:.3g}, but the labelled chips "
                f"have {usual_mean:.4g} ± {usual_std:.3g}. Check that both are from the same kind of image."
            )
    return Unlabelled(dataset, places)


class PairedDraws:
    """Draws unlabelled chips beside labelled ones.

    All unlabelled chips are shown equally often: each once in a random order, then each once in another, however many
    of them an epoch shows. The order follows from seed and epoch alone.

    Args:
        labelled: Draws the labelled chips.
        count: How many unlabelled chips there are.
        ratio: How many are shown beside each labelled one.
    """

    def __init__(self, labelled: Draws, count: int, ratio: int) -> None:
        self.labelled, self.count, self.ratio = labelled, count, ratio

    def __len__(self) -> int:
        return len(self.labelled)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return (n, 1 + ratio): the numbers of a labelled chip and of the unlabelled ones beside it."""
        labelled = self.labelled.order(seed, epoch)
        shown = len(labelled) * self.ratio
        begin, end = (epoch - 1) * shown, epoch * shown
        first = begin // self.count
        rounds = [
            np.random.default_rng([seed, number, DRAW]).permutation(self.count)
            for number in range(first, -(-end // self.count))
        ]
        others = np.concatenate(rounds)[begin - first * self.count :][:shown]
        return np.column_stack([labelled, others.reshape(len(labelled), self.ratio)])


class PairedChips:
    """Labelled chips, and beside them unlabelled ones.

    Args:
        labelled, unlabelled: Both on the same device.
    """

    def __init__(self, labelled: Chips, unlabelled: Chips) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self.labelled)

    def batches(self, orders: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Yield images and targets of labelled chips, and images of unlabelled ones, for rows of `PairedDraws`."""
        first, second = tee(orders)
        labelled = self.labelled.batches(order[:, 0] for order in first)
        unlabelled = self.unlabelled.batches(order[:, 1:].ravel() for order in second)
        for (images, targets), (others, _) in zip(labelled, unlabelled):
            yield images, targets, others
