"""Which parts of a network learn, and how fast: the encoder, which may be pretrained, and what follows it."""

from __future__ import annotations

from typing import Any

from torch import nn

from .classifier_network import Classifier
from .networks import Segmenter

Network = Classifier | Segmenter
# The number of parts of an encoder that learn at different rates, from its first layers to its last.
DEPTHS = 12


def split_parameters(network: Network) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of the encoder, and those of the decoder or of the output layer of a classifier."""
    fresh = list((network.decoder if isinstance(network, Segmenter) else network.output).parameters())
    known = {id(value) for value in fresh}
    return [value for value in network.parameters() if id(value) not in known], fresh


def parameter_groups(
    network: Network, weight_decay: float, encoder_rate: float = 1.0, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer that remain valid through freezing and thawing.

    In addition to the keys of the optimizer, each has `encoder`, whether it belongs to the encoder, and `rate`: its
    factor for the learning rate, to be applied where that is set. Frozen parameters are included: without gradients
    they do not change.

    Args:
        network: On its device.
        weight_decay: Weight decay of convolutions and linear layers. Biases, norms, layer scales, class tokens and
            position embeddings have none.
        encoder_rate: Factor for the encoder (for its last part if `layer_decay` is not 1).
        layer_decay: Factor between the rate of each of the `DEPTHS` parts of the encoder and that of the next one.
    """
    encoder = {id(value) for value in split_parameters(network)[0]}
    # The weight and the bias of a module stay together.
    layers = [list(module.named_parameters(recurse=False)) for module in network.modules()]
    deep = [layer for layer in layers if layer and id(layer[0][1]) in encoder]
    shares = {
        id(value): encoder_rate * layer_decay ** (DEPTHS - 1 - place * DEPTHS // len(deep))
        for place, layer in enumerate(deep)
        for _, value in layer
    }
    groups: dict[tuple[bool, float, float], dict[str, Any]] = {}
    for layer in layers:
        for name, value in layer:
            ours, rate = id(value) in encoder, shares.get(id(value), 1.0)
            decay = weight_decay if name.endswith("weight") and value.ndim > 1 else 0.0
            new = {"params": [], "weight_decay": decay, "rate": rate, "encoder": ours}
            groups.setdefault((ours, rate, decay), new)["params"].append(value)
    return list(groups.values())


def freeze_encoder(network: Network) -> None:
    """Let only what follows the encoder learn; until `thaw_encoder`, the features of an image do not change."""
    _set_learning(network, False)


def thaw_encoder(network: Network) -> None:
    """Let everything learn; batch norms update their statistics, and dropout is active again."""
    _set_learning(network, True)


def _set_learning(network: Network, learns: bool) -> None:
    for value in split_parameters(network)[0]:
        value.requires_grad_(learns)
    network.encoder_held = not learns
    network.train(network.training)
