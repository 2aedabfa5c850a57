"""The catalogue of classifiers: their names, by family and size, without torch.

Networks have the names of their library; for exceptions see `timm_names.timm_name`.
"""

from __future__ import annotations

from ..errors import InputError
from ..records import Record

# Larger chips are of no use, and a header from a stranger may ask for them.
MAX_CHIP_SIZE = 8192


class Family(Record):
    """Networks of one kind, from small to large."""

    title: str
    library: str  # torchvision, timm or terrazzo
    members: tuple[str, ...]
    smallest: int = 1  # chip size in pixels below which a layer would have no output
    multiple: int = 1  # chips are padded to multiples of this by repeating their border


def _numbered(text: str, *parts: object) -> tuple[str, ...]:
    return tuple(text.format(part) for part in parts)


FAMILIES = (
    Family("lecture CNN", "terrazzo", ("lecture_cnn",)),
    Family("Keras-style CNN", "terrazzo", ("keras_cnn",)),
    Family("MLP", "terrazzo", ("mlp",)),
    Family("AlexNet", "torchvision", ("alexnet",), smallest=63),
    Family("VGG", "torchvision", _numbered("vgg{}", 11, 13, 16, 19), smallest=32),
    Family("VGG with batch norm", "torchvision", _numbered("vgg{}_bn", 11, 13, 16, 19), smallest=32),
    Family("ResNet", "torchvision", _numbered("resnet{}", 18, 34, 50, 101, 152)),
    Family("ResNeXt", "torchvision", _numbered("resnext{}", "50_32x4d", "101_32x8d", "101_64x4d")),
    Family("Wide ResNet", "torchvision", _numbered("wide_resnet{}_2", 50, 101)),
    Family("DenseNet", "torchvision", _numbered("densenet{}", 121, 169, 201, 161), smallest=29),
    Family("GoogLeNet", "torchvision", ("googlenet",), smallest=15),
    Family("Inception v3", "torchvision", ("inception_v3",), smallest=75),
    Family("EfficientNet", "torchvision", _numbered("efficientnet_b{}", *range(8))),
    Family("EfficientNetV2", "torchvision", _numbered("efficientnet_v2_{}", "s", "m", "l")),
    Family("EfficientNet-Lite", "timm", _numbered("efficientnet_lite{}", *range(5))),
    Family("MobileNetV2", "torchvision", ("mobilenet_v2",)),
    Family("MobileNetV3", "torchvision", _numbered("mobilenet_v3_{}", "small", "large")),
    Family("MNASNet", "torchvision", _numbered("mnasnet{}", "0_5", "0_75", "1_0", "1_3")),
    Family("ShuffleNetV2", "torchvision", _numbered("shufflenet_v2_x{}", "0_5", "1_0", "1_5", "2_0")),
    Family("SqueezeNet 1.0", "torchvision", ("squeezenet1_0",), smallest=21),
    Family("SqueezeNet 1.1", "torchvision", ("squeezenet1_1",), smallest=17),
    Family(
        "RegNetX", "torchvision",
        _numbered("regnet_x_{}", "400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf"),
    ),
    Family(
        "RegNetY", "torchvision",
        _numbered("regnet_y_{}", "400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf", "128gf"),
    ),
    Family("DPN", "timm", _numbered("dpn{}", "68", "68b", "92", "98", "131")),
    Family("ConvNeXt", "torchvision", _numbered("convnext_{}", "tiny", "small", "base", "large"), smallest=32),
    Family("Swin", "torchvision", _numbered("swin_{}", "t", "s", "b"), smallest=4),
    Family("Swin V2", "torchvision", _numbered("swin_v2_{}", "t", "s", "b"), smallest=4),
    Family("ViT, patches of 32", "torchvision", _numbered("vit_{}_32", "b", "l"), smallest=32, multiple=32),
    Family("ViT, patches of 16", "torchvision", _numbered("vit_{}_16", "b", "l"), smallest=16, multiple=16),
    Family("ViT, patches of 14", "torchvision", ("vit_h_14",), smallest=14, multiple=14),
    Family("MaxViT", "torchvision", ("maxvit_t",), smallest=32, multiple=32),
)  # fmt: skip

_FAMILY_OF = {name: family for family in FAMILIES for name in family.members}
CLASSIFIERS = tuple(_FAMILY_OF)


def find_family(name: str) -> Family:
    """Return the family of a classifier.

    Raises:
        InputError: The catalogue has no such name.
    """
    family = _FAMILY_OF.get(name) if isinstance(name, str) else None
    if family is None:
        raise InputError(f'ARCHITECTURE is "{name}".', f"Choose one of {', '.join(CLASSIFIERS)}.")
    return family


def check_chip_size(name: str, chip_size: int) -> None:
    """Check that chips are large enough for a network of a library, and not too large.

    What a teaching network needs follows from its arguments, see `classifier_arguments.check_arguments`.

    Args:
        name: One of `CLASSIFIERS`.
        chip_size: Width and height in pixels.

    Raises:
        InputError: The chips are smaller than the network's family needs, or larger than `MAX_CHIP_SIZE`.
    """
    smallest = find_family(name).smallest
    if chip_size < smallest:
        fitting = [family.title for family in FAMILIES if family.smallest <= chip_size and family.library != "terrazzo"]
        other = f", or choose another ARCHITECTURE, such as {', '.join(fitting[:3])}" if fitting else ""
        raise InputError(
            f"The chips are {chip_size} × {chip_size} pixels; {name} needs {smallest} × {smallest}.",
            f"Export the chips again with CHIP_SIZE {smallest} or more{other}.",
        )
    if chip_size > MAX_CHIP_SIZE:
        raise InputError(
            f"The chips are {chip_size} × {chip_size} pixels.", f"Export chips of {MAX_CHIP_SIZE} pixels or less."
        )


def padded_size(name: str, chip_size: int) -> int:
    """Return the side that chips are padded to before they enter a network, in pixels."""
    multiple = find_family(name).multiple
    if name == "maxvit_t" and chip_size > 512:
        # Its windows are 1/32 of a side; above 512 pixels these would be too large for attention, so they stay at 7.
        multiple *= 7
    return -(-chip_size // multiple) * multiple
