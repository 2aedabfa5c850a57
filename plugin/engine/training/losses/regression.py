"""Losses of continuous targets, in standard deviations of the training chips' targets.

Each is a mean over the pixels that have a target, and weighs their number; the class weights say nothing.
"""

from __future__ import annotations

import torch

from ...recipe.loss import LossSettings
from .labels import mean


def _misses(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, ...) how far off the answers are, 0 without a target; and how many have one."""
    known = ~targets.isnan()
    return (logits[:, 0] - targets.where(known, 0.0)) * known, known.sum()


def mse(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean squared error."""
    misses, known = _misses(logits, targets)
    return mean(misses.square().sum(), known)


def mae(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean absolute error."""
    misses, known = _misses(logits, targets)
    return mean(misses.abs().sum(), known)


def huber(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the square of errors up to δ, δ (|error| − δ/2) beyond (Huber 1964); δ is `huber_delta`."""
    misses, known = _misses(logits, targets)
    return mean(torch.nn.functional.huber_loss(
        misses, torch.zeros_like(misses), reduction="sum", delta=settings.huber_delta), known)  # fmt: skip
