"""Regression as a task: a number for every pixel, in the units of the target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..assessment.confusion import number
from ..assessment.regression import BINS, WIDEST
from ..chips.dataset import DatasetInfo
from ..config import TrainSegmenterConfig
from ..errors import not_none
from .augmentation.example import Example
from .chips import Batch, ChipReader
from .losses.table import ChosenLoss
from .sampling import Sampling
from .tally import Tally, or_worst
from .task import Task


class TargetReader(ChipReader):
    """Reads chips and the numbers that their pixels have; NaN for none."""

    target_dtype = np.dtype(np.float32)

    def target(self, place: int) -> np.ndarray:
        """Return a chip's mask of numbers."""
        values = self.dataset.read_mask(place).astype(np.float32)
        return np.where(np.isfinite(values), values, np.float32(np.nan))


class RegressionTask(Task):
    """A loss over standardised targets; the epoch with the smallest error is best.

    Args:
        info: The dataset's description.
        sampling: Of the training chips.
        config: The settings.
        device: Where the batches are.
    """

    def __init__(
        self, info: DatasetInfo, sampling: Sampling, config: TrainSegmenterConfig, device: torch.device
    ) -> None:
        super().__init__(info, ChosenLoss(config.loss, info, sampling, device), config.augmentation, device)
        target = not_none(info.target)
        self.mean, self.std = target["mean"], target["std"]

    def prepare(self, batch: Batch) -> Example:
        """As `Task.prepare`, with targets in standard deviations from their mean."""
        example = super().prepare(batch)
        return example._replace(targets=(example.targets - self.mean) / self.std)

    def readable(self, logits: torch.Tensor) -> torch.Tensor:
        """Return numbers in the units of the target."""
        return logits[:, 0] * self.std + self.mean

    def tally(self) -> RegressionTally:
        """Add up errors."""
        return RegressionTally(self.mean, self.std, self.device)

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """Return the negative RMSE; a network that gives no numbers has none."""
        return (or_worst(figures["rmse"] if figures["loss"] is not None else None, -1),)


class RegressionTally(Tally):
    """A number for every pixel: sums of targets and errors, and how often which answer went with which target.

    Everything is added up in standard deviations of the target, and comes out in its units.

    Args:
        mean, std: Of the target over the training chips.
        device: Where the batches are.
    """

    def __init__(self, mean: float, std: float, device: torch.device) -> None:
        super().__init__(device)
        self.mean, self.std = mean, std
        # Pixels, targets, their squares, errors, their squares, absolute errors.
        self.sums = torch.zeros(6, dtype=torch.float64, device=device)
        # Pixels by answer (rows) and target (columns), see `assessment.regression`.
        self.pairs = torch.zeros(BINS * BINS, dtype=torch.int64, device=device)
        self.errors = torch.zeros(BINS, dtype=torch.int64, device=device)  # pixels by error

    def count(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count logits (N, 1, H, W) and targets (N, H, W); NaN and infinity are not counted."""
        found = logits[:, 0].double().flatten()
        truth = targets.double().flatten()
        known = found.isfinite() & truth.isfinite()
        error = (found - truth).where(known, 0.0)
        truth = truth.where(known, 0.0)
        rows = (known.double(), truth, truth.square(), error, error.square(), error.abs())
        self.sums += torch.stack([row.sum() for row in rows])
        answer, label, off = _bins(truth + error), _bins(truth), _bins(error)
        self.pairs.scatter_add_(0, answer * BINS + label, known.long())
        self.errors.scatter_add_(0, off, known.long())

    def state(self) -> dict[str, torch.Tensor]:
        """As `Tally.state`, with the sums and counts."""
        return {**super().state(), "sums": self.sums, "pairs": self.pairs, "errors": self.errors}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """As `Tally.restore`, with the sums and counts."""
        super().restore(state)
        self.sums.copy_(state["sums"])
        self.pairs.copy_(state["pairs"])
        self.errors.copy_(state["errors"])

    def accuracies(self) -> dict[str, Any]:
        """Return R², RMSE, MAE and bias (mean of answer − target), in the target's units, and the number of pixels."""
        pixels, total, squares, error, error_squares, absolute = self.sums.tolist()
        if not pixels:
            return {"r2": None, "rmse": None, "mae": None, "bias": None, "pixels": 0}
        spread = squares - total * total / pixels  # around the mean of these targets
        return {
            "r2": number(1 - error_squares / spread) if spread > 0 else None,
            "rmse": number(math.sqrt(error_squares / pixels) * self.std),
            "mae": number(absolute / pixels * self.std),
            "bias": number(error / pixels * self.std),
            "pixels": int(pixels),
        }

    def pair_counts(self) -> np.ndarray:
        """Return (BINS, BINS) int64: pixels by answer (rows) and target (columns)."""
        found: np.ndarray = self.pairs.view(BINS, BINS).cpu().numpy()
        return found

    def error_counts(self) -> np.ndarray:
        """Return (BINS,) int64: pixels by error."""
        found: np.ndarray = self.errors.cpu().numpy()
        return found


def _bins(values: torch.Tensor) -> torch.Tensor:
    """Return int64 bins of numbers in standard deviations; what is further out is in the outermost."""
    return ((values + WIDEST) * (BINS / (2 * WIDEST))).clamp(0, BINS - 1).long()
