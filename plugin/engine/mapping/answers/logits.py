"""Turns logits into probabilities, numbers and answers.

N chips or tiles, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from ..pipeline.loop import Advance
from ..reading.tile_reader import Images
from .answers import Answered, Answers, Numbers

Chips = TypeVar("Chips", bound=Images)


def answering(
    logits: Callable[[Chips, Advance], torch.Tensor], answers: Answers
) -> Callable[[Chips, Advance], Answered]:
    """Return a function from work to answers, given one to logits: (N, C) of chips or (N, C, rows, cols) of steps."""
    return lambda work, advance: answered(logits(work, advance), work.asked, answers)


def answered(logits: torch.Tensor, asked: np.ndarray, answers: Answers) -> Answered:
    """(N, C, …) logits, and (N, …) bool of those that count → their answers."""
    return Answered.of(shares(logits.movedim(1, -1)[torch.from_numpy(asked).to(logits.device)], answers), asked)


def shares(logits: torch.Tensor, answers: Answers) -> np.ndarray:
    """(N, C, …) logits → float32 of the same shape: probabilities, or numbers in the units of the target."""
    return in_units(logits, answers.target) if isinstance(answers, Numbers) else probabilities(logits, answers.several)


def probabilities(logits: torch.Tensor, several: bool) -> np.ndarray:
    """(N, C, …) logits → probabilities: softmax, or sigmoid if a chip may have several classes."""
    found: np.ndarray = (logits.sigmoid() if several else logits.softmax(1)).cpu().numpy()
    return found


def in_units(values: torch.Tensor, target: dict[str, float]) -> np.ndarray:
    """Standardised values of any shape → float32 in the units of the target."""
    found: np.ndarray = (values * target["std"] + target["mean"]).cpu().numpy()
    return found
