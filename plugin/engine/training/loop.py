"""The training loop. It knows batches, a network, a task and a plan.

What is learned is the task's business; what of the network learns it, and when, is the plan's. Sizes: N chips a batch,
B bands, C classes. Targets are class indices, (N, H, W) where each pixel has one and (N,) where each chip has one, or
(N, C) with 1 where a chip shows a class.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from ..errors import Cancelled, InputError
from ..events import Reporter, Stage
from .chips import Chips, in_order, shuffled
from .plan import Plan
from .schedule import one_cycle
from .tally import Tally

GRADIENT_CLIP = 1.0  # the norm of all gradients together; a bad batch moves the weights no further than a good one
FINITE_EVERY = 20  # steps between two looks at the loss; on a GPU each look waits for the device


class Recipe(Protocol):
    """The settings of a training, as the config classes have them."""

    @property
    def epochs(self) -> int | None: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def augment(self) -> bool: ...  # noqa: D102
    @property
    def patience(self) -> int: ...  # noqa: D102
    @property
    def mixed_precision(self) -> bool: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


class Task(Protocol):
    """What is learned: how chips enter the network, and what a wrong answer costs."""

    def tally(self) -> Tally:
        """A new one, to count answers."""

    def turn(
        self, images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Lay stored chips in another way that means the same."""

    def vary(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Show prepared chips in another light, or size."""

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Chips as stored, (N, B, H, W) of any type → what the network takes, float32."""

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of the costs, and the sum of the weights to divide it by."""

    def score(self, figures: dict[str, Any]) -> tuple[float, ...]:
        """What the best epoch has most of, from the figures of an evaluation; the next one where epochs are even."""


@dataclass
class Fitted:
    """What a training leaves: its best weights, and the way there."""

    state: dict[str, torch.Tensor]  # on the CPU
    best_epoch: int = 0  # from 1; 0 before the first
    best_score: Any = None
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def fit(
    network: nn.Module,
    task: Task,
    training: Chips,
    validation: Chips,
    recipe: Recipe,
    device: torch.device,
    reporter: Reporter,
    save_checkpoint: Callable[[Fitted], None],
    plan: Plan,
    span: tuple[float, float] = (0.0, 1.0),
) -> Fitted:
    """Train a network, and keep the weights of its best epoch.

    Without validation chips the best epoch is that of the lowest training loss.

    Args:
        network: On the device; its weights are changed.
        save_checkpoint: Called with the best so far when whoever started the job is gone.
        plan: What of the network learns when.
        span: The share of the whole job's progress that the training is.

    Raises:
        Cancelled: The user asked for the end, or nobody is there any more.
        InputError: The loss is no longer a number.
    """
    assert recipe.epochs is not None  # "automatic" is settled by then
    begun = time.monotonic()
    batches_an_epoch = -(-len(training) // recipe.batch_size)
    steps = recipe.epochs * batches_an_epoch
    # A weight that is frozen has no gradient, and stays as it is until it is thawed.
    optimizer = torch.optim.AdamW(plan.groups(recipe.weight_decay), lr=recipe.learning_rate)
    precision = _precision(device, recipe.mixed_precision)
    scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(recipe.seed)
    work = sum(plan.step_cost(epoch) * len(training) + len(validation) for epoch in range(1, recipe.epochs + 1))
    stage = Stage(reporter, work, "Training", *span)
    fitted = Fitted(_copy(network))

    step = 0
    for epoch in range(1, recipe.epochs + 1):
        epoch_begun = time.monotonic()
        plan.begin(epoch)
        network.train()
        tally = task.tally()
        for images, targets in training.batches(shuffled(len(training), recipe.batch_size, recipe.seed, epoch)):
            for group in optimizer.param_groups:
                # Its own cycle begins when it begins to learn.
                first = (group["first_epoch"] - 1) * batches_an_epoch
                rate = group["rate"] * recipe.learning_rate
                group["lr"] = one_cycle(step - first, steps - first, rate) if step >= first else 0.0
            if recipe.augment:
                images, targets = task.turn(images, targets, generator)
            images = task.vary(task.prepare(images), generator)
            with torch.autocast(device.type, dtype=precision, enabled=precision is not torch.float32):
                logits = network(images)  # (N, C, ...)
            loss, weight = task.loss(logits, targets)  # two sums over the batch
            scaler.scale(loss / weight).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_CLIP)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

            tally.add(logits, targets, loss.detach(), weight)
            if step % FINITE_EVERY == 0:
                _check_finite(tally, epoch, recipe)
            step += 1
            if reporter.orphaned():
                save_checkpoint(fitted if fitted.best_epoch else Fitted(_copy(network)))
                raise Cancelled
            stage.advance(plan.step_cost(epoch) * len(images), f"Epoch {epoch} of {recipe.epochs}")
        _check_finite(tally, epoch, recipe)

        figures = evaluate(network, task, validation, recipe.batch_size, stage).figures() if len(validation) else None
        record = {
            "epoch": epoch,
            "epochs": recipe.epochs,
            "learning_rate": max(group["lr"] for group in optimizer.param_groups),
            "seconds": time.monotonic() - epoch_begun,
            "training": tally.figures(),
            "validation": figures,
        }
        score = task.score(figures) if figures else -record["training"]["loss"]
        record["best"] = fitted.best_score is None or score > fitted.best_score
        fitted.history.append(record)
        fitted.seconds = time.monotonic() - begun
        if record["best"]:
            fitted.state, fitted.best_epoch, fitted.best_score = _copy(network), epoch, score
        reporter.epoch(record)
        if recipe.patience and epoch - fitted.best_epoch >= recipe.patience:
            reporter.log(f"Stopped after epoch {epoch}: for {recipe.patience} none beat epoch {fitted.best_epoch}.")
            break
        if reporter.finish_requested():
            reporter.log(f"Finished after epoch {epoch}, as asked.")
            break
    return fitted


@torch.no_grad()
def evaluate(network: nn.Module, task: Task, chips: Chips, batch_size: int, stage: Stage) -> Tally:
    """What a network answers to chips; `stage` advances by a step a chip."""
    network.eval()
    tally = task.tally()
    for images, targets in chips.batches(in_order(len(chips), batch_size)):
        logits = network(task.prepare(images))  # (N, C, ...)
        tally.add(logits, targets, *task.loss(logits, targets))
        stage.advance(len(images))
    return tally


def _precision(device: torch.device, mixed: bool) -> torch.dtype:
    """bfloat16 on GPUs that have it, else float16; float32 on the CPU, where the short types are not faster."""
    if device.type != "cuda" or not mixed:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _check_finite(tally: Tally, epoch: int, recipe: Recipe) -> None:
    if not math.isfinite(tally.loss.item()):
        raise InputError(
            f"The loss is no longer a number in epoch {epoch}, at LEARNING_RATE {recipe.learning_rate:g}.",
            f"Lower LEARNING_RATE, to {recipe.learning_rate / 10:g} say; if that does not help, "
            "look for extreme values in the bands and set them as nodata.",
        )


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().to("cpu", copy=True) for key, value in network.state_dict().items()}
