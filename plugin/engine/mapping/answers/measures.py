"""What a network says of each pixel: its class, probabilities, and how sure it is.

N tiles, C classes. All of it is computed on the device; what leaves it has the type that is stored, and is fetched
later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch

from ...classes import IGNORE_INDEX
from ...device import Later
from ...errors import not_none
from ...models.networks import likeliest
from ..settings import BYTE_NODATA, BYTE_STEPS


class Scores:
    """The logits (N, C, H, W) of a batch, and the probabilities, which are computed once for all that need them.

    Args:
        logits: Of the network, or of the mean of an ensemble.
        entropies: (N, 1, H, W) mean of the entropies of the models of an ensemble, if their disagreement is wanted.
    """

    def __init__(self, logits: torch.Tensor, entropies: torch.Tensor | None = None) -> None:
        self.logits, self.entropies = logits, entropies

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """(N, C, H, W), NaN where the network gives no valid numbers."""
        return self.logits.softmax(1)


def all_classes(scores: Scores) -> Later:
    """Return (N, H, W) uint8 class indices, `IGNORE_INDEX` where logits are NaN or infinite."""
    return Later(likeliest(scores.logits))


def sure_classes(scores: Scores, least: float) -> Later:
    """Return (N, 2, H, W) uint8: class indices as `all_classes`, and 1 where the confidence is below `least`."""
    found = likeliest(scores.logits)
    unsure = (confidence(scores.probabilities)[:, 0] < least) & (found != IGNORE_INDEX)
    return Later(torch.stack([found, unsure.to(torch.uint8)], 1))


def confidence(probabilities: torch.Tensor) -> torch.Tensor:
    """Return (N, 1, H, W): the probability of the likeliest class, from 1 / C to 1."""
    return probabilities.amax(1, keepdim=True)


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Return (N, 1, H, W): the entropy divided by its largest possible value, log C.

    0 means that one class has all of the probability, 1 that all classes are equally likely. With a single class, 0.
    """
    count = probabilities.shape[1]
    return torch.special.entr(probabilities).sum(1, keepdim=True).div_(math.log(max(2, count))).clamp_(0, 1)


def margin(probabilities: torch.Tensor) -> torch.Tensor:
    """Return (N, 1, H, W): the probability of the likeliest class less that of the second, from 0 to 1."""
    if probabilities.shape[1] == 1:
        return probabilities.clone()
    highest = probabilities.topk(2, 1).values
    return highest[:, :1] - highest[:, 1:]


def disagreement(scores: Scores) -> torch.Tensor:
    """Return (N, 1, H, W): how much of the entropy is there because the models of an ensemble contradict each other.

    This is the mutual information of class and model (Depeweg et al. 2018, "Decomposition of uncertainty in Bayesian
    deep learning"): the entropy of the mean less the mean of the entropies. 0 where all models say the same.
    """
    return (entropy(scores.probabilities) - not_none(scores.entropies)).clamp_(0, 1)


MEASURES: dict[str, Callable[[Scores], torch.Tensor]] = {
    "confidence": lambda scores: confidence(scores.probabilities),
    "entropy": lambda scores: entropy(scores.probabilities),
    "margin": lambda scores: margin(scores.probabilities),
    "disagreement": disagreement,
}


def stored(shares: torch.Tensor, kind: str) -> Later:
    """Return shares from 0 to 1, NaN for nodata, as they are stored.

    Args:
        shares: Any shape.
        kind: One of `SHARE_TYPES`.

    Returns:
        float32, float16, or uint8 in steps of 1 / `BYTE_STEPS`, with `BYTE_NODATA`.
    """
    if kind == "uint8":
        steps = (shares * BYTE_STEPS).round_()
        shares = torch.where(shares.isfinite(), steps, BYTE_NODATA).to(torch.uint8)
    elif kind == "float16":
        shares = shares.half()
    return Later(shares)
