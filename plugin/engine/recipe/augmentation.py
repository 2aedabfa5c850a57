"""How training chips are varied."""

from __future__ import annotations

from ..settings import Settings, setting


class AugmentationSettings(Settings):
    """The augmentation; `training.augmentation.STEPS` says what each setting does, and in which order."""

    augment: bool = True  # flips and quarter turns
    # A chip is shown as a part of itself, magnified, whose side is up to this share shorter.
    scale_jitter: float = setting(0.0, low=0, high=0.9)
    # Each band of a chip is made up to this share brighter or darker, and richer or poorer in contrast.
    radiometric_jitter: float = setting(0.0, low=0, high=1)
