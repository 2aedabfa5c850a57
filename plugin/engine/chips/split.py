"""Which group of chips (a block, an area, a raster) goes to which part: training, validation, test or a fold."""

from __future__ import annotations

from typing import Optional

import numpy as np


def deal_groups(weights: np.ndarray, shares: np.ndarray, seed: int, known: Optional[np.ndarray] = None) -> np.ndarray:
    """Spread groups over parts so that every class keeps about its share in each.

    Iterative stratification: the rarest class is dealt out first, each of its groups to the part that lacks most of
    that class (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", with pixels in
    place of samples). A part with a share above 0 gets a group as long as there are enough; the first one comes first.

    Args:
        weights: (G, C) what each group holds of each class: labelled pixels, or chips.
        shares: (P,) of the parts; they sum to 1.
        seed: Of the order in which equal choices are made.
        known: (G,) the parts of groups that have one already, -1 for the others.

    Returns:
        (G,) int64 parts.
    """
    groups = len(weights)
    shares = np.asarray(shares, np.float64)
    order = np.random.default_rng(seed).permutation(groups)
    counts = weights[order].astype(np.float64)
    # Classes count alike, however many pixels they have.
    counts /= np.maximum(counts.sum(axis=0), 1)
    needs = np.outer(shares, counts.sum(axis=0))  # (P, C)
    usable = shares > 0
    found = np.full(groups, -1, np.int64)
    if known is not None:
        found[:] = known[order]
        np.subtract.at(needs, found[found >= 0], counts[found >= 0])
    for rare in np.argsort((counts > 0).sum(axis=0), kind="stable"):
        for place in np.flatnonzero((found < 0) & (counts[:, rare] > 0)):
            found[place] = _neediest(needs, rare, usable)
            needs[found[place]] -= counts[place]
    found[found < 0] = 0  # groups without a labelled pixel
    if known is None:
        _fill_empty(found, usable)
    result = np.empty(groups, np.int64)
    result[order] = found
    return result


def _neediest(needs: np.ndarray, column: int, usable: np.ndarray) -> int:
    lacking = np.where(usable, needs[:, column], -np.inf)
    best = np.flatnonzero(lacking >= lacking.max() - 1e-12)
    return int(best[np.argmax(needs[best].sum(axis=1))])


def _fill_empty(found: np.ndarray, usable: np.ndarray) -> None:
    """Give a part that got nothing a group of the part that has most; the first one is filled first."""
    for part in range(len(usable)):
        held = np.bincount(found, minlength=len(usable))
        if usable[part] and held[part] == 0 and held.max() > 1:
            found[np.flatnonzero(found == held.argmax())[-1]] = part


def disagreement(weights: np.ndarray, parts: np.ndarray) -> float:
    """How far class shares in the parts are from those in the whole, at most, 0 to 1.

    Args:
        weights: (G, C) what each group holds of each class.
        parts: (G,) the part of each group; negative ones do not count.
    """
    kept = parts >= 0
    whole = weights[kept].sum(axis=0)
    if whole.sum() == 0:
        return 0.0
    found = 0.0
    for part in np.unique(parts[kept]):
        held = weights[parts == part].sum(axis=0)
        if held.sum():
            found = max(found, float(np.abs(held / held.sum() - whole / whole.sum()).max()))
    return found
