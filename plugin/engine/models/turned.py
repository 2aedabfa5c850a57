"""Turns the kernels of a network instead of its image, whose rows so keep their order; see `streaming.py`."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from .networks import STRIDE
from .reach import alike

# The sides of a kernel: top, bottom, left, right.
SIDES = torch.tensor([[-1, 0, -1], [2, -1, 3], [-1, 1, -1]])
# Height and width of the image with which answers are compared, and the difference in shares of the largest answer.
COMPARED_WITH, ALIKE = (8 * STRIDE, 6 * STRIDE), 1e-3


class Turn(Protocol):
    """A symmetry of the square."""

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """(…, h, w) → (…, h, w) or (…, w, h)."""

    def undo(self, maps: torch.Tensor) -> torch.Tensor:
        """The reverse of `apply`."""


@torch.no_grad()
def turned(network: nn.Module, turn: Turn, bands: int) -> nn.Module | None:
    """Return a copy of a network that answers to an image as the network does to the turned image, turned back.

    That is possible for networks that look at places only by convolutions, pools and interpolations, and if the sides
    of images are multiples of `STRIDE`.

    Args:
        network: (N, B, H, W) → (N, C, H, W), in evaluation mode.
        turn: How the image would be turned.
        bands: Number of bands B.

    Returns:
        The copy; None if its answer to an image is another one.
    """
    made = copy.deepcopy(network)
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (nn.Conv2d, nn.MaxPool2d)) and not isinstance(child.padding, str):
                setattr(parent, name, _turned(child, turn))
            elif isinstance(child, nn.ConvTranspose2d):
                child.weight = nn.Parameter(turn.undo(child.weight), requires_grad=False)
    image = torch.randn(1, bands, *COMPARED_WITH, generator=torch.Generator().manual_seed(0))
    image = image.to(next(network.parameters()).device, memory_format=torch.channels_last)
    try:
        same = alike(turn.undo(network(turn.apply(image))), made(image), ALIKE)
    except RuntimeError:  # it has another size
        return None
    return made if same else None


def _turned(layer: nn.Conv2d | nn.MaxPool2d, turn: Turn) -> nn.Module:
    """Turn a convolution or pool. With a stride larger than 1 it does not look equally far to all sides."""
    kernel, stride, padding, dilation = map(_pair, (layer.kernel_size, layer.stride, layer.padding, layer.dilation))
    far: list[int] = []  # how far beyond the edge at the top, bottom, left, right
    for axis in range(2):
        both = (kernel[axis] - 1) * dilation[axis] + 1 - stride[axis]
        begin = both // 2 if type(layer).__name__ == "Conv2dSame" else padding[axis]  # timm's, as in TensorFlow
        far += [begin, both - begin]
    sides = turn.undo(SIDES)
    top, bottom, left, right = (far[sides[place]] for place in ((0, 1), (2, 1), (1, 0), (1, 2)))
    if isinstance(layer, nn.Conv2d):
        # Zeros in front of the weights stand for pixels that are passed over.
        weight = F.pad(turn.undo(layer.weight), (max(0, -left), 0, max(0, -top), 0))
        bias, groups, channels = layer.bias, layer.groups, (layer.in_channels, layer.out_channels)
        layer = nn.Conv2d(*channels, 1, stride, 0, dilation, groups, device="meta")
        layer.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        layer.bias = bias
    top, left = max(0, top), max(0, left)
    if bottom <= top < bottom + stride[0] and right <= left < right + stride[1]:
        layer.padding = (top, left)
        return layer
    layer.padding = (0, 0)
    outside = 0.0 if isinstance(layer, nn.Conv2d) else float("-inf")
    return nn.Sequential(nn.ConstantPad2d((left, max(0, right), top, max(0, bottom)), outside), layer)


def weight_bytes(network: nn.Module) -> int:
    """Return the bytes of a network's weights."""
    return sum(weight.nbytes for weight in network.parameters())


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
