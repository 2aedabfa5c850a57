"""Find chips that share ground with chips of another split."""

from __future__ import annotations

import numpy as np

from ..chips.dataset import SPLITS, ChipDataset
from ..chips.overlaps import overlapping_pairs
from ..events import Stage
from .chip_table import ChipTable


def shared_ground(dataset: ChipDataset, table: ChipTable, stage: Stage) -> np.ndarray:
    """Find chips that share ground with an earlier split, in the order training, validation, test.

    Args:
        dataset: The dataset.
        table: Its index.
        stage: Used to check for cancellation.

    Returns:
        (n,) int64: for each such chip, the index of an overlapping chip of the earliest split; -1 for others.
    """
    found = np.full(len(dataset.images), -1, np.int64)
    ranks = np.full(len(found), -1)
    for rank, split in enumerate(SPLITS):
        ranks[dataset.splits == split] = rank
    extents = np.ptp(table.corners, axis=1).min(axis=1)  # (n,), NaN without a footprint
    chips = np.flatnonzero((ranks >= 0) & (extents > 0))
    if not table.placed or len(chips) == 0:
        return found
    for pairs in overlapping_pairs(table.corners[chips], ranks[chips]):
        stage.advance(0)
        pairs = chips[pairs]
        pairs = np.take_along_axis(pairs, np.argsort(-ranks[pairs], axis=1), axis=1)  # the later split first
        later, earlier = pairs[np.argsort(-ranks[pairs[:, 1]], kind="stable")].T  # the earliest split is written last
        better = (found[later] < 0) | (ranks[earlier] < ranks[found[later]])
        found[later[better]] = earlier[better]
    return found


def near_each_other(table: ChipTable, pairs: np.ndarray) -> np.ndarray:
    """(p,) bool: whether the envelopes of the footprints overlap, for (p, 2) pairs of chips."""
    if not table.placed:
        return np.zeros(len(pairs), bool)
    corners = table.corners[pairs]  # (p, 2, 4, 2)
    low, high = corners.min(axis=2), corners.max(axis=2)
    found: np.ndarray = ((low[:, 0] < high[:, 1]) & (low[:, 1] < high[:, 0])).all(axis=1)
    return found
