"""Which spatial block goes to training, validation and test."""

from __future__ import annotations

import numpy as np

from .dataset import SPLITS


def split_blocks(pixels: np.ndarray, shares: tuple[float, float, float], seed: int) -> np.ndarray:
    """Spread blocks over the splits so that every class keeps about its share in each.

    Iterative stratification: the rarest class is dealt out first, each of its blocks to the split that lacks most of
    that class (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", with pixels in
    place of samples). A split with a share above 0 gets a block as long as there are enough.

    Args:
        pixels: (B, C) labelled pixels of each class in each block.
        shares: Of training, validation and test; they sum to 1.
        seed: Of the order in which equal choices are made.

    Returns:
        (B,) int64 places in `SPLITS`.
    """
    blocks = len(pixels)
    order = np.random.default_rng(seed).permutation(blocks)
    counts = pixels[order].astype(np.float64)
    # Classes count alike, however many pixels they have.
    counts /= np.maximum(counts.sum(axis=0), 1)
    needs = np.outer(np.asarray(shares, np.float64), counts.sum(axis=0))  # (3, C)
    usable = np.asarray(shares) > 0
    found = np.full(blocks, -1, np.int64)
    for rare in np.argsort((counts > 0).sum(axis=0), kind="stable"):
        for place in np.flatnonzero((found < 0) & (counts[:, rare] > 0)):
            found[place] = _neediest(needs, rare, usable)
            needs[found[place]] -= counts[place]
    found[found < 0] = 0  # blocks without a labelled pixel
    _fill_empty(found, usable)
    result = np.empty(blocks, np.int64)
    result[order] = found
    return result


def _neediest(needs: np.ndarray, column: int, usable: np.ndarray) -> int:
    lacking = np.where(usable, needs[:, column], -np.inf)
    best = np.flatnonzero(lacking >= lacking.max() - 1e-12)
    return int(best[np.argmax(needs[best].sum(axis=1))])


def _fill_empty(found: np.ndarray, usable: np.ndarray) -> None:
    """Give a split that got nothing a block of the split that has most; training is filled first."""
    for split in range(len(SPLITS)):
        held = np.bincount(found, minlength=len(SPLITS))
        if usable[split] and held[split] == 0 and held.max() > 1:
            found[np.flatnonzero(found == held.argmax())[-1]] = split
