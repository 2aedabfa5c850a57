"""Other views of the same ground, for each chip by itself, on the device.

A step takes an example, its strength and a generator, and gives another example. Coins and draws are thrown on the
CPU, so that a seed means the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from ..device import to_device
from ..recipe.augmentation import AugmentationSettings

# A magnified pixel is known where at least this much of what it is mixed from is; as in chips/sampling.py.
ENOUGH = 0.5


class Example(NamedTuple):
    """Chips as a network takes them, and what it shall answer."""

    images: torch.Tensor  # (N, B, S, S), normalised; 0 where missing
    missing: torch.Tensor | None  # bool, of the same shape; None where nothing is missing
    targets: torch.Tensor  # (N, S, S), which move with the image, or (N, ...) of whole chips, which do not

    @property
    def has_masks(self) -> bool:
        """Whether each pixel has a target."""
        return self.targets.shape == (len(self.images), *self.images.shape[2:])


def augment(example: Example, settings: AugmentationSettings, generator: torch.Generator) -> Example:
    """Vary each chip of a batch as the settings say."""
    for name, step in STEPS.items():
        strength = getattr(settings, name)
        if strength:
            example = step(example, strength, generator)
    return example


def flip_and_turn(example: Example, strength: float, generator: torch.Generator) -> Example:
    """Show each chip in one of the eight ways a square can lie.

    Three coins a chip (mirror left-right, mirror up-down, swap the axes) give each of the eight equally often.

    Args:
        strength: Of no account: a chip lies in one way or another.
    """
    images, missing, targets = example
    coins = to_device(torch.randint(0, 2, (3, len(images), 1, 1, 1), generator=generator).bool(), images.device)
    if example.has_masks:
        targets = _laid(targets[:, None], coins)[:, 0]
    return Example(_laid(images, coins), None if missing is None else _laid(missing, coins), targets)


def _laid(chips: torch.Tensor, coins: torch.Tensor) -> torch.Tensor:
    for coin, turn in zip(coins, (_mirror, _upside_down, _swap_axes)):
        chips = torch.where(coin, turn(chips), chips)
    return chips


def _mirror(chips: torch.Tensor) -> torch.Tensor:
    return chips.flip(-1)


def _upside_down(chips: torch.Tensor) -> torch.Tensor:
    return chips.flip(-2)


def _swap_axes(chips: torch.Tensor) -> torch.Tensor:
    return chips.transpose(-1, -2)


def magnify(example: Example, strength: float, generator: torch.Generator) -> Example:
    """Show of each chip a square part, at a random place, as large as the whole.

    Images are resampled bilinearly from what is known; masks take the nearest pixel.

    Args:
        strength: 0 to 1; the side of the part is from 1 − strength to 1 of the chip's, each equally likely.
    """
    images, missing, targets = example
    side, right, down = torch.rand((3, len(images)), generator=generator)
    side = 1 - strength * side
    free = 1 - side  # how far the part's centre may lie from the chip's, where the chip reaches from −1 to 1
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = free * (2 * right - 1), free * (2 * down - 1)
    grid = F.affine_grid(to_device(theta, images.device), list(images.shape), align_corners=False)
    if example.has_masks:
        masks = targets[:, None].float()
        masks = F.grid_sample(masks, grid, mode="nearest", padding_mode="border", align_corners=False)
        targets = masks[:, 0].to(targets.dtype)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if missing is None:
        return Example(seen, None, targets)
    known = F.grid_sample((~missing).to(images.dtype), grid, padding_mode="border", align_corners=False)
    missing = known < ENOUGH
    return Example((seen / known).masked_fill_(missing, 0.0), missing, targets)


def jitter(example: Example, strength: float, generator: torch.Generator) -> Example:
    """Show each band of each chip as on another day: gain 1 ± strength, offset 0 ± strength standard deviations.

    Args:
        strength: 0 to 1.
    """
    images, missing, targets = example
    draws = torch.rand((2, *images.shape[:2], 1, 1), generator=generator).mul(2 * strength).sub(strength)
    gain, offset = to_device(draws, images.device)
    seen = images * (1 + gain) + offset
    return Example(seen if missing is None else seen.masked_fill_(missing, 0.0), missing, targets)


# What each setting of `AugmentationSettings` does, in the order in which it is done.
STEPS: dict[str, Callable[[Example, Any, torch.Generator], Example]] = {
    "augment": flip_and_turn,
    "scale_jitter": magnify,
    "radiometric_jitter": jitter,
}
