"""Classification as tasks: a class for every chip, or several."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from ..chips.dataset import DatasetInfo
from ..config import TrainClassifierConfig
from .losses import class_weights, presence_weights, weighted_binary_cross_entropy, weighted_cross_entropy
from .tally import ClassTally, LabelsTally, or_worst
from .task import Task

# With fewer, a chip more or less that is right moves accuracy and F1 further than an epoch does.
FEW_CHIPS = 30


class ClassificationTask(Task):
    """One class a chip: cross-entropy, weighted by class; scored by mean F1.

    Args:
        info: The dataset's description.
        shown: (n, C) bool, the classes that each training chip shows.
        config: The settings.
        device: Where the batches are.
    """

    def __init__(
        self, info: DatasetInfo, shown: np.ndarray, config: TrainClassifierConfig, device: torch.device
    ) -> None:
        weights = torch.tensor(class_weights(shown.sum(axis=0), config.loss.class_weights), dtype=torch.float32)
        loss = partial(weighted_cross_entropy, weights=weights.to(device), smoothing=config.loss.label_smoothing)
        super().__init__(info, loss, config.augmentation, device)
        self.threshold = config.threshold

    def tally(self) -> ClassTally:
        """Counts chips."""
        return ClassTally(self.threshold, self.device)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean F1, and of epochs with the same the lower loss; of few chips, whose F1 is luck, the loss alone."""
        lower_loss = or_worst(figures["loss"], -1)
        if figures["chips"] < FEW_CHIPS:
            return (lower_loss,)
        return or_worst(figures["mean_f1"]), lower_loss


class MultilabelTask(Task):
    """Any number of classes a chip: a yes or no for each, scored by mean average precision; arguments as above."""

    def __init__(
        self, info: DatasetInfo, shown: np.ndarray, config: TrainClassifierConfig, device: torch.device
    ) -> None:
        balance = presence_weights(shown.sum(axis=0), len(shown), config.loss.class_weights)
        weights = torch.tensor(balance, dtype=torch.float32, device=device)
        loss = partial(weighted_binary_cross_entropy, weights=weights, smoothing=config.loss.label_smoothing)
        super().__init__(info, loss, config.augmentation, device)
        self.threshold = config.threshold

    def tally(self) -> LabelsTally:
        """Counts yes-or-no answers."""
        return LabelsTally(self.threshold, self.device)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean average precision, which needs no threshold; of few chips, or without a class in any, the loss alone."""
        precision, lower_loss = figures["mean_average_precision"], or_worst(figures["loss"], -1)
        if precision is None or figures["chips"] < FEW_CHIPS:
            return (lower_loss,)
        return precision, lower_loss
