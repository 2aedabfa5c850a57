"""Regression as tasks: a number for every pixel, or for every chip, in the units of the target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..assessment.confusion import number
from ..assessment.regression import BINS, WIDEST
from ..chips.dataset import DatasetInfo
from ..config import TrainingConfig
from ..errors import not_none
from .augmentation.example import Example
from .chips import Batch, ChipReader
from .determinism import counting
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


class NumberReader(ChipReader):
    """Reads chips; the number that each has stands in the index."""

    target_dtype = np.dtype(np.float32)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """A single number."""
        return ()

    def target(self, place: int) -> np.ndarray:
        """Return a chip's number."""
        found: np.ndarray = self.dataset.targets[place]
        return found


class RegressionTask(Task):
    """A loss over standardised targets; the epoch with the smallest error is best.

    Args:
        info: The dataset's description.
        sampling: Of the training chips.
        config: The settings.
        device: Where the batches are.
    """

    def __init__(self, info: DatasetInfo, sampling: Sampling, config: TrainingConfig, device: torch.device) -> None:
        super().__init__(info, ChosenLoss(config.loss, info, sampling, device), config.augmentation, device)
        target = not_none(info.target)
        self.mean, self.std = target["mean"], target["std"]

    def prepare(self, batch: Batch, with_levels: bool = False) -> Example:
        """As `Task.prepare`, with targets in standard deviations from their mean."""
        example = super().prepare(batch, with_levels)
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


class ChipRegressionTask(RegressionTask):
    """One number a chip; otherwise as for pixels."""

    def tally(self) -> RegressionTally:
        """Add up errors, and keep the answers."""
        return ChipRegressionTally(self.mean, self.std, self.device)


class RegressionTally(Tally):
    """A number for every pixel: sums of targets and errors, and how often which answer went with which target.

    Everything is added up in standard deviations of the target, and comes out in its units.

    Args:
        mean, std: Of the target over the training chips.
        device: Where the batches are.
    """

    unit = "pixels"  # what has a number

    def __init__(self, mean: float, std: float, device: torch.device) -> None:
        super().__init__(device)
        self.mean, self.std = mean, std
        # Their number, targets, their squares, errors, their squares, absolute errors.
        self.sums = torch.zeros(6, dtype=torch.float64, device=device)
        # Answers (rows) by target (columns), see `assessment.regression`.
        self.pairs = torch.zeros(BINS * BINS, dtype=torch.int64, device=device)
        self.errors = torch.zeros(BINS, dtype=torch.int64, device=device)  # answers by error

    def count(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count logits (N, 1, ...) and targets (N, ...); NaN and infinity are not counted."""
        found = logits[:, 0].double().flatten()
        truth = targets.double().flatten()
        known = found.isfinite() & truth.isfinite()
        error = (found - truth).where(known, 0.0)
        truth = truth.where(known, 0.0)
        rows = (known.double(), truth, truth.square(), error, error.square(), error.abs())
        self.sums += torch.stack([row.sum() for row in rows])
        answer, label, off = _bins(truth + error), _bins(truth), _bins(error)
        with counting():
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
        """Return R², RMSE, MAE and bias (mean of answer − target), in the target's units, and how many counted."""
        count, total, squares, error, error_squares, absolute = self.sums.tolist()
        if not count:
            return {"r2": None, "rmse": None, "mae": None, "bias": None, self.unit: 0}
        spread = squares - total * total / count  # around the mean of these targets
        return {
            "r2": number(1 - error_squares / spread) if spread > 0 else None,
            "rmse": number(math.sqrt(error_squares / count) * self.std),
            "mae": number(absolute / count * self.std),
            "bias": number(error / count * self.std),
            self.unit: int(count),
        }

    def pair_counts(self) -> np.ndarray:
        """Return (BINS, BINS) int64: answers (rows) by target (columns)."""
        found: np.ndarray = self.pairs.view(BINS, BINS).cpu().numpy()
        return found

    def error_counts(self) -> np.ndarray:
        """Return (BINS,) int64: answers by error."""
        found: np.ndarray = self.errors.cpu().numpy()
        return found


class ChipRegressionTally(RegressionTally):
    """A number for every chip, which is kept; arguments as of `RegressionTally`."""

    rows = ("answers",)
    unit = "chips"

    def __init__(self, mean: float, std: float, device: torch.device) -> None:
        super().__init__(mean, std, device)
        self._answers = [torch.zeros(0, 2, device=device)]  # what the network says of each chip, and its target

    def count(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """As `RegressionTally.count`."""
        super().count(logits, targets)
        self._answers.append(torch.stack([logits[:, 0].float(), targets], dim=1))

    def state(self) -> dict[str, torch.Tensor]:
        """As `Tally.state`, with the answers."""
        return {**super().state(), "answers": torch.cat(self._answers)}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """As `Tally.restore`, with the answers."""
        super().restore(state)
        self._answers = [state["answers"].to(self.loss.device)]

    def include(self, other: Tally) -> None:
        """Count the chips of another tally after those of this one."""
        found = other.state()
        for name, value in super().state().items():
            value += found[name]
        self._answers.append(found["answers"])

    def answers(self) -> np.ndarray:
        """Return (n, 2) what the network says of each chip, and its target, in the order of the chips."""
        found: np.ndarray = torch.cat(self._answers).cpu().numpy()
        return found * self.std + self.mean


def _bins(values: torch.Tensor) -> torch.Tensor:
    """Return int64 bins of numbers in standard deviations; what is further out is in the outermost."""
    return ((values + WIDEST) * (BINS / (2 * WIDEST))).clamp(0, BINS - 1).long()
