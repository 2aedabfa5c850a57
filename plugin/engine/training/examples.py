"""Some chips as a network sees them, for the report."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..assessment.segmenter_report import Example
from ..chips.dataset import ChipDataset
from ..models.networks import likeliest
from .chips import ChipReader
from .task import Task


def choose_examples(dataset: ChipDataset, places: np.ndarray, count: int, seed: int) -> list[int]:
    """Choose chips so that the classes take turns: for each, the rarest first, one of the chips that show most of it.

    Args:
        places: (n,) the chips to choose from.

    Returns:
        At most `count` places.
    """
    rng = np.random.default_rng(seed)
    pixels = dataset.pixels[places]  # (n, C)
    turns = [index for index in np.argsort(pixels.sum(axis=0)) if pixels[:, index].any()]
    chosen: list[int] = []
    free = np.ones(len(places), bool)
    for turn in range(min(count, len(places))):
        shown = np.where(free, pixels[:, turns[turn % len(turns)]], -1) if turns else free.astype(int)
        # Not the very fullest chip, which is often nothing but that class.
        leading = np.argsort(shown)[::-1][: max(1, min(int(free.sum()), len(places) // 4))]
        pick = int(rng.choice(leading[free[leading]]))
        free[pick] = False
        chosen.append(int(places[pick]))
    return chosen


@torch.no_grad()
def predict_examples(
    network: nn.Module, task: Task, reader: ChipReader, places: list[int], split: str, device: torch.device
) -> list[Example]:
    """Image, label and prediction of some chips."""
    network.eval()
    examples = []
    for place in places:
        images, masks = reader.read([place])
        answers = task.answer(network, (images.to(device), masks.to(device)))
        prediction = likeliest(answers.logits)[0].cpu().numpy()
        name = str(reader.dataset.images[place])
        examples.append(Example(images[0].numpy(), masks[0].numpy(), prediction, f"{name}, {split}"))
    return examples
