"""Other views of the same ground, for each chip by itself, on the device."""

from __future__ import annotations

import torch


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
    coins = torch.randint(0, 2, (3, len(images), 1, 1), generator=generator).bool().to(images.device)  # (3, N, 1, 1)
    for coin, turn in zip(coins, (_mirror, _upside_down, _swap_axes)):
        images = torch.where(coin[:, None], turn(images), images)
        masks = torch.where(coin, turn(masks), masks)
    return images, masks


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
