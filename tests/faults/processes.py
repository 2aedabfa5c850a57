"""Jobs in real worker processes with real parents, one of which is killed: a script or QGIS."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from headless import Headless
from kills import Expected, Killing
from scenarios import Scenario
from server import Outcome

ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import json, sys
from plugin.engine.errors import EngineError
from plugin.engine.events import Reporter
from plugin.worker_process import run_job
try:
    run_job(sys.executable, sys.argv[1], json.loads(sys.argv[2]), Reporter())
except EngineError as error:
    print(error)
    sys.exit(2)
"""
# A plugin that lets `touches` see what QGIS does to the disk.
OBSERVER = """
import json, os, sys
sys.path.append({folder!r})
from touches import observe
if "OBSERVED" in os.environ:
    observe(**json.loads(os.environ["OBSERVED"]))

class Nothing:
    def initGui(self): pass
    def initProcessing(self): pass
    def unload(self): pass

def classFactory(interface):
    return Nothing()
"""
OBSERVER_METADATA = """[general]
name=Observer
version=1
qgisMinimumVersion=3.22
hasProcessingProvider=yes
description=For tests
about=For tests
author=Terrazzo
email=none@none.invalid
"""
ORPHAN_SECONDS = 2.0  # that a worker may live on without its parent
PATIENCE = 90.0
LOOK = 0.02  # seconds between two looks at a worker
# The jobs that run in a worker, and those that QGIS is killed in; the last ones run inside QGIS itself.
IN_WORKERS = (
    "inspect", "segmenter", "unlabelled", "unlabelled resumed", "learning rate", "tiles", "classifier", "segment",
    "segment resumed", "strips resumed", "scenes", "scenes resumed", "grid", "photographs", "features", "activation",
)  # fmt: skip
IN_QGIS = ("features", "segment", "classifier", "export over", "split")
WORKER, PARENTS, QGIS = "of a real worker", "of a real worker's parent", "of QGIS"
QGIS_RENAMES = "of QGIS before a rename"


class RealKilling(Killing):
    """Runs jobs as a script of a user's does, and kills that, or its worker.

    Args:
        forked: Knows what the scenarios come to.
        scenarios: Those of `IN_WORKERS` that may be killed.
    """

    def __init__(self, forked: Killing, scenarios: Sequence[Scenario]) -> None:
        super().__init__(forked.server, forked.here.parent, forked.stock, forked.note, forked.counts, forked.address)
        self.forked, self.scenarios = forked, scenarios
        self.observed: dict[str, Any] = {}
        self.victim = PARENTS

    def at_any_time(self, rng: random.Random, victim: str) -> None:
        """Kill a worker or its parent while one of the jobs runs."""
        self.victim = victim
        self.at_time(rng.choice(self.scenarios), rng, victim)

    def learn(self, scenario: Scenario) -> Expected:
        """What a job comes to is known; how long it takes here is not."""
        if scenario.name not in self.expected:
            found = self.forked.learn(scenario)
            self.restore(scenario)
            outcome = self.run(scenario)
            self.must(outcome, scenario, "an undisturbed run in a worker")
            self.expected[scenario.name] = replace(found, seconds=outcome.seconds)
        return self.expected[scenario.name]

    def run(
        self,
        scenario: Scenario,
        kill_at: Optional[int] = None,
        kill_after: Optional[float] = None,
        trace: Optional[str] = None,
        **other: Any,
    ) -> Outcome:
        """Run a job by a parent, and kill it or its worker."""
        begun = time.monotonic()
        self.observed = {"folder": str(self.here), "kill_at": kill_at, "trace": trace}
        parent = self.start(scenario, self.settings(scenario, **other))
        if kill_after is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                parent.wait(kill_after)
        worker = _worker_of(parent.pid)
        if kill_after is not None:
            _kill(parent.pid if self.victim != WORKER else worker)
        output = _end_of(parent)
        if kill_after is not None and self.victim != WORKER:
            self._expect_end(scenario, worker, kill_after)
        ends = {0: "result", 2: "refused", -signal.SIGKILL: "signal 9"}
        end = ends.get(parent.returncode, f"exit {parent.returncode}")
        if self.victim == WORKER and kill_after is not None and "SIGKILL" in output:
            end = "signal 9"
        return Outcome(end, problem=output[-600:], seconds=time.monotonic() - begun)

    def start(self, scenario: Scenario, settings: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Start the parent."""
        return self.popen([sys.executable, "-c", PARENT, scenario.job, json.dumps(settings)], os.environ)

    def popen(self, command: Sequence[str], environment: Any) -> subprocess.Popen[bytes]:
        """A process whose temporary files we see."""
        everything = {**environment, "TMPDIR": str(self.server.temporary)}
        nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
        return subprocess.Popen(
            list(command), cwd=ROOT, env=everything, stdin=nothing, stdout=pipe, stderr=subprocess.STDOUT
        )

    def _expect_end(self, scenario: Scenario, worker: Optional[int], kill_after: float) -> None:
        """A worker is to end by itself soon after its parent's death."""
        if worker is None:
            return
        begun, queued, waits = time.monotonic(), _queued(worker), {}
        while time.monotonic() - begun < PATIENCE and not _gone(worker):
            waits = _queued(worker) or waits
            time.sleep(LOOK)
        # On a busy machine it may wait long for its turn to end.
        waited = max((wait - queued.get(thread, 0.0) for thread, wait in waits.items()), default=0.0)
        seconds = time.monotonic() - begun - waited
        if seconds > ORPHAN_SECONDS:
            text = f"the worker lived on for {seconds:.1f} s" + ("" if _gone(worker) else " and more")
            self.note(scenario.name, f"its parent killed after {kill_after:.3f} s: {text}")
        if not _gone(worker):
            _kill(worker)


class QgisKilling(RealKilling):
    """The same with QGIS as the parent, which also runs the jobs that need no worker.

    Args:
        scenarios: Those of `IN_QGIS` that may be killed.
        program: `qgis_process`.
        folder: Does not exist; for QGIS's settings.
    """

    def __init__(self, forked: Killing, scenarios: Sequence[Scenario], program: str, folder: Path) -> None:
        super().__init__(forked, scenarios)
        self.kept = forked.kept.with_name("earlier_in_qgis")
        self.victim = QGIS
        folder.mkdir(parents=True)
        os.environ["TERRAZZO_PYTHON"] = sys.executable
        self.qgis = Headless(program, folder)
        plugin = folder / "plugins/observer"
        plugin.mkdir()
        (plugin / "__init__.py").write_text(OBSERVER.format(folder=str(Path(__file__).parent)), encoding="utf-8")
        (plugin / "metadata.txt").write_text(OBSERVER_METADATA, encoding="utf-8")
        self.qgis.call("plugins", "enable", "observer")

    def learn(self, scenario: Scenario) -> Expected:
        """QGIS writes more into some results than the engine alone."""
        return Killing.learn(self, scenario)

    def start(self, scenario: Scenario, settings: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Start QGIS."""
        given = [
            f"{name.upper()}={part}"
            for name, value in settings.items()
            for part in ([",".join(map(str, value))] if name == "filters" else _listed(value))
        ]
        command = [self.qgis.program, "run", f"terrazzo:{scenario.job}", "--", *given]
        return self.popen(command, {**self.qgis.environment, "OBSERVED": json.dumps(self.observed)})


def find_qgis() -> Optional[str]:
    """The path of qgis_process; None where there is none."""
    # Debian 12's wrapper `qgis_process` passes an option that the program does not know.
    return shutil.which("qgis_process.bin") or shutil.which("qgis_process")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _kill(process: Optional[int]) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _end_of(process: subprocess.Popen[bytes]) -> str:
    """Wait for a process; gives what it printed."""
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return output.decode(errors="replace")


def _worker_of(parent: int) -> Optional[int]:
    """The worker that a process started, on any of its threads."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{parent}/task").iterdir():
            for child in (task / "children").read_text().split():
                if b"plugin.engine.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
    return None


def _gone(process: int) -> bool:
    """Whether a process has ended; one that nobody waits for counts as ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _queued(process: int) -> dict[str, float]:
    """For each thread of a process, the seconds in which it could have run and had to wait for its turn."""
    found = {}
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            found[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
    return found
