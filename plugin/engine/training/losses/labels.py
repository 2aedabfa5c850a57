"""What losses need to know of labels: what has one, and what the network thinks of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ... import ranks
from ...classes import IGNORE_INDEX

LEAST_WEIGHT = 1e-12  # what has no label costs nothing, and 0 / this is 0


def mean(total: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A loss: the mean cost, of all ranks where they share sums, and the weight of this one."""
    return ranks.whole(total) / ranks.whole(weight).clamp(min=LEAST_WEIGHT), weight


def of_several(logits: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether targets are a yes or no for each class, not one class for each pixel or chip."""
    return logits.ndim == targets.ndim


def class_indices(targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 class indices, 0 where there is no label, and where there is one."""
    counted = targets != IGNORE_INDEX
    return targets.long().where(counted, 0), counted


def log_right(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The logarithm of the probability of what is right.

    Returns:
        (N, ...) of the class that the label says; or (N, C), of the yes or no that it says of each class.
    """
    if of_several(logits, targets):
        return F.logsigmoid(logits.where(targets > 0, -logits))
    indices, _ = class_indices(targets)
    return logits.log_softmax(1).gather(1, indices[:, None])[:, 0]


def each_weight(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """How much each label counts, in the shape of `log_right`: as its class does; a no counts 1, no label 0."""
    if of_several(logits, targets):
        return torch.where(targets > 0, weights, 1.0)
    return F.pad(weights, (0, IGNORE_INDEX + 1 - len(weights)))[targets.long()]


def compared(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities (N, C, ...), 1 where the label says the class, else 0, both 0 without a label; and the labels.

    The probabilities sum to 1 over the classes, or are each for itself where a chip may show several. The last is how
    many pixels, or yes-or-no answers, have a label.
    """
    if of_several(logits, targets):
        return logits.sigmoid(), (targets > 0).float(), torch.ones_like(logits).sum()
    indices, counted = class_indices(targets)
    found = logits.softmax(1) * counted[:, None]
    truth = torch.zeros_like(found).scatter_(1, indices[:, None], counted[:, None].float())
    return found, truth, counted.sum()
