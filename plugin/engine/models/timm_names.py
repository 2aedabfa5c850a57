"""timm's names of classifiers, and of the tensors of torchvision's classifiers."""

from __future__ import annotations

import timm
import torch

from ..errors import not_none

_SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge"}
_REGNET = {"400mf": "004", "800mf": "008", "1_6gf": "016", "3_2gf": "032", "8gf": "080", "16gf": "160", "32gf": "320"}
# Our name → timm's, for networks with the same layers. ResNet and its variants, DenseNet and Inception v3 have the same
# names in both libraries.
TWINS = {
    **{f"vgg{depth}{norm}": f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
    **{f"efficientnet_b{size}": f"efficientnet_b{size}" for size in range(8)},
    **{f"efficientnet_v2_{size}": f"efficientnetv2_{size}" for size in "sml"},
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mnasnet0_5": "mnasnet_050",
    "mnasnet0_75": "mnasnet_075",
    "mnasnet1_0": "mnasnet_100",
    **{f"regnet_x_{size}": f"regnetx_{number}" for size, number in _REGNET.items()},
    **{f"regnet_y_{size}": f"regnety_{number}" for size, number in _REGNET.items()},
    # timm has these three in two widths.
    "regnet_x_400mf": "regnetx_004_tv",
    "regnet_y_800mf": "regnety_008_tv",
    "regnet_y_8gf": "regnety_080_tv",
    "regnet_y_128gf": "regnety_1280",
    **{f"convnext_{size}": f"convnext_{size}" for size in ("tiny", "small", "base", "large")},
    **{f"swin_{size}": f"swin_{_SIZES[size]}_patch4_window7_224" for size in "tsb"},
    **{f"vit_{size}_{patch}": f"vit_{_SIZES[size]}_patch{patch}_224" for size in "bl" for patch in (16, 32)},
    "vit_h_14": "vit_huge_patch14_224",
}


def timm_name(name: str) -> str:
    """Return timm's name of one of its classifiers: EfficientNet-Lite has the prefix "tf_", for the origin of its
    weights.
    """
    return f"tf_{name}" if name.startswith("efficientnet_lite") else name


def names_in_timm(name: str) -> list[str] | None:
    """Return the names of a classifier's tensors in timm, in the order of torchvision's state dict; None if unknown."""
    if name not in TWINS:
        return None
    with torch.device("meta"):
        names = list(timm.create_model(TWINS[name], pretrained=False, num_classes=2).state_dict())
    if name.startswith("vit_"):  # torchvision has the position embedding after the first convolution
        names.remove("pos_embed")
        names.insert(names.index("patch_embed.proj.bias") + 1, "pos_embed")
    elif name.startswith("regnet_"):  # torchvision has the shortcut of a block first
        names.sort(key=_regnet_place)
    elif name.startswith("swin_"):  # torchvision has the norm last where patches are merged
        for merging in [key for key in names if key.endswith("downsample.reduction.weight")]:
            names.remove(merging)
            names.insert(names.index(merging.replace("reduction", "norm")), merging)
    return names


def image_std_in_timm(name: str) -> float:
    """Return the mean standard deviation that timm's pretrained network divided photographs by."""
    config = not_none(timm.get_pretrained_cfg(timm_name(name)))
    return sum(config.std) / len(config.std)


def _regnet_place(name: str) -> tuple[int, str, int, int]:
    """Return a sort key: stem, stages, head; in each block `downsample` first."""
    part, block, layer = (*name.split("."), "", "")[:3]
    if part in ("stem", "head"):
        return (0 if part == "stem" else 2, "", 0, 0)
    return (1, part, int(block[1:]), int(layer != "downsample"))
