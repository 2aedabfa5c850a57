"""The first convolution of an encoder, for any number of bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import nn

from .band_partners import find_partners

RGB = ("red", "green", "blue")


def first_convolution(encoder: nn.Module) -> tuple[str, nn.Conv2d]:
    """The convolution that sees the image, and its name in the encoder."""
    return next((name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d))


def set_input_bands(encoder: nn.Module, bands: int) -> None:
    """Let an encoder take `bands` channels; where that is a change, its first filters start afresh.

    They are drawn with the spread of the network's own, scaled so that activations are as large as they were: not
    every network has a norm behind its first convolution that would mend that. The libraries' own settings
    (`in_channels`, `in_chans`) keep no such promise, each network has its own rule there, and torchvision has none.
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
    """Make the first filters of a pretrained encoder fit other bands.

    Filters go to the bands of the same names or wavelengths; every other band gets the mean of all filters. The sum is
    rescaled by old/new number of channels, so that activations keep their scale. Where no band has a partner, as many
    bands as there are channels take the filters in order. (timm repeats the filters in order, whatever the bands show.)

    Args:
        weight: (filters, channels, height, width), as pretrained.
        band_names: One name a band, in the order of the channels to come.
        source_names: The same of the bands that the pretrained encoder saw. Where nobody tells, three channels are
            red, green and blue.
        wavelengths: Of these bands in nm, None where one is not known; empty where none is.

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
