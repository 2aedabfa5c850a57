"""The training loop: batches, a network, a task and a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import TrainingConfig
from ..errors import Cancelled, InputError, not_none
from ..events import Reporter, Stage
from .chips import Chips, in_order, shuffled
from .optimization import Optimization
from .plan import Plan
from .tally import Tally, or_worst
from .task import Task

FINITE_EVERY = 20  # steps between two looks at the loss; on a GPU each look waits for the device


@dataclass
class Fitted:
    """What a training leaves: its best weights, and the way there."""

    state: dict[str, torch.Tensor]  # on the CPU
    best_epoch: int = 0  # from 1; 0 before the first
    best_score: Any = None
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


Keeper = Callable[[Fitted], Path]


def fit(
    network: nn.Module, task: Task, plan: Plan, training: Chips, validation: Chips, config: TrainingConfig,
    device: torch.device, reporter: Reporter, save_checkpoint: Keeper, span: tuple[float, float] = (0.0, 1.0),
) -> Fitted:  # fmt: skip
    """Train a network, and keep the weights of its best epoch.

    Without validation chips, or labels in them, the best epoch is that of the lowest training loss.

    Args:
        network: On the device; its weights are changed.
        task: What it learns.
        plan: What of it learns when.
        config: The settings; nothing is left to be chosen.
        save_checkpoint: Called with the best so far when whoever started the job is gone, or the loss is no longer a
            number; gives the file.
        span: The share of the whole job's progress that the training is.

    Raises:
        Cancelled: The user asked for the end, or nobody is there any more.
        InputError: The loss is no longer a number.
    """
    epochs, patience, size = not_none(config.schedule.epochs), config.schedule.patience, config.batch_size
    steps = -(-len(training) // size)
    optimization = Optimization(network, plan, config.optimizer, config.schedule, steps, config.mixed_precision, device)
    generator = torch.Generator().manual_seed(config.seed)
    looks = sum(plan.step_cost(epoch) * len(training) + len(validation) for epoch in range(1, epochs + 1))
    stage = Stage(reporter, looks, "Training", *span)
    fitted, begun = Fitted(_copy(network)), time.monotonic()

    def save_what_there_is() -> Path:
        return save_checkpoint(fitted if fitted.best_epoch else Fitted(_copy(network)))

    with saving_when_orphaned(reporter, save_what_there_is):
        for epoch in range(1, epochs + 1):
            epoch_begun = time.monotonic()
            plan.begin(epoch)
            optimization.improved = [record["best"] for record in fitted.history]
            network.train()
            tally = task.tally()
            for batch in training.batches(shuffled(len(training), size, config.seed, epoch)):
                with optimization.autocast():
                    answers = task.learn(network, batch, generator)
                optimization.step(answers.loss)
                tally.add(*answers)
                if optimization.done % FINITE_EVERY == 1 or optimization.done == epoch * steps:
                    _check_finite(tally, epoch, optimization, fitted, save_checkpoint)
                stage.advance(plan.step_cost(epoch) * len(answers.targets), f"Epoch {epoch} of {epochs}")
            judged = evaluate(network, task, validation, size, stage) if len(validation) else None
            record = {
                "epoch": epoch,
                "epochs": epochs,
                "learning_rate": optimization.rate(),
                "seconds": time.monotonic() - epoch_begun,
                "training": tally.figures(),
                "validation": judged.figures() if judged else None,
            }
            _keep_best(fitted, record, task, judged, network)
            fitted.seconds = time.monotonic() - begun
            reporter.epoch(record)
            if patience and epoch - fitted.best_epoch >= patience:
                reporter.log(f"Stopped after epoch {epoch}: for {patience} none beat epoch {fitted.best_epoch}.")
                break
            if reporter.finish_requested():
                reporter.log(f"Finished after epoch {epoch}, as asked.")
                break
    return fitted


def _keep_best(fitted: Fitted, record: dict[str, Any], task: Task, judged: Tally | None, network: nn.Module) -> None:
    """Add the record of an epoch to the history, and keep the weights where they are the best."""
    if judged is not None and judged.labelled:
        score = task.score(record["validation"])
    else:
        score = (or_worst(record["training"]["loss"], -1),)
    record["best"] = fitted.best_score is None or score > fitted.best_score
    fitted.history.append(record)
    if record["best"]:
        fitted.state, fitted.best_epoch, fitted.best_score = _copy(network), record["epoch"], score


def _check_finite(
    tally: Tally, epoch: int, optimization: Optimization, fitted: Fitted, save_checkpoint: Keeper
) -> None:
    """Refuse to go on with a loss that is no number: weights that came of it would stay none.

    A step that is skipped, because gradients are too large for 16 bits, leaves the loss as it is.
    """
    if tally.finite():
        return
    best, kept = fitted.best_epoch, ""
    if best:
        kept = f" The best epoch so far, {best}, is kept in {save_checkpoint(fitted)}."
    raise InputError(
        f"The loss is no longer a number in epoch {epoch} of {optimization.steps // optimization.steps_an_epoch}, by "
        f"step {optimization.done} of {optimization.steps}, at LEARNING_RATE {optimization.peak:g}.{kept}",
        f"Lower LEARNING_RATE, to {optimization.peak / 10:g} say; if that does not help, look for extreme values in "
        "the bands and declare them as nodata.",
    )


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


@torch.no_grad()
def evaluate(network: nn.Module, task: Task, chips: Chips, batch_size: int, stage: Stage) -> Tally:
    """What a network answers to chips; `stage` advances by a step a chip."""
    network.eval()
    tally = task.tally()
    for batch in chips.batches(in_order(len(chips), batch_size)):
        answers = task.answer(network, batch)
        tally.add(*answers)
        stage.advance(len(answers.targets))
    return tally


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().to("cpu", copy=True) for key, value in network.state_dict().items()}
