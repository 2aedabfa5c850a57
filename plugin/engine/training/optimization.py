"""How the weights of a network move: from gradients, at the rate of the schedule, in the precision of the device."""

from __future__ import annotations

import torch
from timm.optim import create_optimizer_v2
from torch import nn

from ..errors import not_none
from ..recipe.optimizer import OptimizerSettings
from ..recipe.schedule import ScheduleSettings
from .plan import Plan

BFLOAT16_FROM = 8, 0  # compute capability: NVIDIA's Ampere


class Optimization:
    """Moves weights step by step.

    Args:
        network: On the device.
        plan: What of it learns when.
        settings: The optimizer's, settled.
        schedule: Whose epochs are settled.
        steps_an_epoch: Steps of each epoch.
        mixed: Whether to calculate in 16 bits where the device has them.
        device: Where the network is.
    """

    def __init__(
        self, network: nn.Module, plan: Plan, settings: OptimizerSettings, schedule: ScheduleSettings,
        steps_an_epoch: int, mixed: bool, device: torch.device,
    ) -> None:  # fmt: skip
        self.network, self.peak, self.schedule, self.device = (
            network,
            not_none(settings.learning_rate),
            schedule,
            device,
        )
        self.gradient_clip = settings.gradient_clip
        self.steps_an_epoch, self.steps = steps_an_epoch, steps_an_epoch * not_none(schedule.epochs)  # settled by now
        self.done = 0  # steps
        self.improved: list[bool] = []  # of each epoch so far, whether it was the best one until then
        # A weight that is frozen has no gradient, and stays as it is until it is thawed.
        self.optimizer: torch.optim.Optimizer = create_optimizer_v2(
            plan.groups(not_none(settings.weight_decay)), settings.optimizer, self.peak, **settings.arguments()
        )
        self.precision = precision(device, mixed)
        half = self.precision is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=half)  # type: ignore[attr-defined]

    def autocast(self) -> torch.autocast:
        """A block in which the network calculates in its precision."""
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not torch.float32)

    def step(self, loss: torch.Tensor) -> None:
        """Make the loss of a batch less."""
        self._set_rates()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        if self.gradient_clip:  # a bad batch moves the weights no further than a good one
            nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1

    def rate(self) -> float:
        """The highest learning rate of the last step."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def _set_rates(self) -> None:
        for group in self.optimizer.param_groups:
            # Its own cycle begins when it begins to learn.
            first = (group["first_epoch"] - 1) * self.steps_an_epoch
            share = 0.0
            if self.done >= first:
                share = self.schedule.rate(self.done - first, self.steps - first, self.improved)
            group["lr"] = group["rate"] * self.peak * share


def precision(device: torch.device, mixed: bool) -> torch.dtype:
    """bfloat16 on GPUs that have it, else float16; float32 on the CPU, where the short types are not faster."""
    if device.type != "cuda" or not mixed:
        return torch.float32
    # Asked for by the card's generation: torch also says yes where it only imitates bfloat16, slowly.
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= BFLOAT16_FROM else torch.float16
