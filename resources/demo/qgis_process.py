"""Runs Processing algorithms of this checkout by qgis_process, in a QGIS profile of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

# Said by Qt and PyQt on every start; nothing that anyone could act on.
NOISE = re.compile(r"QStandardPaths: |setapi\(\) is deprecated|propagateSizeHints")
# "0...10...20" in front of what an algorithm says; a number that belongs to a sentence is followed by a space.
PROGRESS = re.compile(r"^(?:\.|\d{1,2}(?=[^\d\s]|$)|100 - done\.)*")
RULE = "-" * 16


class StepFailed(Exception):
    """An algorithm ended without a result; `status` is the exit status for the caller."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status or 1


class QgisProcess:
    """Runs algorithms, shows how they go, and keeps how long each took (`seconds`).

    Args:
        plugin: The plugin's folder, whatever it is called.
        profile: An empty folder for the QGIS profile.
    """

    def __init__(self, plugin: Path, profile: Path) -> None:
        self.seconds: list[tuple[str, float]] = []
        # Debian 12's wrapper passes an option that its program does not know.
        self.program = shutil.which("qgis_process.bin") or shutil.which("qgis_process") or ""
        if not self.program:
            raise StepFailed("There is no qgis_process on this machine.", 127)
        (profile / "plugins").mkdir()
        (profile / "plugins" / "terrazzo").symlink_to(plugin, target_is_directory=True)
        # QGIS takes the first python3 in PATH for its own: that must not be a virtual environment or pyenv's.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.environment = {
            **inherited,
            "PATH": f"{Path(self.program).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "QT_QPA_PLATFORM": "offscreen",
            "QGIS_CUSTOM_CONFIG_PATH": str(profile / "settings"),
            "QGIS_PLUGINPATH": str(profile / "plugins"),
        }
        enable = [self.program, "plugins", "enable", "terrazzo"]
        done = subprocess.run(enable, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise StepFailed(f"QGIS does not take the plugin:\n{done.stdout}{done.stderr}", done.returncode)

    def run(self, algorithm: str, parameters: dict[str, object]) -> dict[str, str]:
        """Run one algorithm and return its outputs as text.

        Raises:
            StepFailed: It ended with an exit status other than 0; what it said has been shown.
        """
        begun = time.monotonic()
        command = [self.program, "run", algorithm, "--", *(f"{name}={value}" for name, value in parameters.items())]
        process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None and process.stderr is not None
        complaints = threading.Thread(target=show_complaints, args=(process.stderr,))
        complaints.start()
        text = show_progress(process.stdout)
        complaints.join()
        status = process.wait()
        self.seconds.append((algorithm.partition(":")[2], time.monotonic() - begun))
        if status:
            raise StepFailed(f"{algorithm} failed (exit status {status}).", status)
        results = text.rpartition(f"Results\n{RULE}\n")[2]
        return dict(re.findall(r"^(\w+):\t(.*)$", results, re.MULTILINE))


def show_progress(stream: IO[bytes]) -> str:
    """Show the lines between the lists of inputs and results as they come; returns everything."""
    lines: list[str] = []
    showing = False
    for raw in stream:
        line = raw.decode("utf-8", "replace").rstrip()
        lines.append(line)
        if line == RULE:
            showing = False
        elif showing and PROGRESS.sub("", line):
            print(PROGRESS.sub("", line), flush=True)
        elif line == "" and lines[-3:-1] != ["Inputs", RULE]:
            showing = "Results" not in lines
    return "\n".join(lines)


def show_complaints(stream: IO[bytes]) -> None:
    """Show the lines of standard error but for the noise."""
    for line in stream:
        text = line.decode("utf-8", "replace")
        if not NOISE.search(text):
            print(text, end="", file=sys.stderr, flush=True)
