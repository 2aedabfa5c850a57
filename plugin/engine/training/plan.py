"""What of a network learns in which epoch, and how fast."""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import not_none
from ..events import Reporter
from ..models.fine_tuning import Network, freeze_encoder, parameter_groups, thaw_encoder
from ..recipe.fine_tuning import FOREVER, FineTuningSettings

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


class FineTuning:
    """The decoder, or a classifier's output layer, learns from the first epoch on, the encoder later, at its own rate.

    Args:
        network: On its device.
        settings: Settled.
        unlabelled: Unlabelled chips beside each labelled one, to which the network answers twice, and learns from once.
    """

    def __init__(self, network: Network, settings: FineTuningSettings, unlabelled: int = 0) -> None:
        self.network, self.settings, self.unlabelled = network, settings, unlabelled

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Those of the encoder, and those of what is behind it."""
        rate, decay = not_none(self.settings.encoder_rate), self.settings.layer_decay
        groups = parameter_groups(self.network, weight_decay, rate, decay)
        return [{**group, "first_epoch": self.settings.frozen + 1 if group["encoder"] else 1} for group in groups]

    def begin(self, epoch: int) -> None:
        """Freeze the encoder, or thaw it once its time has come."""
        if epoch <= self.settings.frozen:
            freeze_encoder(self.network)
        else:
            thaw_encoder(self.network)

    def step_cost(self, epoch: int) -> int:
        """Little while the encoder is frozen."""
        cost = 1 if epoch <= self.settings.frozen else STEP_COST
        return cost + self.unlabelled * (1 + cost)


def settle(
    tuning: FineTuningSettings, epochs: int | None, pretrained: bool, fresh: str, reporter: Reporter
) -> dict[str, Any]:
    """The settings that are automatic, by name, with their values; tells the user what will learn when.

    Args:
        tuning: As the user gave them.
        epochs: Of the training; None where the clock decides.
        pretrained: Whether the network starts from pretrained weights.
        fresh: What is behind the encoder, in words.
    """
    found = tuning.settled(epochs, pretrained)
    frozen = tuning.replace(**found).frozen
    if tuning.freeze_epochs is not None and found["freeze_epochs"] is None:
        reporter.warning(
            f"FREEZE_EPOCHS {tuning.freeze_epochs} has no effect: FREEZE is {found['freeze']}, and there is no warm-up."
        )
    if not frozen:
        return found
    if not pretrained:
        reporter.warning(f"FREEZE is {found['freeze']}, and the encoder that is frozen has random weights.")
    if frozen >= (epochs or FOREVER):
        until = "throughout"
    else:
        until = f"for {frozen} of {epochs} epochs" if epochs else f"in the first epochs, {frozen} of them"
    reporter.log(f"Only the {fresh} learns {until}; the encoder stays as it is.")
    return found
