"""Segmentation as a task of the training loop: a class for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..chips.dataset import DatasetInfo
from .augmentation import Example, jitter
from .inputs import Inputs
from .losses import class_weights, weighted_cross_entropy
from .tally import PixelTally, or_worst


class SegmentationTask(Inputs):
    """Normalised chips in, weighted cross-entropy over labelled pixels, scored by mean IoU.

    Args:
        info: The dataset's description.
        pixels: (C,) labelled pixels of each class in the training chips.
        weights: config.CLASS_WEIGHTS.
        radiometric_jitter: See `jitter`.
        device: Where the batches are.
    """

    def __init__(
        self, info: DatasetInfo, pixels: np.ndarray, weights: str, radiometric_jitter: float, device: torch.device
    ) -> None:
        super().__init__(info, device)
        self.radiometric_jitter = radiometric_jitter
        self.classes = len(info.classes)
        self.weights = torch.tensor(class_weights(pixels, weights), dtype=torch.float32, device=device)

    def tally(self) -> PixelTally:
        """Counts pixels."""
        return PixelTally(self.classes, self.device)

    def vary(
        self, images: torch.Tensor, missing: torch.Tensor | None, targets: torch.Tensor, generator: torch.Generator
    ) -> Example:
        """Other brightness and contrast of each band."""
        if self.radiometric_jitter:
            return jitter(images, missing, targets, self.radiometric_jitter, generator)
        return images, missing, targets

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, C, H, W) and class indices (N, H, W) → sum of costs, sum of weights."""
        return weighted_cross_entropy(logits, targets, self.weights)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean IoU; a network that gives no numbers has none."""
        return (or_worst(figures["mean_iou"] if figures["loss"] is not None else None),)
