"""The first convolution of an encoder, for any number of bands."""

from __future__ import annotations

from collections import Counter
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


def adapt_filters(
    weight: torch.Tensor, band_names: Sequence[str], source_names: Sequence[str] | None = None
) -> torch.Tensor:
    """Make the first filters of a pretrained encoder fit other bands.

    Filters go to the bands of the same names; every other band gets the mean of all filters. The sum is rescaled by
    old/new number of channels, so that activations keep their scale. Where no name is the same, as many bands as
    there are channels take the filters in order.

    Args:
        weight: (filters, channels, height, width), as pretrained.
        band_names: One name a band, in the order of the channels to come.
        source_names: The same of the bands that the pretrained encoder saw. Where nobody tells, three channels are
            red, green and blue.

    Returns:
        (filters, bands, height, width).
    """
    channels, bands = weight.shape[1], len(band_names)
    if source_names is None:
        source_names = RGB if channels == len(RGB) else ()
    places = {name: channel for channel, name in enumerate(_numbered(source_names))}
    names = _numbered(band_names)
    if channels == bands and not places.keys() & set(names):
        return weight.clone()
    adapted = weight.mean(dim=1, keepdim=True).repeat(1, bands, 1, 1)
    for band, name in enumerate(names):
        if name in places:
            adapted[:, band] = weight[:, places[name]]
    return adapted * (channels / bands)


def _numbered(names: Sequence[str]) -> list[tuple[str, int]]:
    """Names as they are compared: the second band of a name is another than the first."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        plain = name.strip().lower()
        found.append((plain, seen[plain]))
        seen[plain] += 1
    return found
