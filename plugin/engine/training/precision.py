"""The type of number that a network is trained in: 16 bits where the device has them and they are faster."""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

from ..device import lacks_memory
from .chips import Batch
from .task import Lesson, Moment

BFLOAT16_FROM = 8, 0  # compute capability: NVIDIA's Ampere
# On a processor bfloat16 is used if it makes a step so many times as fast. With AMX, U-Net with ResNet-34 becomes 1.9
# times as fast and EfficientNet-Lite0 1.2 times.
WORTHWHILE = 1.15
ROUNDS, CHIPS = 4, 4  # steps of each type, the first of which warms up, and chips in each
SHORTEST = 0.1  # seconds of processor time; shorter steps are not worth it, and Windows' clock has ticks of 16 ms


def precision(device: torch.device, mixed: bool) -> torch.dtype | None:
    """Choose the type for a device: bfloat16 on GPUs that have it, else float16; float32 on most processors.

    Returns:
        The type; None on a processor where `measure` must tell.
    """
    if not mixed:
        return torch.float32
    if device.type == "cuda":
        # Asked for by the card's generation: torch also says yes where it only imitates bfloat16, slowly.
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= BFLOAT16_FROM else torch.float16
    return None if has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16: AMX or AVX-512 BF16.

    The functions of torch that tell are private; without them the answer is no.
    """
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check is not None)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A block whose operations on the device are calculated in `dtype` where that is safe."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def measure(network: nn.Module, lesson: Lesson, batch: Batch, device: torch.device) -> float:
    """Measure how many times as fast a step is in bfloat16 as in float32.

    The steps are done on a copy of the network. Processor time is compared, which other work on the machine changes
    little, and of several steps the shortest, so that the answer is the same each time, unless it is a close thing.

    Returns:
        The ratio; 0 where steps are too short to tell, or the memory is not enough.
    """
    batch = tuple(part[:CHIPS] for part in batch)
    shortest = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    try:
        trial = copy.deepcopy(network)
        for number in range(ROUNDS):
            for dtype in shortest:
                begun = time.process_time()
                with autocast(device, dtype):
                    answers = lesson.learn(trial, batch, Moment(torch.Generator().manual_seed(0), trial, 1.0))
                answers.cost.backward()  # type: ignore[no-untyped-call]
                if number:
                    shortest[dtype] = min(shortest[dtype], time.process_time() - begun)
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        return 0.0
    whole, half = shortest.values()
    return whole / half if whole >= SHORTEST else 0.0
