"""Creates segmentation networks by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from ..errors import InputError, first_line
from .architectures import ARCHITECTURES
from .decoder_settings import DecoderSettings
from .decoders import create_decoder
from .encoders import check_pair, library_name, not_dilated
from .input_bands import set_input_bands
from .networks import STRIDE, Segmenter
from .timm_encoders import create_timm_encoder

USUAL = DecoderSettings()
TRIED = (2 * STRIDE, 3 * STRIDE)  # pixels


def create_encoder(encoder: str, in_channels: int, output_stride: int = 32, pyramid: bool = True) -> nn.Module:
    """Make an encoder with random weights.

    Args:
        encoder: One of `encoders.ENCODERS`, or timm's name behind `encoders.TIMM`.
        in_channels: The number of bands.
        output_stride: Of its last features; below 32, its last stages are dilated instead of striding.
        pyramid: See `create_timm_encoder`.

    Raises:
        InputError: There is no such network, or it cannot be an encoder.
    """
    name = library_name(encoder)
    if name.startswith("tu-"):
        network = create_timm_encoder(name.removeprefix("tu-"), output_stride, pyramid)
    else:
        # MiT asks tensors for their numbers while it is made, which those without memory do not have.
        device = torch.empty(0).device  # get_default_device of PyTorch 2.5 does not know that of a `with`
        with torch.device("cpu") if name.startswith("mit_") else device:
            network = smp.encoders.get_encoder(name, in_channels=3, depth=5, weights=None, output_stride=output_stride)
        network.to(device)
    set_input_bands(network, in_channels)
    return network


def create_model(
    architecture: str, encoder: str, in_channels: int, classes: int, settings: DecoderSettings = USUAL
) -> Segmenter:
    """Make a network with random weights.

    Args:
        architecture: One of `architectures.ARCHITECTURES`.
        encoder: As for `create_encoder`.
        in_channels: The number of bands B.
        classes: The number of classes C.
        settings: Of the decoder.

    Returns:
        (N, B, H, W) normalised bands → (N, C, H, W) logits, for any H and W.

    Raises:
        InputError: As `create_encoder`, or the architecture cannot use this encoder or has not these settings.
    """
    check_pair(architecture, encoder)
    settings.check(architecture)
    row = ARCHITECTURES[architecture]
    features: Any = create_encoder(encoder, in_channels, row.output_stride, pyramid=architecture != "dpt")
    return Segmenter(features, create_decoder(architecture, features, classes, settings), row.smallest)


def lay_out_model(
    architecture: str, encoder: str, in_channels: int, classes: int, settings: DecoderSettings
) -> Segmenter:
    """Make a network as `create_model` does, but without memory, and without knowing whether that can be done.

    Raises:
        InputError: As `create_model`, or encoder and decoder do not fit each other.
    """
    with torch.device("meta"), _explained(architecture, encoder):
        return create_model(architecture, encoder, in_channels, classes, settings)


def try_model(architecture: str, encoder: str, in_channels: int, classes: int, settings: DecoderSettings) -> None:
    """Show a network that is laid out without memory an image.

    Raises:
        InputError: As `lay_out_model`, or the encoder leaves its last stages as they are where they should be dilated.
    """
    network = lay_out_model(architecture, encoder, in_channels, classes, settings).eval()
    with torch.device("meta"), torch.no_grad(), _explained(architecture, encoder):
        image = torch.zeros(1, in_channels, *TRIED)
        network(image)
        stride = TRIED[0] // network.encoder(image)[-1].shape[-2]
    # Some of timm's take no notice of the stride that they are asked for. Older model files may have such networks.
    if ARCHITECTURES[architecture].output_stride < min(STRIDE, stride):
        raise not_dilated(architecture, encoder)


@contextlib.contextmanager
def _explained(architecture: str, encoder: str) -> Iterator[None]:
    """Turn what two libraries say of hundreds of networks into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if ARCHITECTURES[architecture].output_stride < STRIDE:  # which not all of timm's know
            raise not_dilated(architecture, encoder) from error
        raise InputError(
            f"{architecture} does not work with the encoder {encoder} ({first_line(error)}).",
            "Choose another ENCODER or ARCHITECTURE.",
        ) from error


def count_parameters(network: nn.Module) -> int:
    """Return the number of parameters, including frozen ones."""
    return sum(parameter.numel() for parameter in network.parameters())
