"""Losses that sum costs of single pixels, or chips: cross-entropies, and such that look at the hard ones."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ...classes import IGNORE_INDEX
from ...recipe.loss import LossSettings
from .labels import class_indices, each_weight, log_right, mean, of_several

LEAST_ERROR = 1e-7  # below, a power less than 1 would have a gradient without bound


def costs(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """The weighted cross-entropy of each label, in the shape of `log_right`; 0 where there is none.

    Label smoothing spreads a share of each target over all classes alike (Szegedy et al. 2016), over yes and no where
    a chip may show several.
    """
    smoothing = settings.label_smoothing
    if of_several(logits, targets):
        soft = targets.float() * (1 - smoothing) + smoothing / 2
        each = each_weight(logits, targets, weights)
        return F.binary_cross_entropy_with_logits(logits, soft, reduction="none") * each
    return F.cross_entropy(
        logits, targets.long(), weights, ignore_index=IGNORE_INDEX, reduction="none", label_smoothing=smoothing
    )


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of the weighted cross-entropies; weighs the sum of the class weights."""
    return mean(costs(logits, targets, weights, settings).sum(), each_weight(logits, targets, weights).sum())


def binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean cost of all yes-or-no answers; weighs the sum of their weights: a class's for yes, 1 for no.

    Where each pixel or chip has one class, the answers are its C softmax probabilities, each of a class against the
    rest: −log p for the right one, −log(1 − p) for the others, and all C weigh as the right class does. So the
    probabilities still sum to 1, and with two classes this is the cross-entropy.
    """
    if of_several(logits, targets):
        return cross_entropy(logits, targets, weights, settings)
    indices = class_indices(targets)[0][:, None]
    yes = logits.log_softmax(1)
    no = _log_of_rest(yes)
    smoothing = settings.label_smoothing / 2
    sums = (1 - smoothing) * (yes.gather(1, indices)[:, 0] + no.scatter(1, indices, 0.0).sum(1))
    if smoothing:
        sums = sums + smoothing * (no.gather(1, indices)[:, 0] + yes.scatter(1, indices, 0.0).sum(1))
    each = each_weight(logits, targets, weights)
    return mean((-sums / logits.shape[1] * each).sum(), each.sum())


def _log_of_rest(log_probabilities: torch.Tensor) -> torch.Tensor:
    """log(1 − p) of each softmax probability, also where p is 1 but for what float32 can tell."""
    likeliest = log_probabilities.argmax(1, keepdim=True)
    top = torch.zeros_like(log_probabilities, dtype=torch.bool).scatter_(1, likeliest, True)
    others = log_probabilities.masked_fill(top, -math.inf)
    # All others are 0.5 or less; the highest is what they leave.
    return torch.where(top, others.logsumexp(1, keepdim=True), torch.log1p(-others.exp()))


def focal(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy times (1 − p)^γ, p being the probability of what is right (Lin et al. 2017).

    γ is `focal_gamma`; with 0 it is the cross-entropy. The paper's α is the class weights. The mean is over the class
    weights, as that of the cross-entropy, where the paper divides by the number of positive anchors.
    """
    error = wrong(logits, targets) ** settings.focal_gamma
    each = each_weight(logits, targets, weights)
    return mean((costs(logits, targets, weights, settings) * error).sum(), each.sum())


def wrong(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 − the probability of what is right, for powers: never quite 0."""
    return (-torch.expm1(log_right(logits, targets))).clamp(min=LEAST_ERROR)


def ohem(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy of the costliest labels of the batch alone (Shrivastava et al. 2016; as top-k, Wu et al. 2016).

    Of all labelled pixels, or answers, the share `ohem_share` counts, at least one; class weights have a say in what
    is costly. It weighs the sum of the class weights of these.
    """
    each = each_weight(logits, targets, weights).flatten()
    counted = targets.flatten() != IGNORE_INDEX
    paid = costs(logits, targets, weights, settings).flatten()
    ranked = paid.detach().masked_fill(~counted, -1.0)
    # As many as would count if all had a label: how many have is known on the device alone.
    hardest = ranked.topk(math.ceil(settings.ohem_share * len(ranked))).indices
    taken = torch.arange(len(hardest), device=paid.device) < (settings.ohem_share * counted.sum()).ceil()
    return mean((paid[hardest] * taken).sum(), (each[hardest] * taken).sum())
