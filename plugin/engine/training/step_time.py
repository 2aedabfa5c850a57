"""Measures in which type of number a step of a training is faster, see `engine.precision`."""

from __future__ import annotations

import copy
import time

import torch
from torch import nn

from ..device import lacks_memory
from ..precision import autocast
from .chips import Batch
from .task import Lesson, Moment

ROUNDS, CHIPS = 4, 4  # steps of each type, the first of which warms up, and chips in each
SHORTEST = 0.1  # seconds of processor time; shorter steps are not worth it, and Windows' clock has ticks of 16 ms


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
