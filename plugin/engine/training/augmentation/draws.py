"""What steps draw: on the CPU, so that a seed means the same on every device."""

from __future__ import annotations

import math

import torch

from ...device import to_device

# Of the chips, or batches, so many are spared by steps that take something away from all others.
SPARED = 0.5


def within(shape: tuple[int, ...], strength: float, generator: torch.Generator) -> torch.Tensor:
    """Numbers from −strength to strength, each equally likely."""
    return torch.rand(shape, generator=generator).mul_(2 * strength).sub_(strength)


def factors(shape: tuple[int, ...], strength: float, generator: torch.Generator) -> torch.Tensor:
    """Numbers from 1 / (1 + strength) to 1 + strength, whose logarithms are equally likely."""
    return within(shape, math.log1p(strength), generator).exp_()


def often(count: int, generator: torch.Generator) -> torch.Tensor:
    """(n,) bool, false of the share `SPARED`."""
    return torch.rand(count, generator=generator) >= SPARED


def squares(shares: torch.Tensor, size: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """A square at a random place in each chip.

    Args:
        shares: (N,) of the area.
        size: Pixels a side of a chip.

    Returns:
        (N, 1, size, size) bool on the device, of pixels whose centres lie in the square.
    """
    sides = shares.sqrt()
    starts = torch.rand((2, len(shares)), generator=generator) * (1 - sides)
    centres = (torch.arange(size) + 0.5) / size
    inside = (centres >= starts[..., None]) & (centres < (starts + sides)[..., None])  # (2, N, size)
    rows, cols = to_device(inside, device)
    return (rows[:, :, None] & cols[:, None])[:, None]
