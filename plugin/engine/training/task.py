"""What a network learns: how chips enter it, what wrong answers cost, how answers are counted, which epoch is best."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from ..chips.dataset import DatasetInfo
from ..models.networks import likeliest
from ..models.normalisation import Normaliser, missing_values
from ..recipe.augmentation import AugmentationSettings
from ..tasks import SEGMENTER_TASKS
from .augmentation.augment import Augmentation
from .augmentation.example import Example
from .calibration import Sample
from .chips import Batch
from .losses.table import ChosenLoss, Loss
from .tally import Tally


class Aside(NamedTuple):
    """What a network also learns from, beside the chips of a batch."""

    cost: torch.Tensor  # to be added to their loss
    counts: torch.Tensor  # what the lesson's tally adds up


class Answers(NamedTuple):
    """What a network answers to a batch of chips."""

    logits: torch.Tensor  # (N, C, ...)
    targets: torch.Tensor  # (N, ...)
    loss: torch.Tensor  # the mean cost, to be made less
    weight: torch.Tensor  # how much the batch counts beside others
    aside: Aside | None = None

    @property
    def cost(self) -> torch.Tensor:
        """What a step makes less."""
        return self.loss if self.aside is None else self.loss + self.aside.cost


class Moment(NamedTuple):
    """A step of a training."""

    generator: torch.Generator  # of all that the step draws
    teacher: nn.Module  # the network that counts: the average of the weights where there is one
    progress: float  # how far the training has come, 0 to 1


class Lesson(Protocol):
    """What a step learns."""

    shares_sums: bool  # whether its losses are made of sums over the chips of all ranks, see `ranks.whole`

    def learn(self, network: nn.Module, batch: Batch, moment: Moment) -> Answers:
        """Return what a network answers to training chips; its cost has gradients."""

    def tally(self) -> Tally:
        """Return a new tally of such answers."""


class Task:
    """One network that learns labels; each kind of task has a class of its own.

    Args:
        info: The dataset's description.
        loss: Of logits and targets.
        augmentation: How training chips are varied.
        device: Where the batches are.
    """

    def __init__(self, info: DatasetInfo, loss: Loss, augmentation: AugmentationSettings, device: torch.device) -> None:
        self.loss, self.device, self.nodata = loss, device, info.nodata
        # Not with mixtures: ranks draw them for themselves, and judge some batches once, others twice.
        mixes = augmentation.mixup or (augmentation.cutmix and info.task not in SEGMENTER_TASKS)
        self.shares_sums = isinstance(loss, ChosenLoss) and loss.needs_sums and not mixes
        self.augment = Augmentation(augmentation, info, device)
        self.normalise = Normaliser(info.mean, info.std, device)

    def learn(self, network: nn.Module, batch: Batch, moment: Moment) -> Answers:
        """What a network answers to training chips, varied as drawn in this moment; its loss has gradients."""
        with torch.autocast(self.device.type, enabled=False):  # places and colours need all their bits
            example = self.augment(self.prepare(batch, self.augment.changes_levels), moment.generator)
        return self.judge(network(example.images), example)

    def answer(self, network: nn.Module, batch: Batch) -> Answers:
        """What a network answers to chips as they are."""
        example = self.prepare(batch)
        return self.judge(network(example.images), example)

    def prepare(self, batch: Batch, with_levels: bool = False) -> Example:
        """Chips as stored, (N, B, H, W) of any type → normalised, float32; what is missing is 0, and marked.

        Args:
            batch: Images and targets.
            with_levels: Leave bytes as they are, and say what they stand for.
        """
        images, targets = batch[:2]
        missing = missing_values(images, self.nodata)
        if not with_levels or images.dtype is not torch.uint8:
            return Example(self.normalise(images, missing), missing, targets)
        levels = torch.arange(256, dtype=torch.int32, device=images.device)
        return Example(images, missing, targets, levels=self.normalise(levels.expand(*images.shape[:2], 1, -1)))

    def judge(self, logits: torch.Tensor, example: Example) -> Answers:
        """Return logits for an example, with what they cost."""
        loss, weight = self.loss(logits, example.targets)
        if example.mixed is not None:  # with chips of the same batch, so that both answers weigh the same
            loss = torch.lerp(loss, self.loss(logits, example.mixed.targets)[0], example.mixed.share)
        return Answers(logits, example.targets, loss, weight)

    def readable(self, logits: torch.Tensor) -> torch.Tensor:
        """What people see of logits (N, C, ...): (N, ...) class indices, or numbers in the units of the target."""
        return likeliest(logits)

    def tally(self) -> Tally:
        """A new one, to count answers."""
        raise NotImplementedError

    def sample(self, chips: int, seed: int) -> Sample:
        """A new sample of the answers to so many chips, for calibration; only of tasks with classes."""
        raise NotImplementedError

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """What the best epoch has most of, from the figures of an evaluation; the next one where epochs are even."""
        raise NotImplementedError
