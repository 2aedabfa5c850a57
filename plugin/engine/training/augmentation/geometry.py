"""Where chips lie: mirrored, turned, and moved, which is one resampling for all that is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from ...chips.sampling import ENOUGH
from ...device import to_device
from .draws import factors, within
from .example import Bands, Example

CELLS = 4  # of the grid whose corners the elastic step pulls, along a side


def flip_and_turn(example: Example, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Example:
    """Show each chip in one of the eight ways a square can lie; no value is resampled.

    Three coins a chip (mirror left-right, mirror up-down, swap the axes) give each of the eight equally often.
    """
    images, missing, targets, _ = example
    coins = to_device(torch.randint(0, 2, (3, len(images), 1, 1, 1), generator=generator).bool(), images.device)
    places = laid_places(coins[..., 0], images.shape[-1])
    if example.has_masks:
        targets = _laid(targets[:, None], places)[:, 0]
    return Example(_laid(images, places), None if missing is None else _laid(missing, places), targets)


def laid_places(coins: torch.Tensor, size: int) -> torch.Tensor:
    """Where each pixel of a chip comes from.

    Args:
        coins: (3, N, 1, 1) bool: mirror left-right, then mirror up-down, then swap the axes.
        size: S, pixels a side.

    Returns:
        (N, S, S) places in a chip whose rows lie one after the other. One look-up by them is faster than three times a
        choice between a chip and its mirror image.
    """
    left_right, up_down, swapped = coins
    line = torch.arange(size, device=coins.device)
    cols, rows = (torch.where(coin[:, 0], size - 1 - line, line) for coin in (left_right, up_down))
    rows = rows * size
    return torch.where(swapped, rows[:, None] + cols[..., None], rows[..., None] + cols[:, None])


def _laid(chips: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return chips.flatten(2).gather(2, places.flatten(1)[:, None].expand(-1, chips.shape[1], -1)).view(chips.shape)


def move(example: Example, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Example:
    """Show each chip cropped, rotated, zoomed, shifted, sheared and pulled about.

    Images are resampled bilinearly from what is known, and so are numbers to be found; masks of classes take the
    nearest pixel. Ground outside of the chip is the chip mirrored at its edge, in image and mask alike: so labels are
    true everywhere, and no pixel is lost.
    """
    images, missing, targets, _ = example
    grid = sampling_grid(len(images), images.shape[-1], strength, generator, images.device)
    if example.has_masks:
        targets = _moved_targets(targets, grid)
    return Example(*_moved(images, missing, grid), targets)


def sampling_grid(
    count: int, size: int, strength: Mapping[str, float], generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """(N, S, S, 2): the x and y in the chip, which reaches from −1 to 1, of what each pixel shows."""
    affine = to_device(draw_affine(count, strength, generator), device)[..., None, None]  # (N, 2, 3, 1, 1)
    centres = (torch.arange(size, device=device) * 2 + 1) / size - 1
    x, y = centres, centres[:, None]
    if strength["elastic"]:
        x, y = (
            ground + pull[:, None] for ground, pull in zip((x, y), _pulls(count, size, strength, generator, device))
        )
    # Not a product of matrices, which a GPU might do in 16 bits.
    return (affine[:, :, 0] * x + affine[:, :, 1] * y + affine[:, :, 2]).movedim(1, -1)


def draw_affine(count: int, strength: Mapping[str, float], generator: torch.Generator) -> torch.Tensor:
    """(N, 2, 3): what (x, y, 1) becomes, where a chip reaches from −1 to 1.

    What is shown is the chip's part that `scale_jitter` crops, at a random place; it is shifted, sheared along both
    axes, zoomed and rotated about its middle.
    """
    crop = 1 - strength["scale_jitter"] * torch.rand(count, generator=generator)
    free = (1 - crop) * within((2, count), 1.0, generator)  # how far the part's middle is from the chip's
    angle = within((count,), math.radians(strength["rotation"]), generator)
    scale = crop / factors((count,), strength["zoom"], generator)
    right, down = within((2, count), math.radians(strength["shear"]), generator).tan()
    shift = 2 * within((2, count), strength["shift"], generator)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = (
        cosine - sine * down, cosine * right - sine, free[0] + crop * shift[0],
        sine + cosine * down, sine * right + cosine, free[1] + crop * shift[1],
    )  # fmt: skip
    return torch.stack(rows, dim=1).view(count, 2, 3)


def _pulls(
    count: int, size: int, strength: Mapping[str, float], generator: torch.Generator, device: torch.device
) -> torch.Tensor:
    """(2, N, S, S): how far each pixel's ground is pulled in x and y, between cubic B-splines (Rueckert et al. 1999).

    Each knot of the splines moves by up to `elastic` of the side, each way; ground never folds.
    """
    knots = to_device(2 * within((2, count, CELLS + 3, CELLS + 3), strength["elastic"], generator), device)
    places = (torch.arange(size, device=device) + 0.5) * (CELLS / size)
    far = (places[:, None] - torch.arange(-1, CELLS + 2, device=device)).abs()  # (S, knots)
    weights = torch.where(far < 1, 2 / 3 - far**2 + far**3 / 2, (2 - far).clamp(min=0) ** 3 / 6)
    return torch.einsum("sk,ankl,tl->anst", weights, knots, weights)


def _moved(values: torch.Tensor, missing: torch.Tensor | None, grid: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Values, 0 where missing, resampled from what is known; and what is missing then."""
    seen = _sampled(values, grid)
    if missing is None:
        return seen, None
    known = _sampled((~missing).to(values.dtype), grid)
    missing = known < ENOUGH
    return (seen / known).masked_fill_(missing, 0.0), missing


def _moved_targets(targets: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    if not targets.is_floating_point():
        return _sampled(targets[:, None].float(), grid, "nearest")[:, 0].to(targets.dtype)
    unknown = ~targets.isfinite()
    seen, unknown = _moved(targets.masked_fill(unknown, 0.0)[:, None], unknown[:, None], grid)
    return seen.masked_fill_(unknown, math.nan)[:, 0]


def _sampled(values: torch.Tensor, grid: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    return F.grid_sample(values, grid, mode=mode, padding_mode="reflection", align_corners=False)
