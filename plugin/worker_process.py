"""Starts a worker, passes its events on, cancels it, and reports how it ended.

Standard library only. Runs on any thread of QGIS and does not use Qt.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Any, Optional

from .children import WINDOWS, own_group
from .engine.drafts import PIECES, hidden_folder, recover, scratch_folder
from .engine.errors import Cancelled, EngineError, not_none, without_key
from .engine.events import PROTOCOL, Reporter, readable_time
from .engine.jobs import JOBS
from .setup.building import in_use
from .worker_python import clean_environment

ROOT = Path(__file__).resolve().parent.parent
POLL = 0.1  # seconds between two checks for Cancel
# For a worker to end by itself after `cancel`; then it is killed, and nothing is lost by that. On a busy machine it
# takes another 0.7 s until all of its memory is freed.
CANCEL_GRACE = 0.25  # seconds
END_GRACE = 5.0  # seconds for a worker to end after it has closed its output
MAX_LINE = 64_000_000  # bytes; a longer line is not an event
REPORT = "See the log and report this error; the algorithm “status” shows whether the worker's Python is complete."


class WorkerError(EngineError):
    """A job ended without a result."""


class _NoResult(Exception):
    """The worker's output ended with neither a result nor an error."""


def run_job(
    python: str, job: str, config: dict[str, Any], reporter: Reporter, log_path: Optional[str] = None,
    inherit: bool = False, variables: Optional[dict[str, str]] = None,
) -> dict[str, Any]:  # fmt: skip
    """Run a job in a new worker and wait for its result.

    After a failure, nothing that the job was writing is left but finished pieces, from which it can be resumed, and
    earlier files of these names are intact.

    Args:
        python: The worker's interpreter.
        job: Id of a job in `engine.jobs.JOBS`.
        config: Settings of the job, as returned by `to_json`.
        reporter: Receives the worker's events on the calling thread; is asked ten times a second whether to cancel.
        log_path: File for the worker's log; without it, its last lines go to `reporter.log` after a failure.
        inherit: Keep the environment variables of QGIS's libraries, which QGIS's Python needs and others must not get.
        variables: Further environment variables.

    Returns:
        The result of the job.

    Raises:
        WorkerError: The worker could not be started, reported an error, or ended without a result.
        Cancelled: The user cancelled the job; the worker has ended by then.
    """
    with scratch_folder() as scratch, in_use(python):
        begun, text = time.time(), json.dumps({"protocol": PROTOCOL, "job": job, "config": config})
        log_file = Path(log_path) if log_path else scratch / "worker.log"
        environment = {**(os.environ if inherit else clean_environment(python)), **(variables or {})}
        with open(log_file, "wb") as log:
            worker = _Worker(python, text, log, environment)
        result, files = None, JOBS[job].config.results(config)
        try:
            result = worker.run(reporter)
        except _NoResult:
            error = worker.explain_end(_last_lines(log_file))
            if any((hidden_folder(path) / PIECES).is_dir() for path in files):
                error = WorkerError(error.problem, f"{error.remedy} RESUME goes on from what is finished.")
            raise error from None
        finally:
            worker.stop()
            if result is None:
                unwanted = reporter.cancel_requested() and not config.get("resume")
                for path in files:
                    recover(path, undecided=True, discard=unwanted)
                for place in JOBS[job].config.unfinished(config) if unwanted else ():
                    _remove_newer(place, begun)
                if log_path is None and not reporter.cancel_requested():
                    for line in _last_lines(log_file):
                        reporter.log(line)
        return result


def _remove_newer(path: Path, begun: float) -> None:
    """Remove a file that this job has written; one from before may be what the user wants to resume."""
    try:
        if path.stat().st_mtime >= begun:
            path.unlink()
    except OSError:  # there is none
        pass


class _Worker:
    """A running worker: its process, and a thread that puts its output into a queue."""

    def __init__(self, python: str, job: str, log: IO[bytes], environment: dict[str, str]) -> None:
        self.begun = time.monotonic()
        self.garbage: deque[str] = deque(maxlen=3)  # output that is not an event
        self._lines: queue.Queue[Optional[bytes]] = queue.Queue()
        try:
            self.process = subprocess.Popen(  # nosec B603  # no shell; the worker, in the Python that was chosen
                [python, "-m", "plugin.engine.worker", "-"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                **own_group(),
            )
        except OSError as error:
            raise WorkerError(
                f"The worker's Python {python} cannot be started ({error.strerror or error}).",
                "Choose another Python in Terrazzo's settings; the algorithm “status” shows which one is used.",
            ) from error
        self._commands, self._output = not_none(self.process.stdin), not_none(self.process.stdout)
        threading.Thread(target=self._read, daemon=True, name="worker output").start()
        # A long job does not fit into the pipe, and a Python that hangs never reads it.
        self._sending = threading.Thread(target=self._command, args=(job,), daemon=True, name="worker input")
        self._sending.start()

    def _read(self) -> None:
        with self._output as output:
            for line in iter(lambda: output.readline(MAX_LINE), b""):
                self._lines.put(line)
        self._lines.put(None)

    def run(self, reporter: Reporter) -> dict[str, Any]:
        """Pass on events and commands until the result arrives."""
        give_up = None  # when to stop waiting for a worker that was asked to cancel
        finishing = False
        while True:
            if give_up is None and reporter.cancel_requested():
                give_up = time.monotonic() + CANCEL_GRACE
                if not self._sending.is_alive():  # else it has not read its job yet, and can only be killed
                    self._command("cancel")
            if give_up is not None and time.monotonic() > give_up:
                raise Cancelled
            if not finishing and reporter.finish_requested() and not self._sending.is_alive():
                finishing = True
                self._command("finish")
            try:
                line = self._lines.get(timeout=POLL)
            except queue.Empty:
                continue
            if line is None:
                raise _NoResult if give_up is None else Cancelled
            event = self._parse(line)
            if event.get("event") == "result":
                return event["result"]
            _pass_on(event, reporter)

    def _parse(self, line: bytes) -> dict[str, Any]:
        """Parse a line into an event with values of the expected types; {} for anything else, which is kept for the
        message.
        """
        try:
            event = json.loads(line)
            types = EVENTS[event["event"]]
            return {"event": event["event"], **{name: as_type(event[name]) for name, as_type in types.items()}}
        except (ValueError, KeyError, TypeError):
            self.garbage.append(line[:200].decode("utf-8", "replace").strip())
            return {}

    def _command(self, word: str) -> None:
        try:
            self._commands.write(f"{word}\n".encode())
            self._commands.flush()
        except OSError:
            pass  # the worker has ended; its output tells how

    def explain_end(self, last_lines: list[str]) -> WorkerError:
        """Describe how a worker ended that gave neither a result nor an error."""
        status = self.wait()
        after = readable_time(time.monotonic() - self.begun)
        words = ""
        if self.garbage:
            words += f" It printed “{' ⏎ '.join(self.garbage)}”."
        if last_lines:
            words += f" The last line of its log is “{last_lines[-1][:300]}”."
        if status is None:
            return WorkerError(f"The worker closed its output after {after} and did not end.{words}", REPORT)
        if status in (-9, 137):
            return WorkerError(
                f"The worker was killed by signal 9 (SIGKILL) after {after}.{words}",
                "If nobody killed it, the computer ran out of memory: use a smaller batch size, chip size or tile "
                "size, or close other programs.",
            )
        if status < 0 or status >= 0xC0000000:  # on Windows, the status is the exception's code
            return WorkerError(
                f"The worker was ended by {_signal_words(status)} after {after}.{words}",
                "If nobody killed it, a library crashed: try device cpu, or set up the environment again.",
            )
        return WorkerError(f"The worker ended without a result after {after} (status {status}).{words}", REPORT)

    def wait(self) -> Optional[int]:
        """Wait for the exit status; None if the process does not end."""
        try:
            return self.process.wait(END_GRACE)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Make sure that the worker and the processes it started have ended."""
        if self.process.poll() is None:
            if WINDOWS:
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._sending.join(END_GRACE)  # the worker has ended, so it does not wait any more
        try:
            self._commands.close()
        except OSError:
            pass  # a command was not read


def _maybe_seconds(value: Any) -> Optional[float]:
    return None if value is None else float(value)


# Event → its values and their types, in the order of the arguments of the `Reporter` method.
EVENTS: dict[str, dict[str, Any]] = {
    "progress": {"fraction": float, "text": str, "seconds_left": _maybe_seconds},
    "log": {"text": str},
    "warning": {"text": str},
    "step": {"record": dict},
    "epoch": {"record": dict},
    "result": {"result": dict},
    "error": {"kind": str, "problem": str, "remedy": str},
}


def _pass_on(event: dict[str, Any], reporter: Reporter) -> None:
    """Call the reporter's method for an event, or raise the error that ended the job."""
    kind = event.pop("event", None)
    if kind == "error":
        if event["kind"] == "Cancelled":
            raise Cancelled
        raise WorkerError(event["problem"], event["remedy"])
    if kind is not None:
        getattr(reporter, kind)(*event.values())


def _signal_words(status: int) -> str:
    if status > 0:
        return f"an error in native code (0x{status:08X})"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"


def _last_lines(log_file: Path, count: int = 20) -> list[str]:
    """Return the last non-empty lines of a log of any length, without keys in addresses."""
    with open(log_file, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 20_000))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [without_key(line) for line in lines if line.strip()][-count:]
