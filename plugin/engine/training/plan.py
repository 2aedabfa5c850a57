"""What of a network learns in which epoch, and how fast."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from ..models.classifier_network import Classifier
from ..models.fine_tuning import freeze_encoder, parameter_groups, split_parameters, thaw_encoder

# A step forward and back costs about three times what a look at a validation chip does.
STEP_COST = 3


class Plan(Protocol):
    """Which parameters learn, as groups for an optimizer, and what changes at the start of an epoch."""

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups with, beside what the optimizer knows, their `rate` (a share of the learning rate) and `first_epoch`.

        Biases and norms do not decay: there is nothing to simplify in one number a channel.
        """

    def begin(self, epoch: int) -> None:
        """Get the network ready for any epoch, counted from 1, whichever came before."""

    def step_cost(self, epoch: int) -> int:
        """What learning from a chip costs in an epoch, in looks at a validation chip."""


class AllAtOnce:
    """All of a network learns from the first epoch on, at the same rate."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Weights, and all else."""
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return [
            {
                "params": [value for value in parameters if (value.ndim > 1) == decays],
                "weight_decay": weight_decay if decays else 0.0,
                "rate": 1.0,
                "first_epoch": 1,
            }
            for decays in (True, False)
        ]

    def begin(self, epoch: int) -> None:
        """Nothing changes."""

    def step_cost(self, epoch: int) -> int:
        """Always the same."""
        return STEP_COST


class FineTuning:
    """The output layer of a classifier learns from the first epoch on, its encoder later, and at a rate of its own.

    Args:
        classifier: On its device.
        frozen: For how many epochs the encoder stays as it is.
        encoder_rate: Its share of the learning rate from then on.
    """

    def __init__(self, classifier: Classifier, frozen: int, encoder_rate: float) -> None:
        self.classifier, self.frozen, self.encoder_rate = classifier, frozen, encoder_rate

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Those of the encoder, and those of the output layer."""
        output = {id(value) for value in split_parameters(self.classifier)[1]}
        groups = parameter_groups(self.classifier, weight_decay, self.encoder_rate)
        return [
            {**group, "first_epoch": 1 if id(group["params"][0]) in output else self.frozen + 1} for group in groups
        ]

    def begin(self, epoch: int) -> None:
        """Freeze the encoder, or thaw it once its time has come."""
        if epoch <= self.frozen:
            freeze_encoder(self.classifier)
        else:
            thaw_encoder(self.classifier)

    def step_cost(self, epoch: int) -> int:
        """Little while the encoder is frozen."""
        return 1 if epoch <= self.frozen else STEP_COST
