"""Cross-entropy with class weights, over the pixels that have a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..classes import IGNORE_INDEX


def class_weights(pixels: Sequence[int], kind: str) -> np.ndarray:
    """How much a pixel of each class counts.

    Args:
        pixels: (C,) labelled pixels of each class in the training chips.
        kind: "none", "root" (inverse square root of the frequency) or "balanced" (inverse frequency).

    Returns:
        (C,) float64, of mean 1 over the classes that occur; a class without pixels gets 1.
    """
    counts = np.asarray(pixels, np.float64)
    power = {"none": 0.0, "root": -0.5, "balanced": -1.0}[kind]
    weights = np.ones(len(counts))
    present = counts > 0
    weights[present] = (counts[present] / counts.sum()) ** power
    weights[present] /= weights[present].mean()
    return weights


def weighted_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the weighted cross-entropies, and the sum of the weights: their quotient is the loss.

    Kept apart so that the mean over many batches is that over their pixels, and nothing is divided by 0.

    Args:
        logits: (N, C, ...).
        targets: (N, ...) class indices; `IGNORE_INDEX` counts nothing.
        weights: (C,).
    """
    targets = targets.long()
    total = F.cross_entropy(logits.float(), targets, weights, ignore_index=IGNORE_INDEX, reduction="sum")
    counted = targets != IGNORE_INDEX
    return total, weights[targets.where(counted, 0)].where(counted, 0).sum()
