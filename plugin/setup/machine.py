"""The properties of this computer that decide which PyTorch suits it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..children import WINDOWS, no_console

NVIDIA_SMI_SECONDS = 15  # waking up a sleeping card takes a few
WINDOWS_NVIDIA_SMI = Path(r"C:\Windows\System32\nvidia-smi.exe")


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA card.

    Attributes:
        name: Name of the card.
        driver: Version of its driver, such as (580, 65).
        capability: CUDA compute capability: (7, 5) is Turing, (12, 0) Blackwell; None if the driver is too old.
    """

    name: str
    driver: tuple[int, ...]
    capability: Optional[tuple[int, int]]


@dataclass(frozen=True)
class Machine:
    """A computer."""

    system: str  # linux, win32 or darwin
    processor: str  # x86_64 or arm64
    gpu: Optional[Gpu]
    translated: bool = False  # an Intel program on an Apple processor


def look_at_machine() -> Machine:
    """Describe this computer, with the help of the system and nvidia-smi."""
    processor = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
    system = "linux" if sys.platform.startswith("linux") else sys.platform
    intel_on_mac = system == "darwin" and processor == "x86_64"
    translated = intel_on_mac and _first_line(["sysctl", "-n", "hw.optional.arm64"]) == "1"
    return Machine(system, processor, find_gpu(), translated)


def find_gpu() -> Optional[Gpu]:
    """Return the newest NVIDIA card; None if there is none, or its driver is not installed."""
    tool = shutil.which("nvidia-smi")
    if tool is None and WINDOWS and WINDOWS_NVIDIA_SMI.is_file():
        tool = str(WINDOWS_NVIDIA_SMI)
    if tool is None:
        return None
    text = _output([tool, "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"])
    if text is None:  # drivers before 2021 do not know compute_cap
        text = _output([tool, "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return read_gpus(text or "")


def read_gpus(text: str) -> Optional[Gpu]:
    """Return the newest card in the output of nvidia-smi, one line per card: name, driver, compute capability."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) < 2 or not parts[1][:1].isdigit():
            continue
        numbers = _numbers(parts[2]) if len(parts) > 2 else ()
        capability = (numbers[0], numbers[1]) if len(numbers) == 2 else None
        found.append(Gpu(parts[0], _numbers(parts[1]), capability))
    return max(found, key=lambda gpu: gpu.capability or (0, 0), default=None)


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, existing or not; 0 if there is no such disk."""
    # Path.exists() of Python 3.11 and older raises if a parent folder may not be entered.
    there = next((path for path in (folder, *folder.parents) if os.path.exists(path)), None)  # noqa: PTH110
    return shutil.disk_usage(there).free if there is not None else 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _first_line(command: list[str]) -> str:
    return ((_output(command) or "").splitlines() or [""])[0].strip()


def _output(command: list[str]) -> Optional[str]:
    """Return the output of a command; None if it is missing, fails or takes too long."""
    try:
        done = subprocess.run(  # nosec B603  # no shell; commands of our own
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=NVIDIA_SMI_SECONDS, **no_console(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
