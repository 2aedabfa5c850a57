"""Segmentation as a task of the training loop: a class for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..chips.dataset import DatasetInfo
from ..models.normalisation import Normaliser, missing_values
from .augmentation import flip_and_turn, jitter
from .losses import class_weights, weighted_cross_entropy
from .tally import PixelTally


class SegmentationTask:
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
        self.radiometric_jitter = radiometric_jitter
        self.classes = len(info.classes)
        self.device = device
        self.nodata = info.nodata
        self.normalise = Normaliser(info.mean, info.std, device)
        self.weights = torch.tensor(class_weights(pixels, weights), dtype=torch.float32, device=device)

    def tally(self) -> PixelTally:
        """Counts pixels."""
        return PixelTally(self.classes, self.device)

    def turn(
        self, images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Flips and quarter turns."""
        return flip_and_turn(images, targets, generator)

    def vary(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Other brightness and contrast of each band."""
        return jitter(images, self.radiometric_jitter, generator) if self.radiometric_jitter else images

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, H, W) as stored → normalised, missing values 0."""
        return self.normalise(images, missing_values(images, self.nodata))

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, C, H, W) and class indices (N, H, W) → sum of costs, sum of weights."""
        return weighted_cross_entropy(logits, targets, self.weights)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Mean IoU."""
        return (figures["mean_iou"],)
