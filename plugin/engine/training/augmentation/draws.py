"""What steps draw: on the CPU, so that a seed means the same on every device."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

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


def squares(shares: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A square at a random place in each chip.

    Args:
        shares: (N,) of the area.

    Returns:
        (2, 2, N): first row and column, last row and column, where a chip reaches from −1 to 1.
    """
    sides = shares.sqrt()
    starts = torch.rand((2, len(shares)), generator=generator) * (1 - sides)
    return torch.stack([starts, starts + sides]).mul_(2).sub_(1)


def inside(edges: torch.Tensor, size: int) -> torch.Tensor:
    """(N, 1, size, size) bool, of pixels whose centres lie in a square of `squares`."""
    places = centres(size, edges.device)
    first, last = edges[..., None]
    rows, cols = (places >= first).logical_and_(places < last)  # (2, N, size)
    return (rows[:, :, None] & cols[:, None])[:, None]


@lru_cache(maxsize=8)
def centres(size: int, device: torch.device) -> torch.Tensor:
    """(size,) where the centres of pixels lie in a chip, which reaches from −1 to 1."""
    return ((torch.arange(size) * 2 + 1) / size - 1).to(device)
