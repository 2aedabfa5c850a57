"""Compiles networks with torch.compile, where that works."""

from __future__ import annotations

import torch
from torch import nn

from ..events import Reporter

BACKEND = "inductor"


class _Trial(nn.Module):
    """A small network; PyTorch 2.5 does not compile modules of its own that are called by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(values)
        return found


def compile_network(network: nn.Module, device: torch.device, reporter: Reporter) -> None:
    """Have a network compiled when it is first used; its tensors keep their names.

    torch.compile needs a C++ compiler, or Triton on a GPU. Where it fails, there is a warning, and the network runs as
    it is.

    Args:
        network: On the device.
        device: Where the network is.
        reporter: Receives the warning.
    """
    trial = _Trial().to(device)
    torch._dynamo.config.suppress_errors = False
    try:
        trial.compile(backend=BACKEND)
        trial(torch.zeros(1, 2, device=device)).sum().backward()
    except Exception as error:  # of compilers, of Triton, of a torch without either
        reporter.warning(f"COMPILE has no effect, because torch.compile does not work here ({_reason(error)}).")
        return
    torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
    network.compile(backend=BACKEND)


def _reason(error: Exception) -> str:
    """The line of a message that says what went wrong; torch puts the name of the backend first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "raised:" not in line]
    return lines[0][:200] if lines else type(error).__name__
