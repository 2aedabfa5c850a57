"""Encoders of timm: what each can do is found by trial, without memory."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError, first_line
from .encoders import TIMM_NAME

# What lets a network take images of any size is called otherwise in each kind; most need nothing.
ANY_SIZE: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
# The strides of the features that all encoders have; those at 1 and 2 are beside the point for a transformer.
STRIDES = (4, 8, 16, 32)


class VitEncoder(nn.Module):
    """A plain vision transformer: what comes out of four of its blocks, evenly spaced.

    All its maps have one stride, that of its patches. Patches of 14 pixels are shown 16 pixels of the image, made
    smaller, since decoders want powers of 2.

    Args:
        name: timm's name.
        options: For any size of images, see `ANY_SIZE`.
        pyramid: Whether the maps are resized to strides 4, 8, 16 and 32; else they stay as they are.
        pretrained: Whether the weights are fetched from the hub.
    """

    def __init__(self, name: str, options: dict[str, Any], pyramid: bool, pretrained: bool) -> None:
        super().__init__()
        blocks = len(_features(name, options).feature_info.info)
        places = [blocks * part // len(STRIDES) - 1 for part in range(1, len(STRIDES) + 1)]
        self.model = timm.create_model(name, pretrained=pretrained, features_only=True, out_indices=places, **options)
        self.pyramid = pyramid
        self.patch = self.model.feature_info.reduction()[0]
        self.stride = 1 << (self.patch - 1).bit_length()
        self.output_strides = [self.stride] * len(STRIDES)
        self.out_channels = [3, 0, *self.model.feature_info.channels()]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(N, B, H, W) → features at strides 1, 2 (none) and four more."""
        count, _, height, width = images.shape
        cells = height // self.stride, width // self.stride
        shown = images
        if self.patch != self.stride:
            size = [side * self.patch for side in cells]
            shown = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        maps = self.model(shown)
        if self.pyramid:
            maps = [
                F.interpolate(found, size=(height // stride, width // stride), mode="bilinear", align_corners=False)
                for found, stride in zip(maps, STRIDES)
            ]
        return [images, images.new_empty(count, 0, height // 2, width // 2), *maps]


def create_timm_encoder(name: str, output_stride: int, pyramid: bool, pretrained: bool = False) -> nn.Module:
    """Make an encoder of timm for three channels, with random weights.

    Args:
        name: timm's name.
        output_stride: Of the last features.
        pyramid: Whether features of different sizes are needed; a plain transformer else gives what it has.
        pretrained: Whether its weights are fetched from the hub instead.

    Raises:
        InputError: There is no such network, or it cannot be an encoder.
    """
    options, flat = probe(name)
    if flat:
        return VitEncoder(name, options, pyramid, pretrained)
    encoder: nn.Module = smp.encoders.get_encoder(
        f"tu-{name}", in_channels=3, depth=5, weights=pretrained or None, output_stride=output_stride, **options
    )
    return encoder


@cache
def probe(name: str) -> tuple[dict[str, Any], bool]:
    """Which of `ANY_SIZE` a network of timm needs, and whether all its features have one size.

    Raises:
        InputError: There is no such network, or it cannot be an encoder.
    """
    if not TIMM_NAME.fullmatch(name) or not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 5))
        raise InputError(
            f'timm {timm.__version__} has no network "{name}".',
            "Choose another TIMM_ENCODER" + (f", such as {near}." if near else ": timm.list_models() lists them."),
        )
    reason = ""
    for options in ANY_SIZE:
        try:
            network = _features(name, options)
            strides = network.feature_info.reduction()
            flat = len(strides) > 1 and len(set(strides)) == 1
            cell = strides[0] if flat else 32
            with torch.device("meta"), torch.no_grad():
                network(torch.zeros(1, 3, 2 * cell, 3 * cell))
        except Exception as error:  # networks refuse what they do not take in many ways
            reason = reason or first_line(error)
            continue
        return options, flat
    raise InputError(
        f"The network {name} of timm cannot be an encoder ({reason}).",
        "Choose one that has features at several strides, and takes images of any size.",
    )


def _features(name: str, options: dict[str, Any]) -> Any:
    """The network as timm gives its features, without memory."""
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, features_only=True, **options).eval()
