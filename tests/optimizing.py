"""Steps of an optimizer outside of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from plugin.engine.events import Reporter
from plugin.engine.recipe.loss import LossSettings
from plugin.engine.recipe.optimizer import OptimizerSettings
from plugin.engine.recipe.schedule import ScheduleSettings
from plugin.engine.training.losses.cross_entropies import cross_entropy
from plugin.engine.training.optimization import Optimization
from plugin.engine.training.pace import Pace
from plugin.engine.training.tally import Tally
from plugin.engine.training.task import Answers


class Everything:
    """A plan by which all weights learn from the first epoch on, at the same rate."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        parameters = list(self.network.parameters())
        return [{"params": parameters, "weight_decay": weight_decay, "rate": 1.0, "first_epoch": 1}]

    def begin(self, epoch: int) -> None:
        pass

    def step_cost(self, epoch: int) -> int:
        return 1


class Losses(Tally):
    """Counts losses alone."""

    def count(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        pass


def loss_of(tally: Tally) -> float:
    """The mean loss of a step."""
    total, weight = tally.totals().tolist()
    return total / weight


class Costs:
    """A task without normalisation and augmentation, whose loss is cross-entropy, or a sum of what `cost` gives."""

    def __init__(self, cost: Callable[[torch.Tensor], torch.Tensor] | None = None, device: str = "cpu") -> None:
        self.cost, self.device = cost, device

    def tally(self) -> Tally:
        return Losses(torch.device(self.device))

    def learn(self, network: nn.Module, batch: Any, generator: torch.Generator) -> Answers:
        images, targets = batch
        logits = network(images)
        if self.cost:
            return Answers(logits, targets, self.cost(logits).sum(), torch.tensor(1.0))
        weights = torch.ones(logits.shape[1], device=self.device)
        return Answers(logits, targets, *cross_entropy(logits, targets, weights, LossSettings()))


def optimization(
    network: nn.Module | None = None, schedule: ScheduleSettings | None = None, steps_an_epoch: int = 1,
    batch_size: int = 8, reporter: Reporter | None = None, mixed: bool = False, device: str = "cpu", **values: Any,
) -> Optimization:  # fmt: skip
    """Of optimizer settings, in the first epoch."""
    network = (network or nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))).to(device)
    pace = Pace(schedule or ScheduleSettings(epochs=50, schedule="constant"), steps_an_epoch, 0, 0.0)
    pace.begin(1, [])
    settings = OptimizerSettings(**values)
    settings = settings.replace(**settings.settled("segmentation"))
    plan, where = Everything(network), torch.device(device)
    return Optimization(network, plan, settings, pace, batch_size, mixed, 0, where, reporter or Reporter())
