"""Chips that show something of other chips."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from .draws import SPARED, inside, squares
from .example import UNCHANGED, Bands, Drawn, Example, Mixed


def mix(shape: torch.Size, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Drawn:
    """Mix the chips of every second batch, each with the one before it in the batch.

    Where `mixup` and `cutmix` are asked for, a coin chooses. Both have one share a batch, up to their strength, as
    their authors have it: so any loss can judge the mixture, by what it says of either answer.
    """
    ways = [name for name in ("mixup", "cutmix") if strength[name]]
    chance, which, share = torch.rand(3, generator=generator).tolist()  # on the CPU: nobody waits for a GPU
    if chance < SPARED:
        return UNCHANGED
    way = ways[int(which * len(ways))]
    share *= strength[way]
    if way == "mixup":
        return Drawn((), partial(mixup, share=share))
    return Drawn((squares(torch.full((shape[0],), share), generator),), partial(cutmix, share=share))


def mixup(example: Example, share: float) -> Example:
    """Lay a share of each chip's predecessor over the chip (Zhang et al. 2018); its answer counts as much.

    Where the other is missing, a chip shows itself.
    """
    images, missing, targets = example.images, example.missing, example.targets
    others = images.roll(1, 0)
    if missing is not None:
        others = torch.where(missing.roll(1, 0), images, others)
    mixed = example.showing(torch.lerp(images, others, share))
    return mixed._replace(mixed=Mixed(targets.roll(1, 0), share))


def cutmix(example: Example, edges: torch.Tensor, share: float) -> Example:
    """Show in a square of each chip what its predecessor shows there (Yun et al. 2019).

    Masks are cut with the images. The answer of whole chips is a mixture by area.
    """
    images, missing, targets = example.images, example.missing, example.targets
    foreign = inside(edges, images.shape[-1])
    images = torch.where(foreign, images.roll(1, 0), images)
    if missing is not None:
        missing = torch.where(foreign, missing.roll(1, 0), missing)
    if example.has_masks:
        return Example(images, missing, torch.where(foreign[:, 0], targets.roll(1, 0), targets))
    return Example(images, missing, targets, Mixed(targets.roll(1, 0), share))
