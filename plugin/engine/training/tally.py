"""Adds up what a network answers, batch by batch, on the device; the figures come at the end.

Sizes: N chips a batch, n chips in all, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from .. import ranks
from ..assessment import confusion, scores
from ..classes import IGNORE_INDEX
from ..models.networks import likeliest
from .determinism import counting


def or_worst(figure: float | None, sign: int = 1) -> float:
    """A figure to compare epochs by, of which more is better; one that is no number loses to all others."""
    return -math.inf if figure is None else sign * figure


def mean_loss(loss: float, weight: float) -> float | None:
    """The mean loss from the totals of a tally; None without labels, or where it is no number."""
    return confusion.number(loss / weight if weight > 0 else math.nan)


class Tally:
    """Adds up the loss; each kind counts answers of its own beside it."""

    rows: tuple[str, ...] = ()  # what of the state has a row per chip, while all else is a sum

    def __init__(self, device: torch.device) -> None:
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.weight = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(
        self, logits: torch.Tensor, targets: torch.Tensor, loss: torch.Tensor, weight: torch.Tensor, aside: Any = None
    ) -> None:
        """Count a batch: logits (N, C, ...), targets (N, ...), its mean loss, and how much that counts.

        What a network learns aside (`task.Aside`) is counted by tallies that know it.
        """
        self.loss += loss.detach().double() * weight
        self.weight += weight
        self.count(logits.detach(), targets)

    def count(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count the answers of a batch."""
        raise NotImplementedError

    @property
    def labelled(self) -> bool:
        """Whether anything that was counted has a label."""
        return self.weight.item() > 0

    def state(self) -> dict[str, torch.Tensor]:
        """All that is counted so far, by name."""
        return {"loss": self.loss, "weight": self.weight}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Go on where another one was."""
        self.loss.copy_(state["loss"])
        self.weight.copy_(state["weight"])

    def include(self, other: Tally) -> None:
        """Count what another tally of this kind has counted."""
        found = other.state()
        for name, value in self.state().items():
            value += found[name]

    def calibrate(self, temperature: float) -> None:
        """Count answers as if logits were divided by a temperature; only the loss stays that of the training."""

    def totals(self) -> torch.Tensor:
        """(2,) on the device: the sum of the losses, each times its weight, and the sum of the weights."""
        return torch.stack([self.loss, self.weight])

    def merged(self) -> dict[str, torch.Tensor]:
        """The state of all ranks together, if each has counted its share."""
        return {
            name: ranks.gather(value) if name in self.rows else ranks.total(value)
            for name, value in self.state().items()
        }

    def figures(self) -> dict[str, Any]:
        """Loss and accuracies, ready for JSON; the loss is None without labels, or where it is no number."""
        return {"loss": mean_loss(*self.totals().tolist()), **self.accuracies()}

    def accuracies(self) -> dict[str, Any]:
        """The accuracies by name, ready for JSON."""
        raise NotImplementedError

    def details(self) -> dict[str, Any]:
        """What a model file keeps beside the figures, ready for JSON."""
        return {}


class PixelTally(Tally):
    """A class for every pixel: the confusion matrix."""

    def __init__(self, classes: int, device: torch.device) -> None:
        super().__init__(device)
        self.classes = classes
        # One more place than pairs of classes, for pixels without a label or an answer.
        self.counts = torch.zeros(classes * classes + 1, dtype=torch.int64, device=device)

    def count(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Logits (N, C, H, W), targets (N, H, W)."""
        # What has no label gets no answer either, so that it is beyond all pairs of classes.
        found = likeliest(logits).masked_fill_(targets >= self.classes, IGNORE_INDEX).int()
        pairs = torch.add(targets, found, alpha=self.classes)  # (N, H, W), row = prediction, column = reference
        pairs = pairs.clamp_(max=self.classes**2).flatten()
        # Not bincount, for which the CPU waits on a GPU: it asks for the largest number first.
        with counting():
            if pairs.is_cuda:
                # Counts in the shared memory of its blocks. Additions to so few places wait for each other otherwise.
                self.counts += torch.histc(pairs, len(self.counts), 0, len(self.counts) - 1)
            else:
                self.counts.scatter_add_(0, pairs.long(), torch.ones_like(pairs, dtype=torch.int64))

    def state(self) -> dict[str, torch.Tensor]:
        """With the counts."""
        return {**super().state(), "counts": self.counts}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """With the counts."""
        super().restore(state)
        self.counts.copy_(state["counts"])

    def matrix(self) -> np.ndarray:
        """(C, C) int64: the confusion matrix."""
        matrix: np.ndarray = self.counts[:-1].reshape(self.classes, self.classes).cpu().numpy()
        return matrix

    def accuracies(self) -> dict[str, Any]:
        """See `confusion.figures`."""
        return confusion.figures(self.matrix())

    def details(self) -> dict[str, Any]:
        """The confusion matrix."""
        return {"confusion_matrix": self.matrix().tolist()}


class ChipTally(Tally):
    """Keeps the probabilities of every chip: a few numbers each, from which all figures follow.

    Args:
        classes: C.
        threshold: See `decision`.
        device: Where the batches are.
    """

    rows = ("probabilities", "targets")

    def __init__(self, classes: int, threshold: float | None, device: torch.device) -> None:
        super().__init__(device)
        self.threshold = threshold
        self._probabilities = [torch.zeros(0, classes, device=device)]
        self._targets = [torch.zeros(0, *self.target_shape(classes), dtype=torch.uint8, device=device)]

    def target_shape(self, classes: int) -> tuple[int, ...]:
        """The shape of a chip's target."""
        raise NotImplementedError

    def count(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Logits (N, C), targets (N,) or (N, C)."""
        self._probabilities.append(self.to_probabilities(logits.float()))
        self._targets.append(targets)

    def state(self) -> dict[str, torch.Tensor]:
        """With the probabilities and targets of the chips."""
        return {**super().state(), "probabilities": torch.cat(self._probabilities), "targets": torch.cat(self._targets)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """With the probabilities and targets of the chips."""
        super().restore(state)
        self._probabilities, self._targets = ([state[name].to(self.loss.device)] for name in self.rows)

    def include(self, other: Tally) -> None:
        """Count the chips of another tally after those of this one."""
        found = other.state()
        self.loss += found["loss"]
        self.weight += found["weight"]
        self._probabilities.append(found["probabilities"])
        self._targets.append(found["targets"])

    def calibrate(self, temperature: float) -> None:
        """Turn the probabilities into those of logits divided by the temperature."""
        self._probabilities = [self.to_probabilities(self.to_logits(torch.cat(self._probabilities)) / temperature)]

    def figures(self) -> dict[str, Any]:
        """As of any tally, and the number of chips."""
        return {**super().figures(), "chips": sum(map(len, self._targets))}

    def to_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, C) → (N, C)."""
        raise NotImplementedError

    def to_logits(self, probabilities: torch.Tensor) -> torch.Tensor:
        """(N, C) → (N, C), from which `to_probabilities` makes the same probabilities."""
        raise NotImplementedError

    def probabilities(self) -> np.ndarray:
        """(n, C) float32, in the order of the chips."""
        found: np.ndarray = torch.cat(self._probabilities).cpu().numpy()
        return found

    def targets(self) -> np.ndarray:
        """(n,) class indices, or (n, C) 1 where a chip shows a class."""
        found: np.ndarray = torch.cat(self._targets).cpu().numpy()
        return found


class ClassTally(ChipTally):
    """One class a chip."""

    def target_shape(self, classes: int) -> tuple[int, ...]:
        """A class index."""
        return ()

    def to_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """They sum to 1."""
        return logits.softmax(1)

    def to_logits(self, probabilities: torch.Tensor) -> torch.Tensor:
        """As `ChipTally.to_logits`."""
        return probabilities.log()

    def matrix(self) -> np.ndarray:
        """(C, C) int64: the confusion matrix, of chips."""
        return scores.chip_matrix(self.probabilities(), self.targets(), self.threshold)

    def accuracies(self) -> dict[str, Any]:
        """See `scores.class_figures`."""
        return scores.class_figures(self.probabilities(), self.targets(), self.threshold)

    def details(self) -> dict[str, Any]:
        """The confusion matrix."""
        return {"confusion_matrix": self.matrix().tolist()}


class LabelsTally(ChipTally):
    """Any number of classes a chip."""

    def target_shape(self, classes: int) -> tuple[int, ...]:
        """A yes or no for each class."""
        return (classes,)

    def to_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Each for itself."""
        return logits.sigmoid()

    def to_logits(self, probabilities: torch.Tensor) -> torch.Tensor:
        """As `ChipTally.to_logits`."""
        return probabilities.logit()

    def accuracies(self) -> dict[str, Any]:
        """See `scores.labels_figures`."""
        return scores.labels_figures(self.probabilities(), self.targets() > 0, self.threshold)
