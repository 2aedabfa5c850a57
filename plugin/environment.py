"""The command that builds and checks the Python environment of the worker, without QGIS.

Any Python can run it as a script:

    python3 plugin/environment.py build [FOLDER]   build or reuse an environment; its interpreter is the last line
    python3 plugin/environment.py check [PYTHON]   report what an interpreter lacks
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # as a script: the package is in the folder above this file's folder
    import runpy

    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    runpy.run_module("plugin.environment", run_name="__main__", alter_sys=True)
    sys.exit()

from .engine.errors import EngineError
from .engine.events import Reporter
from .setup.machine import look_at_machine
from .setup.planning import build_planned, plan_build
from .setup.torch_builds import BUILDS, choose_build
from .worker_python import default_folder, require_python


class _Console(Reporter):
    """Writes a build's log to standard error."""

    def log(self, text: str) -> None:
        """Write a line."""
        print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Run the command line; results go to standard output, everything else to standard error."""
    parser = argparse.ArgumentParser(description="The Python environment of Terrazzo's worker.")
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="build or reuse an environment and print its interpreter")
    builder.add_argument("folder", nargs="?", help=f"folder for environments, default {default_folder()}")
    builder.add_argument(
        "--torch", default="", choices=BUILDS, help="build of PyTorch; default: the one that fits this computer"
    )
    builder.add_argument("--base", default="", help="Python to build upon")
    builder.add_argument("--wheels", type=Path, help="folder of wheels to install everything from, without network")
    checker = commands.add_parser("check", help="report what an interpreter lacks")
    checker.add_argument("python", nargs="?", default="", help="default: the one that the plugin would use")
    given = parser.parse_args(arguments)
    try:
        if given.command == "build":
            machine, console = look_at_machine(), _Console()
            plan = plan_build(machine, given.torch, given.wheels, given.folder, given.base)
            note = choose_build(machine).note
            console.log(" ".join(filter(None, (plan.words, note))))
            print(build_planned(plan, console))
        else:
            found = require_python(given.python)
            print(f"{found.path} ({found.origin}) has all that the worker needs.")
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
