"""Classification as tasks of the training loop: a class for every chip, or several."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..chips.dataset import DatasetInfo
from ..config import TrainClassifierConfig
from .augmentation import Example, jitter, magnify
from .inputs import Inputs
from .losses import class_weights, presence_weights, weighted_binary_cross_entropy, weighted_cross_entropy
from .tally import ClassTally, LabelsTally, or_worst

# With fewer, a chip more or less that is right moves accuracy and F1 further than an epoch does.
FEW_CHIPS = 30


class ClassificationTask(Inputs):
    """One class a chip: normalised chips in, weighted cross-entropy, scored by mean F1.

    Args:
        info: The dataset's description.
        shown: (n, C) bool, the classes that each training chip shows.
        config: The settings.
        device: Where the batches are.
    """

    def __init__(
        self, info: DatasetInfo, shown: np.ndarray, config: TrainClassifierConfig, device: torch.device
    ) -> None:
        super().__init__(info, device)
        self.config = config
        self.weights = torch.tensor(self.balance(shown), dtype=torch.float32, device=device)

    def balance(self, shown: np.ndarray) -> np.ndarray:
        """(C,) the weights of the classes."""
        return class_weights(shown.sum(axis=0), self.config.class_weights)

    def tally(self) -> ClassTally | LabelsTally:
        """Counts chips."""
        return ClassTally(self.config.threshold, self.device)

    def vary(
        self, images: torch.Tensor, missing: torch.Tensor | None, targets: torch.Tensor, generator: torch.Generator
    ) -> Example:
        """Parts of chips, magnified; other brightness and contrast of each band."""
        if self.config.scale_jitter:
            images, missing, targets = magnify(images, missing, targets, self.config.scale_jitter, generator)
        if self.config.radiometric_jitter:
            images, missing, targets = jitter(images, missing, targets, self.config.radiometric_jitter, generator)
        return images, missing, targets

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, C) and class indices (N,) → sum of costs, sum of weights."""
        return weighted_cross_entropy(logits, targets, self.weights, self.config.label_smoothing)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean F1, and of epochs with the same the lower loss; of few chips, whose F1 is luck, the loss alone."""
        lower_loss = or_worst(figures["loss"], -1)
        if figures["chips"] < FEW_CHIPS:
            return (lower_loss,)
        return or_worst(figures["mean_f1"]), lower_loss


class MultilabelTask(ClassificationTask):
    """Any number of classes a chip: a yes or no for each, scored by mean average precision."""

    def balance(self, shown: np.ndarray) -> np.ndarray:
        """(C,) how much more a yes counts than a no."""
        return presence_weights(shown.sum(axis=0), len(shown), self.config.class_weights)

    def tally(self) -> LabelsTally:
        """Counts yes-or-no answers."""
        return LabelsTally(self.config.threshold, self.device)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, C) and targets (N, C) → sum of costs, sum of weights."""
        return weighted_binary_cross_entropy(logits, targets, self.weights, self.config.label_smoothing)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean average precision, which needs no threshold; of few chips, or without a class in any, the loss alone."""
        precision, lower_loss = figures["mean_average_precision"], or_worst(figures["loss"], -1)
        if precision is None or figures["chips"] < FEW_CHIPS:
            return (lower_loss,)
        return precision, lower_loss
