"""The optimizer: how weights follow from gradients."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..settings import Choice, Settings, setting

# Of the automatic learning rate, by the chips' task. Twice as much made ResNet-18 learn little from 490 photographs.
SHARES = {"segmentation": 1.0, "regression": 1.0, "classification": 0.5, "multilabel": 0.5, "chip_regression": 0.5}


class OptimizerChoice(Choice):
    """An optimizer."""

    rate: float = 0.0  # LEARNING_RATE where it is empty, times the task's share
    decay: float = 0.0  # WEIGHT_DECAY where it is empty
    squares: float | None = None  # SQUARE_MOMENTUM where it is empty
    takes: tuple[str, ...] = ()  # the arguments that it has beside these, by PyTorch's names
    fused: bool = False  # whether PyTorch moves all weights on a GPU with a few kernels


# By timm's names, see `timm.optim.create_optimizer_v2`.
OPTIMIZERS = {
    "adamw": OptimizerChoice(
        "Adam with decoupled weight decay: learns well at its default rate.", "Loshchilov and Hutter 2019",
        rate=1e-3, decay=1e-2, squares=0.999, takes=("betas", "eps"), fused=True,
    ),
    "sgd": OptimizerChoice(
        "Stochastic gradient descent with momentum.", "Sutskever et al. 2013",
        rate=0.05, decay=1e-4, takes=("momentum", "nesterov"), fused=True,
    ),
    "rmsprop": OptimizerChoice(
        "Divides each gradient by the root of the running mean of its squares.", "Tieleman and Hinton 2012",
        rate=1e-4, squares=0.99, takes=("momentum", "alpha", "eps"),
    ),
    "adagrad": OptimizerChoice(
        "Divides each gradient by the root of the sum of all its squares so far, so that its steps get smaller.",
        "Duchi et al. 2011",
        rate=1e-2, takes=("eps",),
    ),
    "adadelta": OptimizerChoice(
        "Scales each step by earlier steps and gradients, so that its rate is near 1.", "Zeiler 2012",
        rate=1.0, squares=0.9, takes=("rho", "eps"),
    ),
    "adam": OptimizerChoice(
        "Running means of the gradients and of their squares; its weight decay is part of the gradient.",
        "Kingma and Ba 2015",
        rate=1e-3, squares=0.999, takes=("betas", "eps"), fused=True,
    ),
    "adamax": OptimizerChoice(
        "Adam with the largest recent gradient in place of the mean of squares.", "Kingma and Ba 2015",
        rate=2e-3, squares=0.999, takes=("betas", "eps"),
    ),
    "nadam": OptimizerChoice(
        "Adam with Nesterov momentum.", "Dozat 2016", rate=1e-3, squares=0.999, takes=("betas", "eps")
    ),
}  # fmt: skip
# What PyTorch calls SQUARE_MOMENTUM.
SQUARES = {"betas", "alpha", "rho"}


class OptimizerSettings(Settings):
    """The optimizer."""

    optimizer: str = setting("adamw", choices=OPTIMIZERS)
    # The peak of the schedule, and the weight decay; None = what suits the optimizer.
    learning_rate: float | None = setting(None, low=1e-8, high=10)
    weight_decay: float | None = setting(None, low=0, high=1)
    # The share of earlier gradients that the next step keeps: momentum of sgd and rmsprop, beta 1 of Adam's family.
    momentum: float = setting(0.9, low=0, high=0.999)
    nesterov: bool = True  # of sgd
    # The same for squares of gradients: beta 2, alpha of rmsprop, rho of adadelta. None = what is usual.
    square_momentum: float | None = setting(None, low=0, high=0.99999)
    epsilon: float | None = setting(None, low=0, high=1)  # added to what is divided by; None = what is usual
    gradient_clip: float = setting(1.0, low=0, high=1e6)  # the highest norm of all gradients together; 0 = any
    accumulation: int = setting(1, low=1, high=1024)  # batches a step
    # Of the average of the weights over the steps, which is what is kept; 0 keeps the weights themselves.
    ema_decay: float = setting(0.0, low=0, high=0.99999)

    def settled(self, task: str) -> dict[str, Any]:
        """The settings that are automatic, by name, with their values for a task."""
        row = OPTIMIZERS[self.optimizer]
        return {
            "learning_rate": SHARES[task] * row.rate if self.learning_rate is None else self.learning_rate,
            "weight_decay": row.decay if self.weight_decay is None else self.weight_decay,
        }

    def check(self) -> None:
        """Refuse what the optimizer does not have.

        Raises:
            InputError: A setting would do nothing.
        """
        takes = OPTIMIZERS[self.optimizer].takes
        for name, value, has in (
            ("SQUARE_MOMENTUM", self.square_momentum, not SQUARES.isdisjoint(takes)),
            ("EPSILON", self.epsilon, "eps" in takes),
        ):
            if value is not None and not has:
                raise InputError(f"{name} is {value:g}, and OPTIMIZER {self.optimizer} has none.", "Leave it empty.")

    def arguments(self) -> dict[str, Any]:
        """Its arguments but for learning rate and weight decay, by PyTorch's names."""
        row = OPTIMIZERS[self.optimizer]
        squares = row.squares if self.square_momentum is None else self.square_momentum
        known = {
            "momentum": self.momentum,
            "nesterov": self.nesterov and self.momentum > 0,  # without momentum there is nothing to look ahead by
            "betas": (self.momentum, squares),
            "alpha": squares,
            "rho": squares,
            "eps": self.epsilon,
        }
        return {name: known[name] for name in row.takes if known[name] is not None}
