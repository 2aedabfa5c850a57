"""The optimizer: how weights follow from gradients."""

from __future__ import annotations

from ..settings import Choice, Settings, setting

# By timm's names, see `timm.optim.create_optimizer_v2`.
OPTIMIZERS = {
    "adamw": Choice("Adam with decoupled weight decay: learns well at its default rate.", "Loshchilov and Hutter 2019"),
    "sgd": Choice(
        "Stochastic gradient descent with Nesterov momentum. Wants a higher rate, 0.01 to 0.1.", "Sutskever et al. 2013"
    ),
}


class OptimizerSettings(Settings):
    """The optimizer."""

    optimizer: str = setting("adamw", choices=OPTIMIZERS)
    learning_rate: float = setting(1e-3, low=1e-8, high=10)  # the peak of the schedule
    momentum: float = setting(0.9, low=0, high=0.999)  # of sgd
    weight_decay: float = setting(1e-2, low=0, high=1)
