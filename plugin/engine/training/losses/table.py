"""The losses by name, and the loss of a training."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ... import ranks
from ...chips.dataset import DatasetInfo
from ...recipe.loss import LOSSES, LossSettings
from ..sampling import Sampling
from .cross_entropies import binary_cross_entropy, cross_entropy, focal, ohem
from .labels import LEAST_WEIGHT
from .overlaps import dice, focal_tversky, jaccard, lovasz, tversky, unified_focal
from .regression import huber, mae, mse
from .robust import generalized_cross_entropy, symmetric_cross_entropy
from .weights import loss_weights

Loss = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# The functions of `recipe.loss.LOSSES`.
LOSS_FUNCTIONS = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "dice": dice,
    "jaccard": jaccard,
    "tversky": tversky,
    "focal": focal,
    "focal_tversky": focal_tversky,
    "unified_focal": unified_focal,
    "ohem": ohem,
    "lovasz": lovasz,
    "symmetric_cross_entropy": symmetric_cross_entropy,
    "generalized_cross_entropy": generalized_cross_entropy,
    "mse": mse,
    "mae": mae,
    "huber": huber,
}


class ChosenLoss:
    """The loss of a training: one of `LOSS_FUNCTIONS`, or a sum of two, in float32 whatever the network calculates in.

    Args:
        settings: The loss's.
        info: The dataset's description.
        sampling: Of the training chips, see `loss_weights`.
        device: Where the batches are.

    Raises:
        InputError: A loss is not for this task, or `CLASS_WEIGHT_LIST` does not fit the classes.
    """

    def __init__(self, settings: LossSettings, info: DatasetInfo, sampling: Sampling, device: torch.device) -> None:
        self.settings = settings
        names = [name for name, _ in settings.terms(info.task)]
        # Whether ranks have to share sums to be equal to one process: what is a single mean adds up by its weight.
        self.needs_sums = len(names) > 1 or LOSSES[names[0]].balanced
        self.terms = []  # name, share, and the weights of the classes
        for name, share in settings.terms(info.task):
            weights = loss_weights(settings, name, info, sampling)
            self.terms.append((name, share, torch.tensor(weights, dtype=torch.float32, device=device)))

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean cost of a batch, and how much the batch counts, as the first loss has it."""
        if not targets.is_floating_point():
            targets = targets.long()  # once, for all that looks something up by them
        found = [
            (share, *LOSS_FUNCTIONS[name](logits.float(), targets, weights, self.settings))
            for name, share, weights in self.terms
        ]
        loss, weight = torch.stack([share * cost for share, cost, _ in found]).sum(), found[0][2]
        if ranks.sums_are_shared():
            # The loss is that of all ranks, and its gradient this rank's part. Both are weighed, and divided by all
            # weights: so the gradient is multiplied by what will be taken from it.
            rest = ranks.total(weight.float()) / weight.clamp(min=LEAST_WEIGHT)
            loss = loss.detach() + (loss - loss.detach()) * rest
        return loss, weight
