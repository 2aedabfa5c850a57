"""Chips and pixels of each class in each split, and how much the splits differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..chips.dataset import NO_SPLIT, SPLITS, ChipDataset


@dataclass(frozen=True)
class ClassShares:
    """Class statistics for K groups of chips (splits or folds) and C classes."""

    names: tuple[str, ...]  # (K) names of the groups
    counts: np.ndarray  # (K,) number of chips
    chips: np.ndarray  # (K, C) number of chips with a class
    pixels: np.ndarray  # (K, C) number of pixels; zeros for classes of whole chips
    by_pixels: bool  # whether shares are of pixels or of chips

    @property
    def weights(self) -> np.ndarray:
        """(K, C) counts on which the shares are based."""
        return self.pixels if self.by_pixels else self.chips

    @property
    def shares(self) -> np.ndarray:
        """(K, C) share of each class in a group; NaN for a group without labels."""
        total = self.weights.sum(axis=1, keepdims=True).astype(np.float64)
        return np.divide(self.weights, total, out=np.full(self.weights.shape, np.nan), where=total > 0)

    @property
    def whole(self) -> np.ndarray:
        """(C,) share of each class over all groups."""
        total = self.weights.sum()
        found: np.ndarray = self.weights.sum(axis=0) / max(total, 1)
        return found

    @property
    def differences(self) -> np.ndarray:
        """(K,) largest difference between a class's share in the group and over all, as in `divide`."""
        if self.weights.shape[1] == 0:
            return np.zeros(len(self.names))
        found: np.ndarray = np.nan_to_num(np.abs(self.shares - self.whole)).max(axis=1)
        return found


def split_shares(dataset: ChipDataset) -> ClassShares:
    """The shares in training, validation and test, if not empty, and in chips that belong to no split."""
    there = [split for split in SPLITS if (dataset.splits == split).any()]
    members = [dataset.splits == split for split in there]
    others = ~np.isin(dataset.splits, SPLITS)
    if others.any():
        there.append(NO_SPLIT)
        members.append(others)
    return _shares(dataset, there, members)


def fold_shares(dataset: ChipDataset) -> ClassShares:
    """The shares in each fold; empty without folds."""
    numbers = np.unique(dataset.folds[dataset.folds > 0]).tolist()
    return _shares(dataset, [f"fold {number}" for number in numbers], [dataset.folds == number for number in numbers])


def _shares(dataset: ChipDataset, names: list[str], members: list[np.ndarray]) -> ClassShares:
    classes = len(dataset.info.classes)
    counts = np.array([inside.sum() for inside in members], np.int64)
    chips = np.array([dataset.shown[inside].sum(axis=0) for inside in members], np.int64).reshape(len(names), classes)
    pixels = np.array([dataset.pixels[inside].sum(axis=0) for inside in members], np.int64).reshape(len(names), classes)
    return ClassShares(tuple(names), counts, chips, pixels, dataset.info.task == "segmentation")
