"""QGIS with a window, from the zip to the map: installs it as the plugin manager does, works through dialogs, quits.

    python3 tests/window/run.py build/terrazzo.zip

Needs xvfb-run, QGIS's Python, and TERRAZZO_PYTHON for the worker. What QGIS printed and pictures of its windows are
kept in build/window; after a failure both are told.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
KEPT = TESTS.parent / "build" / "window"
SECONDS = 240
SECONDS_TO_END = 10  # that what QGIS started may take after it
MARK = "TERRAZZO_WINDOW"  # a variable that all processes of a run have
BAD_WORDS = ("Traceback (most recent call last)", "Segmentation fault", "QGIS died", "QGIS crashed")

sys.path.insert(0, str(TESTS))


def main() -> None:
    """Run it; exit status 1 with what is wrong."""
    archive = Path(sys.argv[1]).resolve()
    if shutil.which("xvfb-run") is None:
        sys.exit("xvfb-run is missing: install the package xvfb.")
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        wrong = run(archive, Path(folder))
    if wrong:
        sys.exit("\n".join([(KEPT / "qgis.log").read_text(errors="replace"), *wrong, f"Pictures: {KEPT}"]))
    print(f"Installed, dialogs run, styled map shown, QGIS ended: {time.monotonic() - begun:.0f} s")


def run(archive: Path, folder: Path) -> list[str]:
    """What is wrong, a line each."""
    import synthetic

    (folder / "scene").mkdir()
    image, labels = synthetic.write_scene(folder / "scene")
    mark = uuid.uuid4().hex
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "QGIS", "QT_"))}
    # QGIS takes the first python3 in PATH for its own.
    path = f"{Path(shutil.which('qgis') or 'qgis').parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **clean, "PATH": path, MARK: mark, "ARCHIVE": str(archive), "IMAGE": image, "LABELS": labels,
        "WORK": str(folder), "PICTURES": str(KEPT), "HOME": str(folder),
    }  # fmt: skip
    command = [
        "xvfb-run", "-a", "-s", "-screen 0 1400x1000x24", "qgis", "--profiles-path", str(folder / "profiles"),
        "--nologo", "--noversioncheck", "--code", str(Path(__file__).with_name("inside.py")),
    ]  # fmt: skip
    with open(KEPT / "qgis.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            status = None
    wrong = [] if status == 0 else [f"QGIS took more than {SECONDS} s" if status is None else f"QGIS: status {status}"]
    end = time.monotonic() + SECONDS_TO_END
    while status is not None and alive(mark) and time.monotonic() < end:
        time.sleep(0.2)
    left = alive(mark)
    wrong += [f"Left alive: {words}" for words in left.values()]
    for number in left:
        os.kill(number, signal.SIGKILL)
    said = (KEPT / "qgis.log").read_text(errors="replace")
    wrong += [f"QGIS said: {word}" for word in BAD_WORDS if word in said]
    outcome = folder / "outcome.txt"
    told = outcome.read_text() if outcome.exists() else "QGIS did not come to the end of the test"
    return wrong if told == "fine" else [*wrong, told]


def alive(mark: str) -> dict[int, str]:
    """The processes with our mark: number → command."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()
