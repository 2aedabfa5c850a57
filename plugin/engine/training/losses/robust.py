"""Losses that are not led astray by wrong labels, such as those of OpenStreetMap."""

from __future__ import annotations

import torch

from ...recipe.loss import LossSettings
from .cross_entropies import costs
from .labels import each_weight, log_right, mean

LOG_OF_NOTHING = -6.0  # what the logarithm of a target of 0 is taken for


def symmetric_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """α times the cross-entropy plus β times the reverse one, −Σ p log q of targets q (Wang et al. 2019).

    α and β are `symmetric_alpha` and `symmetric_beta`. With log 0 taken for A = −6, the reverse one of a hard label
    is −A (1 − p), p being the probability of what is right: what a wrong label can cost is bounded.
    """
    each = each_weight(logits, targets, weights)
    reverse = LOG_OF_NOTHING * torch.expm1(log_right(logits, targets)) * each
    paid = settings.symmetric_alpha * costs(logits, targets, weights, settings) + settings.symmetric_beta * reverse
    return mean(paid.sum(), each.sum())


def generalized_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(1 − p^q) / q, p being the probability of what is right (Zhang and Sabuncu 2018).

    q is `generalized_q`: near 0 it is the cross-entropy, with 1 the mean absolute error. Not truncated.
    """
    each = each_weight(logits, targets, weights)
    paid = -torch.expm1(settings.generalized_q * log_right(logits, targets)) / settings.generalized_q
    return mean((paid * each).sum(), each.sum())
