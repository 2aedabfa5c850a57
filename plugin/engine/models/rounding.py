"""Rounds the weights of a network to 16 bits so that its answers do not shift.

Rounding each weight to the nearest number changes the mean of what a convolution gives, channel by channel, and the
changes add up from layer to layer. So the bias makes up for them (Nagel et al. 2019, "Data-free quantization through
weight equalization and bias correction"); and for what is lost when the bias itself is rounded, which is much where a
batch norm is folded in, some of the weights are rounded to the other side.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def rounded(network: Network, images: torch.Tensor, dtype: torch.dtype) -> Network:
    """Return a copy of a network whose convolutions have weights and biases that are exact in a type.

    Args:
        network: (N, B, H, W) → anything, in evaluation mode.
        images: (N, B, H, W), over which the mean of each channel of a convolution stays as it is.
        dtype: A type of 16 bits.
    """
    made = copy.deepcopy(network)
    means: dict[nn.Module, torch.Tensor] = {}

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # Of few digits, so that all ranks and a resumed job round alike.
        means[module] = inputs[0].mean((0, 2, 3)).bfloat16().cpu().double()

    convolutions = [one for one in made.modules() if type(one) is nn.Conv2d]
    hooks = [one.register_forward_pre_hook(look) for one in convolutions]
    made(images)
    for hook in hooks:
        hook.remove()
    for one in convolutions:
        if one in means:
            _round(one, means[one], dtype)
    return made


def _round(convolution: nn.Conv2d, means: torch.Tensor, dtype: torch.dtype) -> None:
    """Round the weight and the bias of a convolution.

    Args:
        convolution: The convolution.
        means: (I,) of its input channels.
        dtype: A type of 16 bits.
    """
    kept = convolution.weight
    weight = kept.cpu().double().flatten(1)  # (O, n); not all devices have float64
    outputs, groups = len(weight), convolution.groups
    inputs = means.view(groups, -1, 1).expand(-1, -1, kept.shape[2] * kept.shape[3]).flatten(1)
    inputs = inputs.repeat_interleave(outputs // groups, 0)
    near = weight.to(dtype)
    error = near.double() - weight
    before = torch.zeros(outputs) if convolution.bias is None else convolution.bias.cpu()
    wanted = before.double() - (error * inputs).sum(1)
    bias = wanted.to(dtype)
    # Rounded to the other side, a weight changes the mean by so much.
    other = _neighbours(near, error)
    change = (other - near.double()) * inputs
    left = (wanted - bias.double())[:, None]
    useful = (change * left > 0) & (change.abs() <= left.abs()) & (near != 0)
    # First those that are nearly in the middle between both numbers.
    cost = ((other - weight) ** 2 - error**2) / change.abs().clamp_min(torch.finfo(torch.float64).tiny)
    order = cost.masked_fill(~useful, torch.inf).argsort(dim=1, stable=True)
    effect = (change.abs() * useful).gather(1, order)
    taken = torch.zeros_like(useful).scatter(1, order, (effect.cumsum(1) <= left.abs()) & (effect > 0))
    values = torch.where(taken, other, near.double()).reshape(kept.shape)
    convolution.weight = nn.Parameter(torch.empty_like(kept).copy_(values), requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(kept), requires_grad=False)


def _neighbours(near: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Return the numbers of a type on the other side of values, in float64.

    Args:
        near: The nearest numbers of the type, of 16 bits; for 0 the result means nothing.
        error: How much larger they are than the values.
    """
    # The next number away from 0 has the next larger bits, whatever its sign.
    step = torch.where((error > 0) == (near < 0), 1, -1).to(torch.int16)
    return (near.view(torch.int16) + step).view(near.dtype).double()
