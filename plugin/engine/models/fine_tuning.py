"""What of a classifier learns, and how fast: its encoder, which may be pretrained, and its output layer."""

from __future__ import annotations

from typing import Any

from torch import nn

from .classifier_network import Classifier


def split_parameters(classifier: Classifier) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters of the encoder, and those of the output layer, which starts afresh."""
    head = list(classifier.output.parameters())
    known = {id(value) for value in head}
    return [value for value in classifier.parameters() if id(value) not in known], head


def parameter_groups(classifier: Classifier, weight_decay: float, encoder_rate: float = 1.0) -> list[dict[str, Any]]:
    """Groups for an optimizer that lasts through freezing and thawing.

    Each has, beside what the optimizer knows, a `rate`: its share of the learning rate, to be multiplied by whoever
    sets that. Biases and norms have no weight decay, as in `training.loop`. Frozen parameters are in: without a
    gradient they stay as they are.

    Args:
        classifier: On its device.
        weight_decay: Of the weights.
        encoder_rate: The share of the encoder; 1 for all alike.
    """
    encoder, head = split_parameters(classifier)
    groups = [
        {"params": [value for value in values if (value.ndim > 1) == decays], "weight_decay": decay, "rate": rate}
        for values, rate in ((encoder, encoder_rate), (head, 1.0))
        for decays, decay in ((True, weight_decay), (False, 0.0))
    ]
    return [group for group in groups if group["params"]]


def freeze_encoder(classifier: Classifier) -> None:
    """Let the output layer alone learn; until `thaw_encoder` the features of an image are always the same."""
    _set_learning(classifier, False)
    classifier.encoder_held = True
    classifier.train(classifier.training)


def thaw_encoder(classifier: Classifier) -> None:
    """Let everything learn, batch norms take statistics again, and what drops values drop them."""
    _set_learning(classifier, True)
    classifier.encoder_held = False
    classifier.train(classifier.training)


def _set_learning(classifier: Classifier, learns: bool) -> None:
    for value in split_parameters(classifier)[0]:
        value.requires_grad_(learns)
