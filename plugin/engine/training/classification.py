"""Classification as tasks: a class for every chip, or several."""

from __future__ import annotations

from typing import Any

import torch

from ..chips.dataset import DatasetInfo
from ..config import TrainClassifierConfig
from .calibration import DecisionSample, Sample
from .losses.table import ChosenLoss
from .sampling import Sampling
from .tally import ClassTally, LabelsTally, or_worst
from .task import Task

# With fewer, a chip more or less that is right moves accuracy and F1 further than an epoch does.
FEW_CHIPS = 30


class ClassificationTask(Task):
    """One class a chip: a loss weighted by class; scored by mean F1.

    Args:
        info: The dataset's description.
        sampling: Of the training chips, which knows what classes they show.
        config: The settings.
        device: Where the batches are.
    """

    def __init__(
        self, info: DatasetInfo, sampling: Sampling, config: TrainClassifierConfig, device: torch.device
    ) -> None:
        super().__init__(info, ChosenLoss(config.loss, info, sampling, device), config.augmentation, device)
        self.classes, self.threshold = len(info.classes), config.threshold

    def tally(self) -> ClassTally:
        """Counts chips."""
        return ClassTally(self.classes, self.threshold, self.device)

    def sample(self, chips: int, seed: int) -> Sample:
        """Takes all chips."""
        return Sample(self.classes, chips, seed, self.device)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean F1, and of epochs with the same the lower loss; of few chips, whose F1 is luck, the loss alone."""
        lower_loss = or_worst(figures["loss"], -1)
        if figures["chips"] < FEW_CHIPS:
            return (lower_loss,)
        return or_worst(figures["mean_f1"]), lower_loss


class MultilabelTask(Task):
    """Any number of classes a chip: a yes or no for each, scored by mean average precision; arguments as above."""

    def __init__(
        self, info: DatasetInfo, sampling: Sampling, config: TrainClassifierConfig, device: torch.device
    ) -> None:
        super().__init__(info, ChosenLoss(config.loss, info, sampling, device), config.augmentation, device)
        self.classes, self.threshold = len(info.classes), config.threshold

    def tally(self) -> LabelsTally:
        """Counts yes-or-no answers."""
        return LabelsTally(self.classes, self.threshold, self.device)

    def sample(self, chips: int, seed: int) -> Sample:
        """Takes the yes-or-no answers of all chips, or some of each."""
        return DecisionSample(chips, seed, self.device)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean average precision, which needs no threshold; of few chips, or without a class in any, the loss alone."""
        precision, lower_loss = figures["mean_average_precision"], or_worst(figures["loss"], -1)
        if precision is None or figures["chips"] < FEW_CHIPS:
            return (lower_loss,)
        return precision, lower_loss
