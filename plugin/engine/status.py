"""The `status` job: describes the worker's Python, torch and the machine; does not need torch."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

from . import probe
from .config import StatusConfig
from .errors import first_line
from .events import Reporter
from .threads import cpu_threads


def report_status(config: StatusConfig, reporter: Reporter) -> dict[str, Any]:
    """Describe the worker.

    Returns:
        python, python_version, versions (of installed modules), missing (see `probe.missing`), gpus ({name, memory,
        memory_free} in bytes), cuda (version or None), torch_error (None, or why the installed torch cannot be
        imported), threads, memory, memory_free (bytes, None if unknown), ready (whether jobs can run).
    """
    found = probe.describe()
    memory, memory_free = machine_memory()
    torch = _torch_status() if "torch" in probe.versions() else {"gpus": [], "cuda": None, "torch_error": None}
    return {
        "python": sys.executable,
        "python_version": found["python"],
        "versions": found["versions"],
        "missing": found["missing"],
        "threads": cpu_threads(),
        "memory": memory,
        "memory_free": memory_free,
        **torch,
        "ready": not found["missing"] and torch["torch_error"] is None,
    }


def _torch_status() -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of torch is damaged
        return {"gpus": [], "cuda": None, "torch_error": first_line(error)}
    gpus = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        gpus.append({"name": torch.cuda.get_device_name(number), "memory": total, "memory_free": free})
    return {"gpus": gpus, "cuda": torch.version.cuda, "torch_error": None}


def machine_memory() -> tuple[int | None, int | None]:
    """(total, available) bytes of main memory; None if unknown."""
    if sys.platform == "win32":
        return _windows_memory()
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return tuple(int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))  # type: ignore[return-value]
    except (OSError, KeyError):  # macOS
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None


def _windows_memory() -> tuple[int | None, int | None]:
    class MemoryStatus(ctypes.Structure):
        # MEMORYSTATUSEX of the Windows API
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "f1", "f2", "v1", "v2", "v3")),
        )

    status = MemoryStatus()
    status.length = ctypes.sizeof(status)
    windll: Any = getattr(ctypes, "windll")  # noqa: B009 - only there on Windows
    if not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return status.total, status.free
