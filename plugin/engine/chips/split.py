"""Assign groups of chips (blocks, areas or rasters) to training, validation, test or folds."""

from __future__ import annotations

from typing import Optional

import numpy as np

# With more groups than this, only their number is balanced.
IMPROVED_GROUPS = 20_000
MOST_MOVES = 1_000


def deal_groups(weights: np.ndarray, shares: np.ndarray, seed: int, known: Optional[np.ndarray] = None) -> np.ndarray:
    """Assign groups to parts so that each part has about its share of every class.

    Iterative stratification: starting with the rarest class, each group goes to the part that lacks most of that class
    (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", with pixels instead of
    samples). Then single groups are moved as long as that improves the shares. Parts with a share above 0 get at least
    one group as long as there are enough, in the order of the parts.

    Args:
        weights: (G, C) amount of each class in each group: labelled pixels, or chips.
        shares: (P,) shares of the parts, with a sum of 1.
        seed: Seed for choices between equals.
        known: (G,) parts of groups that are already assigned, -1 for others.

    Returns:
        (G,) int64 part of each group.
    """
    groups = len(weights)
    shares = np.asarray(shares, np.float64)
    order = np.random.default_rng(seed).permutation(groups)
    counts = weights[order].astype(np.float64)
    # All classes have the same weight, however many pixels they have.
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
    found[found < 0] = 0  # groups without labelled pixels
    if known is None:
        _fill_empty(found, usable, counts)
    if groups <= IMPROVED_GROUPS:
        _improve(found, counts, shares, np.ones(groups, bool) if known is None else known[order] < 0)
    result = np.empty(groups, np.int64)
    result[order] = found
    return result


def _neediest(needs: np.ndarray, column: int, usable: np.ndarray) -> int:
    lacking = np.where(usable, needs[:, column], -np.inf)
    best = np.flatnonzero(lacking >= lacking.max() - 1e-12)
    return int(best[np.argmax(needs[best].sum(axis=1))])


def _fill_empty(found: np.ndarray, usable: np.ndarray, counts: np.ndarray) -> None:
    """Move a group from the largest part to each empty part, in the order of the parts.

    Groups whose classes occur elsewhere in the largest part are preferred, and among those the smallest.
    """
    for part in range(len(usable)):
        held = np.bincount(found, minlength=len(usable))
        if not usable[part] or held[part] or held.max() < 2:
            continue
        groups = np.flatnonzero(found == held.argmax())
        shown = counts[groups] > 0
        lost = (shown & (shown.sum(axis=0) == 1)).sum(axis=1)  # classes that no other group of the part has
        found[groups[np.lexsort((counts[groups].sum(axis=1), lost))[0]]] = part


def _improve(found: np.ndarray, counts: np.ndarray, shares: np.ndarray, free: np.ndarray) -> None:
    """Move single groups between parts as long as that improves the shares of the classes and of the whole.

    The measure is that of a chi-square test: squared differences from the wanted shares, divided by these.
    """
    usable = np.flatnonzero(shares > 0)
    counts = np.column_stack([counts, counts.sum(axis=1) / max(1e-12, counts.sum())])[:, None]  # (G, 1, C)
    wanted = shares[usable][:, None]  # (P, 1)
    place = np.searchsorted(usable, found)
    rows = np.arange(len(found))
    for _ in range(MOST_MOVES):
        held = np.zeros((len(usable), counts.shape[2]))
        np.add.at(held, place, counts[:, 0])
        off = held - wanted  # (P, C)
        # The change from leaving the own part, and from joining each other part, for all groups at once.
        leaving = ((counts[:, 0] ** 2 - 2 * off[place] * counts[:, 0]) / wanted[place]).sum(axis=1)
        joining = ((counts**2 + 2 * off[None] * counts) / wanted[None]).sum(axis=2)  # (G, P)
        change = leaving[:, None] + joining
        change[rows, place] = 0
        alone = np.bincount(place, minlength=len(usable))[place] == 1
        change[~free | alone] = 0
        best = np.unravel_index(change.argmin(), change.shape)
        if change[best] > -1e-9:
            break
        place[best[0]] = best[1]
    found[:] = usable[place]


def disagreement(weights: np.ndarray, parts: np.ndarray) -> float:
    """The largest difference between a class's share in a part and in the whole, 0 to 1.

    Args:
        weights: (G, C) amount of each class in each group.
        parts: (G,) part of each group; negative ones are ignored.
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
