"""Estimates the computing time of a network without running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# Light networks spend most of their time on moving values between layers. On a CPU, each output value of a layer costs
# about as much as this many operations: with that, the time of ten networks from the lecture CNN to ResNet-50 was
# predicted within 20 %.
OPERATIONS_A_VALUE = 200
# Operations that a step of the optimizer costs per weight: relevant for small chips and large networks.
OPERATIONS_A_WEIGHT = 250


def work_per_chip(create: Callable[[], nn.Module], bands: int, size: int, batch_size: int) -> float:
    """Estimate the work for one chip: floating point operations, and the equivalent of moving values and of the
    optimizer.

    Args:
        create: Creates the network; called on the meta device, where that takes no memory.
        bands: Number of bands B.
        size: Chip size S in pixels.
        batch_size: Chips per step.
    """
    values = 0

    def count(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal values
        values += output.numel() if torch.is_tensor(output) else 0

    with torch.device("meta"), torch.no_grad():
        network = create().eval()
        for module in network.modules():
            if not any(module.children()):
                module.register_forward_hook(count)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, bands, size, size))
    weights = sum(value.numel() for value in network.parameters())
    return float(counter.get_total_flops() + OPERATIONS_A_VALUE * values + OPERATIONS_A_WEIGHT * weights / batch_size)
