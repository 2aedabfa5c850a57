"""Weights rounded to 16 bits keep the means of what the layers give, and so the answers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from plugin.engine.models.factory import create_model
from plugin.engine.models.folding import folded
from plugin.engine.models.rounding import rounded

BFLOAT16 = torch.bfloat16


def nearest(network: nn.Module) -> nn.Module:
    """A copy whose weights are rounded to the nearest numbers."""
    found = copy.deepcopy(network)
    for value in found.parameters():
        value.data = value.data.to(BFLOAT16).float()
    return found


def shift(network: nn.Module, other: nn.Module, images: torch.Tensor) -> float:
    """How far the means of the channels of two answers lie apart."""
    with torch.no_grad():
        one, two = network(images).double(), other(images).double()
    return float((one - two).mean((0, 2, 3)).abs().mean())


@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize("bias", [False, True])
def test_the_mean_of_each_channel_stays(groups: int, bias: bool) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(16, 32, 3, groups=groups, bias=bias).eval()
    if network.bias is not None:
        network.bias.data.mul_(30)
    images = torch.rand(2, 16, 40, 40) * torch.linspace(0, 6, 16)[:, None, None]
    found = rounded(network, images, BFLOAT16)
    for value, whole in zip(found.parameters(), network.parameters()):
        assert torch.equal(value, value.to(BFLOAT16).float())
        if value.dim() == 4:  # one of both neighbours
            assert ((value - whole).abs() <= 2.0**-7 * whole.abs()).all()
    least = shift(network, nearest(network), images)
    assert shift(network, found, images) < least / (8 if groups == 1 else 2)


@torch.no_grad()
def test_a_network_with_folded_norms_answers_more_alike() -> None:
    torch.manual_seed(0)
    network = create_model("unet", "efficientnet_lite0", 3, 5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-2, 2)
            module.bias.uniform_(-1, 1)
    network = folded(network.eval(), 3)
    images, others = torch.randn(2, 2, 3, 128, 128)
    expected = network(others)
    off = [(one(others) - expected).square().mean() for one in (nearest(network), rounded(network, images, BFLOAT16))]
    assert off[1] < 0.5 * off[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_0_stay_0_and_others_become_one_of_both_neighbours(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(64, 8, 3)
    network.weight.data[:, ::2] = 0
    found = rounded(network, torch.rand(1, 64, 20, 20), dtype).weight.data
    assert (found[:, ::2] == 0).all()
    assert torch.equal(found, found.to(dtype).float()) and (found != network.weight.data.to(dtype)).any()
    distance = torch.finfo(dtype).eps * network.weight.data.abs().clamp_min(torch.finfo(dtype).smallest_normal)
    assert ((found - network.weight.data).abs() <= distance).all()


def test_the_network_itself_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    before = copy.deepcopy(network.state_dict())
    rounded(network, torch.rand(1, 3, 8, 8), torch.float16)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
