"""The training loop. It knows batches, a network, a task and a plan.

What is learned is the task's business; what of the network learns it, and when, is the plan's. Sizes: N chips a batch,
B bands, C classes. Targets are class indices, (N, H, W) where each pixel has one and (N,) where each chip has one, or
(N, C) with 1 where a chip shows a class.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..errors import Cancelled, InputError
from ..events import Reporter, Stage
from .augmentation import Example
from .chips import Chips, in_order, shuffled
from .plan import Plan
from .schedule import one_cycle
from .tally import Tally, or_worst

GRADIENT_CLIP = 1.0  # the norm of all gradients together; a bad batch moves the weights no further than a good one
LEAST_WEIGHT = 1e-12  # what has no label costs nothing, and 0 / this is 0
BFLOAT16_FROM = 8, 0  # compute capability: NVIDIA's Ampere
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

    def prepare(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Chips as stored, (N, B, H, W) of any type → what the network takes, float32; and which of it is missing."""

    def turn(
        self, images: torch.Tensor, missing: torch.Tensor | None, targets: torch.Tensor, generator: torch.Generator
    ) -> Example:
        """Lay prepared chips in another way that means the same."""

    def vary(
        self, images: torch.Tensor, missing: torch.Tensor | None, targets: torch.Tensor, generator: torch.Generator
    ) -> Example:
        """Show prepared chips in another light, or size."""

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
    save_checkpoint: Callable[[Fitted], Path],
    plan: Plan,
    span: tuple[float, float] = (0.0, 1.0),
) -> Fitted:
    """Train a network, and keep the weights of its best epoch.

    Without validation chips, or labels in them, the best epoch is that of the lowest training loss.

    Args:
        network: On the device; its weights are changed.
        save_checkpoint: Called with the best so far when whoever started the job is gone, or the loss is no longer a
            number; gives the file.
        plan: What of the network learns when.
        span: The share of the whole job's progress that the training is.

    Raises:
        Cancelled: The user asked for the end, or nobody is there any more.
        InputError: The loss is no longer a number.
    """
    fitting = _Fitting(
        network, task, training, validation, recipe, device, reporter, plan, span, save_checkpoint
    )  # fmt: skip
    with saving_when_orphaned(reporter, lambda: save_checkpoint(fitting.kept())):
        fitting.run()
    return fitting.fitted


@contextmanager
def saving_when_orphaned(reporter: Reporter, save: Callable[[], object]) -> Iterator[None]:
    """Save what there is when the block is cancelled because whoever started the job is gone."""
    with reporter.saving():
        try:
            yield
        except Cancelled:
            if reporter.orphaned():
                save()
            raise


class _Fitting:
    """A training on its way; the arguments are those of `fit`."""

    def __init__(
        self, network: nn.Module, task: Task, training: Chips, validation: Chips, recipe: Recipe,
        device: torch.device, reporter: Reporter, plan: Plan, span: tuple[float, float],
        save_checkpoint: Callable[[Fitted], Path],
    ) -> None:  # fmt: skip
        self.save_checkpoint = save_checkpoint
        assert recipe.epochs is not None  # "automatic" is settled by then
        self.network, self.task, self.training, self.validation = network, task, training, validation
        self.recipe, self.epochs, self.device, self.reporter, self.plan = recipe, recipe.epochs, device, reporter, plan
        self.begun = time.monotonic()
        self.batches_an_epoch = -(-len(training) // recipe.batch_size)
        self.step = 0
        # A weight that is frozen has no gradient, and stays as it is until it is thawed.
        self.optimizer = torch.optim.AdamW(plan.groups(recipe.weight_decay), lr=recipe.learning_rate)
        self.precision = precision(device, recipe.mixed_precision)
        half = self.precision is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=half)  # type: ignore[attr-defined]
        self.generator = torch.Generator().manual_seed(recipe.seed)
        looks = sum(plan.step_cost(epoch) * len(training) + len(validation) for epoch in range(1, self.epochs + 1))
        self.stage = Stage(reporter, looks, "Training", *span)
        self.fitted = Fitted(_copy(network))

    def run(self) -> None:
        """Train for all epochs, or until none brings anything better, or the user wants no more."""
        for epoch in range(1, self.epochs + 1):
            begun = time.monotonic()
            self._record(epoch, self._learn(epoch), begun)
            best, patience = self.fitted.best_epoch, self.recipe.patience
            if patience and epoch - best >= patience:
                self.reporter.log(f"Stopped after epoch {epoch}: for {patience} none beat epoch {best}.")
                return
            if self.reporter.finish_requested():
                self.reporter.log(f"Finished after epoch {epoch}, as asked.")
                return

    def kept(self) -> Fitted:
        """The best so far; before the end of the first epoch, what there is."""
        return self.fitted if self.fitted.best_epoch else Fitted(_copy(self.network))

    def _learn(self, epoch: int) -> Tally:
        """Show the network all training chips once."""
        recipe = self.recipe
        self.plan.begin(epoch)
        self.network.train()
        tally = self.task.tally()
        for images, targets in self.training.batches(
            shuffled(len(self.training), recipe.batch_size, recipe.seed, epoch)
        ):
            self._set_rates()
            self._learn_from(images, targets, tally)
            if self.step % FINITE_EVERY == 0:
                self._check_finite(tally, epoch)
            self.step += 1
            self.stage.advance(self.plan.step_cost(epoch) * len(images), f"Epoch {epoch} of {self.epochs}")
        self._check_finite(tally, epoch)
        return tally

    def _check_finite(self, tally: Tally, epoch: int) -> None:
        """Refuse to go on with a loss that is no number: weights that came of it would stay none.

        A step that `scaler` skips, because gradients are too large for 16 bits, leaves the loss as it is.
        """
        if tally.finite():
            return
        rate, best, kept = self.recipe.learning_rate, self.fitted.best_epoch, ""
        if best:
            kept = f" The best epoch so far, {best}, is kept in {self.save_checkpoint(self.fitted)}."
        raise InputError(
            f"The loss is no longer a number in epoch {epoch} of {self.epochs}, by step {self.step + 1} of "
            f"{self.epochs * self.batches_an_epoch}, at LEARNING_RATE {rate:g}.{kept}",
            f"Lower LEARNING_RATE, to {rate / 10:g} say; if that does not help, look for extreme values in the bands "
            "and declare them as nodata.",
        )

    def _set_rates(self) -> None:
        steps = self.epochs * self.batches_an_epoch
        for group in self.optimizer.param_groups:
            # Its own cycle begins when it begins to learn.
            first = (group["first_epoch"] - 1) * self.batches_an_epoch
            peak = group["rate"] * self.recipe.learning_rate
            group["lr"] = one_cycle(self.step - first, steps - first, peak) if self.step >= first else 0.0

    def _learn_from(self, images: torch.Tensor, targets: torch.Tensor, tally: Tally) -> None:
        """One step of the optimizer: chips as stored, and their targets."""
        images, missing = self.task.prepare(images)
        if self.recipe.augment:
            images, missing, targets = self.task.turn(images, missing, targets, self.generator)
        images, missing, targets = self.task.vary(images, missing, targets, self.generator)
        with torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision is not torch.float32):
            logits = self.network(images)  # (N, C, ...)
        loss, weight = self.task.loss(logits, targets)  # two sums over the batch
        self.scaler.scale(loss / weight.clamp(min=LEAST_WEIGHT)).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        tally.add(logits, targets, loss.detach(), weight)

    def _record(self, epoch: int, tally: Tally, begun: float) -> None:
        """Compare with the validation chips, keep the weights where they are the best, and tell."""
        fitted, training, figures, judged = self.fitted, tally.figures(), None, False
        if len(self.validation):
            answers = evaluate(self.network, self.task, self.validation, self.recipe.batch_size, self.stage)
            figures, judged = answers.figures(), answers.labelled
        record = {
            "epoch": epoch,
            "epochs": self.epochs,
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
            "seconds": time.monotonic() - begun,
            "training": training,
            "validation": figures,
        }
        score = self.task.score(figures) if figures and judged else (or_worst(training["loss"], -1),)
        record["best"] = fitted.best_score is None or score > fitted.best_score
        fitted.history.append(record)
        fitted.seconds = time.monotonic() - self.begun
        if record["best"]:
            fitted.state, fitted.best_epoch, fitted.best_score = _copy(self.network), epoch, score
        self.reporter.epoch(record)


@torch.no_grad()
def evaluate(network: nn.Module, task: Task, chips: Chips, batch_size: int, stage: Stage) -> Tally:
    """What a network answers to chips; `stage` advances by a step a chip."""
    network.eval()
    tally = task.tally()
    for images, targets in chips.batches(in_order(len(chips), batch_size)):
        logits = network(task.prepare(images)[0])  # (N, C, ...)
        tally.add(logits, targets, *task.loss(logits, targets))
        stage.advance(len(images))
    return tally


def precision(device: torch.device, mixed: bool) -> torch.dtype:
    """bfloat16 on GPUs that have it, else float16; float32 on the CPU, where the short types are not faster."""
    if device.type != "cuda" or not mixed:
        return torch.float32
    # Asked for by the card's generation: torch also says yes where it only imitates bfloat16, slowly.
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= BFLOAT16_FROM else torch.float16


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().to("cpu", copy=True) for key, value in network.state_dict().items()}
