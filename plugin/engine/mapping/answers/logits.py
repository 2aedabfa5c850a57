"""Turns logits into probabilities, numbers and answers.

N chips or tiles, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from ...device import Later
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
    found = shares(logits.movedim(1, -1)[torch.from_numpy(asked).to(logits.device)], answers)
    return Answered.of(found.cpu().numpy(), asked)


def shares(logits: torch.Tensor, answers: Answers) -> torch.Tensor:
    """(N, C, …) logits → float32 of the same shape: probabilities, or numbers in the units of the target."""
    return in_units(logits, answers.target) if isinstance(answers, Numbers) else probabilities(logits, answers.several)


def taken(logits: torch.Tensor, answers: Answers) -> Later:
    """The same as a sink takes it: what it keeps of the answers."""
    return Later(shares(logits, answers))


def probabilities(logits: torch.Tensor, several: bool) -> torch.Tensor:
    """(N, C, …) logits → probabilities: softmax, or sigmoid if a chip may have several classes."""
    return logits.sigmoid() if several else logits.softmax(1)


def in_units(values: torch.Tensor, target: dict[str, float]) -> torch.Tensor:
    """Standardised values of any shape → float32 in the units of the target."""
    return values * target["std"] + target["mean"]
