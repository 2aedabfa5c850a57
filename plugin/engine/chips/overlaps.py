"""Find pairs of chips whose footprints overlap, without comparing all pairs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# How many chips are processed at once, to limit memory.
CHIPS_AT_ONCE = 20_000
# Footprints that overlap by less than this share of a chip's side count as adjacent.
TOUCH = 1e-4


def overlapping_pairs(corners: np.ndarray, parts: np.ndarray) -> Iterator[np.ndarray]:
    """Find pairs of chips from different parts whose footprints overlap.

    Args:
        corners: (n, 4, 2) corners of squares, which may be rotated.
        parts: (n,) part of each chip; chips of the same part, or with a negative part, are not compared.

    Yields:
        (m, 2) int64 indices into `corners`, the smaller one first; each pair once.
    """
    if len(corners) < 2:
        return
    low, high = corners.min(axis=1), corners.max(axis=1)  # (n, 2)
    slack = TOUCH * float((high - low).min(initial=np.inf))
    reach = (high - low).max(axis=0)  # so no chip extends beyond the neighbouring cells
    cells = np.floor((low - low.min(axis=0)) / reach).astype(np.int64)
    columns = int(cells[:, 0].max()) + 3
    keys = (cells[:, 1] + 1) * columns + cells[:, 0] + 1
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    for begin in range(0, len(corners), CHIPS_AT_ONCE):
        some = order[begin : begin + CHIPS_AT_ONCE]
        for step in (0, 1, columns - 1, columns, columns + 1):
            first = np.searchsorted(ordered, keys[some] + step, "left")
            last = np.searchsorted(ordered, keys[some] + step, "right")
            if step == 0:  # within a cell, compare only with later chips
                first = np.arange(begin, begin + len(some)) + 1
            count = np.maximum(last - first, 0)
            one = np.repeat(some, count)
            if not len(one):
                continue
            ends = np.cumsum(count)
            other = order[np.repeat(first - (ends - count), count) + np.arange(ends[-1])]
            differ = (parts[one] != parts[other]) & (parts[one] >= 0) & (parts[other] >= 0)
            one, other = one[differ], other[differ]
            near = ((low[one] < high[other] - slack) & (low[other] < high[one] - slack)).all(axis=1)
            one, other = one[near], other[near]
            share = _share_ground(corners[one], corners[other], slack)
            if share.any():
                yield np.sort(np.stack([one[share], other[share]], axis=1), axis=1)


def _share_ground(one: np.ndarray, other: np.ndarray, slack: float) -> np.ndarray:
    """(m,) bool: whether pairs of squares (m, 4, 2) overlap, by the separating axis theorem."""
    found = np.ones(len(one), bool)
    for square in (one, other):
        for corner in (0, 1):
            axis = square[:, corner + 1] - square[:, corner]
            axis = axis / np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-300)
            a, b = (np.einsum("mkc,mc->mk", points, axis) for points in (one, other))
            found &= (a.min(axis=1) < b.max(axis=1) - slack) & (b.min(axis=1) < a.max(axis=1) - slack)
    return found
