"""A classifier at work on chips cut from a block of pixels. N chips, B bands, S the chip size, C classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from ..models.classifier_network import Classifier
from ..models.header import ModelHeader
from ..models.normalisation import Normaliser

# Chips of one block that wait on the device for their batch, in values; what is not there yet is cut when needed.
VALUES_AT_ONCE = 16_000_000


class ChipPredictor:
    """Values of a raster → logits, on a device.

    Args:
        network: In evaluation mode.
        header: Of its model file.
        device: Where to calculate.
        batch_size: Chips at once.
        advance: Called with the number of chips after each batch; it may end the job.
    """

    def __init__(
        self, network: Classifier, header: ModelHeader, device: torch.device, batch_size: int,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:  # fmt: skip
        self.device, self.batch_size, self.advance = device, batch_size, advance
        self.classes = len(header.classes)
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalise = Normaliser(header.mean, header.std, device)

    @torch.inference_mode()
    def normalised(self, data: np.ndarray, missing: np.ndarray | None) -> torch.Tensor:
        """(…, B, H, W) values, and bool where they are missing → float32 of that shape on the device."""
        gaps = None if missing is None else torch.from_numpy(missing).to(self.device)
        found: torch.Tensor = self.normalise(torch.from_numpy(data).to(self.device), gaps)
        return found

    @torch.inference_mode()
    def logits(self, chips: torch.Tensor) -> torch.Tensor:
        """(N, B, S, S) normalised bands → (N, C) logits, batch by batch."""
        found = [torch.empty(0, self.classes, device=self.device)]
        for batch in torch.split(chips, self.batch_size) if len(chips) else ():
            found.append(self.network(batch.contiguous(memory_format=torch.channels_last)).float())
            self.advance(len(batch))
        return torch.cat(found)


class Evaluator(Protocol):
    """A way to get the logits of the chips in a block."""

    def logits(self, block: torch.Tensor, wanted: np.ndarray) -> torch.Tensor:
        """The logits of some chips.

        Args:
            block: (B, h, w) normalised; chip (row, col) begins at row · stride and col · stride.
            wanted: (rows, cols) bool.

        Returns:
            (n, C), in the order in which `wanted` is true, row by row.
        """


class WindowEvaluator:
    """Each chip goes through the network by itself."""

    def __init__(self, predictor: ChipPredictor, chip_size: int, stride: int) -> None:
        self.predictor, self.chip_size, self.stride = predictor, chip_size, stride

    @torch.inference_mode()
    def logits(self, block: torch.Tensor, wanted: np.ndarray) -> torch.Tensor:
        """As `Evaluator.logits`."""
        size, stride = self.chip_size, self.stride
        # A view: chip (row, col) at [:, row, col].
        every = block.unfold(1, size, stride).unfold(2, size, stride).permute(1, 2, 0, 3, 4)
        rows, cols = (torch.from_numpy(axis).to(block.device) for axis in np.nonzero(wanted))
        some = max(self.predictor.batch_size, VALUES_AT_ONCE // (len(block) * size * size))
        places = zip(torch.split(rows, some), torch.split(cols, some))
        return torch.cat([self.predictor.logits(every[row, col]) for row, col in places])


def probabilities(logits: torch.Tensor, several: bool) -> np.ndarray:
    """(N, C) logits → (N, C) float32: shares that sum to 1, or the probability of each class for itself."""
    found: np.ndarray = (logits.sigmoid() if several else logits.softmax(1)).cpu().numpy()
    return found
