"""What the ranks of a job exchange: sums, and what the first one decides (see `docs/cluster.md`).

With one rank, nothing is exchanged. Otherwise all ranks must call the same functions in the same order, since each
call waits for the other ranks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from .errors import InputError, ResourceError
from .torchrun import own_rank

_sharing = ContextVar("sharing", default=False)
# The longest wait for another rank, which may be writing a file of many chips. A rank that ends is noticed at once.
LONGEST_WAIT = timedelta(days=1)


def join(device: torch.device) -> None:
    """Connect to the other ranks: through nccl between GPUs, and through gloo between CPUs.

    Raises:
        ResourceError: This torch cannot connect processes, or they cannot be connected.
    """
    if own_rank().count == 1 or (dist.is_available() and dist.is_initialized()):
        return
    if not dist.is_available():
        raise ResourceError(
            f"torch {torch.__version__} is built without torch.distributed, which {own_rank().count} ranks need.",
            "Start one rank, or install another build of PyTorch.",
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Numbers that only the CPU needs go through gloo there too, so that no step waits for the GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=LONGEST_WAIT)
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"The {own_rank().count} ranks cannot be connected ({error}).",
            "Check that MASTER_ADDR and MASTER_PORT name a free port that all of them reach.",
        ) from error


def share(items: np.ndarray) -> np.ndarray:
    """This rank's part of some items; those of all ranks, one after the other, are the items."""
    rank = own_rank()
    return np.array_split(items, rank.count)[rank.number]


def share_of_step(items: np.ndarray, batch: int) -> np.ndarray:
    """This rank's part of the items of a step: its share of each of the batches whose gradients are added up.

    A loss of areas then compares the items of the same batches as a single process that takes so many times as many.

    Args:
        items: Of all ranks.
        batch: The items that a rank takes at once.
    """
    batches = max(1, -(-len(items) // (batch * own_rank().count)))
    return np.concatenate([share(part) for part in np.array_split(items, batches)])


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum of the values of all ranks."""
    if own_rank().count > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def add_up(tensors: Sequence[torch.Tensor]) -> None:
    """Replace tensors by their sums over all ranks, with a single exchange."""
    if own_rank().count == 1 or not tensors:
        return
    whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(whole)
    parts = torch.split(whole, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view(tensor.shape) for part, tensor in zip(parts, tensors)])


def average(tensors: Sequence[torch.Tensor]) -> None:
    """Replace tensors by their means over all ranks."""
    add_up(tensors)
    if tensors:
        torch._foreach_div_(list(tensors), own_rank().count)


@contextmanager
def sharing_sums(active: bool) -> Iterator[None]:
    """A block in which `whole` adds up, if `active`; all ranks must then call it as often as each other."""
    before = _sharing.set(active)
    try:
        yield
    finally:
        _sharing.reset(before)


def sums_are_shared() -> bool:
    """Whether `whole` adds up."""
    return _sharing.get()


def whole(values: torch.Tensor) -> torch.Tensor:
    """Sums over all ranks in a block of `sharing_sums`, else the values; the gradient is that of this rank's values."""
    if not _sharing.get():
        return values
    own = values.detach()
    return values + (total(own) - own)


def gather(rows: torch.Tensor) -> torch.Tensor:
    """The rows (n, ...) of all ranks, one rank after the other."""
    rank = own_rank()
    if rank.count == 1:
        return rows
    lengths = torch.zeros(rank.count, dtype=torch.int64)
    lengths[rank.number] = len(rows)
    ends = total(lengths).cumsum(0).tolist()
    whole = rows.new_zeros(ends[-1], *rows.shape[1:])
    whole[ends[rank.number] - len(rows) : ends[rank.number]] = rows
    dist.all_reduce(whole)
    return whole


def of_first(number: float) -> float:
    """The number of the first rank."""
    return float(total(torch.tensor(0.0 if own_rank().number else number, dtype=torch.float64)))


def highest(number: int) -> int:
    """The largest number of all ranks."""
    value = torch.tensor(number)
    if own_rank().count > 1:
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def wait() -> None:
    """Wait until all ranks are here."""
    highest(0)


@contextmanager
def in_turns() -> Iterator[None]:
    """A block that the first rank runs alone, then the first of each other machine, then all others.

    For files that one rank writes and the others read, whether or not the machines share their disks.
    """
    rank = own_rank()
    turn = 0 if rank.number == 0 else 1 if rank.local == 0 else 2
    for _ in range(turn):
        wait()
    yield
    for _ in range(2 - turn):
        wait()


def copy_first(network: nn.Module) -> None:
    """Give all ranks the weights of the first one: processors of different kinds may draw slightly different ones."""
    values = [value for value in network.state_dict().values() if value.is_floating_point()]
    if own_rank().number:
        torch._foreach_zero_(values)
    add_up(values)


def check_same(facts: dict[str, Any]) -> None:
    """Check that all ranks have the same facts.

    Args:
        facts: Ready for JSON, by what they are called in the message.

    Raises:
        InputError: They differ.
    """
    texts = (json.dumps(fact, sort_keys=True, default=str) for fact in facts.values())
    hashes = torch.tensor([int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) for text in texts])
    differs = total((hashes != total(hashes) // own_rank().count).long())
    names = [name for name, count in zip(facts, differs.tolist()) if count]
    if names:
        raise InputError(
            f"The ranks do not have the same {', '.join(names)}.",
            "Start all of them with the same job file, Terrazzo, datasets and kind of device.",
        )
