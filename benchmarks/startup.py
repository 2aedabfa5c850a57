"""What the plugin adds to the start of QGIS: processor time of its main thread, in a desktop that has just started.

    python3 benchmarks/startup.py [RUNS [CHECKOUT…]]

Each run starts QGIS in a profile of its own, with a screen or with xvfb-run, and there enables the plugin. The first
run compiles the byte-code and does not count. With several checkouts, they take turns. The time of Python's garbage
collection is given apart: it goes through all objects of QGIS, after a number of new ones, whoever made them.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSIDE = """
import gc, json, sys, time
import qgis.utils
from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QTimer

collected = []

def note(phase, _):
    collected.append(time.thread_time() * (1 if phase == "stop" else -1))

def measure():
    qgis.utils.updateAvailablePlugins()
    before = set(sys.modules)
    gc.callbacks.append(note)
    begun = time.thread_time()
    fine = qgis.utils.loadPlugin("terrazzo") and qgis.utils.startPlugin("terrazzo")
    seconds = time.thread_time() - begun
    new = set(sys.modules) - before
    print("MEASURED", json.dumps([fine, (seconds - sum(collected)) * 1e3, sum(collected) * 1e3, len(new)]), flush=True)
    QgsApplication.exit(0)

QTimer.singleShot(1000, measure)
"""


def measure(checkout: Path, folder: Path) -> tuple[float, float, int]:
    """Milliseconds without garbage collection, those of it, and modules imported, in one start of QGIS.

    Args:
        checkout: The plugin.
        folder: What its runs share.
    """
    plugins = folder / "plugins"
    if not plugins.exists():
        plugins.mkdir(parents=True)
        (folder / "inside.py").write_text(INSIDE, encoding="utf-8")
        (plugins / "terrazzo").symlink_to(checkout, target_is_directory=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # QGIS takes the first python3 in PATH for its own.
    path = f"{Path(shutil.which('qgis') or 'qgis').parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **clean, "PATH": path, "QGIS_PLUGINPATH": str(plugins), "PYTHONPYCACHEPREFIX": str(folder / "byte-code")
    }  # fmt: skip
    screen = [] if os.environ.get("DISPLAY") else ["xvfb-run", "-a"]
    with tempfile.TemporaryDirectory() as profile:
        command = [*screen, "qgis", "--profiles-path", profile, "--nologo", "--noversioncheck", "--code",
                   str(folder / "inside.py")]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("MEASURED")), None)
    fine, milliseconds, collecting, modules = json.loads(line.partition(" ")[2]) if line else (False, 0.0, 0.0, 0)
    if not fine:
        sys.exit(f"The plugin did not start:\n{done.stdout}\n{done.stderr}")
    return milliseconds, collecting, modules


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    checkouts = [Path(path).resolve() for path in sys.argv[2:]] or [ROOT]
    with tempfile.TemporaryDirectory() as folder:
        shared = {checkout: Path(folder) / str(number) for number, checkout in enumerate(checkouts)}
        turns = [[measure(checkout, shared[checkout]) for checkout in checkouts] for _ in range(runs + 1)]
    for checkout, (_, *found) in zip(checkouts, zip(*turns)):
        times, collecting, modules = zip(*found)
        print(
            f"{checkout}: start-up {min(times):.1f} ms of processor time (best of {runs}, median "
            f"{statistics.median(times):.1f}), garbage collection {statistics.median(collecting):.1f} ms (median), "
            f"{modules[0]} modules"
        )


if __name__ == "__main__":
    main()
