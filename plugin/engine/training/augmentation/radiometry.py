"""What values chips have: as of another day, sensor or focus."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache, partial

import torch
import torch.nn.functional as F

from .draws import factors, often, within
from .example import UNCHANGED, Bands, Drawn, Example

SHARP = 1.0  # the standard deviation in pixels of the blur that tells details from the rest
ROW = 1 << 22  # places at which the noise of a band may begin


def bend(shape: torch.Size, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Drawn:
    """Bend the tones of each chip: gamma.

    Over the range of a band's usual values (`Bands.low`, `span`), which goes from 0 to 1, v becomes v to the power of
    1 / (1 + `gamma_jitter`) to 1 + `gamma_jitter`; the same in all bands. What lies beyond stays.
    """
    exponents = factors((shape[0], 1, 1, 1), strength["gamma_jitter"], generator)
    return Drawn((exponents,), partial(_bent, bands=bands), with_levels=True)


def _bent(example: Example, exponents: torch.Tensor, bands: Bands) -> Example:
    def change(values: torch.Tensor) -> torch.Tensor:
        inside = torch.addcmul(bands.start, values, bands.rise).clamp_(1e-9, 1)
        # On the CPU `pow` takes six times as long, where no value is 0.
        powers = inside.pow(exponents) if inside.is_cuda else inside.log().mul_(exponents).exp_()
        return torch.addcmul(values, bands.span, powers.sub_(inside))

    return example.changing(change)


def refocus(shape: torch.Size, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Drawn:
    """Show every second chip blurred or, where both are asked for by a coin, sharpened.

    Blurred: by a Gaussian of up to `blur` pixels. Sharpened: what distinguishes the chip from its blurred self is made
    stronger by up to `sharpen` times (unsharp mask). Only known pixels of the chip count in the means.
    """
    count = shape[0]
    chosen, amount = often(count, generator), torch.rand(count, generator=generator)
    blurs = torch.full((count,), bool(strength["blur"]))
    if strength["blur"] and strength["sharpen"]:
        blurs = torch.rand(count, generator=generator) < 0.5
    sigma = torch.where(blurs, amount * strength["blur"], SHARP)
    weight = torch.where(blurs, 1.0, -amount * strength["sharpen"]).where(chosen, 0.0)
    reach = math.ceil(3 * max(strength["blur"], SHARP if strength["sharpen"] else 0.0))
    return Drawn((gaussians(sigma, reach), weight[:, None, None, None]), _refocused)


def gaussians(sigma: torch.Tensor, reach: int) -> torch.Tensor:
    """(N, K): Gaussians of standard deviations (N,) in pixels, of which `reach` to each side count."""
    steps = torch.arange(-reach, reach + 1)
    return torch.exp(-(steps**2) / (2 * sigma.clamp(min=1e-3)[:, None] ** 2))


def _refocused(example: Example, kernels: torch.Tensor, weight: torch.Tensor) -> Example:
    return example.showing(torch.lerp(example.images, means(example.images, example.missing, kernels), weight))


def means(images: torch.Tensor, missing: torch.Tensor | None, kernels: torch.Tensor) -> torch.Tensor:
    """Means of what is known around each pixel, weighted by a kernel (normalised convolution, Knutsson 1993).

    Args:
        images: (N, B, S, S), 0 where missing.
        missing: As in `Example`.
        kernels: (N, K), along rows and along columns.
    """
    known = torch.ones_like(images[:, :1]) if missing is None else (~missing).to(images.dtype)
    return _convolved(images, kernels).div_(_convolved(known, kernels).clamp_(min=1e-6))


def _convolved(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Each chip with its own kernel, along rows and then columns; beyond the edge is 0."""
    count, bands, rows, cols = images.shape
    own = kernels.repeat_interleave(bands, dim=0)[:, None]  # (N · B, 1, K)
    reach = kernels.shape[1] // 2
    flat = images.reshape(1, count * bands, rows, cols)
    flat = F.conv2d(flat, own[:, :, None], padding=(0, reach), groups=count * bands)
    flat = F.conv2d(flat, own[..., None], padding=(reach, 0), groups=count * bands)
    return flat.view(images.shape)


def tint(shape: torch.Size, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Drawn:
    """Show each chip in other colours, where bands are red, green and blue.

    In stored values, colours are rotated about the axis of greys by up to `hue` degrees, and moved away from it or
    towards it by up to the share `saturation`.
    """
    if bands.colors is None:
        return UNCHANGED
    turn = within(shape[:1], math.radians(strength["hue"]), generator)
    stretch = 1 + within(shape[:1], strength["saturation"], generator)
    change = color_matrices(turn, stretch) - torch.eye(3)
    # In the order of the bands; on the device, a list of channels would have to be copied there, and waited for.
    order = [bands.colors.index(channel) for channel in range(3)]
    return Drawn((change[:, order][:, :, order],), partial(_tinted, bands=bands))


def _tinted(example: Example, change: torch.Tensor, bands: Bands) -> Example:
    images, std = example.images, bands.std
    moved = torch.einsum("nij,njhw->nihw", change, images * std + bands.mean)
    if example.missing is not None:  # a colour that is not known in full stays as it is
        moved = moved.masked_fill(example.missing.any(dim=1, keepdim=True), 0.0)
    return example.showing(images + torch.where(std > 0, moved / std, 0.0))


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


def amplify(shape: torch.Size, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Drawn:
    """Show each chip brighter or darker, richer or poorer in contrast: all of it a gain and an offset for each band.

    In this order:
    - contrast: about the chip's own mean, 1 ± `contrast`; the same in all bands.
    - brightness: ± `brightness` standard deviations; the same in all bands.
    - `radiometric_jitter`: for each band by itself, times 1 ± strength and plus 0 ± strength standard deviations.
    """
    count = shape[0]
    contrast = within((count, 1, 1, 1), strength["contrast"], generator)
    brightness = within((count, 1, 1, 1), strength["brightness"], generator)
    own, beside = within((2, count, shape[1], 1, 1), strength["radiometric_jitter"], generator)
    own += 1
    gain, offset = own + own * contrast, own * brightness + beside
    if not strength["contrast"]:
        return Drawn((gain, offset), _amplified)
    return Drawn((gain, offset, own - gain), _amplified)


def _amplified(
    example: Example, gain: torch.Tensor, offset: torch.Tensor, of_mean: torch.Tensor | None = None
) -> Example:
    """Values times a gain, plus an offset, plus the chip's mean times `of_mean`; (N, B, 1, 1) each."""
    images, missing = example.images, example.missing
    if of_mean is not None:
        if missing is None:
            mean = images.mean((2, 3), keepdim=True)
        else:
            mean = images.sum((2, 3), keepdim=True) / (~missing).sum((2, 3), keepdim=True).clamp_(min=1)
        offset = torch.addcmul(offset, of_mean, mean)
    return example.showing(torch.addcmul(offset, images, gain))


def add_noise(shape: torch.Size, strength: Mapping[str, float], bands: Bands, generator: torch.Generator) -> Drawn:
    """Add normally distributed noise to each chip, whose standard deviation is up to `noise` of each band's.

    It is taken from a long row of random numbers: to draw as many for each batch on the CPU would take longer than a
    GPU takes for a step. That of the first band begins anywhere in the row, that of each other one so many places after
    the last one's as is drawn as well: so nothing is copied, and a GPU keeps most of the row in its cache.
    """
    amount = torch.rand((shape[0], 1, 1, 1), generator=generator) * strength["noise"]
    count = math.prod(shape[:2])
    farthest = ROW // count
    step = int(torch.randint(farthest // 2, farthest + 1, (), generator=generator))
    start = int(torch.randint(ROW - step * (count - 1), (), generator=generator))
    return Drawn((amount,), partial(_noisy, start=start, step=step))


def _noisy(example: Example, amount: torch.Tensor, start: int, step: int) -> Example:
    images = example.images
    pixels = math.prod(images.shape[2:])
    row = _random_row(ROW + pixels, images.device)
    noise = row[start:].unfold(0, pixels, step)[: math.prod(images.shape[:2])].view(images.shape)
    return example.showing(torch.addcmul(images, amount, noise))


@lru_cache(maxsize=2)
def _random_row(length: int, device: torch.device) -> torch.Tensor:
    """Normally distributed numbers, the same ones each time."""
    return torch.randn(length, generator=torch.Generator().manual_seed(0)).to(device)
