"""The encoders to choose from, and those that go by timm's name; readable without torch. `factory.py` makes them."""

from __future__ import annotations

import re

from ..errors import InputError
from ..settings import Choice
from .architectures import ARCHITECTURES


class Encoder(Choice):
    """An encoder."""

    library_name: str = ""  # that segmentation_models_pytorch gives it; "tu-" in front is for timm's
    millions: float = 0  # of parameters
    dilates: bool = True  # whether its last stages can be dilated


def _family(
    title: str, source: str, sizes: dict[str, tuple[str, float]], note: str = "", dilates: bool = True
) -> dict[str, Encoder]:
    """Encoders of one kind: name → (the library's name, million parameters)."""
    return {
        name: Encoder(f"{title}, {millions:g} million parameters{note}.", source, library_name, millions, dilates)
        for name, (library_name, millions) in sizes.items()
    }


_WHOLE = "; whole-window"
ENCODERS = {
    **_family("ResNet", "He et al. 2016", {
        "resnet18": ("resnet18", 11), "resnet34": ("resnet34", 21), "resnet50": ("resnet50", 24),
        "resnet101": ("tu-resnet101", 42), "resnet152": ("tu-resnet152", 58),
    }),
    **_family("ResNeXt", "Xie et al. 2017", {
        "resnext50_32x4d": ("tu-resnext50_32x4d", 23), "resnext101_32x8d": ("tu-resnext101_32x8d", 87),
    }),
    **_family("EfficientNet-Lite", "Liu 2020", {
        f"efficientnet_lite{size}": (f"tu-tf_efficientnet_lite{size}", millions)
        for size, millions in enumerate((3, 4, 4, 6, 11))
    }),
    **_family("EfficientNet", "Tan and Le 2019", {
        f"efficientnet_b{size}": (f"tu-efficientnet_b{size}", millions)
        for size, millions in enumerate((4, 6, 7, 10, 17))
    }, _WHOLE),
    **_family("MobileNetV2", "Sandler et al. 2018", {"mobilenet_v2": ("mobilenet_v2", 2)}),
    **_family("MobileNetV3", "Howard et al. 2019", {
        "mobilenet_v3_small": ("tu-mobilenetv3_small_100", 1), "mobilenet_v3_large": ("tu-mobilenetv3_large_100", 3),
    }, _WHOLE),
    **_family("MobileNetV4", "Qin et al. 2024", {
        "mobilenetv4_conv_small": ("tu-mobilenetv4_conv_small", 1),
        "mobilenetv4_conv_medium": ("tu-mobilenetv4_conv_medium", 7),
    }),
    **_family("ConvNeXt", "Liu et al. 2022", {
        f"convnext_{size}": (f"tu-convnext_{size}", millions)
        for size, millions in (("tiny", 28), ("small", 49), ("base", 88))
    }),
    **_family("Swin transformer", "Liu et al. 2021", {
        f"swin_{size[0]}": (f"tu-swin_{size}_patch4_window7_224", millions)
        for size, millions in (("tiny", 28), ("small", 49), ("base", 87))
    }, _WHOLE, dilates=False),
    **_family("Mix transformer", "Xie et al. 2021", {
        f"mit_b{size}": (f"mit_b{size}", millions) for size, millions in enumerate((3, 13, 24, 44, 61, 81))
    }, _WHOLE, dilates=False),
    **_family("DINOv2 vision transformer", "Oquab et al. 2023", {
        f"vit_{size}_patch14_dinov2": (f"tu-vit_{size}_patch14_dinov2", millions)
        for size, millions in (("small", 22), ("base", 87), ("large", 304))
    }, _WHOLE, dilates=False),
    **_family("DINOv3 vision transformer", "Siméoni et al. 2025", {
        f"vit_{size}_patch16_dinov3": (f"tu-vit_{size}_patch16_dinov3", millions)
        for size, millions in (("small", 22), ("base", 86), ("large", 303))
    }, _WHOLE, dilates=False),
}  # fmt: skip

# Any other encoder of timm is known by timm's name behind this.
TIMM = "timm:"
# Nothing in such a name leads to a hub, a file or a folder.
TIMM_NAME = re.compile(r"[a-z0-9_]{1,100}(\.[a-z0-9_]{1,100})?")


def name_of(encoder: str, timm_encoder: str) -> str:
    """What the settings ENCODER and TIMM_ENCODER ask for, as a header names it."""
    return f"{TIMM}{timm_encoder}" if timm_encoder else encoder


def library_name(encoder: str) -> str:
    """The name of an encoder in segmentation_models_pytorch; "tu-" in front is for timm's.

    Raises:
        InputError: There is no such encoder.
    """
    if encoder in ENCODERS:
        return ENCODERS[encoder].library_name
    name = encoder.removeprefix(TIMM)
    if name == encoder or not TIMM_NAME.fullmatch(name):
        raise InputError(
            f'"{name}" is no name of a network in timm.',
            "Give a name of TIMM_ENCODER as timm lists it, such as regnety_016 or convnextv2_nano.fcmae_ft_in1k.",
        )
    return f"tu-{name}"


def check_pair(architecture: str, encoder: str) -> None:
    """Refuse an encoder that there is not, or that the decoder cannot use; what is not listed is tried later.

    Raises:
        InputError: It is so.
    """
    library_name(encoder)
    if ARCHITECTURES[architecture].output_stride < 32 and encoder in ENCODERS and not ENCODERS[encoder].dilates:
        raise not_dilated(architecture, encoder)


def not_dilated(architecture: str, encoder: str) -> InputError:
    """That an architecture wants what an encoder has not."""
    free = [name for name, row in ARCHITECTURES.items() if row.output_stride == 32]
    return InputError(
        f"{architecture} needs an encoder whose last stages can be dilated, and those of {encoder} cannot.",
        f"Choose {', '.join(free[:-1])} or {free[-1]} as ARCHITECTURE, or another ENCODER.",
    )
