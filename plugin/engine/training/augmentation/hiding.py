"""What a chip does not show: bands that are missing, and ground that is covered."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from ...classes import IGNORE_INDEX
from ...device import to_device
from .draws import often, squares
from .example import Bands, Example


def hide(example: Example, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Example:
    """Make bands, and a square of every second chip, missing.

    Each band is dropped with the chance `band_dropout`; a chip that would lose all keeps all. A square (cutout, DeVries
    and Taylor 2017) covers up to the share `cutout` of the chip, at any place; what it covers has no label in a mask,
    since nobody could say what is there.
    """
    images, missing, targets, _ = example
    count, channels, size, _ = images.shape
    hidden = torch.zeros((), dtype=torch.bool, device=images.device) if missing is None else missing
    if strength["band_dropout"]:
        dropped = torch.rand((count, channels), generator=generator) < strength["band_dropout"]
        dropped &= ~dropped.all(dim=1, keepdim=True)
        hidden = hidden | to_device(dropped, images.device)[..., None, None]
    if strength["cutout"]:
        shares = torch.rand(count, generator=generator) * strength["cutout"] * often(count, generator)
        covered = squares(shares, size, generator, images.device)
        hidden = hidden | covered
        if example.has_masks:
            nothing = math.nan if targets.is_floating_point() else IGNORE_INDEX
            targets = targets.masked_fill(covered[:, 0], nothing)
    return Example(images.masked_fill(hidden, 0.0), hidden.expand(images.shape), targets)
