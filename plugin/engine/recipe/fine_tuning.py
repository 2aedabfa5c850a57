"""What a network learns when it starts from pretrained weights."""

from __future__ import annotations

from typing import Any

from ..settings import Choice, Settings, setting

FREEZES = {
    "auto": Choice("warm_up with pretrained weights, otherwise none."),
    "none": Choice("All of the network learns."),
    "encoder": Choice("Only the decoder, or a classifier's output layer, learns, which is fast."),
    "warm_up": Choice("The same for the first epochs (FREEZE_EPOCHS), then all of it learns."),
}
# A pretrained encoder's share of the learning rate, where the user does not say.
ENCODER_RATE = 0.5
FOREVER = 10**9  # epochs


class FineTuningSettings(Settings):
    """Which part of a network learns when, and how fast."""

    freeze: str = setting("auto", choices=FREEZES)
    freeze_epochs: int | None = setting(None, low=1, high=100000)  # of warm_up; None = by the epochs
    encoder_rate: float | None = setting(None, low=0, high=1)  # the encoder's share of the learning rate; None = auto
    # The rate of a part of the encoder as a share of that of the next part, see `models.fine_tuning`; 1 = all alike.
    layer_decay: float = setting(1.0, low=0.1, high=1)

    def settled(self, epochs: int | None, pretrained: bool) -> dict[str, Any]:
        """The settings that are automatic, by name, with their values.

        Args:
            epochs: Of the training; None where the clock decides.
            pretrained: Whether the network starts from pretrained weights.
        """
        freeze = self.freeze if self.freeze != "auto" else "warm_up" if pretrained else "none"
        frozen = self.freeze_epochs
        if frozen is None:  # an eighth, at least one
            frozen = max(1, round((epochs or 0) / 8))
        rate = self.encoder_rate
        if rate is None:
            rate = ENCODER_RATE if pretrained else 1.0
        return {"freeze": freeze, "freeze_epochs": frozen if freeze == "warm_up" else None, "encoder_rate": rate}

    @property
    def frozen(self) -> int:
        """For how many epochs the encoder stays as it is; settled settings have that."""
        return {"none": 0, "warm_up": self.freeze_epochs or 0, "encoder": FOREVER}[self.freeze]
