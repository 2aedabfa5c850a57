"""What a network learns when it starts from pretrained weights."""

from __future__ import annotations

from ..settings import Settings, setting

FREEZES = ("auto", "none", "encoder", "warm_up")


class FineTuningSettings(Settings):
    """Which part of a classifier learns when."""

    # encoder: only the output layer learns. warm_up: so for the first epochs. auto: warm_up from pretrained weights.
    freeze: str = setting("auto", choices=FREEZES)
    freeze_epochs: int | None = setting(None, low=1, high=100000)  # of warm_up; None = by the epochs
    encoder_rate: float | None = setting(None, low=0, high=1)  # the encoder's share of the learning rate; None = auto
