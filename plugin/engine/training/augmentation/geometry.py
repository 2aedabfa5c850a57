"""Where chips lie: mirrored, turned, and moved, which is one resampling for all that is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...chips.sampling import ENOUGH
from .draws import centres, within
from .example import Bands, Drawn, Example

CELLS = 4  # of the grid whose corners the elastic step pulls, along a side
MOVES = ("scale_jitter", "rotation", "zoom", "shift", "shear", "elastic")  # settings that resample


def move(shape: torch.Size, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Drawn:
    """Show each chip in one of the eight ways a square can lie; cropped, rotated, zoomed, shifted, sheared and pulled.

    Three coins a chip (mirror left-right, mirror up-down, swap the axes) give each of the eight equally often. By
    themselves they resample no value. With anything else, images are resampled bilinearly from what is known, and so
    are numbers to be found; masks of classes take the nearest pixel. Ground outside of the chip is the chip mirrored at
    its edge, in image and mask alike: so labels are true everywhere, and no pixel is lost.
    """
    count = shape[0]
    coins = torch.randint(0, 2, (3, count), generator=generator) if strength["augment"] else torch.zeros(3, count)
    if not any(strength[name] for name in MOVES):
        return Drawn((coins.float(),), _lay, with_levels=True)
    affine = laid(draw_affine(count, strength, generator), coins)
    if not strength["elastic"]:
        return Drawn((affine,), _resample)
    knots = 2 * within((count, 2, (CELLS + 3) ** 2), strength["elastic"], generator)
    return Drawn((affine, affine[:, :, :2] @ knots), _resample)


def _lay(example: Example, coins: torch.Tensor) -> Example:
    """Show chips as their coins say, (3, N)."""
    images, missing, targets = example.images, example.missing, example.targets
    places = laid_places(coins > 0, images.shape[-1])
    if example.has_masks:
        targets = _laid(targets[:, None], places)[:, 0]
    if missing is not None:
        missing = _laid(missing, places)
    return example._replace(images=_laid(images, places), missing=missing, targets=targets)


def laid_places(coins: torch.Tensor, size: int) -> torch.Tensor:
    """Where each pixel of a chip comes from.

    Args:
        coins: (3, N) bool: mirror left-right, then mirror up-down, then swap the axes.
        size: S, pixels a side.

    Returns:
        (N, S, S) places in a chip whose rows lie one after the other. One look-up by them is faster than three times a
        choice between a chip and its mirror image.
    """
    line = torch.arange(size, device=coins.device)
    cols, rows = torch.where(coins[:2, :, None], size - 1 - line, line)  # (N, S) each
    rows, swapped = rows * size, coins[2, :, None]
    return torch.where(swapped, cols, rows)[..., None] + torch.where(swapped, rows, cols)[:, None]


def _laid(chips: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return chips.flatten(2).gather(2, places.flatten(1)[:, None].expand(-1, chips.shape[1], -1)).view(chips.shape)


def laid(affine: torch.Tensor, coins: torch.Tensor) -> torch.Tensor:
    """What affine maps (N, 2, 3) become for chips that lie as their coins (3, N) say, see `laid_places`."""
    swapped = coins[2, :, None, None] > 0
    return torch.where(swapped, affine.flip(1), affine) * (1 - 2 * coins[:2].T)[..., None]


def _resample(example: Example, affine: torch.Tensor, knots: torch.Tensor | None = None) -> Example:
    images, missing, targets = example.images, example.missing, example.targets
    grid = sampling_grid(images.shape[-1], affine, knots)
    if example.has_masks:
        targets = _moved_targets(targets, grid)
    return Example(*_moved(images, missing, grid), targets)


def sampling_grid(size: int, affine: torch.Tensor, knots: torch.Tensor | None = None) -> torch.Tensor:
    """Where in the chip, which reaches from −1 to 1, lies what each pixel shows.

    Args:
        size: S, pixels a side.
        affine: (N, 2, 3): what (x, y, 1) of a pixel becomes.
        knots: (N, 2, K²): how far each knot of cubic B-splines moves what lies there (Rueckert et al. 1999).

    Returns:
        (N, S, S, 2): x and y.
    """
    line = centres(size, affine.device)
    # Not a product of matrices, which a GPU might do in 16 bits.
    along, down, start = affine.unbind(-1)
    across = torch.addcmul(start[..., None], along[..., None], line)  # (N, 2, S)
    grid = across[:, :, None] + (down[..., None] * line)[..., None]
    if knots is not None:
        weights = _spline_weights(size, affine.device)
        square = knots.view(*knots.shape[:2], CELLS + 3, CELLS + 3)
        grid += torch.einsum("sk,nakl,tl->nast", weights, square, weights)
    return grid.movedim(1, -1)


def draw_affine(count: int, strength: Mapping[str, float], generator: torch.Generator) -> torch.Tensor:
    """(N, 2, 3): what (x, y, 1) becomes, where a chip reaches from −1 to 1.

    What is shown is the chip's part that `scale_jitter` crops, at a random place; it is shifted, sheared along both
    axes, zoomed and rotated about its middle.
    """
    # How far to either side: the part's middle, where there is room, the angle, the zoom, both shears, both shifts.
    most = [1, 1, math.radians(strength["rotation"]), math.log1p(strength["zoom"])]
    most += [math.radians(strength["shear"])] * 2 + [2 * strength["shift"]] * 2
    # Drawn at once, and by NumPy, whose calls cost less than torch's where numbers are few.
    drawn = torch.rand((1 + len(most), count), generator=generator).numpy()
    crop = 1 - strength["scale_jitter"] * drawn[0]
    sides = (2 * drawn[1:] - 1) * np.array(most, np.float32)[:, None]
    free, (angle, zoom), shear, shift = sides[:2], sides[2:4], sides[4:6], sides[6:]
    right, down = np.tan(shear)
    scale = crop / np.exp(zoom)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    x, y = (1 - crop) * free + crop * shift
    rows = (
        cosine - sine * down, cosine * right - sine, x,
        sine + cosine * down, sine * right + cosine, y,
    )  # fmt: skip
    return torch.from_numpy(np.stack(rows, 1).reshape(count, 2, 3))


@lru_cache(maxsize=8)
def _spline_weights(size: int, device: torch.device) -> torch.Tensor:
    """(S, K): how much each knot along a side counts for each pixel. Ground that knots pull by up to 0.1 of the side,
    each way, never folds.
    """
    places = (torch.arange(size) + 0.5) * (CELLS / size)
    far = (places[:, None] - torch.arange(-1, CELLS + 2)).abs()  # (S, knots)
    return torch.where(far < 1, 2 / 3 - far**2 + far**3 / 2, (2 - far).clamp(min=0) ** 3 / 6).to(device)


def _moved(values: torch.Tensor, missing: torch.Tensor | None, grid: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Values, 0 where missing, resampled from what is known; and what is missing then."""
    seen = _sampled(values, grid)
    if missing is None:
        return seen, None
    known = _sampled((~missing).to(values.dtype), grid)
    missing = known < ENOUGH
    return seen.div_(known).masked_fill_(missing, 0.0), missing


def _moved_targets(targets: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    if not targets.is_floating_point():
        return _sampled(targets[:, None].float(), grid, "nearest")[:, 0].to(targets.dtype)
    unknown = ~targets.isfinite()
    seen, unknown = _moved(targets.masked_fill(unknown, 0.0)[:, None], unknown[:, None], grid)
    return seen.masked_fill_(unknown, math.nan)[:, 0]


def _sampled(values: torch.Tensor, grid: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    return F.grid_sample(values, grid, mode=mode, padding_mode="reflection", align_corners=False)
