"""Learning from unlabelled chips (FixMatch, Sohn et al. 2020; with an averaged teacher, Tarvainen and Valpola 2017).

A teacher answers to flipped and turned chips. Where it is sure, its answer is the label of the pixel, or of the chip,
and the network learns it from the same chips after strong augmentation, which moves these labels with the image. The
teacher is the average of the weights (`EMA_DECAY`), or without one the network itself; in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..assessment.confusion import number
from ..chips.dataset import DatasetInfo
from ..classes import IGNORE_INDEX
from ..models.normalisation import missing_values
from ..recipe.augmentation import AugmentationSettings
from ..recipe.unlabelled import UnlabelledSettings
from .augmentation.augment import Augmentation
from .augmentation.example import Example
from .chips import Batch
from .tally import Tally, mean_loss
from .task import Answers, Aside, Moment, Task


class PseudoLabels:
    """The labelled chips of a task, and what a teacher says of unlabelled ones.

    Args:
        task: What the network learns.
        settings: Of the unlabelled chips.
        flips: Whether chips may be flipped and turned.
        info: The description of the labelled chips.
        nodata: Of the unlabelled chips.
    """

    shares_sums = False  # ranks draw mixtures for themselves, and judge some batches once, others twice

    def __init__(
        self, task: Task, settings: UnlabelledSettings, flips: bool, info: DatasetInfo, nodata: float | None
    ) -> None:
        self.task, self.settings, self.nodata = task, settings, nodata
        self.weak = Augmentation(AugmentationSettings(augmentation="flips", augment=flips), info, task.device)
        self.strong = Augmentation(settings.strong(), info, task.device)

    def learn(self, network: nn.Module, batch: Batch, moment: Moment) -> Answers:
        """Return what a network answers to the labelled chips; the cost is also that of the unlabelled ones."""
        images, targets, others = batch
        answers = self.task.learn(network, (images, targets), moment)
        weight = self.settings.weight(moment.progress)
        if not weight:
            return answers
        example = self.example(moment.teacher, others, moment.generator)
        judged = self.task.judge(network(example.images), example)
        counted = (example.targets != IGNORE_INDEX).sum()
        seen = (~unseen(example)).sum()
        counts = torch.stack([counted, seen, judged.loss.detach() * judged.weight, judged.weight]).double()
        # A mean over all pixels: few sure answers cost little.
        return answers._replace(aside=Aside(weight * counted / seen.clamp(min=1) * judged.loss, counts))

    def example(self, teacher: nn.Module, images: torch.Tensor, generator: torch.Generator) -> Example:
        """Return unlabelled chips as a network shall see them, with pseudo-labels as their targets.

        Args:
            teacher: The network that is asked.
            images: (N, B, H, W) as stored.
            generator: Draws the augmentation.
        """
        missing = missing_values(images, self.nodata)
        shown = Example(self.task.normalise(images, missing), missing, images.new_empty(len(images), 0))
        with torch.autocast(self.task.device.type, enabled=False):
            shown = self.weak(shown, generator)
        targets = sure_answers(ask(teacher, shown.images), self.settings.pseudo_label_confidence)
        shown = _without_unseen(shown._replace(targets=targets))
        with torch.autocast(self.task.device.type, enabled=False):
            return _without_unseen(self.strong(shown, generator))

    def tally(self) -> PseudoTally:
        """Count the labelled chips, and beside them pseudo-labels."""
        return PseudoTally(self.task.tally())


@torch.no_grad()
def ask(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the logits of a network in evaluation mode, whichever mode it is in."""
    learning = network.training
    try:
        network.eval()
        logits: torch.Tensor = network(images)
    finally:
        network.train(learning)
    return logits


def sure_answers(logits: torch.Tensor, confidence: float) -> torch.Tensor:
    """Return (N, ...) uint8 classes from (N, C, ...) logits; `IGNORE_INDEX` where their probability is too low."""
    highest, found = logits.float().softmax(1).max(1)
    return found.to(torch.uint8).masked_fill_(~(highest >= confidence), IGNORE_INDEX)


def unseen(example: Example) -> torch.Tensor:
    """Return which pixels, or chips, have no value in any band: a bool tensor of the targets' shape."""
    if example.missing is None:
        return torch.zeros_like(example.targets, dtype=torch.bool)
    missing = example.missing.all(1)
    return missing if example.has_masks else missing.flatten(1).all(1)


def _without_unseen(example: Example) -> Example:
    return example._replace(targets=example.targets.masked_fill(unseen(example), IGNORE_INDEX))


class PseudoTally(Tally):
    """Counts pseudo-labels beside the answers to labelled chips.

    Args:
        answers: The tally of these.
    """

    def __init__(self, answers: Tally) -> None:
        self.answers, self.rows = answers, answers.rows
        # Of the unlabelled chips: pseudo-labels, pixels (or chips) in all, sum of the weighted losses, and of weights.
        self.counts = torch.zeros(4, dtype=torch.float64, device=answers.loss.device)

    def add(
        self, logits: torch.Tensor, targets: torch.Tensor, loss: torch.Tensor, weight: torch.Tensor,
        aside: Aside | None = None,
    ) -> None:  # fmt: skip
        """Count a batch."""
        self.answers.add(logits, targets, loss, weight)
        if aside is not None:
            self.counts += aside.counts

    @property
    def labelled(self) -> bool:
        """Whether anything that was counted has a label."""
        return self.answers.labelled

    def state(self) -> dict[str, torch.Tensor]:
        """Return all that is counted so far, by name."""
        return {**self.answers.state(), "pseudo_labels": self.counts}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on where another one was."""
        self.answers.restore({name: value for name, value in state.items() if name != "pseudo_labels"})
        self.counts.copy_(state["pseudo_labels"])

    def include(self, other: Tally) -> None:
        """Count what another tally of this kind has counted."""
        self.answers.include(other)
        self.counts += other.state()["pseudo_labels"]

    def totals(self) -> torch.Tensor:
        """Return those of the labelled chips."""
        return self.answers.totals()

    def figures(self) -> dict[str, Any]:
        """Return those of the labelled chips, the share of pixels with a pseudo-label, and the mean loss of these."""
        labels, pixels, loss, weight = self.counts.tolist()
        return {
            **self.answers.figures(),
            "pseudo_label_share": number(labels / pixels) if pixels else None,
            "pseudo_label_loss": mean_loss(loss, weight),
        }
