"""A trained network at work on batches of raster values."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..models.header import ModelHeader
from ..models.networks import likeliest
from ..models.normalisation import Normaliser


class Predictor:
    """Values of a raster → logits, on a device.

    Args:
        network: In evaluation mode.
        header: Of its model file.
        device: Where to calculate.
    """

    def __init__(self, network: nn.Module, header: ModelHeader, device: torch.device) -> None:
        self.device = device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalise = Normaliser(header.mean, header.std, device)

    @torch.inference_mode()
    def logits(self, data: np.ndarray, missing: np.ndarray | None) -> torch.Tensor:
        """(N, B, H, W) values, and bool where they are missing → (N, C, H, W) logits on the device."""
        gaps = None if missing is None else torch.from_numpy(missing).to(self.device)
        batch = self.normalise(torch.from_numpy(data).to(self.device), gaps)
        found: torch.Tensor = self.network(batch.contiguous(memory_format=torch.channels_last))
        return found.float()


def classes(logits: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) logits → (N, H, W) uint8 class indices, `IGNORE_INDEX` where the network gives no numbers."""
    found: np.ndarray = likeliest(logits).cpu().numpy()
    return found


def probabilities(logits: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) logits → float32 probabilities of the same shape."""
    found: np.ndarray = logits.softmax(1).cpu().numpy()
    return found
