"""Which parts of a classifier learn, and how fast: its encoder, which may be pretrained, and its output layer."""

from __future__ import annotations

from typing import Any

from torch import nn

from .classifier_network import Classifier


def split_parameters(classifier: Classifier) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of the encoder, and those of the output layer, which always starts with random weights."""
    head = list(classifier.output.parameters())
    known = {id(value) for value in head}
    return [value for value in classifier.parameters() if id(value) not in known], head


def parameter_groups(classifier: Classifier, weight_decay: float, encoder_rate: float = 1.0) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer that remain valid through freezing and thawing.

    In addition to the keys of the optimizer, each has a `rate`: its factor for the learning rate, to be applied where
    that is set. Biases and norms have no weight decay, as in `training.loop`. Frozen parameters are included: without
    gradients they do not change.

    Args:
        classifier: On its device.
        weight_decay: Weight decay of the weights.
        encoder_rate: Factor for the encoder; 1 for the same rate everywhere.
    """
    encoder, head = split_parameters(classifier)
    groups = [
        {"params": [value for value in values if (value.ndim > 1) == decays], "weight_decay": decay, "rate": rate}
        for values, rate in ((encoder, encoder_rate), (head, 1.0))
        for decays, decay in ((True, weight_decay), (False, 0.0))
    ]
    return [group for group in groups if group["params"]]


def freeze_encoder(classifier: Classifier) -> None:
    """Let only the output layer learn; until `thaw_encoder`, the features of an image do not change."""
    _set_learning(classifier, False)
    classifier.encoder_held = True
    classifier.train(classifier.training)


def thaw_encoder(classifier: Classifier) -> None:
    """Let everything learn; batch norms update their statistics, and dropout is active again."""
    _set_learning(classifier, True)
    classifier.encoder_held = False
    classifier.train(classifier.training)


def _set_learning(classifier: Classifier, learns: bool) -> None:
    for value in split_parameters(classifier)[0]:
        value.requires_grad_(learns)
