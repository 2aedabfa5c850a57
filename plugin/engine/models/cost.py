"""Estimates the computing time and the memory of a network without running it."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .networks import REFUSALS

# Light networks spend most of their time on moving values between layers. On a CPU, each output value of a layer costs
# about as much as this many operations: with that, the time of ten networks from the lecture CNN to ResNet-50 was
# predicted within 20 %.
OPERATIONS_A_VALUE = 200
# Operations that a step of the optimizer costs per weight: relevant for small chips and large networks.
OPERATIONS_A_WEIGHT = 250
# Pixels a side of the image whose memory is counted. For a network that cannot be counted: bytes per pixel (those that
# can need 240 to 670), and values of its largest tensor (those have up to 64).
LOOKED_AT, USUAL_BYTES, USUAL_VALUES = 512, 800.0, 128.0


def work_per_chip(create: Callable[[], nn.Module], bands: int, size: int, batch_size: int) -> float:
    """Estimate the work for one chip: floating point operations, and the equivalent of moving values and of the
    optimizer.

    Args:
        create: Creates the network; called on the meta device, where that takes no memory.
        bands: Number of bands B.
        size: Chip size S in pixels.
        batch_size: Chips per step.
    """
    values = 0

    def count(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal values
        values += output.numel() if torch.is_tensor(output) else 0

    with torch.device("meta"), torch.no_grad():
        network = create().eval()
        for module in network.modules():
            if not any(module.children()):
                module.register_forward_hook(count)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, bands, size, size))
    weights = sum(value.numel() for value in network.parameters())
    return float(counter.get_total_flops() + OPERATIONS_A_VALUE * values + OPERATIONS_A_WEIGHT * weights / batch_size)


class _Living(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that exist at a time (`most`), and of the largest one."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = self.largest = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if torch.is_tensor(value):
                self._count(value.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.most, self.largest = max(self.most, self.now), max(self.largest, size)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


class Need(NamedTuple):
    """What a network needs for each pixel of an image."""

    memory: float  # bytes at a time, with the image, in float32
    largest: float  # values of its largest tensor


@torch.no_grad()
def need_per_pixel(network: nn.Module, bands: int, unneeded: float = 0) -> Need:
    """Return what a network needs for each pixel of an image.

    A `Segmenter` may leave out the logits along each edge, in a share `unneeded` of the image's side.

    The image exists only on the meta device, where it takes neither memory nor time. Networks whose memory cannot be
    counted get `USUAL_BYTES` and `USUAL_VALUES`.
    """
    more = (round(unneeded * LOOKED_AT),) if unneeded else ()
    trial = copy.deepcopy(network).to("meta")
    image = torch.empty(1, bands, LOOKED_AT, LOOKED_AT, device="meta")
    living = _counted(lambda: trial(image, *more))
    if living is None:
        return Need(USUAL_BYTES, USUAL_VALUES)
    return Need((image.nbytes + living.most) / LOOKED_AT**2, living.largest / image.itemsize / LOOKED_AT**2)


@torch.no_grad()
def most_memory(run: Callable[[], object]) -> int | None:
    """Return the bytes that all tensors need at a time which a function makes, on the meta device or any other.

    None if they cannot be counted: some networks need the numbers that tensors on the meta device do not have.
    """
    living = _counted(run)
    return None if living is None else living.most


def _counted(run: Callable[[], object]) -> _Living | None:
    try:
        with _Living() as living:
            run()
    except REFUSALS:
        return None
    return living
