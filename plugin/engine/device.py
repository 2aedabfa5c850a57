"""Choice of the device, its free memory, and errors if memory is not enough."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from .device_name import check_device_name
from .errors import ResourceError, first_line
from .events import Reporter
from .files import readable_size
from .status import machine_memory
from .torchrun import own_rank

CONTROL_GROUP, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# The limit of a control group, its use, and its inactive files in memory.stat: of version 2 and version 1.
GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# What torch and its libraries say; the last is oneDNN's, which computes convolutions on processors.
FULL_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "could not create a primitive",
)  # fmt: skip
# Settings of the GNU C library's allocator, from its malloc.h.
TRIM_THRESHOLD, MOST_MAPPED = -1, -4
LARGEST_INT = 2**31 - 1
MOST_WORKING = 1.5 * 10**9


def choose_device(name: str, reporter: Reporter | None = None) -> torch.device:
    """Choose a device by its name: auto, cpu, cuda or cuda:n.

    `auto` is the first GPU that works, or else the CPU; a GPU that does not work is reported as a warning. Each of
    several ranks on a machine has a GPU of its own.

    Raises:
        InputError: The name is not valid.
        ResourceError: The device does not exist or does not work.
    """
    wanted = check_device_name(name)
    if wanted == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if own_rank().neighbours > 1 and (count or wanted != "auto"):
        wanted = _of_rank(wanted, count)
    if wanted == "auto":
        failure = _failure(torch.device("cuda", 0)) if count else None
        if failure and reporter is not None:
            reporter.warning(f"The GPU cannot be used ({failure}); the CPU is used instead.")
        return torch.device("cuda", 0) if count and not failure else torch.device("cpu")
    index = int(wanted.partition(":")[2] or 0)
    if index >= count:
        found = f"this machine has {count}, from cuda:0 to cuda:{count - 1}" if count else "torch finds no GPU here"
        why = "" if torch.version.cuda else " (this torch is built for the CPU only)"
        raise ResourceError(f"DEVICE is {wanted}, but {found}{why}.", "Choose auto or cpu, or an existing GPU.")
    device = torch.device("cuda", index)
    failure = _failure(device)
    if failure:
        raise ResourceError(f"The GPU {describe_device(device)} cannot be used ({failure}).", "Choose cpu as DEVICE.")
    return device


def _of_rank(wanted: str, count: int) -> str:
    """The name of the GPU of a rank that is not alone on its machine, which has `count` GPUs."""
    rank = own_rank()
    if ":" in wanted or count < rank.neighbours:
        raise ResourceError(
            f"DEVICE is {wanted}, and {rank.neighbours} ranks run on this machine, which has {count} GPUs.",
            "Start at most one rank per GPU, with DEVICE auto, or choose cpu as DEVICE.",
        )
    return f"cuda:{rank.local}"


def _failure(device: torch.device) -> str | None:
    """Why a GPU fails with a minimal operation; None if it works. Drivers and old cards fail only on first use."""
    try:
        torch.ones(2, device=device).sum().item()
    except RuntimeError as error:
        return first_line(error)
    return None


def describe_device(device: torch.device) -> str:
    """A description of a device: "NVIDIA H200 (cuda:0)", "CPU, 2 threads"."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'' if threads == 1 else 's'}"


def pinned(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values in memory from which a GPU can fetch them by itself; unchanged where the device is not one."""
    if device.type != "cuda":
        return values
    with torch.cuda.device(device):  # a thread may never have used it, and would else use the first GPU as well
        return values.pin_memory()


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy values from the CPU to a device; the copy to a GPU is asynchronous."""
    if device.type != "cuda" or values.device.type == "cuda":
        return values.to(device)
    return pinned(values, device).to(device, non_blocking=True)


class Later:
    """Values from a device, which are fetched while work goes on there; only who reads them waits.

    Args:
        values: On the device.
    """

    def __init__(self, values: torch.Tensor) -> None:
        self._values = values.to("cpu", non_blocking=True)
        self._fetched = torch.cuda.Event() if values.is_cuda else None  # type: ignore[no-untyped-call]
        if self._fetched is not None:
            self._fetched.record(torch.cuda.current_stream(values.device))  # type: ignore[no-untyped-call]

    def read(self) -> np.ndarray:
        """The values, of the same shape."""
        if self._fetched is not None:
            self._fetched.synchronize()  # type: ignore[no-untyped-call]
        found: np.ndarray = self._values.numpy()
        return found


def free_memory(device: torch.device) -> int:
    """The free memory of a device in bytes."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    total, available = machine_memory()
    if available is None:  # unknown on macOS
        available = total // 2 if total else 0
    return min(available, _group_memory())


def working_memory(device: torch.device) -> float:
    """The bytes that the tensors of a job on large images may need at a time.

    On a processor, larger images gain little, so that the rest is left to other programs, and as much again is lost
    between tensors of different sizes.
    """
    if device.type == "cuda":
        return free_memory(device) / 2
    return min(free_memory(device) / 3, MOST_WORKING) / 2


def _group_memory() -> int:
    """The memory left in the control groups of a container or cluster job; unlimited without one."""
    return min(map(_left_in, _groups()))


def _groups() -> Iterator[Path]:
    """The folders of the control groups that this process is in, also around its own; some may not exist.

    A container shows its group as the root; a cluster job has one far below it. Version 1 has a tree for memory alone.
    """
    yield from (CONTROL_GROUP, CONTROL_GROUP / "memory")
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if kinds in ("", "memory") and ".." not in path:
            own = (CONTROL_GROUP / kinds) / path.lstrip("/")
            yield from (own, *own.parents[: path.rstrip("/").count("/")])


def _left_in(group: Path) -> int:
    """The memory left in a control group. Cached files count as used; those that are inactive can be freed."""
    for limit, usage, cached in GROUP_FILES:
        try:
            most, used = (int((group / name).read_text()) for name in (limit, usage))
            kinds = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return max(0, most - used + int(kinds.get(cached, 0)))
        except (OSError, ValueError):  # none of this version, or "max"
            pass
    return sys.maxsize


@contextlib.contextmanager
def explain_memory(
    device: torch.device, doing: str, remedy: str = "Halve BATCH_SIZE, or take smaller chips."
) -> Iterator[None]:
    """Convert an out-of-memory error inside the block to a `ResourceError`; other errors are not changed.

    Args:
        device: The device.
        doing: What needed the memory: "8 chips of 512 × 512 pixels in 13 bands".
        remedy: What to do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        where = f"the GPU {describe_device(device)}" if device.type == "cuda" else "this machine"
        problem = f"The memory of {where} is not enough for {doing}: {readable_size(free_memory(device))} are free."
    else:
        return
    # Raised outside of the handler, since the traceback of the first error holds references to the tensors.
    raise ResourceError(problem, remedy)


def keep_memory() -> None:
    """Let the process keep freed memory for what it allocates next; only with the GNU C library (Linux).

    By default, large tensors are mapped from the system and returned to it layer by layer, and the system clears every
    page again: 35 to 45 % of the time of U-Net with EfficientNet-Lite0 on images of 1024 to 1536 pixels a side.
    """
    try:
        setting = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return
    setting(MOST_MAPPED, 0)
    setting(TRIM_THRESHOLD, LARGEST_INT)


def lacks_memory(error: Exception) -> bool:
    """Whether an error says that the memory of the machine or the GPU is full."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in FULL_MEMORY)


def peak_memory(device: torch.device) -> int | None:
    """The most memory that this process has used so far, in bytes: of the GPU, or of the machine; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used
