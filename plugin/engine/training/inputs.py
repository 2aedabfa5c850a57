"""How chips enter a network, whatever it learns of them."""

from __future__ import annotations

import torch

from ..chips.dataset import DatasetInfo
from ..models.normalisation import Normaliser, missing_values
from .augmentation import Example, flip_and_turn


class Inputs:
    """What tasks of the training loop share.

    Args:
        info: The dataset's description.
        device: Where the batches are.
    """

    def __init__(self, info: DatasetInfo, device: torch.device) -> None:
        self.device, self.nodata = device, info.nodata
        self.normalise = Normaliser(info.mean, info.std, device)

    def prepare(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(N, B, H, W) as stored → normalised, missing values 0; and where those are, None if nowhere."""
        missing = missing_values(images, self.nodata)
        return self.normalise(images, missing), missing

    def turn(
        self, images: torch.Tensor, missing: torch.Tensor | None, targets: torch.Tensor, generator: torch.Generator
    ) -> Example:
        """Flips and quarter turns."""
        return flip_and_turn(images, missing, targets, generator)
