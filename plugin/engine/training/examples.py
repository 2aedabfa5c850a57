"""Some chips as a network sees them, and what it says, for the report."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..assessment.report import Varied
from ..assessment.segmenter_report import Example
from ..reports import pictures
from .chips import ChipReader
from .task import Task

VARIANTS = 8  # of a chip, beside the chip itself
SIDE = 128  # pixels of a variant's picture at most


def choose_examples(shown: np.ndarray, places: np.ndarray, count: int, seed: int) -> list[int]:
    """Choose chips so that the classes take turns: for each, the rarest first, one of the chips that show most of it.

    Args:
        shown: (m, C) how much of each class all chips of the dataset show.
        places: (n,) the chips to choose from.

    Returns:
        At most `count` places.
    """
    rng = np.random.default_rng(seed)
    amounts = shown[places]  # (n, C)
    turns = [index for index in np.argsort(amounts.sum(axis=0)) if amounts[:, index].any()]
    chosen: list[int] = []
    free = np.ones(len(places), bool)
    for turn in range(min(count, len(places))):
        amount = np.where(free, amounts[:, turns[turn % len(turns)]], -1) if turns else free.astype(int)
        # Not the very fullest chip, which is often nothing but that class.
        leading = np.argsort(amount)[::-1][: max(1, min(int(free.sum()), len(places) // 4))]
        leading = leading[amount[leading] > 0] if amount.max() > 0 else leading
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
        prediction = task.readable(answers.logits)[0].cpu().numpy()
        name = str(reader.dataset.images[place])
        examples.append(Example(images[0].numpy(), masks[0].numpy(), prediction, f"{name}, {split}"))
    return examples


@torch.no_grad()
def vary_examples(task: Task, reader: ChipReader, places: list[int], seed: int, device: torch.device) -> list[Varied]:
    """Some chips, and what augmentation makes of them; none where it leaves chips as they are.

    Args:
        seed: Draws the variants.
    """
    if not task.augment.steps:
        return []
    generator, bands = torch.Generator().manual_seed(seed), task.augment.bands
    images, targets = reader.read(places)
    example = task.prepare((images.to(device), targets.to(device)))
    shown = pictures.visible_bands(reader.dataset.info.band_names)
    varied: list[Varied] = [Varied([], [], str(reader.dataset.images[place])) for place in places]
    for version in (example, *(task.augment(example, generator) for _ in range(VARIANTS))):
        stored = version.images * bands.std + bands.mean
        if version.missing is not None:
            stored.masked_fill_(version.missing, torch.nan)
        for chip, values in zip(varied, stored[:, shown].cpu().numpy()):
            chip.images.append(pictures.smaller(values, SIDE))
        if version.has_masks:
            for chip, mask in zip(varied, version.targets.cpu().numpy()):
                chip.masks.append(pictures.sparser(mask, SIDE))
    return varied
