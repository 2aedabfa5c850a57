"""The losses, over what has a label.

A loss takes logits and targets of a batch and gives its mean cost, and how much the batch counts beside others: the
mean over many batches is that of their costs by these weights. A batch without labels weighs nothing.

All functions of `LOSS_FUNCTIONS` take the same arguments:

    logits: (N, C, ...).
    targets: (N, ...) class indices, where `IGNORE_INDEX` counts nothing; for multilabel chips (N, C), 1 where a chip
        shows a class, else 0.
    weights: (C,) of the classes.
    settings: The loss's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from ..classes import IGNORE_INDEX
from ..recipe.loss import CLASS_WEIGHTS, LossSettings

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


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the weighted cross-entropies; weighs the sum of the class weights.

    Label smoothing spreads a share of each target over all classes alike (Szegedy et al. 2016).
    """
    targets = targets.long()
    total = F.cross_entropy(
        logits.float(), targets, weights, ignore_index=IGNORE_INDEX, reduction="sum",
        label_smoothing=settings.label_smoothing,
    )  # fmt: skip
    counted = targets != IGNORE_INDEX
    return _mean(total, weights[targets.where(counted, 0)].where(counted, 0).sum())


def binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean cost of all yes-or-no answers; weighs the sum of their weights: a class's for yes, 1 for no.

    Label smoothing moves targets by half of it towards the middle.
    """
    yes = targets.float()
    each = torch.where(targets > 0, weights, 1.0)  # (N, C)
    soft = yes * (1 - settings.label_smoothing) + settings.label_smoothing / 2
    costs = F.binary_cross_entropy_with_logits(logits.float(), soft, reduction="none")
    return _mean((costs * each).sum(), each.sum())


def dice(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 − the mean Dice coefficient of the classes that the batch shows (Milletari et al. 2016); weighs its pixels.

    The class weights are those of the mean.
    """
    counted = (targets != IGNORE_INDEX)[:, None]
    truth = F.one_hot(targets.long().where(counted[:, 0], 0), logits.shape[1]).movedim(-1, 1) * counted
    found = logits.float().softmax(1) * counted
    axes = (0, *range(2, logits.ndim))
    both, each = (found * truth).sum(axes), (found + truth).sum(axes)  # (C,)
    shown = (truth.sum(axes) > 0) * weights
    missed = 1 - 2 * both / each.clamp(min=LEAST_WEIGHT)
    return _mean((missed * shown).sum(), shown.sum())[0], counted.sum()


def _mean(total: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return total / weight.clamp(min=LEAST_WEIGHT), weight


# The functions of `recipe.loss.LOSSES`.
LOSS_FUNCTIONS = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "dice": dice,
}


def make_loss(settings: LossSettings, task: str, weights: np.ndarray, device: torch.device) -> Loss:
    """The loss of a training.

    Args:
        settings: The loss's.
        task: Of the chips.
        weights: (C,) of the classes, from `class_weights` or `presence_weights`.
        device: Where the batches are.
    """
    on_device = torch.tensor(weights, dtype=torch.float32, device=device)
    return partial(LOSS_FUNCTIONS[settings.chosen(task)], weights=on_device, settings=settings)
