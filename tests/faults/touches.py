"""Observes a process's accesses to the disk before they happen; standard library only, so that QGIS can use it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

RENAME = "os.rename"
# Python's own names of what changes a disk; GDAL's and SQLite's writing is met at random times.
TOUCHES = (RENAME, "open", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class Touch:
    """Something that a job did to the disk."""

    event: str
    path: str

    def __str__(self) -> str:
        return f"{self.event} {self.path}"


def observe(folder: str, kill_at: Optional[int] = None, trace: Optional[str] = None) -> None:
    """Watch what this process does in a folder from now on.

    Args:
        kill_at: Before the touch of that number, from 0, the process is killed.
        trace: A file that lists the touches.
    """
    log = open(trace, "a") if trace else None  # noqa: SIM115  # until the process ends
    left = [kill_at]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in TOUCHES or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        if event in ("os.remove", "os.rmdir", "os.mkdir") and arguments[-1] >= 0:  # in a folder that is open
            with contextlib.suppress(OSError):
                path = str(Path(f"/proc/self/fd/{arguments[-1]}").readlink() / path)
        if not path.startswith(folder) or (event == "open" and not (arguments[2] or 0) & WRITING):
            return
        if log is not None:
            print(event, path, sep="\t", file=log, flush=True)
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def traced(trace: Path) -> list[Touch]:
    """What a file of `observe` lists."""
    if not trace.exists():
        return []
    return [Touch(*line.split("\t")) for line in trace.read_text(encoding="utf-8").splitlines()]
