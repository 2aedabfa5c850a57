"""Runs `qgis_process` like a user without a screen."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAME = "terrazzo_elsewhere"


class Headless:
    """A QGIS configuration of its own, with the plugin enabled in a folder called `NAME`.

    Args:
        program: The path of `qgis_process`.
        folder: An empty folder for the configuration.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        plugins = folder / "plugins"
        plugins.mkdir()
        (plugins / NAME).symlink_to(ROOT, target_is_directory=True)
        # QGIS takes the first python3 in PATH for its own; the one that runs the tests may be a virtual environment's.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.environment = {
            **inherited,
            "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}",
            "QGIS_PLUGINPATH": str(plugins),
            "QGIS_CUSTOM_CONFIG_PATH": str(folder / "configuration"),
            "QT_QPA_PLATFORM": "offscreen",
        }
        self.call("plugins", "enable", NAME)

    def run(self, algorithm: str, **parameters: Any) -> dict[str, Any]:
        """The results of an algorithm or a model file; AssertionError with all that was printed if it fails."""
        given = [f"{name}={value}" for name, value in parameters.items()]
        done = self.call("--json", "run", algorithm, "--", *given)
        # Whatever QGIS itself prints before it, the answer is the JSON object.
        return json.loads(done.stdout[done.stdout.index("{") :])["results"]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the program; AssertionError with all that it printed if it fails."""
        command = [self.program, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done
