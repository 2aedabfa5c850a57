"""Creates segmentation networks by name."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
from torch import nn

from .input_bands import set_input_bands
from .networks import Fcn8sDecoder, FcnDecoder, Segmenter, UnetDecoder

# Our names of the encoders, and those in segmentation_models_pytorch ("tu-" = timm).
ENCODER_SOURCES = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3_small": "tu-mobilenetv3_small_100",
    "efficientnet_lite0": "tu-tf_efficientnet_lite0",
}
# Architecture → its decoder, and the stride of the encoder's last features.
DECODERS = {"unet": (UnetDecoder, 32), "fcn": (FcnDecoder, 8), "fcn8s": (Fcn8sDecoder, 32)}


def create_encoder(encoder: str, in_channels: int, output_stride: int = 32) -> nn.Module:
    """Create an encoder with random weights; with a stride below 32, its last stages are dilated instead."""
    network: nn.Module = smp.encoders.get_encoder(
        ENCODER_SOURCES[encoder], in_channels=3, depth=5, weights=None, output_stride=output_stride
    )
    set_input_bands(network, in_channels)
    return network


def create_model(architecture: str, encoder: str, in_channels: int, classes: int) -> Segmenter:
    """Create a network with random weights.

    Args:
        architecture: One of config.ARCHITECTURES.
        encoder: One of config.ENCODERS.
        in_channels: Number of bands B.
        classes: Number of classes C.

    Returns:
        (N, B, H, W) normalised bands → (N, C, H, W) logits, for any H and W.
    """
    decoder, output_stride = DECODERS[architecture]
    features: Any = create_encoder(encoder, in_channels, output_stride)
    return Segmenter(features, decoder(features.out_channels, classes))


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, including frozen ones."""
    return sum(parameter.numel() for parameter in network.parameters())
