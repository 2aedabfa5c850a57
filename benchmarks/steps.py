"""How long each step of Terrazzo takes, and the most memory that QGIS and the worker hold in it (Linux only).

    TERRAZZO_PYTHON=… python3 benchmarks/steps.py [--image … --labels … --field …] [--epochs N] [--out FOLDER]

Runs the demonstration (`make demo`), on its made-up scene or on your own layers, and ends with a table. Python is
QGIS's own. Memory is the peak of the resident set (VmHWM) of each process, looked at ten times a second.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "resources" / "demo"))

from qgis_process import QgisProcess  # noqa: E402
from run import demonstrate  # noqa: E402

PROGRAMS = {"qgis_process": "QGIS", "plugin.engine.worker": "worker"}  # a word of the command line → who it is


def main() -> None:
    """Run the steps that the command line asks for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("image", "labels", "field", "epochs", "out"):
        parser.add_argument(f"--{name}", default="")
    given = {name.upper(): value for name, value in vars(parser.parse_args()).items()}
    given["TERRAZZO_PYTHON"] = os.environ["TERRAZZO_PYTHON"]
    with tempfile.TemporaryDirectory(prefix="terrazzo-profile-") as profile, tempfile.TemporaryDirectory() as scratch:
        out = Path(given["OUT"] or scratch).resolve()
        out.mkdir(parents=True, exist_ok=True)
        qgis = MeasuredQgis(ROOT, Path(profile))
        demonstrate(given, out, qgis)
    whole = sum(seconds for _, seconds in qgis.seconds)
    print(f"\n{'step':16}{'seconds':>9}{'share':>8}{'QGIS':>10}{'worker':>10}")
    for (step, seconds), peaks in zip(qgis.seconds, qgis.peaks):
        memory = "".join(f"{peaks[who] / 1000:>7.0f} MB" if who in peaks else f"{'':>10}" for who in PROGRAMS.values())
        print(f"{step:16}{seconds:9.1f}{seconds / whole:8.1%}{memory}")


class MeasuredQgis(QgisProcess):
    """Keeps the peak memory of each kind of process for each step (`peaks`, in kB)."""

    def __init__(self, plugin: Path, profile: Path) -> None:
        super().__init__(plugin, profile)
        self.peaks: list[dict[str, int]] = []

    def run(self, algorithm: str, parameters: dict[str, object]) -> dict[str, str]:
        """Run one algorithm with an eye on its processes."""
        self.peaks.append({})
        ended = threading.Event()
        watcher = threading.Thread(target=watch, args=(self.peaks[-1], ended))
        watcher.start()
        try:
            return super().run(algorithm, parameters)
        finally:
            ended.set()
            watcher.join()


def watch(peaks: dict[str, int], ended: threading.Event) -> None:
    """Note the highest VmHWM of our descendants, by what they are, until `ended`."""
    while not ended.wait(0.1):
        for process in descendants(os.getpid()):
            try:
                command = Path(f"/proc/{process}/cmdline").read_text()
                status = Path(f"/proc/{process}/status").read_text()
            except OSError:
                continue  # it has just ended
            for word, who in PROGRAMS.items():
                if word in command and "VmHWM:" in status:
                    peaks[who] = max(peaks.get(who, 0), int(status.partition("VmHWM:")[2].split()[0]))


def descendants(process: int) -> list[int]:
    """The numbers of all processes that a process has started, directly or not."""
    found = []
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            started = [int(number) for number in children.read_text().split()]
        except OSError:
            continue
        for child in started:
            found += [child, *descendants(child)]
    return found


if __name__ == "__main__":
    main()
