"""Means of what a network says of variants of an image: mirrored, turned, or in another size.

What is averaged are probabilities, or the numbers of a regression. The mean is returned as logits again, so whatever
follows need not know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ...models.header import ModelHeader

# (N, B, h, w) normalised images → (N, K, …) logits.
Maps = Callable[[torch.Tensor], torch.Tensor]


class Kind(NamedTuple):
    """What is averaged: functions from logits (N, K, …), and back."""

    shares: Callable[[torch.Tensor], torch.Tensor]
    logits: Callable[[torch.Tensor], torch.Tensor]


ONE_CLASS = Kind(lambda logits: logits.softmax(1), torch.log)
SEVERAL_CLASSES = Kind(torch.sigmoid, torch.logit)
NUMBERS = Kind(lambda values: values, lambda values: values)


def kind_of(header: ModelHeader) -> Kind:
    """Return what is averaged of a model's answers."""
    if header.target is not None:
        return NUMBERS
    return SEVERAL_CLASSES if header.task == "multilabel" else ONE_CLASS


def mean(parts: Iterable[torch.Tensor], kind: Kind) -> torch.Tensor:
    """Return the logits of the mean of some logits of the same shape; a single one is returned as it is."""
    rest = iter(parts)
    first, total, count = next(rest), None, 1
    for part in rest:
        total = (kind.shares(first) if total is None else total) + kind.shares(part)
        count += 1
    return first if total is None else kind.logits(total / count)


class Symmetry(NamedTuple):
    """One of the eight symmetries of the square: mirrored left to right or not, then turned by quarters."""

    mirrored: bool
    quarters: int

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """(…, h, w) → (…, h, w) or (…, w, h)."""
        return (images.flip(-1) if self.mirrored else images).rot90(self.quarters, (-2, -1))

    def undo(self, maps: torch.Tensor) -> torch.Tensor:
        """Bring each pixel back to where it was before `apply`."""
        turned = maps.rot90(-self.quarters, (-2, -1))
        return turned.flip(-1) if self.mirrored else turned


AS_IS, LEFT_RIGHT = Symmetry(False, 0), Symmetry(True, 0)
SYMMETRIES = {
    "none": (AS_IS,),
    "mirror": (AS_IS, LEFT_RIGHT),
    "flips": (AS_IS, LEFT_RIGHT, Symmetry(False, 2), Symmetry(True, 2)),
    "symmetries": tuple(Symmetry(mirrored, quarters) for mirrored in (False, True) for quarters in range(4)),
}


def symmetric(maps: Maps, symmetries: Iterable[Symmetry], kind: Kind) -> Maps:
    """Average maps (N, K, h, w) over symmetries of their images; one symmetry after the other, to save memory."""
    chosen = tuple(symmetries)
    return lambda images: mean((one.undo(maps(one.apply(images))) for one in chosen), kind)


def symmetric_answers(maps: Maps, symmetries: Iterable[Symmetry], kind: Kind) -> Maps:
    """Average answers (N, K), which have no places, over symmetries of their images."""
    chosen = tuple(symmetries)
    return lambda images: mean((maps(one.apply(images)) for one in chosen), kind)


def rescaled(maps: Maps, shown_side: Callable[[int], int], kind: Kind) -> Maps:
    """Show images in another size; the maps (N, K, h, w) keep that of the images.

    Args:
        maps: The network.
        shown_side: Returns how many pixels are shown for a side of an image.
        kind: What is resampled.
    """

    def found(images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        shares = kind.shares(maps(resampled(images, (shown_side(height), shown_side(width)))))
        return kind.logits(resampled(shares, (height, width)))

    return found


def resampled(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, B, h, w) → (N, B, *size), bilinear, with means where it becomes smaller."""
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
