"""What wrong answers cost."""

from __future__ import annotations

from ..settings import Settings, setting

# How classes are weighted → the power of a class's share that its weight is, see `training.losses.class_weights`.
CLASS_WEIGHTS = {"none": 0.0, "root": -0.5, "balanced": -1.0}


class LossSettings(Settings):
    """The loss."""

    class_weights: str = setting("root", choices=CLASS_WEIGHTS)
    label_smoothing: float = setting(0.0, low=0, high=0.9)
