"""Other views of the same ground, for each chip by itself, on the device.

Each function takes and gives images, what of them is missing, and targets. Images are (N, B, S, S), normalised;
missing is bool of their shape, or None where nothing is, and the images are 0 there. Coins and draws are thrown on the
CPU, so that a seed means the same on every device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .device import to_device

Example = tuple[torch.Tensor, "torch.Tensor | None", torch.Tensor]

# A magnified pixel is known where at least this much of what it is mixed from is; as in chips/sampling.py.
ENOUGH = 0.5


def flip_and_turn(
    images: torch.Tensor, missing: torch.Tensor | None, targets: torch.Tensor, generator: torch.Generator
) -> Example:
    """Show each chip in one of the eight ways a square can lie.

    Three coins a chip (mirror left-right, mirror up-down, swap the axes) give each of the eight equally often.

    Args:
        images, missing: See above.
        targets: (N, S, S), which turn with the image, or of any other shape, which do not.
    """
    coins = to_device(torch.randint(0, 2, (3, len(images), 1, 1, 1), generator=generator).bool(), images.device)
    if targets.shape == (len(images), *images.shape[2:]):
        targets = _laid(targets[:, None], coins)[:, 0]
    return _laid(images, coins), None if missing is None else _laid(missing, coins), targets


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


def jitter(
    images: torch.Tensor, missing: torch.Tensor | None, targets: torch.Tensor, strength: float,
    generator: torch.Generator,
) -> Example:  # fmt: skip
    """Show each band of each chip as on another day: gain 1 ± strength, offset 0 ± strength standard deviations.

    Args:
        images, missing, targets: See above.
        strength: 0 to 1.
    """
    draws = torch.rand((2, *images.shape[:2], 1, 1), generator=generator).mul(2 * strength).sub(strength)
    gain, offset = to_device(draws, images.device)
    seen = images * (1 + gain) + offset
    return seen if missing is None else seen.masked_fill_(missing, 0.0), missing, targets


def magnify(
    images: torch.Tensor, missing: torch.Tensor | None, targets: torch.Tensor, strength: float,
    generator: torch.Generator,
) -> Example:  # fmt: skip
    """Show of each chip a square part, at a random place, as large as the whole; bilinear, from what is known.

    Args:
        images, missing: See above.
        targets: Of the whole chip, (N, …); they stay.
        strength: 0 to 1; the side of the part is from 1 − strength to 1 of the chip's, each equally likely.
    """
    side, right, down = torch.rand((3, len(images)), generator=generator)
    side = 1 - strength * side
    free = 1 - side  # how far the part's centre may lie from the chip's, where the chip reaches from −1 to 1
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = free * (2 * right - 1), free * (2 * down - 1)
    grid = F.affine_grid(to_device(theta, images.device), list(images.shape), align_corners=False)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if missing is None:
        return seen, None, targets
    known = F.grid_sample((~missing).to(images.dtype), grid, padding_mode="border", align_corners=False)
    missing = known < ENOUGH
    return (seen / known).masked_fill_(missing, 0.0), missing, targets
