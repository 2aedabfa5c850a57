"""The worker: `python -m plugin.engine.worker JOB.json`, started by `plugin/worker_process.py`.

JOB.json holds {"protocol": 1, "job": an id of `jobs.JOBS`, "config": its settings}. Standard output carries one JSON
object a line, {"event": "progress" | "log" | "warning" | "epoch" | "result" | "error", ...}, and nothing else;
standard error is the log. Standard input brings the commands `cancel` and `finish`; its end means that whoever
started the worker is gone, and the worker ends, too.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

from .drafts import abandon, claim
from .errors import Cancelled, EngineError, InputError, ResourceError
from .events import PROTOCOL, Reporter
from .jobs import JOBS
from .strangers.paths import read_bytes
from .strangers.rules import DAMAGES
from .strangers.texts import JSON_MEMORY, parse_json

EXIT_RESULT, EXIT_ERROR, EXIT_CANCELLED = 0, 2, 3
# Seconds in which a job that nobody waits for any more may end by itself, and those that it may need to save a
# training: it hears of it after its batch.
GRACE, SAVING_GRACE = 0.5, 300.0
LOOK = 0.05  # seconds between two looks at it


class JsonReporter(Reporter):
    """Writes events as JSON lines and hears commands; safe to call from any thread.

    Args:
        events: Where the lines go.
    """

    def __init__(self, events: TextIO) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._finish = threading.Event()
        self._orphaned = threading.Event()
        self._saving = 0

    def send(self, event: str, **values: Any) -> None:
        """Write one event."""
        line = json.dumps({"event": event, **values}, default=_plain) + "\n"
        try:
            with self._lock:
                self._events.write(line)
                self._events.flush()
        except (BrokenPipeError, ValueError, OSError) as error:
            # Nobody listens any more. The job may still save what it has, so this must not end it.
            if not self._orphaned.is_set():
                print(f"The events cannot be written any more: {error}", file=sys.stderr)
            self._orphaned.set()

    def listen(self, commands: TextIO) -> None:
        """Read commands until their end; runs on a thread of its own."""
        for line in commands:
            command = line.strip()
            if command == "cancel":
                self._cancel.set()
            elif command == "finish":
                self._finish.set()
            elif command:
                print(f"Unknown command: {command!r}", file=sys.stderr)
        self._orphaned.set()

    def end_when_orphaned(self) -> None:
        """Wait until nobody is there any more, then end the process, and leave nothing; runs on a thread of its own.

        Jobs look by themselves whether they are wanted, but not while they import torch, or in a long call.
        """
        self._orphaned.wait()
        begun = time.monotonic()
        while time.monotonic() - begun < (SAVING_GRACE if self._saving else GRACE):
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
        """Send how much is done."""
        self.send("progress", fraction=fraction, text=text, seconds_left=seconds_left)

    def log(self, text: str) -> None:
        """Send a line of the log."""
        self.send("log", text=text)

    def warning(self, text: str) -> None:
        """Send a warning."""
        self.send("warning", text=text)

    def epoch(self, record: dict[str, Any]) -> None:
        """Send the figures of an epoch."""
        self.send("epoch", record=record)

    def cancel_requested(self) -> bool:
        """Whether `cancel` was read."""
        return self._cancel.is_set()

    def finish_requested(self) -> bool:
        """Whether `finish` was read."""
        return self._finish.is_set()

    def orphaned(self) -> bool:
        """Whether standard input has ended, or nobody reads the events."""
        return self._orphaned.is_set()


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays, and tensors, as JSON knows them; all else that JSON does not know as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def read_job(path: str) -> tuple[str, dict[str, Any]]:
    """The job's id and its settings.

    Raises:
        InputError: The file is no job file of this protocol, or names an unknown job.
    """
    try:
        job = parse_json(read_bytes(path, JSON_MEMORY), constants=True)
        protocol, name, settings = job["protocol"], str(job["job"]), job["config"]
    except (OSError, *DAMAGES) as error:
        raise InputError(f"{path} is no job file ({error}).", "Start jobs from Terrazzo's algorithms.") from error
    if protocol != PROTOCOL or name not in JOBS or not isinstance(settings, dict):
        raise InputError(
            f'The job "{name}" of protocol {protocol} is unknown to this worker (protocol {PROTOCOL}).',
            f"Restart QGIS after an update of Terrazzo; the jobs are {', '.join(JOBS)}.",
        )
    return name, settings


def explain(error: BaseException) -> EngineError:
    """Whatever ended a job, in two sentences for the user."""
    text = str(error).strip()
    first_line = text.splitlines()[0] if text else "no message"
    if isinstance(error, EngineError):
        return error
    if isinstance(error, ModuleNotFoundError):
        return ResourceError(
            f"The worker's Python {sys.executable} has no module {error.name}.",
            "Run the algorithm “status” to see what is missing and how to install it.",
        )
    # torch's errors are known by name and words: it may not even be imported here.
    if type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text:
        return ResourceError(
            f"The GPU's memory is too small for this ({first_line}).",
            "Use a smaller batch size, chip size or tile size, close other users of the GPU, or take device cpu.",
        )
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text or "not enough memory" in text:
        return ResourceError(
            f"The computer's memory is too small for this ({first_line}).",
            "Use a smaller batch size, chip size or tile size, or close other programs.",
        )
    if "CUDA error" in text or "cuDNN error" in text or "CUDNN_STATUS" in text:
        return ResourceError(
            f"The GPU failed ({first_line}).", "Try again; if it fails again, restart the computer or take device cpu."
        )
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in text:
        return ResourceError(f"The disk is full ({first_line}).", "Free some space, or write to another disk.")
    return EngineError(
        f"The job failed with {type(error).__name__}: {first_line}",
        "This is a fault in Terrazzo or in a library it uses; please report it with the log.",
    )


def carry_out(name: str, settings: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Do a job while its results are kept to it; gives what the job gives, and raises what it raises."""
    with ExitStack() as stack:
        # Before the job imports torch, so that a second one for the same result ends at once.
        for output in JOBS[name].config.outputs():
            if isinstance(settings.get(output), str) and settings[output]:
                stack.enter_context(claim(settings[output]))
        return JOBS[name](settings, reporter)


def run(path: str, reporter: JsonReporter) -> int:
    """Run the job of a job file, send its result or what went wrong, and give the exit status."""
    try:
        name, settings = read_job(path)
        if reporter.cancel_requested():  # before anything was done
            raise Cancelled
        result = carry_out(name, settings, reporter)
    except (Cancelled, KeyboardInterrupt):
        reporter.send("error", kind="Cancelled", problem="The job was cancelled.", remedy="")
        return EXIT_CANCELLED
    except BaseException as error:
        known = explain(error)
        if known is not error:
            traceback.print_exc()
        reporter.send("error", kind=type(known).__name__, problem=known.problem, remedy=known.remedy)
        return EXIT_ERROR
    reporter.send("result", result=result)
    return EXIT_RESULT


def private_streams() -> tuple[TextIO, TextIO]:
    """(events, commands): the standard streams under other numbers, out of every library's reach.

    Whatever Python or C code prints to standard output from here on lands in the log, so the events stay whole.
    Standard input is emptied as well: on Windows a library that looks at it while a thread waits there would hang.
    """
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    commands = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="replace")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return events, commands


def main(arguments: list[str]) -> int:
    """The worker's life."""
    if len(arguments) != 1:
        print("Usage: python -m plugin.engine.worker JOB.json", file=sys.stderr)
        return EXIT_ERROR
    events, commands = private_streams()
    reporter = JsonReporter(events)
    threading.Thread(target=reporter.listen, args=(commands,), daemon=True, name="commands").start()
    threading.Thread(target=reporter.end_when_orphaned, daemon=True, name="orphan").start()
    return run(arguments[0], reporter)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing is left to do, and a library that crashes or waits while it is torn down must not spoil the end.
    os._exit(status)
