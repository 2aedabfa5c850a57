"""What values chips have: as of another day, sensor or focus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F

from ...device import to_device
from .draws import factors, often, within
from .example import Bands, Example

SHARP = 1.0  # the standard deviation in pixels of the blur that tells details from the rest
SPARE = 1 << 20  # places at which the noise of a band may begin


def refocus(example: Example, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Example:
    """Show every second chip blurred or, where both are asked for by a coin, sharpened.

    Blurred: by a Gaussian of up to `blur` pixels. Sharpened: what distinguishes the chip from its blurred self is made
    stronger by up to `sharpen` times (unsharp mask). Only known pixels of the chip count in the means.
    """
    images, missing = example.images, example.missing
    count = len(images)
    chosen, amount = often(count, generator), torch.rand(count, generator=generator)
    blurs = torch.full((count,), bool(strength["blur"]))
    if strength["blur"] and strength["sharpen"]:
        blurs = torch.rand(count, generator=generator) < 0.5
    sigma = torch.where(blurs, amount * strength["blur"], SHARP)
    weight = torch.where(blurs, 1.0, -amount * strength["sharpen"]).where(chosen, 0.0)
    reach = math.ceil(3 * max(strength["blur"], SHARP if strength["sharpen"] else 0.0))
    blurred = gaussian(images, missing, to_device(sigma, images.device), reach)
    return example.showing(torch.lerp(images, blurred, to_device(weight, images.device)[:, None, None, None]))


def gaussian(images: torch.Tensor, missing: torch.Tensor | None, sigma: torch.Tensor, reach: int) -> torch.Tensor:
    """Means of what is known around each pixel, weighted by a Gaussian (normalised convolution, Knutsson 1993).

    Args:
        images: (N, B, S, S), 0 where missing.
        missing: As in `Example`.
        sigma: (N,) pixels.
        reach: How many pixels to each side count.
    """
    known = torch.ones_like(images[:, :1]) if missing is None else (~missing).to(images.dtype)
    steps = torch.arange(-reach, reach + 1, device=images.device)
    kernels = torch.exp(-(steps**2) / (2 * sigma.clamp(min=1e-3)[:, None] ** 2))  # (N, K)
    return _convolved(images, kernels) / _convolved(known, kernels).clamp(min=1e-6)


def _convolved(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Each chip with its own kernel, along rows and then columns; beyond the edge is 0."""
    count, bands, rows, cols = images.shape
    own = kernels.repeat_interleave(bands, dim=0)[:, None]  # (N · B, 1, K)
    reach = kernels.shape[1] // 2
    flat = images.reshape(1, count * bands, rows, cols)
    flat = F.conv2d(flat, own[:, :, None], padding=(0, reach), groups=count * bands)
    flat = F.conv2d(flat, own[..., None], padding=(reach, 0), groups=count * bands)
    return flat.view(images.shape)


def recolor(example: Example, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Example:
    """Show each chip brighter or darker, richer or poorer in contrast, and in other colours.

    In this order:
    - gamma: over the range of a band's usual values (`Bands.low`, `span`), which goes from 0 to 1, v becomes v to the
      power of 1 / (1 + `gamma_jitter`) to 1 + `gamma_jitter`; the same in all bands. What lies beyond stays.
    - hue and saturation, where bands are red, green and blue: in stored values, colours are rotated about the axis of
      greys by up to `hue` degrees, and moved away from it or towards it by up to the share `saturation`.
    - contrast: about the chip's own mean, 1 ± `contrast`; the same in all bands.
    - brightness: ± `brightness` standard deviations; the same in all bands.
    - `radiometric_jitter`: for each band by itself, times 1 ± strength and plus 0 ± strength standard deviations.
    """
    if strength["gamma_jitter"]:
        example = _toned(example, strength["gamma_jitter"], bands, generator)
    if bands.colors and (strength["hue"] or strength["saturation"]):
        example = _tinted(example, strength, bands, bands.colors, generator)
    gains = {name: strength[name] for name in ("contrast", "brightness", "radiometric_jitter")}
    return _gained(example, gains, generator) if any(gains.values()) else example


def _toned(example: Example, strength: float, bands: Bands, generator: torch.Generator) -> Example:
    images = example.images
    exponents = to_device(factors((len(images), 1, 1, 1), strength, generator), images.device)
    scale = 1 / bands.span.clamp(min=1e-6)
    inside = torch.addcmul(-bands.low * scale, images, scale).clamp_(1e-9, 1)
    powers = inside.log().mul_(exponents).exp_()  # on the CPU six times as fast as `pow`, where no value is 0
    return example.showing(torch.addcmul(images, bands.span, powers.sub_(inside)))


def _tinted(
    example: Example, strength: Mapping[str, float], bands: Bands, colors: list[int], generator: torch.Generator
) -> Example:
    images, count = example.images, len(example.images)
    turn = within((count,), math.radians(strength["hue"]), generator)
    stretch = 1 + within((count,), strength["saturation"], generator)
    change = to_device(color_matrices(turn, stretch) - torch.eye(3), images.device)
    mean, std = bands.mean[colors], bands.std[colors]
    moved = torch.einsum("nij,njhw->nihw", change, images[:, colors] * std + mean)
    if example.missing is not None:  # a colour that is not known in full stays as it is
        moved = moved.masked_fill(example.missing.any(dim=1, keepdim=True), 0.0)
    tinted = images.clone()
    tinted[:, colors] += torch.where(std > 0, moved / std, 0.0)
    return example.showing(tinted)


def color_matrices(turn: torch.Tensor, stretch: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3): red, green and blue rotated about the axis of greys, and their distance from it made longer.

    Args:
        turn: (N,) radians.
        stretch: (N,) factors of the distance.
    """
    grey = torch.full((3, 3), 1 / 3)
    across = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    cosine, sine = (stretch * turn.cos())[:, None, None], (stretch * turn.sin())[:, None, None]
    return grey + cosine * (torch.eye(3) - grey) + sine * across


def _gained(example: Example, strength: Mapping[str, float], generator: torch.Generator) -> Example:
    """Values times a gain and plus an offset, each for a chip or a band of it."""
    images, missing, count = example.images, example.missing, len(example.images)
    gain, offset = torch.ones((), device=images.device), torch.zeros((), device=images.device)
    if strength["contrast"]:
        contrast = to_device(within((count, 1, 1, 1), strength["contrast"], generator), images.device)
        known = images[0, 0].numel() if missing is None else (~missing).sum((2, 3), keepdim=True).clamp(min=1)
        gain, offset = 1 + contrast, -contrast * images.sum((2, 3), keepdim=True) / known
    if strength["brightness"]:
        offset = offset + to_device(within((count, 1, 1, 1), strength["brightness"], generator), images.device)
    if strength["radiometric_jitter"]:
        draws = within((2, *images.shape[:2], 1, 1), strength["radiometric_jitter"], generator)
        own, beside = to_device(draws, images.device)
        gain, offset = gain * (1 + own), offset * (1 + own) + beside
    return example.showing(torch.addcmul(offset, images, gain))


def add_noise(example: Example, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Example:
    """Add normally distributed noise to each chip, whose standard deviation is up to `noise` of each band's.

    The noise of a band begins anywhere in a long row of random numbers: to draw as many for each batch on the CPU
    would take longer than a GPU takes for a step.
    """
    images = example.images
    count, channels, rows, cols = images.shape
    amount = torch.rand((count, 1, 1, 1), generator=generator) * strength["noise"]
    starts = torch.randint(SPARE, (count * channels,), generator=generator)
    row = _random_row(rows * cols + SPARE, images.device)
    noise = row.unfold(0, rows * cols, 1)[to_device(starts, images.device)].view(images.shape)
    return example.showing(torch.addcmul(images, to_device(amount, images.device), noise))


@lru_cache(maxsize=2)
def _random_row(length: int, device: torch.device) -> torch.Tensor:
    """Normally distributed numbers, the same ones each time."""
    return torch.randn(length, generator=torch.Generator().manual_seed(0)).to(device)
