"""What wrong answers cost: cross-entropies with class weights, over what has a label.

A loss takes logits and targets of a batch and gives its mean cost, and how much the batch counts beside others: the
mean over many batches is that of their costs by these weights. A batch without labels weighs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..classes import IGNORE_INDEX
from ..recipe.loss import CLASS_WEIGHTS

Loss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

LEAST_WEIGHT = 1e-12  # what has no label costs nothing, and 0 / this is 0
# Beyond this a handful of chips would rule the training.
MOST_WEIGHT = 100.0


def class_weights(counts: Sequence[int] | np.ndarray, kind: str) -> np.ndarray:
    """How much a pixel, or a chip, of each class counts.

    Args:
        counts: (C,) labelled pixels, or chips, of each class in the training chips.
        kind: "none", "root" (inverse square root of the frequency) or "balanced" (inverse frequency).

    Returns:
        (C,) float64, of mean 1 over the classes that occur; a class without any gets 1.
    """
    counts = np.asarray(counts, np.float64)
    weights = np.ones(len(counts))
    present = counts > 0
    if not present.any():
        return weights
    weights[present] = (counts[present] / counts.sum()) ** CLASS_WEIGHTS[kind]
    weights[present] /= weights[present].mean()
    return weights


def weighted_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the weighted cross-entropies, and the sum of the weights.

    Args:
        logits: (N, C, ...).
        targets: (N, ...) class indices; `IGNORE_INDEX` counts nothing.
        weights: (C,).
        smoothing: The share of each target that is spread over all classes alike (Szegedy et al. 2016).
    """
    targets = targets.long()
    total = F.cross_entropy(
        logits.float(), targets, weights, ignore_index=IGNORE_INDEX, reduction="sum", label_smoothing=smoothing
    )
    counted = targets != IGNORE_INDEX
    return _mean(total, weights[targets.where(counted, 0)].where(counted, 0).sum())


def presence_weights(shown: Sequence[int] | np.ndarray, chips: int, kind: str) -> np.ndarray:
    """How much more it counts that a chip shows a class than that it does not.

    Args:
        shown: (C,) training chips that show each class.
        chips: All training chips.
        kind: "none", "root" (square root of chips without over chips with the class) or "balanced" (that quotient).

    Returns:
        (C,) float64, at most `MOST_WEIGHT`; 1 for a class that all chips show, or none.
    """
    counts = np.asarray(shown, np.float64)
    weights = np.ones(len(counts))
    mixed = (counts > 0) & (counts < chips)
    weights[mixed] = (counts[mixed] / (chips - counts[mixed])) ** CLASS_WEIGHTS[kind]
    return np.minimum(weights, MOST_WEIGHT)


def weighted_binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean cost of all yes-or-no answers, and the sum of their weights.

    Args:
        logits: (N, C).
        targets: (N, C), 1 where a chip shows a class, else 0.
        weights: (C,) of yes; no weighs 1.
        smoothing: Targets are moved by half of it towards the middle.
    """
    yes = targets.float()
    each = torch.where(targets > 0, weights, 1.0)  # (N, C)
    soft = yes * (1 - smoothing) + smoothing / 2
    costs = F.binary_cross_entropy_with_logits(logits.float(), soft, reduction="none")
    return _mean((costs * each).sum(), each.sum())


def _mean(total: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return total / weight.clamp(min=LEAST_WEIGHT), weight
