"""The first convolution of an encoder, for any number of bands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

RGB = ("red", "green", "blue")


def first_convolution(encoder: nn.Module) -> tuple[str, nn.Conv2d]:
    """The convolution that sees the image, and its name in the encoder."""
    return next((name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d))


def set_input_bands(encoder: nn.Module, bands: int) -> None:
    """Let an encoder take `bands` channels; where that is a change, its first filters start afresh.

    They are drawn with the spread of the network's own, scaled so that activations are as large as they were: not
    every network has a norm behind its first convolution that would mend that.
    """
    convolution = first_convolution(encoder)[1]
    channels = convolution.in_channels
    if channels == bands:
        return
    filters, _, height, width = convolution.weight.shape
    spread = convolution.weight.detach().std() * (channels / bands) ** 0.5
    convolution.in_channels = bands
    convolution.weight = nn.Parameter(torch.randn(filters, bands, height, width) * spread)


def adapt_filters(weight: torch.Tensor, band_names: Sequence[str]) -> torch.Tensor:
    """Make the first filters of a pretrained encoder fit other bands.

    Filters for red, green and blue go to the bands of these names; three bands without such names take them in
    order. Every other band gets the mean of the filters. The sum is rescaled by old/new number of channels, so
    that activations keep their scale. Filters with as many channels as bands, but not three, are taken as they are.

    Args:
        weight: (filters, channels, height, width), as pretrained.
        band_names: One name a band, in the order of the channels to come.

    Returns:
        (filters, bands, height, width).
    """
    channels, bands = weight.shape[1], len(band_names)
    names = [name.strip().lower() for name in band_names]
    if channels == bands and (channels != len(RGB) or not set(names) & set(RGB)):
        return weight.clone()
    adapted = weight.mean(dim=1, keepdim=True).repeat(1, bands, 1, 1)
    if channels == len(RGB):
        for band, name in enumerate(names):
            if name in RGB:
                adapted[:, band] = weight[:, RGB.index(name)]
    return adapted * (channels / bands)
