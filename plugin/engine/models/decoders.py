"""The decoders: an encoder's features → logits. `architectures.py` says what each is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from segmentation_models_pytorch import decoders as smp_decoders
from segmentation_models_pytorch.base import initialization
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from torch import nn
from torchvision.models.segmentation.fcn import FCNHead

from .decoder_settings import DecoderSettings
from .layers import ACTIVATION_LAYERS, PooledBatchNorm2d, group_norm


class PlainDecoder(nn.Module):
    """A decoder of segmentation_models_pytorch, and a head that scores the classes of each place.

    Args:
        blocks: Features → (N, F, h, w).
        head: (N, F, h, w) → (N, C, h, w).
    """

    last_features = "decoder.blocks"

    def __init__(self, blocks: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks
        self.head = head
        self.dropout = 0.0  # of the last features, where neither of them has a dropout of its own
        initialization.initialize_decoder(blocks)
        initialization.initialize_head(head)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features → logits at the stride of the blocks."""
        logits: torch.Tensor = self.head(F.dropout2d(self.blocks(features), self.dropout, self.training))
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
    """FCN-8s (Long, Shelhamer and Darrell 2015): the stages at strides 8, 16 and 32 are scored and summed."""

    last_features = "encoder"  # the deepest of the three

    def __init__(self, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.dropout = 0.0
        # Kept in the order of the strides 8, 16, 32.
        self.scores = nn.ModuleList(nn.Conv2d(width, classes, kernel_size=1) for width in channels[-3:])

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features → logits at stride 8."""
        at8, at16, at32 = (  # (N, C, h, w) each
            score(F.dropout2d(feature, self.dropout, self.training))
            for score, feature in zip(self.scores, features[-3:])
        )
        at16 = at16 + F.interpolate(at32, size=at16.shape[-2:], mode="bilinear", align_corners=False)
        logits: torch.Tensor = at8 + F.interpolate(at16, size=at8.shape[-2:], mode="bilinear", align_corners=False)
        return logits


class _DptBlocks(DPTDecoder):  # type: ignore[misc]
    """DPT without the transformer's class token, so that it takes any encoder's features."""

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Features → (N, F, h, w) at stride 2."""
        maps: torch.Tensor = super().forward(features[-4:], [None] * 4)
        return maps


def create_decoder(architecture: str, encoder: Any, classes: int, settings: DecoderSettings) -> nn.Module:
    """Make a decoder with random weights.

    Args:
        architecture: One of `ARCHITECTURES`.
        encoder: What `factory.create_encoder` made for it.
        classes: C.
        settings: Those that the architecture has, see `DecoderSettings.check`.

    Returns:
        Features → (N, C, h, w) logits at any stride; its `last_features` names the layer, of the whole network, from
        whose map the classes are scored.
    """
    decoder = _DECODERS[architecture](encoder, classes, settings.decoder_width)
    _set_layers(decoder, settings)
    return decoder


def _unet(encoder: Any, classes: int, width: float) -> nn.Module:
    widths = _widths(width, 256, 128, 64, 32, 16)
    blocks = smp_decoders.unet.decoder.UnetDecoder(encoder_channels=encoder.out_channels, decoder_channels=widths)
    return PlainDecoder(blocks, nn.Conv2d(widths[-1], classes, kernel_size=3, padding=1))


def _unetplusplus(encoder: Any, classes: int, width: float) -> nn.Module:
    widths = _widths(width, 256, 128, 64, 32, 16)
    blocks = smp_decoders.unetplusplus.decoder.UnetPlusPlusDecoder(encoder.out_channels, widths)
    return PlainDecoder(blocks, nn.Conv2d(widths[-1], classes, kernel_size=3, padding=1))


def _manet(encoder: Any, classes: int, width: float) -> nn.Module:
    widths = _widths(width, 256, 128, 64, 32, 16)
    blocks = smp_decoders.manet.decoder.MAnetDecoder(encoder.out_channels, widths, pab_channels=_widths(width, 64)[0])
    return PlainDecoder(blocks, nn.Conv2d(widths[-1], classes, kernel_size=3, padding=1))


def _linknet(encoder: Any, classes: int, _width: float) -> nn.Module:
    blocks = smp_decoders.linknet.decoder.LinknetDecoder(encoder.out_channels, prefinal_channels=32)
    return PlainDecoder(blocks, nn.Conv2d(32, classes, kernel_size=1))


def _fpn(encoder: Any, classes: int, width: float) -> nn.Module:
    pyramid, last = _widths(width, 256, 128, multiple=32)
    blocks = smp_decoders.fpn.decoder.FPNDecoder(
        encoder.out_channels, pyramid_channels=pyramid, segmentation_channels=last
    )
    for module in blocks.modules():
        if isinstance(module, smp_decoders.fpn.decoder.Conv3x3GNReLU) and module.upsample:
            # As it is, it would align the corners of a map: what lies where would depend on the size of the tile.
            module.upsample = False
            module.block.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return PlainDecoder(blocks, nn.Conv2d(last, classes, kernel_size=1))


def _pspnet(encoder: Any, classes: int, width: float) -> nn.Module:
    (last,) = _widths(width, 512)
    blocks = smp_decoders.pspnet.decoder.PSPDecoder(encoder.out_channels, out_channels=last)
    return PlainDecoder(blocks, nn.Conv2d(last, classes, kernel_size=3, padding=1))


def _pan(encoder: Any, classes: int, width: float) -> nn.Module:
    (last,) = _widths(width, 32)
    blocks = smp_decoders.pan.decoder.PANDecoder(encoder.out_channels, encoder_depth=5, decoder_channels=last)
    return PlainDecoder(blocks, nn.Conv2d(last, classes, kernel_size=3, padding=1))


def _deeplabv3(encoder: Any, classes: int, width: float) -> nn.Module:
    (last,) = _widths(width, 256)
    blocks = smp_decoders.deeplabv3.decoder.DeepLabV3Decoder(
        encoder.out_channels[-1], last, atrous_rates=(12, 24, 36), aspp_separable=False, aspp_dropout=0.5
    )
    return PlainDecoder(blocks, nn.Conv2d(last, classes, kernel_size=1))


def _deeplabv3plus(encoder: Any, classes: int, width: float) -> nn.Module:
    (last,) = _widths(width, 256)
    blocks = smp_decoders.deeplabv3.decoder.DeepLabV3PlusDecoder(
        encoder.out_channels, encoder_depth=5, out_channels=last, atrous_rates=(12, 24, 36), output_stride=16,
        aspp_separable=True, aspp_dropout=0.5,
    )  # fmt: skip
    return PlainDecoder(blocks, nn.Conv2d(last, classes, kernel_size=1))


def _upernet(encoder: Any, classes: int, width: float) -> nn.Module:
    (last,) = _widths(width, 256)
    blocks = smp_decoders.upernet.decoder.UPerNetDecoder(encoder.out_channels, decoder_channels=last)
    return PlainDecoder(blocks, nn.Conv2d(last, classes, kernel_size=1))


def _segformer(encoder: Any, classes: int, width: float) -> nn.Module:
    (last,) = _widths(width, 256)
    blocks = smp_decoders.segformer.decoder.SegformerDecoder(encoder.out_channels, segmentation_channels=last)
    return PlainDecoder(blocks, nn.Conv2d(last, classes, kernel_size=1))


def _dpt(encoder: Any, classes: int, width: float) -> nn.Module:
    last, *widths = _widths(width, 256, 256, 512, 1024, 1024)
    strides = getattr(encoder, "output_strides", (4, 8, 16, 32))
    blocks = _DptBlocks(encoder.out_channels[-4:], strides, False, "ignore", widths, last)
    return PlainDecoder(blocks, DPTSegmentationHead(last, classes).head)


# architecture → encoder, classes, the width's factor → its decoder
_DECODERS: dict[str, Callable[[Any, int, float], nn.Module]] = {
    "unet": _unet,
    "unetplusplus": _unetplusplus,
    "manet": _manet,
    "linknet": _linknet,
    "fpn": _fpn,
    "pspnet": _pspnet,
    "pan": _pan,
    "deeplabv3": _deeplabv3,
    "deeplabv3plus": _deeplabv3plus,
    "upernet": _upernet,
    "segformer": _segformer,
    "dpt": _dpt,
    "fcn": lambda encoder, classes, _width: FcnDecoder(encoder.out_channels, classes),
    "fcn8s": lambda encoder, classes, _width: Fcn8sDecoder(encoder.out_channels, classes),
}


def _widths(factor: float, *channels: int, multiple: int = 8) -> list[int]:
    """Numbers of channels, scaled, as multiples of some number."""
    return [max(multiple, round(count * factor / multiple) * multiple) for count in channels]


def _set_layers(decoder: nn.Module, settings: DecoderSettings) -> None:
    """Put the activation, norms and dropout of the settings in place of the library's."""
    pooled = _behind_pools(decoder)
    drops = [module for module in decoder.modules() if isinstance(module, (nn.Dropout, nn.Dropout2d))]
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.ReLU) and settings.activation != "relu":
            decoder.set_submodule(name, ACTIVATION_LAYERS[settings.activation]())
        elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            channels = len(module.weight)
            if settings.normalization == "group":
                decoder.set_submodule(name, group_norm(channels))
            elif module in pooled:
                decoder.set_submodule(name, PooledBatchNorm2d(channels))
            elif isinstance(module, nn.GroupNorm):
                decoder.set_submodule(name, nn.BatchNorm2d(channels))
    if settings.dropout is not None:
        for drop in drops:
            drop.p = settings.dropout
        if not drops:
            decoder.dropout = settings.dropout  # type: ignore[assignment]


def _behind_pools(decoder: nn.Module) -> set[nn.Module]:
    """The modules of blocks that begin with a pool, behind which a map may have a single value."""
    pools = (nn.AdaptiveAvgPool2d, nn.MaxPool2d)
    blocks = [block for block in decoder.modules() if isinstance(block, nn.Sequential)]
    return {module for block in blocks if isinstance(next(block.children()), pools) for module in block.modules()}
