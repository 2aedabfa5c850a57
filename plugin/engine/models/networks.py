"""Segmentation networks: an encoder and a decoder that return logits for every pixel.

An encoder turns (N, B, H, W) into features at strides 1, 2, 4, 8, 16 and 32 (the first are the bands themselves; those
of transformers have no channels at stride 2). A decoder is created from the widths of these features, `out_channels`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..classes import IGNORE_INDEX
from .header import ModelHeader

STRIDE = 32
# What a network may raise for an image that it does not take; which one differs among networks and versions of PyTorch.
REFUSALS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
# With less than 64 pixels, the deepest features of a chip would be a single value, too few for a batch norm.
SMALLEST = 64


def likeliest(logits: torch.Tensor) -> torch.Tensor:
    """(N, C, …) logits → (N, …) uint8 indices of the likeliest class; `IGNORE_INDEX` if its logit is not finite."""
    highest, found = logits.max(1)
    return found.to(torch.uint8).masked_fill_(highest.sub_(highest).ne(0), IGNORE_INDEX)  # ∞ − ∞ is no number


def calibrated(logits: torch.Tensor, header: ModelHeader) -> torch.Tensor:
    """Divide logits by the model's temperature, so that their probabilities can be trusted (`training.calibration`)."""
    return logits if header.temperature is None else logits.div(header.temperature)


class Segmenter(nn.Module):
    """An encoder and a decoder, for images of any size.

    Args:
        encoder: (N, B, H, W) → features; H and W are multiples of `STRIDE`.
        decoder: Features → logits (N, C, h, w) at any stride. Its `last_features` names the layer of the whole network
            whose map is the input of the class scores.
        smallest: The smallest image that the encoder gets, in pixels a side; a multiple of `STRIDE`.
    """

    # Whether the encoder gives the same in training as in evaluation, see `fine_tuning.freeze_encoder`.
    encoder_held = False

    def __init__(self, encoder: nn.Module, decoder: nn.Module, smallest: int = SMALLEST) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.smallest = smallest

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

    def padded_size(self, size: int) -> int:
        """The side, in pixels, that an image of `size` pixels is padded to."""
        return max(self.smallest, -(-size // STRIDE) * STRIDE)

    def forward(self, images: torch.Tensor, unneeded: int = 0, unneeded_rows: int | None = None) -> torch.Tensor:
        """(N, B, H, W) normalised bands → (N, C, H, W) logits; 0 in `unneeded` pixels along each edge, a multiple of
        `STRIDE`, which the decoder does not see. It may be another number at the upper and lower edge.
        """
        rows, cols = unneeded if unneeded_rows is None else unneeded_rows, unneeded
        height, width = images.shape[-2:]
        full = self.padded_size(height), self.padded_size(width)
        if full != (height, width):
            # Repeating the border adds no artificial edge.
            images = F.pad(images, (0, full[1] - width, 0, full[0] - height), mode="replicate")
        features = self.encoder(images)
        if rows or cols:
            features = [
                _without_edges(feature, rows * feature.shape[-1] // full[1], cols * feature.shape[-1] // full[1])
                for feature in features
            ]
        logits: torch.Tensor = self.decoder(features)  # (N, C, h, w)
        inner = full[0] - 2 * rows, full[1] - 2 * cols
        if logits.shape[-2:] != inner:
            logits = F.interpolate(logits, size=inner, mode="bilinear", align_corners=False)
        if rows or cols:
            logits = F.pad(logits, (cols, cols, rows, rows))
        return logits[..., :height, :width]


def _without_edges(feature: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    return feature[..., rows : feature.shape[-2] - rows, cols : feature.shape[-1] - cols]
