"""Calculations that give the same bits each time (`DETERMINISTIC`); what is random follows from the seed anyway."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..config import TrainingConfig
from ..events import Reporter

Config = TypeVar("Config", bound=TrainingConfig)

# Read by cuBLAS when it is first used: sums in the same order need workspaces of a fixed size.
WORKSPACE, FIXED_SIZE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


@contextmanager
def deterministic(wanted: bool, reporter: Reporter) -> Iterator[None]:
    """A block in which torch takes deterministic algorithms, if `wanted`; afterwards all is as it was.

    Where torch has none, the other one is used, and the log names it. Attention is calculated step by step: as long as
    torch only warns, its fused kernels are not deterministic on a GPU, although they could be.
    """
    if not wanted:
        yield
        return
    cudnn, workspace = torch.backends.cudnn, os.environ.get(WORKSPACE)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = cudnn.benchmark
    os.environ.setdefault(WORKSPACE, FIXED_SIZE)
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.benchmark = False  # which would choose algorithms by their time
    try:
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            _tell_exceptions(reporter)
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(WORKSPACE, None)


@contextmanager
def counting() -> Iterator[None]:
    """A block that only adds up whole numbers, whose sum is the same in any order: torch may take the fast way."""
    if not torch.are_deterministic_algorithms_enabled():
        yield
        return
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)


def _tell_exceptions(reporter: Reporter) -> None:
    """Pass torch's warnings of operations that are not deterministic to the reporter, each once."""
    warnings.filterwarnings("always", message=".*deterministic")
    usual, told = warnings.showwarning, set()

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        text = str(message)
        if "deterministic" not in text:
            usual(message, *place, **more)
            return
        operation = text.split()[0]
        if operation not in told:
            told.add(operation)
            reporter.warning(f"DETERMINISTIC: {operation} has no such algorithm here, so two trainings may differ.")

    warnings.showwarning = show


def without_choices(config: Config, device: torch.device) -> Config:
    """The settings without what would be chosen by the time that it takes: 16 bits on a processor."""
    return config.replace(mixed_precision=False) if config.deterministic and device.type == "cpu" else config
