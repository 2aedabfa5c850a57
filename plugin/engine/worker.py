"""The worker process: `python -m plugin.engine.worker JOB.json`, started by `plugin/worker_process.py`.

JOB.json contains {"protocol": 1, "job": an id of `jobs.JOBS`, "config": its settings}. Standard output has one JSON
object per line, {"event": "progress" | "log" | "warning" | "step" | "epoch" | "result" | "error", ...}, and nothing
else. Standard error is the log. Standard input receives the commands `cancel` and `finish`. If it is closed, the
process that started the worker has ended, and the worker ends as well.

A training, `segmentraster` or `classifyscenes` may be started as several ranks, `torchrun -m plugin.engine.worker
JOB.json` (see `docs/cluster.md`). The first rank claims the outputs, reads the commands and sends the events; the
others send only the error that ends them. A rank ends when its parent does; the end of standard input means nothing if
it comes before the start, as on clusters.

With - instead of JOB.json, the job is the first line of standard input: QGIS passes it so, because it may hold keys of
servers, which must lie on no disk.
"""

from __future__ import annotations

import errno
import json
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from .drafts import abandon, claim
from .errors import Cancelled, EngineError, InputError, ResourceError, without_key
from .events import PROTOCOL, Reporter
from .jobs import JOBS
from .strangers.paths import read_bytes
from .strangers.rules import DAMAGES
from .strangers.texts import JSON_MEMORY, parse_json
from .torchrun import launched, own_rank

EXIT_RESULT, EXIT_ERROR, EXIT_CANCELLED = 0, 2, 3
# How many seconds an orphaned job may take to end by itself, and to save a training, which it does after the current
# batch.
GRACE, SAVING_GRACE = 0.5, 300.0
LOOK = 0.05  # seconds between checks
# What torch says when memory is insufficient, and the system when a library does not fit.
LACKS_MEMORY = ("DefaultCPUAllocator", "not enough memory", "failed to map segment", "Cannot allocate memory")


class JsonReporter(Reporter):
    """Writes events as JSON lines and receives commands; thread-safe.

    Args:
        events: The stream to write to.
    """

    def __init__(self, events: TextIO) -> None:
        self._events, self._rank = events, own_rank()
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._finish = threading.Event()
        self._orphaned = threading.Event()
        self._saving = 0

    def send(self, event: str, **values: Any) -> None:
        """Write an event; the first rank's only, and errors."""
        if self._rank.number and event != "error":
            return
        line = json.dumps({"event": event, **values}, default=_plain) + "\n"
        try:
            with self._lock:
                self._events.write(line)
                self._events.flush()
        except (BrokenPipeError, ValueError, OSError) as error:
            # The reader is gone. The job may still save its results, so this must not raise.
            if not self._orphaned.is_set():
                print(f"The events cannot be written any more: {error}", file=sys.stderr)
            self._orphaned.set()

    def listen(self, commands: TextIO) -> None:
        """Read commands until the stream is closed; runs on a separate thread."""
        for line in commands:
            command = line.strip()
            if command == "cancel":
                self._cancel.set()
            elif command == "finish":
                self._finish.set()
            elif command:
                print(f"Unknown command: {command!r}", file=sys.stderr)
        self._orphaned.set()

    def watch_parent(self, parent: int) -> None:
        """Wait until the parent process has ended; runs on a separate thread."""
        while os.getppid() == parent:
            time.sleep(LOOK)
        self._orphaned.set()

    def end_when_orphaned(self) -> None:
        """Wait until the job is orphaned, then end the process and remove its drafts; runs on a separate thread.

        Jobs check this themselves, but not while they import torch or are in a long call.
        """
        self._orphaned.wait()
        begun = time.monotonic()
        # A rank cannot save anything without the others, which end as well.
        while time.monotonic() - begun < (SAVING_GRACE if self._saving and self._rank.count == 1 else GRACE):
            time.sleep(LOOK)
        abandon()
        os._exit(EXIT_CANCELLED)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """See `Reporter.saving`."""
        self._saving += 1
        try:
            yield
        finally:
            self._saving -= 1

    def progress(self, fraction: float, text: str = "", seconds_left: float | None = None) -> None:
        """Send the progress."""
        self.send("progress", fraction=fraction, text=text, seconds_left=seconds_left)

    def log(self, text: str) -> None:
        """Send a log line."""
        self.send("log", text=without_key(text))

    def warning(self, text: str) -> None:
        """Send a warning."""
        self.send("warning", text=without_key(text))

    def step(self, record: dict[str, Any]) -> None:
        """Send the record of some steps."""
        self.send("step", record=record)

    def epoch(self, record: dict[str, Any]) -> None:
        """Send the record of an epoch."""
        self.send("epoch", record=record)

    def cancel_requested(self) -> bool:
        """Return whether `cancel` was received."""
        return self._cancel.is_set()

    def finish_requested(self) -> bool:
        """Return whether `finish` was received."""
        return self._finish.is_set()

    def orphaned(self) -> bool:
        """Return whether standard input was closed, or events cannot be written."""
        return self._orphaned.is_set()


def _plain(value: Any) -> Any:
    """Convert NumPy numbers, arrays and tensors for JSON; other unknown types become text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def read_job(path: str, text: str | None = None) -> tuple[str, dict[str, Any]]:
    """Read the id and settings of a job.

    Args:
        path: The job file; its name, if `text` is its content.
        text: The job; None to read the file.

    Raises:
        InputError: The file is not a job file of this protocol, or its job is unknown.
    """
    try:
        data = read_bytes(path, JSON_MEMORY) if text is None else text.encode()
        job = parse_json(data, constants=True)
        protocol, name, settings = job["protocol"], str(job["job"]), job["config"]
    except (OSError, *DAMAGES) as error:
        raise InputError(f"{path} is not a job file ({error}).", "Start jobs from Terrazzo's algorithms.") from error
    if protocol != PROTOCOL or name not in JOBS or not isinstance(settings, dict):
        raise InputError(
            f'The job "{name}" of protocol {protocol} is not supported by this worker (protocol {PROTOCOL}).',
            f"Restart QGIS after an update of Terrazzo; the jobs are {', '.join(JOBS)}.",
        )
    return name, settings


def explain(error: BaseException) -> EngineError:
    """Convert any exception that ended a job to an `EngineError`."""
    text = str(error).strip()
    first_line = text.splitlines()[0] if text else "no message"
    if isinstance(error, EngineError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return ResourceError(
            f"The worker's Python {sys.executable} has no module {error.name}.",
            "Run the algorithm “status” to see what is missing and how to install it.",
        )
    # torch's errors are recognised by name and text, since torch may not be importable here.
    if type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text:
        return ResourceError(
            f"The GPU's memory is not enough ({first_line}).",
            "Use a smaller batch size, chip size or tile size, close other programs on the GPU, or use DEVICE cpu.",
        )
    if isinstance(error, MemoryError) or any(sign in text for sign in LACKS_MEMORY):
        return ResourceError(
            f"The computer's memory is not enough ({first_line}).",
            "Use a smaller batch size, chip size or tile size, or close other programs.",
        )
    if "CUDA error" in text or "cuDNN error" in text or "CUDNN_STATUS" in text:
        return ResourceError(
            f"The GPU failed ({first_line}).", "Try again; if it fails again, restart the computer or use DEVICE cpu."
        )
    if own_rank().count > 1 and ("gloo" in text or "NCCL" in text or type(error).__name__.startswith("Dist")):
        return ResourceError(
            f"The connection to another rank was lost ({first_line}).",
            "Look for the error of that rank, or in the log; then continue with RESUME.",
        )
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in text:
        return ResourceError(f"The disk is full ({first_line}).", "Free some space, or write to another disk.")
    return EngineError(
        f"The job failed with {type(error).__name__}: {first_line}",
        "This is a bug in Terrazzo or in a library; please report it with the log.",
    )


def carry_out(name: str, settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Run a job while its outputs are locked for it; returns and raises what the job does."""
    rank = own_rank()
    if rank.count > 1 and not JOBS[name].ranks:
        raise InputError(
            f"The job {name} runs as a single process, and torchrun has started {rank.count}.",
            "Start it with --nnodes 1 --nproc-per-node 1; what can be shared are trainings, segmentraster and "
            "classifyscenes.",
        )
    with ExitStack() as stack:
        # Before the job imports torch, so that a second job with the same output fails at once.
        for output in JOBS[name].config.outputs() if rank.number == 0 else ():
            if isinstance(settings.get(output), str) and settings[output]:
                stack.enter_context(claim(settings[output]))
        return JOBS[name](settings, reporter)


def run(path: str, reporter: JsonReporter, text: str | None = None) -> int:
    """Run a job, send its result or error, and return the exit status; arguments as of `read_job`."""
    try:
        name, settings = read_job(path, text)
        if reporter.cancel_requested():  # before the job started
            raise Cancelled
        result = carry_out(name, settings, reporter)
    except (Cancelled, KeyboardInterrupt):
        reporter.send("error", kind="Cancelled", problem="The job was cancelled.", remedy="")
        return EXIT_CANCELLED
    except BaseException as error:
        known = explain(error)
        if known is not error:
            traceback.print_exc()
        rank = own_rank()
        problem = f"Rank {rank.number}: {known.problem}" if rank.number else known.problem
        reporter.send("error", kind=type(known).__name__, problem=problem, remedy=known.remedy)
        return EXIT_ERROR
    reporter.send("result", result=result)
    return EXIT_RESULT


def private_streams() -> tuple[TextIO, TextIO]:
    """Move standard output and input to other file descriptors, out of reach of libraries: (events, commands).

    Anything that Python or C code prints to standard output then goes to the log, so that events are not mixed with it.
    Standard input is replaced too: on Windows, libraries that access it while a thread reads it would hang.
    """
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    commands = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return events, commands


def has_ended(commands: TextIO) -> bool:
    """Return whether standard input has ended before anything was read from it."""
    readable, _, _ = select.select([commands], [], [], 0)
    return bool(readable) and not commands.buffer.peek(1)  # type: ignore[attr-defined]


def main(arguments: list[str]) -> int:
    """Run the worker; returns the exit status."""
    if len(arguments) != 1:
        print("Usage: python -m plugin.engine.worker JOB.json", file=sys.stderr)
        return EXIT_ERROR
    events, commands = private_streams()
    text = commands.readline() if arguments[0] == "-" else None
    reporter = JsonReporter(events)
    if launched():
        parent = os.getppid()
        threading.Thread(target=reporter.watch_parent, args=(parent,), daemon=True, name="parent").start()
    if not launched() or (own_rank().number == 0 and not has_ended(commands)):
        threading.Thread(target=reporter.listen, args=(commands,), daemon=True, name="commands").start()
    threading.Thread(target=reporter.end_when_orphaned, daemon=True, name="orphan").start()
    return run(arguments[0], reporter, text)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Skip the interpreter's shutdown, in which a library could crash or hang.
    os._exit(status)
