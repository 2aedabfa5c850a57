"""How the weights of a network move: from gradients, at the rate of the schedule, in the precision of the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import ranks
from ..device import explain_memory, lacks_memory
from ..errors import ResourceError, not_none
from ..events import Reporter
from ..precision import WORTHWHILE, autocast, precision
from ..recipe.optimizer import OPTIMIZERS, OptimizerSettings
from ..torchrun import own_rank
from .chips import Batch
from .losses.labels import LEAST_WEIGHT
from .pace import Pace
from .plan import Plan
from .step_time import measure
from .tally import Tally
from .task import Lesson, Moment


class Optimization:
    """Moves weights step by step.

    All that is drawn at random in a step follows from the seed, the number of the step, and the rank. Each rank has its
    share of a step's chips; the ranks add up their gradients, and then move the same weights in the same way.

    Args:
        network: On the device.
        plan: What of it learns when.
        settings: The optimizer's, settled.
        pace: How far the training has come.
        batch_size: Chips that pass through the network at once.
        mixed: Whether to calculate in 16 bits where the device has them and is faster so.
        seed: Of all that is drawn.
        device: Where the network is.
        reporter: Is told when memory is short.
    """

    def __init__(
        self, network: nn.Module, plan: Plan, settings: OptimizerSettings, pace: Pace, batch_size: int, mixed: bool,
        seed: int, device: torch.device, reporter: Reporter,
    ) -> None:  # fmt: skip
        self.network, self.peak, self.pace, self.seed = network, not_none(settings.learning_rate), pace, seed
        self.device, self.reporter, self.gradient_clip = device, reporter, settings.gradient_clip
        self.piece = batch_size  # chips at once; halved where the memory is not enough
        self.rate = 0.0  # the highest one of the last step
        # A weight that is frozen has no gradient, and stays as it is until it is thawed.
        fused = {"fused": True} if device.type == "cuda" and OPTIMIZERS[settings.optimizer].fused else {}
        self.optimizer: torch.optim.Optimizer = create_optimizer_v2(
            plan.groups(not_none(settings.weight_decay)), settings.optimizer, self.peak, **settings.arguments(), **fused
        )
        self.weights = list(network.parameters())  # to look for them takes a millisecond a step
        self.precision = precision(device, mixed)  # None: the first step tells
        half = self.precision is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=half)  # type: ignore[attr-defined]
        self.average = ModelEmaV3(network, settings.ema_decay, use_warmup=True) if settings.ema_decay else None

    @property
    def result(self) -> nn.Module:
        """The network that counts: the average of its weights over the steps where there is one, else the network."""
        return self.network if self.average is None else self.average.module

    def step(self, lesson: Lesson, batch: Batch) -> Tally:
        """Make the loss of a batch less; returns what the network answered, counted."""
        if self.precision is None:
            self.precision = self._measured(lesson, batch)
        answered = self._gradients(lesson, batch)
        while answered is None:
            self.optimizer.zero_grad(set_to_none=True)
            self.piece = -(-self.piece // 2)
            number = "1 chip" if self.piece == 1 else f"{self.piece} chips"
            self.reporter.log(f"The memory is not enough: {number} at once from now on, in more pieces.")
            answered = self._gradients(lesson, batch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * self.peak * self.pace.share(group["first_epoch"])
        self.rate = max(group["lr"] for group in self.optimizer.param_groups)
        if self.gradient_clip:  # a bad batch moves the weights no further than a good one
            nn.utils.clip_grad_norm_(self.weights, self.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if own_rank().count > 1:
            ranks.average(_moving_statistics(self.network))
        if self.average is not None:
            self.average.update(self.network, self.pace.steps)
        self.pace.step()
        return answered

    def _gradients(self, lesson: Lesson, batch: Batch) -> Tally | None:
        """Gradients of the mean loss of the chips of all ranks; None where the memory is not enough for the pieces of
        this rank's batch.

        The answers to a piece are counted and let go before the next one, so that more pieces need no more memory.
        """
        rank = own_rank()
        place = [self.seed, self.pace.steps, rank.number]
        seeds = np.random.SeedSequence(place if rank.number else place[:2]).generate_state(2)
        # For dropout. `torch.manual_seed` also looks for kinds of devices that are not here, which takes longer.
        for drawing in (torch.default_generator, *torch.cuda.default_generators):
            drawing.manual_seed(int(seeds[0]))
        generator = torch.Generator().manual_seed(int(seeds[1]))
        moment = Moment(generator, self.result, self.pace.position / self.pace.end)
        pieces = -(-len(batch[0]) // self.piece)
        shared = False
        if rank.count > 1 and lesson.shares_sums:  # piece by piece, so all ranks need as many, of a chip at least
            pieces = ranks.highest(pieces)
            shared = ranks.highest(int(len(batch[0]) < pieces)) == 0
            pieces = min(pieces, len(batch[0]))
        single = pieces == 1 and rank.count == 1
        answered, total = lesson.tally(), torch.zeros((), device=self.device)
        try:
            for piece in zip(*(part.tensor_split(pieces) for part in batch)):
                with autocast(self.device, not_none(self.precision)), ranks.sharing_sums(shared):
                    found = lesson.learn(self.network, piece, moment)
                cost = found.cost if single else found.cost * found.weight
                self.scaler.scale(cost).backward()  # type: ignore[no-untyped-call]
                answered.add(*found)
                total = total + found.weight
                del found, cost
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            if self.piece == 1:
                height, width = batch[0].shape[-2:]
                with explain_memory(
                    self.device, f"a single chip of {width} × {height} pixels",
                    "Take smaller chips or a lighter network; a smaller BATCH_SIZE does not help.",
                ):  # fmt: skip
                    raise
            if shared:  # the others would wait for sums of pieces that they do not have
                raise ResourceError(
                    f"The memory of rank {rank.number} is not enough for {self.piece} chips at once.",
                    "Halve BATCH_SIZE and double ACCUMULATION: ranks that share sums of a loss take no smaller pieces "
                    "by themselves.",
                ) from error
            return None
        gradients = [value.grad for value in self.weights if value.grad is not None]
        ranks.add_up([total, *gradients])  # before infinite ones are looked for, so that all ranks find them
        self.scaler.unscale_(self.optimizer)
        if not single:
            torch._foreach_div_(gradients, torch.clamp(total, min=LEAST_WEIGHT))
        return answered

    def _measured(self, lesson: Lesson, batch: Batch) -> torch.dtype:
        """The faster type of number on this processor."""
        ratio = ranks.of_first(measure(self.network, lesson, batch, self.device))
        dtype = torch.bfloat16 if ratio >= WORTHWHILE else torch.float32
        how = f"in bfloat16 a step is {ratio:.2f} times as fast" if ratio else "steps are too short to measure"
        self.reporter.log(f"MIXED_PRECISION: {how}, so {_name(dtype)} is used.")
        return dtype

    @property
    def type_name(self) -> str:
        """The type of number that the network is calculated in; "" before the first step."""
        return _name(self.precision) if self.precision else ""

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What `restore` needs: tensors by name, and what is ready for JSON."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        if self.average is not None:
            tensors.update({f"average.{key}": value for key, value in self.average.module.state_dict().items()})
        numbers: dict[str, Any] = {}
        for place, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                kept = tensors if isinstance(value, torch.Tensor) else numbers
                kept[f"optimizer.{place}.{name}"] = value
        return tensors, {
            "optimizer": numbers,
            "scaler": self.scaler.state_dict(),
            "piece": self.piece,
            "rate": self.rate,
            "precision": self.type_name,
        }

    def restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Go on where another one was."""
        _fill(self.network, _part(tensors, "network."))
        if self.average is not None:
            _fill(self.average.module, _part(tensors, "average."))
        state: dict[int, dict[str, Any]] = {}
        for key, value in {**_part(tensors, "optimizer."), **_part(facts["optimizer"], "optimizer.")}.items():
            place, _, name = key.partition(".")
            state.setdefault(int(place), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        shapes = [value.shape for group in self.optimizer.param_groups for value in group["params"]]
        for number, values in state.items():
            if any(np.shape(value) not in ((), shapes[number]) for value in values.values()):
                raise ValueError(f"the optimizer's state of weight {number} has another shape")
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(facts["scaler"])
        if self.precision is None and facts.get("precision") in ("float32", "bfloat16"):
            self.precision = getattr(torch, facts["precision"])
        self.piece, self.rate = int(facts["piece"]), float(facts["rate"])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _moving_statistics(network: nn.Module) -> list[torch.Tensor]:
    """The moving means and variances of the batch norms that learn."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    return [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]


def check_same_tensors(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Compare a state dict with a network: names, and for each tensor shape and type.

    Raises:
        ValueError: They differ.
    """
    own = {key: (value.shape, value.dtype) for key, value in network.state_dict().items()}
    found = {key: (value.shape, value.dtype) for key, value in state.items()}
    strange = sorted(key for key in own.keys() | found.keys() if own.get(key) != found.get(key))
    if strange:
        raise ValueError(f"{len(strange)} of its tensors, such as {strange[0]}, are not those of the network")


def _fill(network: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Give a network the weights of another one of its kind; raises as `check_same_tensors`."""
    check_same_tensors(network, state)
    network.load_state_dict(state)


def _part(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names have a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in values.items() if key.startswith(prefix)}
