"""What the plugin adds to the start of QGIS: processor time of its main thread, in a desktop that has just started.

    python3 benchmarks/startup.py [RUNS]

Each run starts QGIS in a profile of its own, with a screen or with xvfb-run, and there enables the plugin. The first
run compiles the byte-code and does not count.
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
import json, sys, time
import qgis.utils
from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QTimer

def measure():
    qgis.utils.updateAvailablePlugins()
    before = set(sys.modules)
    begun = time.thread_time()
    fine = qgis.utils.loadPlugin("terrazzo") and qgis.utils.startPlugin("terrazzo")
    seconds = time.thread_time() - begun
    new = set(sys.modules) - before
    print("MEASURED", json.dumps([fine, seconds * 1e3, len(new)]), flush=True)
    QgsApplication.exit(0)

QTimer.singleShot(1000, measure)
"""


def measure(folder: Path) -> tuple[float, int]:
    """Milliseconds, and modules imported, in one start of QGIS."""
    (folder / "inside.py").write_text(INSIDE, encoding="utf-8")
    plugins = folder / "plugins"
    plugins.mkdir(exist_ok=True)
    if not (plugins / "terrazzo").exists():
        (plugins / "terrazzo").symlink_to(ROOT, target_is_directory=True)
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
    fine, milliseconds, modules = json.loads(line.partition(" ")[2]) if line else (False, 0.0, 0)
    if not fine:
        sys.exit(f"The plugin did not start:\n{done.stdout}\n{done.stderr}")
    return milliseconds, modules


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))
        found = [measure(Path(folder)) for _ in range(runs)]
    times = sorted(milliseconds for milliseconds, _ in found)
    print(
        f"start-up: {statistics.median(times):.1f} ms of processor time (median of {runs}, {times[0]:.1f} to "
        f"{times[-1]:.1f}), {found[0][1]} modules"
    )


if __name__ == "__main__":
    main()
