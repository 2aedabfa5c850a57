"""How much classes count in a loss, from how often the training chips show them.

n training chips, C classes.
"""

from __future__ import annotations

import numpy as np

from ...chips.dataset import DatasetInfo
from ...recipe.loss import LossSettings, given_weights
from ..sampling import Sampling

# Beyond this a handful of chips would rule the training.
MOST_WEIGHT = 100.0
POWERS = {"none": 0.0, "root": -0.5, "balanced": -1.0}


def loss_weights(settings: LossSettings, loss: str, info: DatasetInfo, sampling: Sampling) -> np.ndarray:
    """The weights of the classes in a loss.

    Args:
        settings: The loss's.
        loss: Its name: what "auto" is depends on it.
        info: The dataset's description.
        sampling: What the training chips show, and how often an epoch shows them: classes are as frequent as there.

    Returns:
        (C,) float64; empty for regression.

    Raises:
        InputError: `CLASS_WEIGHT_LIST` does not fit the classes.
    """
    given = given_weights(settings.class_weight_list, info.classes)
    if given is not None:
        return np.array(given)
    kind = settings.weights_of(loss)
    counts = sampling.counts * sampling.often[:, None]
    if info.task == "multilabel":
        return presence_weights(counts.sum(axis=0), sampling.often.sum(), kind, settings.effective_number_beta)
    return class_weights(counts, kind, settings.effective_number_beta)


def class_weights(counts: np.ndarray, kind: str, beta: float | None = None) -> np.ndarray:
    """How much a pixel, or a chip, of each class counts.

    Args:
        counts: (n, C) labelled pixels of each class in each training chip, or 1 where a chip shows a class.
        kind: One of `recipe.loss.CLASS_WEIGHTS`, but for "auto".
        beta: Of "effective_number", see `frequency_weights`.

    Returns:
        (C,) float64, of mean 1 over the classes that occur; a class without any gets 1.
    """
    counts = np.asarray(counts, np.float64)
    totals = counts.sum(axis=0)
    weights, present = np.ones(len(totals)), totals > 0
    if not present.any():
        return weights
    if kind == "median_frequency":
        # A class's frequency is its share of the chips that show it (Eigen and Fergus 2015).
        around = (counts.sum(axis=1)[:, None] * (counts > 0)).sum(axis=0)
        shares = totals[present] / around[present]
        weights[present] = np.median(shares) / shares
    else:
        weights[present] = frequency_weights(totals[present], kind, beta)
    weights[present] /= weights[present].mean()
    return weights


def presence_weights(shown: np.ndarray, chips: float, kind: str, beta: float | None = None) -> np.ndarray:
    """How much more it counts that a chip shows a class than that it does not.

    A class and its absence are weighted as two classes are; "median_frequency" is then "balanced".

    Args:
        shown: (C,) training chips that show each class.
        chips: All training chips.
        kind, beta: As for `class_weights`.

    Returns:
        (C,) float64, at most `MOST_WEIGHT`; 1 for a class that all chips show, or none.
    """
    counts = np.asarray(shown, np.float64)
    weights = np.ones(len(counts))
    kind = "balanced" if kind == "median_frequency" else kind
    for place in np.flatnonzero((counts > 0) & (counts < chips)):
        yes, no = frequency_weights(np.array([counts[place], chips - counts[place]]), kind, beta)
        weights[place] = yes / no
    return np.minimum(weights, MOST_WEIGHT)


def frequency_weights(totals: np.ndarray, kind: str, beta: float | None = None) -> np.ndarray:
    """Weights from how often classes occur, up to a factor.

    Args:
        totals: (C,) of each class, all above 0.
        kind: "none", "root" (inverse square root of the frequency), "balanced" (inverse frequency), or
            "effective_number": (1 − β) / (1 − βⁿ) for a class that occurs n times (Cui et al. 2019).
        beta: β. None takes 1 − 1/m, m being the mean of n over the classes: rarer classes weigh as with "balanced",
            and commoner ones hardly less than that of mean size.
    """
    if kind != "effective_number":
        return np.asarray((totals / totals.sum()) ** POWERS[kind])
    beta = 1 - 1 / max(totals.mean(), 1.0) if beta is None else beta
    if beta == 0:
        return np.ones(len(totals))
    return (1 - beta) / -np.expm1(totals * np.log(beta))
