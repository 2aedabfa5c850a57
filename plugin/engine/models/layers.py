"""The layers behind `layer_choices`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

ACTIVATION_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "prelu": nn.PReLU,
    "gelu": nn.GELU,
}
CHANNELS_A_GROUP = 16


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 16 channels a group, or as many as divide `channels`."""
    return nn.GroupNorm(math.gcd(channels, max(1, channels // CHANNELS_A_GROUP)), channels)


class PooledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that learns from a single value a channel, too, with the statistics that it has gathered.

    One chip in a batch leaves no more behind a pool over the whole map, and PyTorch refuses that.
    """

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) → the same shape."""
        if self.training and values.numel() == self.num_features:
            return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(values)
