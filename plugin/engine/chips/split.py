"""Which group of chips (a block, an area, a raster) goes to which part: training, validation, test or a fold."""

from __future__ import annotations

from typing import Optional

import numpy as np

# More groups than this are balanced by their number.
IMPROVED_GROUPS = 20_000
MOST_MOVES = 1_000


def deal_groups(weights: np.ndarray, shares: np.ndarray, seed: int, known: Optional[np.ndarray] = None) -> np.ndarray:
    """Spread groups over parts so that every class keeps about its share in each.

    Iterative stratification: the rarest class is dealt out first, each of its groups to the part that lacks most of
    that class (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", with pixels in
    place of samples); then single groups move as long as that brings the shares nearer. A part with a share above 0
    gets a group as long as there are enough; the first one comes first.

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
    """Give a part that got nothing a group of the part that has most; the first one is filled first.

    The group is one whose classes the other part shows elsewhere too, if there is one, and of those the smallest.
    """
    for part in range(len(usable)):
        held = np.bincount(found, minlength=len(usable))
        if not usable[part] or held[part] or held.max() < 2:
            continue
        groups = np.flatnonzero(found == held.argmax())
        shown = counts[groups] > 0
        lost = (shown & (shown.sum(axis=0) == 1)).sum(axis=1)  # classes that only this group of the part shows
        found[groups[np.lexsort((counts[groups].sum(axis=1), lost))[0]]] = part


def _improve(found: np.ndarray, counts: np.ndarray, shares: np.ndarray, free: np.ndarray) -> None:
    """Move single groups between parts as long as the shares of the classes, and of all together, come nearer.

    How far they are is told as by chi-square: squared differences from the wanted shares, over these.
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
        # What leaving the own part and joining each other one changes, for all groups at once.
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
