"""Other views of the same ground, for each chip by itself, on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def flip_and_turn(
    images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Show each chip in one of the eight ways a square can lie.

    Three coins a chip (mirror left-right, mirror up-down, swap the axes) give each of the eight equally often. The
    coins are thrown on the CPU, so that a seed means the same on every device.

    Args:
        images: (N, B, S, S), of any data type.
        masks: (N, S, S).

    Returns:
        Both, chip by chip in the same way.
    """
    coins = _coins(images, generator)
    return _laid(images, coins), _laid(masks[:, None], coins)[:, 0]


def flip_and_turn_images(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As `flip_and_turn`, for chips without masks."""
    return _laid(images, _coins(images, generator))


def _coins(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(3, N, 1, 1, 1) bool."""
    return torch.randint(0, 2, (3, len(images), 1, 1, 1), generator=generator).bool().to(images.device)


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


def jitter(images: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Show each band of each chip as on another day: gain 1 ± strength, offset 0 ± strength standard deviations.

    Missing values stay 0.

    Args:
        images: (N, B, H, W), normalised.
        strength: 0 to 1.
    """
    draws = torch.rand((2, *images.shape[:2], 1, 1), generator=generator).mul(2 * strength).sub(strength)
    gain, offset = draws.to(images.device)
    return torch.where(images == 0, images, images * (1 + gain) + offset)


def magnify(images: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Show of each chip a square part, at a random place, as large as the whole; bilinear.

    Args:
        images: (N, B, S, S), normalised.
        strength: 0 to 1; the side of the part is from 1 − strength to 1 of the chip's, each equally likely.
    """
    side, right, down = torch.rand((3, len(images)), generator=generator)
    side = 1 - strength * side
    free = 1 - side  # how far the part's centre may lie from the chip's, where the chip reaches from −1 to 1
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = free * (2 * right - 1), free * (2 * down - 1)
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
