"""Teaching networks, whose shape is defined by the arguments in `classifier_arguments`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..errors import not_none
from .classifier_arguments import POOLING, LectureCnnArguments, TeachingArguments
from .layers import ACTIVATION_LAYERS


class TeachingNetwork(nn.Module):
    """Features, then fully connected layers, for chips of one size.

    Args:
        features: (N, B, S, S) → (N, F, h, w).
        hidden: (N, F, h, w) → (N, W), the last hidden layer.
        width: W.
        classes: Number of classes C.
    """

    def __init__(self, features: nn.Module, hidden: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.features = features
        self.hidden = hidden
        self.output = nn.Linear(width, classes)
        for module in self.modules():
            # He et al. 2015; otherwise, the signal fades with depth in networks without batch norm.
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(not_none(module.bias))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, S, S) normalised bands → (N, C) logits."""
        logits: torch.Tensor = self.output(self.hidden(self.features(images)))
        return logits


def create_lecture_cnn(arguments: LectureCnnArguments, bands: int, classes: int, chip_size: int) -> TeachingNetwork:
    """Create blocks of one convolution, with batch norm throughout."""
    features = nn.Sequential(*_blocks(arguments, bands, nn.BatchNorm2d))
    inputs = arguments.filters[-1] * arguments.map_sizes(chip_size)[-1] ** 2
    hidden, width = _hidden_layers(arguments, inputs, nn.BatchNorm1d)
    return TeachingNetwork(features, hidden, width, classes)


def create_keras_cnn(arguments: LectureCnnArguments, bands: int, classes: int, chip_size: int) -> TeachingNetwork:
    """Create blocks of two convolutions, with dropout instead of batch norm."""
    features = nn.Sequential(*_blocks(arguments, bands, None))
    inputs = arguments.filters[-1] * arguments.map_sizes(chip_size)[-1] ** 2
    hidden, width = _hidden_layers(arguments, inputs, None)
    return TeachingNetwork(features, hidden, width, classes)


def create_mlp(arguments: TeachingArguments, bands: int, classes: int, chip_size: int) -> TeachingNetwork:
    """Create hidden layers on the pixels themselves."""
    hidden, width = _hidden_layers(arguments, bands * chip_size**2, None)
    return TeachingNetwork(nn.Identity(), hidden, width, classes)


def _blocks(
    arguments: LectureCnnArguments, bands: int, norm: Callable[[int], nn.Module] | None
) -> Sequence[nn.Sequential]:
    """Create one block per number of filters: convolutions with norm and activation, pooling, dropout."""
    blocks = []
    for filters in arguments.filters:
        layers: list[nn.Module] = []
        for _ in range(arguments.convolutions):
            layers.append(nn.Conv2d(bands, filters, arguments.kernel_size, arguments.stride, arguments.margin))
            layers += [norm(filters)] if norm else []
            layers.append(ACTIVATION_LAYERS[arguments.activation]())
            bands = filters
        layers.append(nn.MaxPool2d(POOLING))
        layers += [nn.Dropout(arguments.block_dropout)] if arguments.block_dropout else []
        blocks.append(nn.Sequential(*layers))
    return blocks


def _hidden_layers(
    arguments: TeachingArguments, inputs: int, norm: Callable[[int], nn.Module] | None
) -> tuple[nn.Sequential, int]:
    """Create the hidden layers for flattened features, and return them with the width of the last one."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in arguments.hidden_sizes:
        layers.append(nn.Linear(inputs, width))
        layers += [norm(width)] if norm else []
        layers.append(ACTIVATION_LAYERS[arguments.activation]())
        layers += [nn.Dropout(arguments.dropout)] if arguments.dropout else []
        inputs = width
    return nn.Sequential(*layers), inputs
