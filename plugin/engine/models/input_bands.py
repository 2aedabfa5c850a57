"""Adapts the first convolution of an encoder to any number of bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import nn

from .band_partners import find_partners

RGB = ("red", "green", "blue")


def first_convolution(encoder: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the name and the module of the convolution that sees the image."""
    return next((name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d))


def set_input_bands(encoder: nn.Module, bands: int) -> None:
    """Set the number of bands of an encoder; if that changes it, its first filters get random weights.

    They have the standard deviation of the old ones, scaled so that activations keep their size, because not every
    network has a norm after its first convolution. The settings of the libraries (`in_channels`, `in_chans`) do not
    guarantee this: each network has a rule of its own, and torchvision has none.
    """
    convolution = first_convolution(encoder)[1]
    channels = convolution.in_channels
    if channels == bands:
        return
    filters, _, height, width = convolution.weight.shape
    spread = convolution.weight.detach().std() * (channels / bands) ** 0.5
    convolution.in_channels = bands
    convolution.weight = nn.Parameter(torch.randn(filters, bands, height, width) * spread)


def adapt_filters(
    weight: torch.Tensor,
    band_names: Sequence[str],
    source_names: Sequence[str] | None = None,
    wavelengths: Sequence[Optional[float]] = (),
) -> torch.Tensor:
    """Adapt the first filters of a pretrained encoder to other bands.

    Filters are assigned to bands with the same name or wavelength; all other bands get the mean of the filters. The
    result is scaled by old/new number of channels, so that activations keep their size. If no band has a partner and
    there are as many bands as channels, the filters are used in order. (timm repeats the filters in order, whatever
    the bands show.)

    Args:
        weight: (filters, channels, height, width), pretrained.
        band_names: Names of the bands of the new encoder.
        source_names: Names of the bands of the pretrained encoder; if None, three channels are red, green and blue.
        wavelengths: Wavelengths of the latter in nm, None if one is unknown; empty if all are.

    Returns:
        (filters, bands, height, width).
    """
    channels, bands = weight.shape[1], len(band_names)
    if source_names is None:
        source_names = RGB if channels == len(RGB) else ()
    partners = find_partners(band_names, source_names, wavelengths)
    if channels == bands and partners.count(None) == bands:
        return weight.clone()
    adapted = weight.mean(dim=1, keepdim=True).repeat(1, bands, 1, 1)
    for band, partner in enumerate(partners):
        if partner is not None:
            adapted[:, band] = weight[:, partner]
    return adapted * (channels / bands)
