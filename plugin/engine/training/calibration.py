"""Temperature scaling: one number that makes a network's confidence the share of its right answers.

Guo et al. (2017), "On calibration of modern neural networks": logits are divided by a temperature, which is fitted to
the validation chips after training. The order of the classes, and so the class of each pixel or chip, stays the same.

n answers, K classes; a yes or no for each class counts as an answer with two classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from .. import ranks
from ..assessment.calibration import BINS, Calibration, Reliability

# Maximum number of logits that are kept of a split; of each chip, the same number of places is drawn at random.
VALUES = 4_000_000
COLDEST, HOTTEST = 0.05, 20.0
HALVINGS = 24  # of the range of temperatures
AT_ONCE = 1_000_000  # answers whose probabilities are computed at a time


class Sample:
    """Logits and labels at places drawn from each chip, so that memory does not grow with the chips' size.

    Args:
        classes: K.
        chips: The number of chips of all ranks.
        seed: Draws the places.
        device: The device of the logits.
    """

    def __init__(self, classes: int, chips: int, seed: int, device: torch.device) -> None:
        self.classes, self.per_chip = classes, max(1, VALUES // max(1, classes * chips))
        self.generator = torch.Generator().manual_seed(seed)
        self._logits = [torch.zeros(0, classes, device=device)]
        self._labels = [torch.zeros(0, dtype=torch.uint8, device=device)]  # 255 where there is no label

    @torch.no_grad()
    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Draw places of a batch, first those with a label: logits (N, K, …), targets (N, …) class indices."""
        labels, chips = targets.reshape(len(targets), -1), len(targets)
        order = torch.rand(labels.shape, generator=self.generator).to(labels.device)
        order.masked_fill_(labels >= self.classes, -1)
        drawn = order.topk(min(self.per_chip, labels.shape[1])).indices  # (N, places per chip)
        places = logits.detach().float().reshape(chips, self.classes, -1)
        found = places.gather(2, drawn[:, None].expand(-1, self.classes, -1))
        self._logits.append(found.movedim(1, 2).flatten(0, 1))
        self._labels.append(labels.gather(1, drawn).flatten().to(torch.uint8))

    def merged(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, K) logits and (n,) int64 labels of all ranks, without places that have no label or no finite logits."""
        logits, labels = ranks.gather(torch.cat(self._logits)), ranks.gather(torch.cat(self._labels)).long()
        known = (labels < logits.shape[1]) & logits.isfinite().all(1)
        return logits[known], labels[known]


class DecisionSample(Sample):
    """A `Sample` of yes-or-no answers, one for each class of a chip."""

    def __init__(self, chips: int, seed: int, device: torch.device) -> None:
        super().__init__(2, chips, seed, device)

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """As `Sample.add`: logits (N, C), targets (N, C) of 0 or 1."""
        super().add(torch.stack([torch.zeros_like(logits), logits], 1), targets)


def calibrate(samples: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Calibration | None:
    """Fit a temperature to the validation chips, and measure its effect on each split.

    Args:
        samples: Logits and labels by split, see `Sample.merged`.

    Returns:
        The calibration, with a temperature of 1 if another one does no good, see `improves`; None without labelled
        validation chips.
    """
    labelled = {split: sample for split, sample in samples.items() if len(sample[0])}
    if "validation" not in labelled:
        return None
    one = labelled["validation"]
    temperature = fit_temperature(*one) if improves(*one) else 1.0
    effects = {split: (reliability(*one, 1.0), reliability(*one, temperature)) for split, one in labelled.items()}
    return Calibration(temperature, effects)


def improves(logits: torch.Tensor, labels: torch.Tensor) -> bool:
    """Return whether a temperature makes the calibration error smaller on chips that it was not fitted to.

    It is fitted to each half of the (n, K) logits and (n,) labels, which are those of other chips, and tried on the
    other half. A network that is calibrated as it is, or too few chips, would only be made worse.
    """
    middle = len(logits) // 2
    halves = (logits[:middle], labels[:middle]), (logits[middle:], labels[middle:])
    if not middle:
        return False
    before = sum(reliability(*half, 1.0).error for half in halves)
    after = sum(reliability(*tried, fit_temperature(*fitted)).error for fitted, tried in (halves, halves[::-1]))
    return after < before


@torch.no_grad()
def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature with the lowest negative log likelihood of (n,) labels for (n, K) logits.

    The likelihood is a concave function of the inverse temperature, so its maximum is found by halving the range.
    Labels are smoothed by Laplace's rule of succession, as in Platt scaling (Platt 1999): otherwise, a few chips that
    are all answered correctly would call for an infinite confidence.
    """
    number, classes = logits.shape
    own, every = logits.gather(1, labels[:, None])[:, 0].double().sum(), logits.sum(1).double().sum()
    wanted = float((number * own + every) / (number + classes))
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(HALVINGS):
        middle, expected = (low + high) / 2, 0.0
        for part in torch.split(logits, AT_ONCE):
            expected += float((part.div(math.exp(middle)).softmax(1) * part).sum(1).double().sum())
        if expected > wanted:  # too confident
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


@torch.no_grad()
def reliability(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> Reliability:
    """Sort the answers (n, K) with labels (n,) into bins by the probability of the likeliest class."""
    sums = torch.zeros(3, BINS, dtype=torch.float64, device=logits.device)
    for some, own in zip(torch.split(logits, AT_ONCE), torch.split(labels, AT_ONCE)):
        confidence, found = (some / temperature).softmax(1).max(1)
        place = (confidence * BINS).long().clamp_(max=BINS - 1)
        for total, values in zip(sums, (torch.ones_like(confidence), confidence, found == own)):
            total.scatter_add_(0, place, values.double())
    counts, confidences, right = sums.cpu().numpy()
    return Reliability(counts, confidences, right)
