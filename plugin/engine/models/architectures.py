"""The architectures for segmentation: what each is, and what its decoder wants; readable without torch.

`decoders.py` makes the decoders.
"""

from __future__ import annotations

from ..settings import Choice

SHAPE = ("decoder_width", "dropout", "activation", "normalization")


class Architecture(Choice):
    """A decoder, and what it wants of the encoder."""

    output_stride: int = 32  # of the encoder's last features; below 32, its last stages are dilated
    smallest: int = 64  # pixels a side that the network is shown at least; smaller images are padded
    arguments: tuple[str, ...] = SHAPE  # the settings of `DecoderSettings` that it has


ARCHITECTURES = {
    "unet": Architecture(
        "U-Net: sharp edges, good with few chips. Take it unless you have a reason.", "Ronneberger et al. 2015"
    ),
    "unetplusplus": Architecture(
        "U-Net++: U-Net with a net of further convolutions between its two sides. Slower.", "Zhou et al. 2018"
    ),
    "manet": Architecture(
        "MAnet: U-Net with attention over the deepest features. A whole-window network.", "Fan et al. 2020"
    ),
    "linknet": Architecture(
        "LinkNet: U-Net that adds features instead of stacking them. Light.", "Chaurasia and Culurciello 2017",
        arguments=("dropout", "activation", "normalization"),
    ),
    "fpn": Architecture(
        "Feature pyramid network: scores from four sizes of features, added up. For things of very different sizes.",
        "Kirillov et al. 2019",
    ),
    "pspnet": Architecture(
        "PSPNet: pools the whole window and parts of it, which shows what kind of place it is. Soft edges. A "
        "whole-window network.",
        "Zhao et al. 2017", output_stride=8,
    ),
    "pan": Architecture(
        "Pyramid attention network: light, with attention from deep features to fine ones. A whole-window network.",
        "Li et al. 2018", output_stride=16, smallest=128,
    ),
    "deeplabv3": Architecture(
        "DeepLabv3: filters with holes of several sizes on a fine grid. Slow without a GPU. A whole-window network.",
        "Chen et al. 2017", output_stride=8,
    ),
    "deeplabv3plus": Architecture(
        "DeepLabv3+: the same on a coarser grid, then joined with fine features: quicker, and sharper edges. A "
        "whole-window network.",
        "Chen et al. 2018", output_stride=16,
    ),
    "upernet": Architecture(
        "UPerNet: a feature pyramid over pooling like PSPNet's; the usual one with Swin and ConvNeXt. A whole-window "
        "network.",
        "Xiao et al. 2018",
    ),
    "segformer": Architecture(
        "SegFormer: nothing but a layer for each size of features and one for all. Made for MiT encoders; light.",
        "Xie et al. 2021",
    ),
    "dpt": Architecture(
        "DPT: made for vision transformers (vit_…), whose blocks it makes a pyramid of. A whole-window network.",
        "Ranftl et al. 2021",
    ),
    "fcn": Architecture(
        "torchvision's FCN, whose encoder keeps a finer grid. Slow without a GPU.", "Long et al. 2015",
        output_stride=8, arguments=("dropout", "activation", "normalization"),
    ),
    "fcn8s": Architecture(
        "The lecture's FCN: scores at strides 8, 16 and 32 added up. Quickest, softer edges.", "Long et al. 2015",
        arguments=("dropout",),
    ),
}  # fmt: skip
