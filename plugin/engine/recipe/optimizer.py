"""How the weights of a network follow from the gradients."""

from __future__ import annotations

from ..settings import Settings, setting


class OptimizerSettings(Settings):
    """The optimizer."""

    learning_rate: float = setting(1e-3, low=1e-8, high=10)  # the peak of the schedule
    weight_decay: float = setting(1e-2, low=0, high=1)
