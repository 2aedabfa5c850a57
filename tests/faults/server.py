"""Runs calls in child processes, forked from a process that has imported everything, so that each takes moments.

This process itself opens no data and starts no thread; whatever does runs in a child.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from heard import Heard

from plugin.engine.errors import Cancelled, EngineError
from plugin.engine.worker import explain

# Address space that a child may take beyond this process's: protects the machine; what is measured is the memory.
MOST_ADDRESSES = 12 * 2**30
LOOK = 0.25  # seconds between two looks at a child
LARGEST_FILE = 2 * 2**30


@dataclass
class Outcome:
    """How a call ended.

    Attributes:
        end: "result", "refused" (an `EngineError`), "cancelled", "raw" (any other exception), "signal 11" or "hung".
        texts: All that the user would read: problem and remedy, logs and warnings.
        where: The traceback of a raw exception.
        memory: The most that was resident, in bytes.
        processor: Seconds of the processor.
    """

    end: str
    result: Any = None
    problem: str = ""
    remedy: str = ""
    texts: list[str] = field(default_factory=list)
    where: str = ""
    memory: int = 0
    seconds: float = 0.0
    processor: float = 0.0

    def __str__(self) -> str:
        return f"{self.end}: {self.problem[:300]} {self.where[-900:]}".strip()


class Server:
    """Runs calls one after the other.

    Args:
        scratch: A folder for what children print and for their temporary files.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.temporary = scratch / "temporary"
        scratch.mkdir(parents=True, exist_ok=True)
        gc.collect()
        gc.freeze()  # else each child copies all that its collector looks at

    def call(
        self,
        function: Callable[[Heard], Any],
        limit: float = 120.0,
        at_begin: Callable[[], None] = lambda: None,
        kill_after: Optional[float] = None,
    ) -> Outcome:
        """Call a function with a reporter in a child.

        Args:
            limit: Seconds of work, or of waiting for nothing, after which the child counts as hung and is ended.
            at_begin: Called in the child first.
            kill_after: Seconds after which the child is killed; it ends by "signal 9" then.
        """
        self.temporary.mkdir(exist_ok=True)
        answer = self.scratch / "answer.json"
        answer.unlink(missing_ok=True)
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            self._serve(function, at_begin, answer)
        ended = _wait(child, limit) if kill_after is None else _ends_within(child, kill_after)
        if not ended:
            if kill_after is None:
                os.kill(child, signal.SIGUSR1)
                _ends_within(child, LOOK)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # processes that it started
        if not ended and kill_after is None:
            outcome = Outcome("hung", where=self.printed())
        elif os.WIFSIGNALED(status):
            outcome = Outcome(f"signal {os.WTERMSIG(status)}", where=self.printed())
        elif answer.exists():
            outcome = Outcome(**json.loads(answer.read_text()))
        else:
            outcome = Outcome(f"exit {os.WEXITSTATUS(status)}", where=self.printed())
        outcome.memory, outcome.seconds = used.ru_maxrss * 1024, time.monotonic() - begun
        outcome.processor = used.ru_utime + used.ru_stime
        return outcome

    def _serve(self, function: Callable[[Heard], Any], at_begin: Callable[[], None], answer: Path) -> None:
        """The child's life, which ends here."""
        try:
            os.setsid()
            output = os.open(self.scratch / "printed.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for number, source in enumerate((nothing, output, output)):
                os.dup2(source, number)
            faulthandler.register(signal.SIGUSR1, 2)  # asked for where it hangs
            os.environ["TMPDIR"] = tempfile.tempdir = str(self.temporary)
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_ADDRESSES, hard))
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            heard = Heard()
            at_begin()
            try:
                outcome = Outcome("result", function(heard))
            except EngineError as error:
                outcome = Outcome("refused", None, error.problem, error.remedy)
            except Cancelled:
                outcome = Outcome("cancelled")
            except BaseException as error:
                known = explain(error)
                outcome = Outcome("raw", None, known.problem, known.remedy, where=traceback.format_exc(limit=-6))
            outcome.texts = [outcome.problem, outcome.remedy, *heard.logs, *heard.warnings]
            hidden = answer.with_suffix(".new")
            hidden.write_text(json.dumps(asdict(outcome), default=str))
            hidden.rename(answer)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(70)
        os._exit(0)

    def printed(self) -> str:
        """The end of what the last child printed."""
        with contextlib.suppress(OSError):
            return (self.scratch / "printed.txt").read_text(errors="replace")[-900:]
        return ""

    def left_temporary(self) -> list[str]:
        """What lies in the folder of temporary files, but for QGIS's own, which it removes only at its end."""
        there = self.temporary.iterdir() if self.temporary.is_dir() else ()
        return sorted(path.name for path in there if not path.name.startswith("processing_"))

    def clear_temporary(self) -> None:
        """Empty the folder of temporary files."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()


def _ends_within(child: int, seconds: float) -> bool:
    waiting = os.pidfd_open(child)
    try:
        return bool(select.select([waiting], [], [], seconds)[0])
    finally:
        os.close(waiting)


def _wait(child: int, limit: float) -> bool:
    """Wait for a child; whether it ends before it has worked, or slept, for `limit` seconds.

    Its own time counts and not the clock's: on a busy machine a child may wait long for its turn.
    """
    worked, asleep_since = 0.0, time.monotonic()
    while not _ends_within(child, LOOK):
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        now = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if now > worked or fields[0] == "R":
            worked, asleep_since = now, time.monotonic()
        if worked > limit or time.monotonic() - asleep_since > limit:
            return False
    return True


def remove_tree(path: Path) -> None:
    """Remove a folder, never what links in it lead to."""
    shutil.rmtree(path, ignore_errors=True)
