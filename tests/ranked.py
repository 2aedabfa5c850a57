"""Jobs in several ranks, whose networks have neither batch norm nor dropout; run as `python ranked.py JOB.json …`.

Batch norm sees the chips of one rank only, and dropout differs between ranks, so only without them are ranks equal to
a single process. A job whose file is called `cut.json` is cancelled in its second epoch, after a checkpoint.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

ROOT = Path(__file__).resolve().parents[1]


def without_batch_norm(create: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Make a function that creates networks create them with group norm, and without dropout."""

    def replace(module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, child.num_features))
            elif isinstance(child, (nn.Dropout, nn.Dropout2d)):
                child.p = 0.0
            replace(child)

    def created(*arguments: Any) -> nn.Module:
        network = create(*arguments)
        replace(network)
        return network

    return created


def start_ranks(command: list[str], count: int = 2, stdin: int = subprocess.DEVNULL) -> list[subprocess.Popen[str]]:
    """Start a command as ranks of one machine, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, **loopback(), "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    shared["LOCAL_WORLD_SIZE"] = str(count)
    return [
        subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(count)
    ]  # fmt: skip


def loopback() -> dict[str, str]:
    """Environment variables that keep ranks off the network, with what every build of PyTorch has."""
    interface = "lo" if sys.platform.startswith("linux") else "lo0"
    usual = {"OMP_NUM_THREADS": "1", "USE_LIBUV": "0"}  # Debian's PyTorch 2.14 is built without libuv
    return {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": interface, **usual}


def main() -> int:
    """Run the jobs one after the other."""
    sys.path.insert(0, str(ROOT))
    from plugin.engine import worker
    from plugin.engine.errors import Cancelled
    from plugin.engine.training import checkpoint, train_segmenter
    from plugin.engine.training.loop import Fit

    train_segmenter.create_model = without_batch_norm(train_segmenter.create_model)  # type: ignore[assignment]
    plain = checkpoint.Checkpoints.offer

    def cut(self: checkpoint.Checkpoints, fit: Fit) -> None:
        if fit.epoch == 2 and fit.batches == 1:
            self.write(fit)
            raise Cancelled

    reporter, status = worker.JsonReporter(sys.stdout), 0
    for path in sys.argv[1:]:
        checkpoint.Checkpoints.offer = cut if path.endswith("cut.json") else plain  # type: ignore[method-assign]
        status = worker.run(path, reporter)
    return status


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)
