"""Temperature scaling: one number that makes a network's confidence the share of its right answers.

Guo et al. (2017), "On calibration of modern neural networks": logits are divided by a temperature, which is fitted to
the validation chips after training. The order of the classes, and so the class of each pixel or chip, stays the same.

n answers, K classes; a yes or no for each class counts as an answer with two classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch

from .. import ranks
from ..assessment.calibration import BINS, Calibration, Reliability
from ..device import to_device

# Maximum number of logits that are kept of a split; of each chip, the same number of places is drawn at random.
VALUES = 4_000_000
# Parts of neighbouring chips, whose differences tell how much may be chance; so many standard errors are.
PARTS, SURE = 20, 2.0
COLDEST, HOTTEST = 0.05, 20.0
HALVINGS = 24  # of the range of temperatures
AT_ONCE = 1_000_000  # answers whose probabilities are computed at a time


class Drawn(NamedTuple):
    """Answers at places with a label, those of neighbouring chips one after the other."""

    logits: torch.Tensor  # (n, K)
    labels: torch.Tensor  # (n,) int64
    parts: torch.Tensor  # (n,) int64, the number of the part that a chip belongs to, of at most `PARTS`


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
        self._places = 0  # drawn from each chip
        self._logits = [torch.zeros(0, classes, device=device)]
        self._labels = [torch.zeros(0, dtype=torch.uint8, device=device)]  # 255 where there is no label

    @torch.no_grad()
    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Draw places of a batch, first those with a label: logits (N, K, …), targets (N, …) class indices."""
        labels, chips = targets.reshape(len(targets), -1), len(targets)
        order = to_device(torch.rand(labels.shape, generator=self.generator), labels.device)
        order.masked_fill_(labels >= self.classes, -1)
        self._places = min(self.per_chip, labels.shape[1])
        drawn = order.topk(self._places).indices  # (N, places)
        places = logits.detach().float().reshape(chips, self.classes, -1)
        found = places.gather(2, drawn[:, None].expand(-1, self.classes, -1))
        self._logits.append(found.movedim(1, 2).flatten(0, 1))
        self._labels.append(labels.gather(1, drawn).flatten().to(torch.uint8))

    def merged(self) -> Drawn:
        """The answers of all ranks, without places that have no label or no finite logits."""
        logits, labels = ranks.gather(torch.cat(self._logits)), ranks.gather(torch.cat(self._labels)).long()
        places = max(1, ranks.highest(self._places))
        numbers = torch.arange(len(labels), device=labels.device) // places  # of the chips
        parts = numbers * PARTS // max(PARTS, len(labels) // places)
        known = (labels < logits.shape[1]) & logits.isfinite().all(1)
        return Drawn(logits[known], labels[known], parts[known])


class DecisionSample(Sample):
    """A `Sample` of yes-or-no answers, one for each class of a chip."""

    def __init__(self, chips: int, seed: int, device: torch.device) -> None:
        super().__init__(2, chips, seed, device)

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """As `Sample.add`: logits (N, C), targets (N, C) of 0 or 1."""
        super().add(torch.stack([torch.zeros_like(logits), logits], 1), targets)


def calibrate(samples: Mapping[str, Drawn]) -> Calibration | None:
    """Fit a temperature to the validation chips, and measure its effect on each split.

    Args:
        samples: Answers by split, see `Sample.merged`.

    Returns:
        The calibration, with a temperature of 1 where chance may explain that another one fits better, see
        `fit_temperature`; None without labelled validation chips.
    """
    labelled = {split: sample for split, sample in samples.items() if len(sample.labels)}
    if "validation" not in labelled:
        return None
    temperature = fit_temperature(labelled["validation"])
    effects = {
        split: (reliability(one.logits, one.labels, 1.0), reliability(one.logits, one.labels, temperature))
        for split, one in labelled.items()
    }
    return Calibration(temperature, effects)


@torch.no_grad()
def fit_temperature(sample: Drawn) -> float:
    """Return the temperature at which the mean confidence is the share of right answers, as far as that can be known.

    Clarté et al. (2023), "Expectation consistency for calibration of neural networks". The likelihood of all classes,
    which Guo et al. maximise, is highest at another temperature where probabilities are wrong in other ways than all
    being too high or too low, for example after weighting the classes.

    Other validation chips would call for another temperature, and chips next to each other are alike. So the excess of
    the mean confidence is reduced by what may be chance: below `SURE` standard errors nothing of it counts, far above
    them almost all. Right answers are counted by Laplace's rule of succession: otherwise, a few chips that are all
    answered correctly would call for an infinite confidence.
    """
    logits, labels, parts = sample
    confidence, found = _confidence(logits, 1.0)
    distance = confidence - (found == labels).double()
    share = (float((found == labels).sum()) + 1) / (len(labels) + 2)
    excess = float(confidence.mean()) - share
    error = _standard_error(distance, parts)
    if abs(excess) <= SURE * error:
        return 1.0
    wanted = share + (SURE * error) ** 2 / excess
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(HALVINGS):  # the mean confidence falls with the temperature
        middle = (low + high) / 2
        if float(_confidence(logits, math.exp(middle))[0].mean()) > wanted:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _standard_error(values: torch.Tensor, parts: torch.Tensor) -> float:
    """Return the standard error of the mean of (n,) values in (n,) parts, which are independent of each other."""
    sums = torch.zeros(int(parts.max()) + 1, dtype=torch.float64, device=values.device)
    count = len(sums.scatter_add(0, parts, torch.ones_like(values)).nonzero())
    if count < 2:
        return math.inf
    sums.scatter_add_(0, parts, values - values.mean())
    return math.sqrt(count / (count - 1) * float(sums.square().sum())) / len(values)


def _confidence(logits: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (n,) the probability of the likeliest class as float64, and its index."""
    both = [(some / temperature).softmax(1).max(1) for some in torch.split(logits, AT_ONCE)]
    return torch.cat([one.values for one in both]).double(), torch.cat([one.indices for one in both])


@torch.no_grad()
def reliability(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> Reliability:
    """Sort the answers (n, K) with labels (n,) into bins by the probability of the likeliest class."""
    confidence, found = _confidence(logits, temperature)
    place = (confidence * BINS).long().clamp_(max=BINS - 1)
    sums = torch.zeros(3, BINS, dtype=torch.float64, device=logits.device)
    for total, values in zip(sums, (torch.ones_like(confidence), confidence, found == labels)):
        total.scatter_add_(0, place, values.double())
    counts, confidences, right = sums.cpu().numpy()
    return Reliability(counts, confidences, right)
