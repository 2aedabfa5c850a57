"""Segmentation as a task: a class for every pixel."""

from __future__ import annotations

from typing import Any

import torch

from ..chips.dataset import DatasetInfo
from ..config import TrainSegmenterConfig
from .calibration import Sample
from .losses.table import ChosenLoss
from .sampling import Sampling
from .tally import PixelTally, or_worst
from .task import Task


class SegmentationTask(Task):
    """A loss over labelled pixels, weighted by class; scored by mean IoU.

    Args:
        info: The dataset's description.
        sampling: Of the training chips, which knows how many pixels of each class they have.
        config: The settings.
        device: Where the batches are.
    """

    def __init__(
        self, info: DatasetInfo, sampling: Sampling, config: TrainSegmenterConfig, device: torch.device
    ) -> None:
        super().__init__(info, ChosenLoss(config.loss, info, sampling, device), config.augmentation, device)
        self.classes = len(info.classes)

    def tally(self) -> PixelTally:
        """Counts pixels."""
        return PixelTally(self.classes, self.device)

    def sample(self, chips: int, seed: int) -> Sample:
        """Draws pixels."""
        return Sample(self.classes, chips, seed, self.device)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean IoU; a network that gives no numbers has none."""
        return (or_worst(figures["mean_iou"] if figures["loss"] is not None else None),)
