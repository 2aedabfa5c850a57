"""Segmentation networks: an encoder and a decoder that return logits for every pixel.

An encoder turns (N, B, H, W) into features at strides 1, 2, 4, 8, 16 and 32 (the first are the bands themselves). A
decoder is created from the widths of these features (`channels`) and the number of classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead

from ..classes import IGNORE_INDEX

STRIDE = 32
# With less than 64 pixels, the deepest features of a chip would be a single value, too few for a batch norm.
SMALLEST = 64


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """(N, C, …) logits → (N, …) uint8 indices of the likeliest class; `IGNORE_INDEX` if its logit is not finite."""
    highest, found = logits.max(1)
    return found.to(torch.uint8).masked_fill_(~highest.isfinite(), IGNORE_INDEX)


class Segmenter(nn.Module):
    """An encoder and a decoder, for images of any size.

    Args:
        encoder: (N, B, H, W) → features; H and W are multiples of `STRIDE`.
        decoder: Features → logits (N, C, h, w) at any stride. Its `last_features` names the layer of the whole network
            whose map is the input of the class scores.
    """

    # Whether the encoder gives the same in training as in evaluation, see `fine_tuning.freeze_encoder`.
    encoder_held = False

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def train(self, mode: bool = True) -> Segmenter:
        """As of any module, but an encoder that is held drops nothing, and its batch norms keep their statistics."""
        super().train(mode)
        if self.encoder_held:
            self.encoder.eval()
        return self

    @property
    def last_features(self) -> str:
        """The layer whose map is the input of the class scores."""
        return str(self.decoder.last_features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, H, W) normalised bands → (N, C, H, W) logits."""
        height, width = images.shape[-2:]
        full = padded_size(height), padded_size(width)
        if full != (height, width):
            # Repeating the border adds no artificial edge.
            images = F.pad(images, (0, full[1] - width, 0, full[0] - height), mode="replicate")
        logits: torch.Tensor = self.decoder(self.encoder(images))  # (N, C, h, w)
        if logits.shape[-2:] != full:
            logits = F.interpolate(logits, size=full, mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


def padded_size(size: int) -> int:
    """Return the side that an image of `size` pixels is padded to, in pixels."""
    return max(SMALLEST, -(-size // STRIDE) * STRIDE)


class UnetDecoder(nn.Module):
    """The decoder and head of U-Net (Ronneberger et al. 2015): upsampled step by step and joined with each stage."""

    last_features = "decoder.blocks"

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.blocks = smp.decoders.unet.decoder.UnetDecoder(
            encoder_channels=channels, decoder_channels=(256, 128, 64, 32, 16), n_blocks=5
        )
        self.head = nn.Conv2d(16, classes, kernel_size=3, padding=1)
        smp.base.initialization.initialize_decoder(self.blocks)
        smp.base.initialization.initialize_head(self.head)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features → logits at stride 1."""
        logits: torch.Tensor = self.head(self.blocks(features))
        return logits


class FcnDecoder(nn.Module):
    """torchvision's FCN head on the last features of an encoder whose last stages are dilated to stride 8."""

    last_features = "decoder.head.3"

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.head = FCNHead(channels[-1], classes)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features → logits at stride 8."""
        logits: torch.Tensor = self.head(features[-1])
        return logits


class Fcn8sDecoder(nn.Module):
    """FCN-8s (Long, Shelhamer and Darrell 2015): class scores at strides 8, 16 and 32 are summed."""

    last_features = "encoder"  # the deepest of the three

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        # In the order of the strides 8, 16, 32.
        self.scores = nn.ModuleList(nn.Conv2d(width, classes, kernel_size=1) for width in channels[-3:])

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features → logits at stride 8."""
        at8, at16, at32 = (score(feature) for score, feature in zip(self.scores, features[-3:]))  # (N, C, h, w) each
        at16 = at16 + F.interpolate(at32, size=at16.shape[-2:], mode="bilinear", align_corners=False)
        logits: torch.Tensor = at8 + F.interpolate(at16, size=at8.shape[-2:], mode="bilinear", align_corners=False)
        return logits
