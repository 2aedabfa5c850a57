"""Runs an installer: logs every line, restarts a stalled download, and reacts to Cancel within a second."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Optional

from ..children import WINDOWS, own_group
from ..engine.errors import Cancelled, ResourceError, not_none
from ..engine.events import Reporter
from .troubles import Trouble, find_trouble

POLL = 0.2  # seconds between two checks for Cancel
SIGN_OF_LIFE = 60.0  # seconds of silence after which the log says that the command is still running
STALLED = 150.0  # seconds without a byte after which a download is restarted
WAITS = (3.0, 15.0)  # seconds before the second and third try of a temporary failure
TAIL = 40  # lines that are searched for the reason of a failure
PROGRESS = re.compile(r"^Progress (\d+) of (\d+)")
UNPACKING = re.compile(r"^Installing collected packages\b")
DOWNLOADING = re.compile(r"^\s*(Downloading|Progress|Obtaining|Collecting|Looking in)\b")


class InstallerFailed(ResourceError):
    """An installer failed.

    Args:
        problem: What went wrong.
        remedy: What to do about it.
        trouble: The known trouble that caused it, if any.
    """

    def __init__(self, problem: str, remedy: str, trouble: Optional[Trouble] = None) -> None:
        super().__init__(problem, remedy)
        self.trouble = trouble


class Runner:
    """Runs commands one after another, with the same environment variables and reporter.

    Args:
        environment: Environment variables for the commands.
        reporter: Receives every line, and is asked whether to cancel.
        on_bytes: Called with (bytes downloaded, total bytes) of a download.
        on_unpacking: Called when everything is downloaded.
    """

    def __init__(
        self,
        environment: dict[str, str],
        reporter: Reporter,
        on_bytes: Optional[Callable[[int, int], None]] = None,
        on_unpacking: Optional[Callable[[], None]] = None,
    ) -> None:
        self.environment, self.reporter = environment, reporter
        self.on_bytes, self.on_unpacking = on_bytes, on_unpacking

    def run(self, command: list[str], doing: str, tries: int = 1) -> str:
        """Run a command to its end.

        Args:
            command: The command and its arguments.
            doing: What failed if it fails, such as "PyTorch could not be installed".
            tries: How often it is tried if the failure may be temporary.

        Returns:
            The last lines that it printed.

        Raises:
            InstallerFailed: The command failed; known troubles are explained.
            Cancelled: The user cancelled the build.
        """
        for attempt in range(tries):
            status, tail = self._once(command)
            text = "\n".join(tail)
            if status == 0:
                return text
            signal_got = f"signal {-status}" if status < 0 else ""
            trouble = find_trouble("\n".join([" ".join(command), text, signal_got]))
            if trouble is None or not trouble.passing or attempt + 1 == tries:
                break
            self.reporter.log(f"{trouble.problem} Trying again ({attempt + 2} of {tries}).")
            self._wait(WAITS[min(attempt, len(WAITS) - 1)])
        last = next((line for line in reversed(tail) if line.strip()), f"status {status}")
        if trouble is not None:
            raise InstallerFailed(f"{doing}. {trouble.problem}", trouble.remedy, trouble)
        raise InstallerFailed(
            f"{doing} (status {status}): {last.strip()[:300]}",
            "See the log; “Copy diagnosis” copies everything needed for a report to the clipboard.",
        )

    def _once(self, command: list[str]) -> tuple[int, list[str]]:
        self.reporter.log("$ " + " ".join(command))
        tail: deque[str] = deque(maxlen=TAIL)
        try:
            process = subprocess.Popen(  # nosec B603  # no shell; installers with arguments of our own
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", **own_group(),
            )  # fmt: skip
        except OSError as error:
            return 127, [f"{command[0]}: {error}"]
        lines: queue.Queue[Optional[str]] = queue.Queue()
        threading.Thread(target=_read, args=(process, lines), daemon=True, name="installer output").start()
        heard = told = time.monotonic()
        downloading = False
        try:
            while True:
                if self.reporter.cancel_requested():
                    raise Cancelled
                try:
                    line = lines.get(timeout=POLL)
                except queue.Empty:
                    now = time.monotonic()
                    if downloading and now - heard > STALLED:
                        tail.append(f"The download gave no sign for {STALLED:.0f} seconds.")
                        return -1, list(tail)
                    if now - max(heard, told) > SIGN_OF_LIFE:
                        told = now
                        self.reporter.log(_patience(now - heard, downloading))
                    continue
                heard = time.monotonic()
                if line is None:
                    return process.wait(), list(tail)
                found = PROGRESS.match(line)
                downloading = DOWNLOADING.match(line) is not None
                if found is not None:
                    if self.on_bytes is not None:
                        self.on_bytes(int(found.group(1)), int(found.group(2)))
                elif line.strip():
                    tail.append(line)
                    self.reporter.log(line)
                    if self.on_unpacking is not None and UNPACKING.match(line):
                        self.on_unpacking()
        finally:
            stop(process)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.reporter.cancel_requested():
                raise Cancelled
            time.sleep(POLL)


def _patience(seconds: float, downloading: bool) -> str:
    if downloading:
        return f"Nothing received for {seconds:.0f} s; after {STALLED:.0f} s the download is restarted."
    return f"Still running after {seconds:.0f} s: unpacking takes minutes if an antivirus program checks each file."


def _read(process: subprocess.Popen[str], lines: queue.Queue[Optional[str]]) -> None:
    with not_none(process.stdout) as output:
        for line in output:
            lines.put(line.rstrip())
    lines.put(None)


def stop(process: subprocess.Popen[Any]) -> None:
    """Kill a process and those that it started."""
    if process.poll() is None:
        if WINDOWS:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
