"""Folds batch norms into the convolutions in front of them: the same answers from fewer passes over the memory.

Which convolution stands in front of which batch norm is seen while the network looks at an image, so that no names of
layers are needed. Whether the answers are the same is tried out, because a convolution may be used twice.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from ..errors import not_none
from .networks import REFUSALS
from .reach import alike

Network = TypeVar("Network", bound=nn.Module)

SIDE = 64  # pixels of the image that is looked at
ALIKE = 1e-3  # of the largest answer; in float32, folding changes less


@torch.no_grad()
def folded(network: Network, bands: int) -> Network:
    """Return a copy of a network on the CPU with its batch norms folded; the network itself where that is not possible.

    Args:
        network: (N, B, H, W) → anything, in evaluation mode.
        bands: Number of bands B.
    """
    image = torch.randn(1, bands, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    trial = copy.deepcopy(network)
    try:
        pairs = _pairs(trial, image)
        if not pairs:
            return network
        for convolution, norm in pairs:
            _fold(convolution, norm)
        names = {id(norm): name for name, norm in trial.named_modules()}
        for _, norm in pairs:
            parent, _, name = names[id(norm)].rpartition(".")
            # timm's batch norms include the activation that follows.
            setattr(trial.get_submodule(parent), name, getattr(norm, "act", None) or nn.Identity())
        before, after = network(image), trial(image)
    except REFUSALS:  # takes images of another size only, or has other layers
        return network
    return trial if alike(before, after, ALIKE) else network


def _pairs(network: nn.Module, image: torch.Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each batch norm with the convolution that its input comes from."""
    made: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}  # the tensor is kept, so that no other one gets its id
    pairs = []

    def look(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module, output
        elif isinstance(module, nn.BatchNorm2d) and module.affine and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], module))

    hooks = [module.register_forward_hook(look) for module in network.modules()]
    network(image)
    for hook in hooks:
        hook.remove()
    return pairs


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = not_none(norm.running_mean).double(), not_none(norm.running_var).double()
    weight, offset = norm.weight.double(), norm.bias.double()
    scale = weight / torch.sqrt(variance + norm.eps)
    before = 0.0 if convolution.bias is None else convolution.bias.double()
    for name, value in (
        ("weight", convolution.weight.double() * scale[:, None, None, None]),
        ("bias", (before - mean) * scale + offset),
    ):
        setattr(convolution, name, nn.Parameter(value.to(convolution.weight.dtype), requires_grad=False))
