"""Losses that compare areas: how far what is found and what is labelled overlap, class by class.

TP, FP and FN of a class are sums of probabilities over all labelled pixels (or chips) of the batch, also of other
ranks (`ranks.whole`). Nothing is added to
them to smooth. A class that no label of the batch shows is left out of the mean over the classes: what is wrongly
found of it costs through the classes that are there. The class weights are those of this mean. Each batch weighs its
labels.
"""

from __future__ import annotations

import torch

from ... import ranks
from ...recipe.loss import LossSettings
from ..determinism import counting
from .cross_entropies import LEAST_ERROR, costs, wrong
from .labels import LEAST_WEIGHT, compared, each_weight, mean

LEVELS = 2**14  # that the Lovász loss tells errors apart by


def dice(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 − the mean Dice coefficient, 2 TP / (2 TP + FP + FN) (Milletari et al. 2016, without their squares)."""
    return _missed(logits, targets, weights, 0.5, 0.5, 1.0)


def jaccard(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 − the mean intersection over union, TP / (TP + FP + FN) (Rahman and Wang 2016)."""
    return _missed(logits, targets, weights, 1.0, 1.0, 1.0)


def tversky(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 − the mean Tversky index, TP / (TP + α FP + β FN) (Salehi et al. 2017).

    α and β are `tversky_alpha` and `tversky_beta`: more of β finds more of a class. Both 0.5 are Dice, both 1 Jaccard.
    """
    return _missed(logits, targets, weights, settings.tversky_alpha, settings.tversky_beta, 1.0)


def focal_tversky(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of (1 − Tversky index)^(1/γ), γ being `focal_tversky_gamma` (Abraham and Khan 2019).

    α is that of false positives, as for `tversky`; the paper's names are the other way round.
    """
    return _missed(
        logits, targets, weights, settings.tversky_alpha, settings.tversky_beta, 1 / settings.focal_tversky_gamma
    )


def unified_focal(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """λ of a focal loss and 1 − λ of a focal Tversky loss with few numbers between them (Yeung et al. 2022, symmetric).

    The first is δ (1 − p)^(1 − γ) times the cross-entropy, the second the mean of (1 − TI)^γ with the Tversky index
    TI = TP / (TP + (1 − δ) FP + δ FN). λ, δ and γ are `unified_focal_lambda`, `…_delta` and `…_gamma`.
    """
    share, delta, gamma = (
        settings.unified_focal_lambda, settings.unified_focal_delta, settings.unified_focal_gamma
    )  # fmt: skip
    paid = costs(logits, targets, weights, settings) * wrong(logits, targets) ** (1 - gamma)
    single, _ = mean(delta * paid.sum(), each_weight(logits, targets, weights).sum())
    areas, labels = _missed(logits, targets, weights, 1 - delta, delta, gamma)
    return share * single + (1 - share) * areas, labels


def _missed(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, alpha: float, beta: float, power: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over the classes of (1 − TP / (TP + alpha FP + beta FN))^power."""
    found, truth, labels = compared(logits, targets)
    axes = (0, *range(2, logits.ndim))
    sums = torch.stack([(found * truth).sum(axes), truth.sum(axes), found.sum(axes)])
    both, shown, all_found = ranks.whole(sums)  # (C,)
    wrong = alpha * (all_found - both) + beta * (shown - both)
    error = (wrong / (both + wrong).clamp(min=LEAST_WEIGHT)).clamp(min=LEAST_ERROR) ** power
    return _mean_over_classes(error, shown, weights), labels


def lovasz(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, settings: LossSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Lovász-Softmax loss (Berman et al. 2018), over the batch and the classes that it shows.

    For each class, the pixels with the largest errors come first, and each counts as much as it makes the Jaccard
    index worse when it joins those before it. Instead of being sorted, which took as long as the network itself,
    errors are told apart by 16,384 levels, in each of which the pixels share evenly what they make worse: a loss
    that differs from the exact one by less than 1/16,384.
    """
    found, truth, labels = compared(logits, targets)
    errors = (truth - found).abs().movedim(1, 0).flatten(1)  # (C, P)
    with torch.no_grad():
        of_class = truth.movedim(1, 0).flatten(1)
        shares = _jaccard_shares(errors, of_class > 0, (truth.sum(1) > 0).flatten())
    each, shown = ranks.whole(torch.stack([(errors * shares).sum(1), of_class.sum(1)]))
    return _mean_over_classes(each, shown, weights), labels


def _jaccard_shares(errors: torch.Tensor, of_class: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """How much worse each pixel makes the Jaccard index of a class, after all with a larger error.

    With F pixels of the class and B others before, of G pixels of the class in all, the Jaccard loss is
    (F + B) / (G + B). What f pixels of the class and b others of one level add is shared as if half of the time the
    ones came first, half of the time the others.

    Args:
        errors: (C, P), 0 to 1.
        of_class: (C, P) bool, the pixels labelled so.
        counted: (P,) bool, those with any label.

    Returns:
        (C, P) float32; what has no label has no share.
    """
    classes = len(errors)
    level = ((1 - errors) * (LEVELS - 1)).long()  # the largest errors first
    place = level + LEVELS * (of_class + 2 * torch.arange(classes, device=errors.device)[:, None])
    counts = torch.zeros(classes * 2 * LEVELS, dtype=torch.int64, device=errors.device)
    with counting():
        counts.scatter_add_(0, place.flatten(), counted.long().expand(classes, -1).flatten())
    if ranks.sums_are_shared():
        counts = ranks.total(counts)
    levels = counts.view(classes, 2, LEVELS)
    others, own = levels.double().unbind(1)  # b and f
    after, own_after = levels.cumsum(2).double().unbind(1)  # of whole numbers, whose sums are exact on a GPU, too
    union = own_after[:, -1:] + after - others  # G + B
    grown = union + others
    left = own_after[:, -1:] - own_after + own / 2  # G − F − f/2
    for_own = (1 / union.clamp(min=1) + 1 / grown.clamp(min=1)) / 2
    for_others = left / (union * grown).clamp(min=1)
    table = torch.stack([for_others, for_own], 1).float().flatten()
    return table[place] * counted


def _mean_over_classes(each: torch.Tensor, shown: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted mean of (C,) numbers over the classes of which there is something."""
    counted = (shown > 0) * weights
    return (each * counted).sum() / counted.sum().clamp(min=LEAST_WEIGHT)
