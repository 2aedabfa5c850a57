"""What a chip does not show: bands that are missing, and ground that is covered."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from ...classes import IGNORE_INDEX
from .draws import inside, often, squares
from .example import Bands, Drawn, Example


def hide(shape: torch.Size, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Drawn:
    """Make bands, and a square of every second chip, missing.

    Each band is dropped with the chance `band_dropout`; a chip that would lose all keeps all. A square (cutout, DeVries
    and Taylor 2017) covers up to the share `cutout` of the chip, at any place; what it covers has no label in a mask,
    since nobody could say what is there.
    """
    count, channels = shape[:2]
    dropped = torch.zeros(0)
    if strength["band_dropout"]:
        drop = torch.rand((count, channels), generator=generator) < strength["band_dropout"]
        dropped = (drop & ~drop.all(dim=1, keepdim=True)).float()
    edges = torch.zeros(0)
    if strength["cutout"]:
        shares = torch.rand(count, generator=generator) * strength["cutout"] * often(count, generator)
        edges = squares(shares, generator)
    return Drawn((dropped, edges), _hidden)


def _hidden(example: Example, dropped: torch.Tensor, edges: torch.Tensor) -> Example:
    """Without bands, (N, B) 1 where one is dropped, and without what lies in squares; both may be empty."""
    images, missing, targets = example.images, example.missing, example.targets
    hidden = torch.zeros((), dtype=torch.bool, device=images.device) if missing is None else missing
    if len(dropped):
        hidden = hidden | (dropped > 0)[..., None, None]
    if len(edges):
        covered = inside(edges, images.shape[-1])
        hidden = hidden | covered
        if example.has_masks:
            nothing = math.nan if targets.is_floating_point() else IGNORE_INDEX
            targets = targets.masked_fill(covered[:, 0], nothing)
    return Example(images.masked_fill(hidden, 0.0), hidden.expand(images.shape), targets)
