"""The training loop: batches, a network, a task and a plan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .. import ranks
from ..config import TrainingConfig
from ..device import Later, peak_memory
from ..errors import InputError
from ..events import Reporter, Stage
from ..torchrun import own_rank
from .calibration import Sample
from .chips import Batches, Chips, Draws, in_order, shuffled, steps_an_epoch
from .optimization import Optimization, check_same_tensors
from .pace import Pace
from .plan import Plan
from .tally import Tally, mean_loss, or_worst
from .task import Lesson, Task

# Training stops when the training loss is so many times the lowest one, and more than in the first epoch.
DIVERGED = 3
LOOK_EVERY = 20  # steps between two looks at the loss


@dataclass
class Fitted:
    """What a training leaves: its best weights, and the way there."""

    state: dict[str, torch.Tensor]  # on the CPU
    best_epoch: int = 0  # from 1; 0 before the first
    best_score: Any = None
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    precision: str = ""  # the type of number that the network was calculated in


class Fit:
    """A training under way: all that changes while a network learns.

    Args:
        network: On the device; its weights are changed.
        task: How its answers are judged.
        lesson: What it learns in a step; the task itself, or more.
        plan: What of it learns when.
        draws: Which training chips an epoch shows.
        config: The settings; nothing is left to be chosen.
        training, validation: Chips: all for training, and this rank's share of those for validation. Without validation
            chips, or labels in them, the best epoch is that of the lowest training loss.
        device: Where the network is.
        reporter: Is told of epochs.
        closing_looks: Looks at chips that follow the last epoch.
        spent: Seconds that the job has lasted so far.
    """

    def __init__(
        self, network: nn.Module, task: Task, lesson: Lesson, plan: Plan, draws: Draws, config: TrainingConfig,
        training: Batches, validation: Chips, device: torch.device, reporter: Reporter, closing_looks: int = 0,
        spent: float = 0.0,
    ) -> None:  # fmt: skip
        self.network, self.task, self.lesson, self.plan = network, task, lesson, plan
        self.draws, self.training, self.validation = draws, training, validation
        self.config, self.reporter = config, reporter
        self.validated = ranks.of_first(len(validation)) > 0  # the first rank's share is never smaller than others
        steps = steps_an_epoch(len(draws), config.step_size)
        self.pace = Pace(config.schedule, steps, closing_looks + len(validation), spent)
        self.optimization = Optimization(
            network, plan, config.optimizer, self.pace, config.batch_size, config.mixed_precision, config.seed, device,
            reporter,
        )  # fmt: skip
        self.fitted = Fitted(copy_state(network))
        self.epoch = 1  # under way, or about to begin
        self.batches = 0  # of this epoch that are done
        self.tally = lesson.tally()  # of this epoch
        self.ended = False  # before its time
        self.looks: list[tuple[int, float, Later]] = []  # step, learning rate and the tally's totals, not yet reported

    def run(self, save: Callable[[Fit], None], stage: Stage) -> Fitted:
        """Train until no step is left, or nothing better came for as long as the user has patience.

        Args:
            save: Called after each step and epoch; writes a checkpoint when it is time for one.
            stage: Its steps are those of `work`.

        Raises:
            Cancelled: The user asked for the end, or nobody is there any more.
            InputError: The loss is no longer a number.
        """
        # A training that was interrupted while it judged its last epoch still has to do so.
        while not self.ended and (self.batches or not self.pace.over):
            begun, shown = time.monotonic(), 0
            self.pace.begin(self.epoch, [record["best"] for record in self.fitted.history])
            self.plan.begin(self.epoch)
            self.network.train()
            order = shuffled(self.draws, self.config.step_size, self.config.seed, self.epoch)
            left = [] if self.pace.over else order[self.batches :]
            for batch in self.training.batches(ranks.share_of_step(step, self.config.batch_size) for step in left):
                self.tally.include(self.optimization.step(self.lesson, batch))
                self.batches, shown = self.batches + 1, shown + len(order[self.batches])
                last = self.batches == len(order) or self.pace.over
                if last or self.pace.steps % LOOK_EVERY == 1:
                    self._look_at_loss(wait=last)
                looks = self.plan.step_cost(self.epoch) * len(batch[0])
                stage.advance(self.pace.look(looks), self._where())
                self._agree()
                if self.pace.over:
                    break
                save(self)
            self._judge(begun, shown, stage)
            self._agree()
            save(self)
        return self.fitted

    @property
    def work(self) -> int:
        """The length of the whole training, in looks at chips or ticks of the clock."""
        epochs = self.pace.epochs
        if epochs is None:
            return self.pace.end
        chips = -(-len(self.draws) // own_rank().count)
        looks = sum(self.plan.step_cost(epoch) * chips + len(self.validation) for epoch in range(1, epochs + 1))
        left = epochs * self.pace.steps_an_epoch - self.pace.end  # steps that the last epoch lacks
        return looks - self.plan.step_cost(epochs) * chips * left // self.pace.steps_an_epoch

    def _judge(self, begun: float, shown: int, stage: Stage) -> None:
        """End an epoch: see what the network answers to validation chips, and whether that is the best so far.

        Args:
            begun: When this process began with the epoch.
            shown: How many chips all ranks have trained on since.
            stage: Advances by the looks at validation chips.
        """
        judged, trained = None, time.monotonic()
        self.tally.restore(self.tally.merged())
        if self.validated:
            judged = evaluate(
                self.optimization.result, self.task, self.validation, self.config.batch_size,
                lambda chips: stage.advance(self.pace.look(chips)),
            )  # fmt: skip
        record = {
            "epoch": self.epoch,
            "epochs": self.pace.epochs or self.epoch,
            "learning_rate": self.optimization.rate,
            "seconds": time.monotonic() - begun,
            "chips_a_second": shown / max(trained - begun, 1e-9),
            "memory": peak_memory(self.optimization.device),
            "training": self.tally.figures(),
            "validation": judged.figures() if judged else None,
        }
        if judged is not None and not judged.labelled:
            record["validation"] = None
        self._keep_best(record)
        self.fitted.seconds, self.fitted.precision = self.pace.seconds, self.optimization.type_name
        self.reporter.epoch(record)
        patience, best = self.config.stopping.patience, self.fitted.best_epoch
        losses = [or_worst(one["training"]["loss"], -1) for one in self.fitted.history]  # below 0
        if losses[-1] < min(DIVERGED * max(losses), losses[0]):
            self.reporter.warning(
                f"Stopped after epoch {self.epoch}: the training loss has grown from {-max(losses):.3g} to "
                f"{-losses[-1]:.3g}. Epoch {best} is kept. Lower LEARNING_RATE, to {self.optimization.peak / 10:g} say."
            )
            self.ended = True
        elif patience and self.epoch - best >= patience:
            self.reporter.log(f"Stopped after epoch {self.epoch}: for {patience} none beat epoch {best}.")
            self.ended = True
        elif self.reporter.finish_requested():
            self.reporter.log(f"Finished after epoch {self.epoch}, as asked.")
            self.ended = True
        self.epoch, self.batches, self.tally = self.epoch + 1, 0, self.lesson.tally()

    def _agree(self) -> None:
        """Follow the first rank in what depends on its clock or on its user."""
        if self.pace.by_clock:
            self.pace.position = int(ranks.of_first(self.pace.position))
        if not self.batches:  # between two epochs
            self.ended = bool(ranks.of_first(self.ended))

    def _keep_best(self, record: dict[str, Any]) -> None:
        """Add the record of an epoch to the history, and keep the weights where they are the best."""
        fitted, score = self.fitted, self._score(record)
        record["best"] = bool(ranks.of_first(fitted.best_score is None or score > fitted.best_score))
        fitted.history.append(record)
        if record["best"]:
            fitted.state, fitted.best_epoch = copy_state(self.optimization.result), record["epoch"]
            fitted.best_score = score

    def _score(self, record: dict[str, Any]) -> tuple[float, ...]:
        """What the best epoch has most of; without labelled validation chips, the lowest training loss."""
        figures, stopping = record["validation"], self.config.stopping
        if figures is None:
            return (or_worst(record["training"]["loss"], -1),)
        return self.task.score(figures) if stopping.monitor == "auto" else (or_worst(stopping.score(figures)),)

    def _where(self) -> str:
        return f"Epoch {self.epoch} of {self.pace.epochs}" if self.pace.epochs else f"Epoch {self.epoch}"

    def _look_at_loss(self, wait: bool) -> None:
        """Report the loss, and refuse to go on with one that is no number: weights that came of it would stay none.

        A step that is skipped, because gradients are too large for 16 bits, leaves the loss as it is.

        Args:
            wait: Wait for the loss. Otherwise a GPU is asked now, and its answer is looked at the next time.
        """
        self.looks.append((self.pace.steps, self.optimization.rate, Later(ranks.total(self.tally.totals()))))
        at_once = wait or self.optimization.device.type == "cpu"
        while len(self.looks) > (0 if at_once else 1):
            step, rate, totals = self.looks.pop(0)
            loss, weight = totals.read().tolist()
            if not math.isfinite(loss):
                raise self._exploded(step)
            self.reporter.step({"step": step, "loss": mean_loss(loss, weight), "learning_rate": rate})

    def _exploded(self, step: int) -> Exploded:
        rate, total = self.optimization.peak, "" if self.pace.by_clock else f" of {self.pace.end}"
        return Exploded(
            f"The loss is no longer a number in {self._where().lower()}, by step {step}{total}, at "
            f"LEARNING_RATE {rate:g}.",
            f"Lower LEARNING_RATE, to {rate / 10:g} say; if that does not help, look for extreme values in the bands "
            "and declare them as nodata.",
        )

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What `restore` needs: tensors by name, and what is ready for JSON; called by all ranks."""
        tensors, facts = self.optimization.state()
        tensors.update({f"tally.{name}": value for name, value in self.tally.merged().items()})
        place = {
            "epoch": self.epoch, "batches": self.batches, "ended": self.ended, "ranks": own_rank().count,
        }  # fmt: skip
        return tensors, {**facts, **place, "pace": self.pace.state()}

    def restore(
        self, best: dict[str, torch.Tensor], history: list[dict[str, Any]], tensors: dict[str, torch.Tensor],
        facts: dict[str, Any],
    ) -> None:  # fmt: skip
        """Go on where another training was.

        Args:
            best: The best weights so far.
            history: A record an epoch.
            tensors, facts: Of its `state`.
        """
        check_same_tensors(self.network, best)
        self.optimization.restore(tensors, facts)
        self.pace.restore(facts["pace"])
        self.epoch, self.batches, self.ended = int(facts["epoch"]), int(facts["batches"]), bool(facts["ended"])
        kept = {key.removeprefix("tally."): value for key, value in tensors.items() if key.startswith("tally.")}
        if own_rank().number == 0:  # the tallies of all ranks are merged into it again
            self.tally.restore(kept)
        self.fitted = Fitted(best, history=history, seconds=self.pace.seconds, precision=self.optimization.type_name)
        for record in history:
            if record["best"]:
                self.fitted.best_epoch, self.fitted.best_score = record["epoch"], self._score(record)


class Exploded(InputError):
    """The loss is no longer a number."""


@torch.no_grad()
def evaluate(
    network: nn.Module, task: Task, chips: Chips, batch_size: int, advance: Callable[[int], None],
    sample: Sample | None = None,
) -> Tally:  # fmt: skip
    """What a network answers to the chips of all ranks, each of which has its share.

    Args:
        advance: Called with the number of chips of each batch.
        sample: Receives the answers as well.
    """
    network.eval()
    tally = task.tally()
    for batch in chips.batches(in_order(len(chips), batch_size)):
        answers = task.answer(network, batch)
        tally.add(*answers)
        if sample is not None:
            sample.add(answers.logits, answers.targets)
        advance(len(answers.targets))
    tally.restore(tally.merged())
    return tally


def copy_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a network's weights, on the CPU."""
    return {key: value.detach().to("cpu", copy=True) for key, value in network.state_dict().items()}
