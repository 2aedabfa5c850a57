"""Finds, checks and (when asked) builds the Python that the worker runs in.

Standard library only: QGIS imports it, and any bare Python runs it as a script:

    python3 plugin/environment.py build [FOLDER]   build or reuse an environment; its interpreter is the last line
    python3 plugin/environment.py check [PYTHON]   say what an interpreter lacks
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

if __package__:
    from .engine.errors import InputError, ResourceError
    from .engine.probe import MODULES, OLDEST_PYTHON, REQUIREMENTS, spell
else:  # as a script: this file's folder is where Python looks first
    from engine.errors import InputError, ResourceError
    from engine.probe import MODULES, OLDEST_PYTHON, REQUIREMENTS, spell

VARIABLE = "TERRAZZO_PYTHON"
HERE = Path(__file__).resolve().parent
PROBE = HERE / "engine" / "probe.py"
# Stands in an environment that was built to its end, and says from what.
MARKER = "terrazzo-environment.json"
PROBE_SECONDS = 60  # a cold disk is slow; a Python that takes longer will not do
# What QGIS sets for its own libraries and would mislead another Python's.
DROPPED_PREFIXES = ("PYTHON", "PROJ_", "GDAL_", "QGIS_", "DYLD_")
DROPPED = ("LD_LIBRARY_PATH", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET")
SYSTEM_PYTHONS = ("/usr/bin/python3",) if sys.platform.startswith("linux") else ()
WINDOWS = sys.platform == "win32"


@dataclass(frozen=True)
class Interpreter:
    """A Python for the worker, and in a few words where it was found."""

    path: str
    origin: str


def clean_environment(python: str, base: Optional[Mapping[str, str]] = None) -> dict[str, str]:
    """The environment variables for a child that runs `python`: `base` (`os.environ`) without QGIS's own settings."""
    kept = {
        name: value
        for name, value in (os.environ if base is None else base).items()
        if not name.upper().startswith(DROPPED_PREFIXES) and name.upper() not in DROPPED
    }
    kept.update(PYTHONUNBUFFERED="1", PYTHONUTF8="1")
    # torch's threads otherwise wait for each other in busy loops: wherever QGIS or anything else uses the cores as
    # well, that has been seen to make training six times slower.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # glibc gives every large tensor back to the system, and gets it again page by page: a sixth of a training's
    # processor time on a CPU, a quarter of a map's. A worker lives for one job, so it keeps what it has.
    kept.setdefault("MALLOC_MMAP_MAX_", "0")
    kept.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**40))
    if (Path(python).parent.parent / MARKER).exists():
        # Our own environment is whole: another NumPy in the user's folder must not get in its way. Other Pythons may
        # well have their torch there.
        kept["PYTHONNOUSERSITE"] = "1"
    return kept


# --- finding ---------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where this system keeps what can be made again."""
    if WINDOWS:
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "terrazzo"


def default_folder(version: str = "") -> Path:
    """Terrazzo's own environment for a Python version, by default ours; QGIS versions need not have the same."""
    major, minor = (version or sys.version).split(".")[:2]
    return cache_folder() / f"python{major}.{minor}"


def environment_python(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "Scripts" / "python.exe" if WINDOWS else folder / "bin" / "python"


def find_python(setting: str = "") -> Interpreter:
    """Find the worker's Python: the setting, the variable TERRAZZO_PYTHON, Terrazzo's own environment, QGIS's Python.

    Raises:
        InputError: The setting or the variable names no file.
        ResourceError: There is no Python at all.
    """
    for path, origin in ((setting, "Terrazzo's setting"), (os.environ.get(VARIABLE, ""), f"the variable {VARIABLE}")):
        if not path.strip():
            continue
        given = Path(path.strip()).expanduser()
        if not given.is_file():
            raise InputError(
                f"There is no Python {given}, which {origin} names.", "Correct it, or empty it to let Terrazzo search."
            )
        return Interpreter(str(given), origin)
    own = default_folder()
    if (own / MARKER).exists() and environment_python(own).is_file():
        return Interpreter(str(environment_python(own)), "Terrazzo's own environment")
    qgis = qgis_python()
    if qgis is None:
        raise ResourceError(
            f"No Python was found for the worker: neither {own} nor the Python of QGIS in {sys.prefix}.",
            f"Name one in Terrazzo's settings or in the variable {VARIABLE}.",
        )
    return Interpreter(qgis, "QGIS's Python")


def qgis_python() -> Optional[str]:
    """The interpreter that belongs to the Python we run in; `sys.executable` is QGIS itself on Windows and macOS."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    candidates = [Path(sys.executable)] if sys.executable else []
    for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix):
        if WINDOWS:
            candidates += [Path(prefix) / "python.exe", Path(prefix) / "python3.exe"]
        else:
            candidates += [Path(prefix) / "bin" / name for name in (version, "python3")]
    if sys.executable:  # QGIS.app/Contents/MacOS/QGIS has its Python in bin beside it
        candidates += [Path(sys.executable).parent / "bin" / "python3"]
    for candidate in candidates:
        if candidate.name.lower().startswith("python") and candidate.is_file():
            return str(candidate)
    return None


# --- checking --------------------------------------------------------------------------------------------------------


def probe(python: str) -> dict[str, Any]:
    """What an interpreter offers: see `engine/probe.py`; takes a tenth of a second and imports none of it.

    Raises:
        ResourceError: It cannot be run.
    """
    try:
        done = subprocess.run(
            [python, str(PROBE)],
            env=clean_environment(python),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
            encoding="utf-8",
            errors="replace",
            **_no_console(),
        )
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found
    except subprocess.TimeoutExpired as error:
        raise ResourceError(
            f"The Python {python} gave no answer in {PROBE_SECONDS} seconds.",
            "Choose another one in Terrazzo's settings.",
        ) from error
    except OSError as error:
        raise ResourceError(
            f"The Python {python} cannot be started ({error.strerror or error}).",
            "Choose another one in Terrazzo's settings.",
        ) from error
    except (ValueError, IndexError) as error:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise ResourceError(
            f"{python} does not answer as a Python 3.7 or newer does (status {done.returncode}"
            f"{': ' + words[-1] if words else ''}).",
            "Choose another one in Terrazzo's settings.",
        ) from error


def check(python: str) -> dict[str, str]:
    """What an interpreter lacks to run a worker, in words, such as "torch" or "timm 1.0.3 or newer (it has 0.9)".

    Returns:
        By "python" or the name of the module; empty if it lacks nothing.

    Raises:
        ResourceError: It cannot be run.
    """
    return dict(probe(python)["missing"])


def remedy(interpreter: Interpreter, missing: Mapping[str, str]) -> str:
    """The one thing to do about what `check` found missing, in a sentence."""
    build_command = f'{_own_python()} "{Path(__file__).resolve()}" build'
    own = interpreter.origin not in ("Terrazzo's setting", f"the variable {VARIABLE}")
    if "python" in missing:
        return f"Choose a newer Python in Terrazzo's settings or in the variable {VARIABLE}."
    if "osgeo" in missing:
        if sys.platform.startswith("linux") and own:
            return "Install GDAL's bindings: sudo apt-get install python3-gdal (or your system's package of that kind)."
        return f"Choose a Python that has GDAL's bindings, or build one from QGIS's Python: {build_command}"
    if own:
        return f"Build Terrazzo's environment (2 to 6 GB, downloaded once): {build_command}"
    return f'Install them with: "{interpreter.path}" -m pip install -r "{REQUIREMENTS}"'


def require_python(setting: str = "") -> Interpreter:
    """Find the worker's Python and make sure that it has all it needs.

    Raises:
        InputError, ResourceError: As `find_python` and `probe` do, and where something is missing.
    """
    interpreter = find_python(setting)
    missing = check(interpreter.path)
    if missing:
        raise ResourceError(
            f"The worker's Python {interpreter.path} ({interpreter.origin}) lacks {', '.join(missing.values())}.",
            remedy(interpreter, missing),
        )
    return interpreter


# --- building --------------------------------------------------------------------------------------------------------


def build(folder: Optional[str] = None, on_line: Callable[[str], None] = print, base: Optional[str] = None) -> str:
    """Build a worker environment in `folder`, or reuse the one there if it was built whole from the same requirements.

    It sees the packages of the system's Python, whose GDAL bindings it needs, and keeps that Python's NumPy, which
    they were compiled for, unless it is too old. pip's own settings decide where packages come from.

    Args:
        folder: Default `default_folder()`.
        on_line: Gets every line that the installers print; what it raises ends the build.
        base: The Python to build upon; default the one we run in, else the system's.

    Returns:
        The path of its interpreter.

    Raises:
        InputError: The folder holds something else.
        ResourceError: The base Python lacks something, or an installer failed.
    """
    base, found = find_base([base] if base else None)
    target = Path(folder).expanduser().absolute() if folder else default_folder(found["python"])
    wanted = recipe(base, found)
    python = str(environment_python(target))
    if read_marker(target) == wanted and not _missing_or_broken(python):
        on_line(f"The environment {target} is complete.")
        return python
    _clear(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _run([base, "-m", "venv", "--system-site-packages", str(target)], base, on_line)
    with tempfile.TemporaryDirectory(prefix="terrazzo-") as scratch:
        constraints = Path(scratch) / "constraints.txt"
        constraints.write_text(_numpy_that_fits(found), encoding="utf-8")
        # One call, so that pip finds a torch and a torchvision that fit each other.
        install = ["install", "--no-input", "--progress-bar", "off", "-c", str(constraints), "-r", str(REQUIREMENTS)]
        _run([python, "-m", "pip", *install], python, on_line)
    imports = "; ".join(f"import {module}" for module in MODULES)
    _run([python, "-c", f"{imports}; from osgeo import gdal, gdal_array, ogr, osr"], python, on_line)
    (target / MARKER).write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    return python


def find_base(candidates: Optional[list[str]] = None) -> tuple[str, dict[str, Any]]:
    """A Python to build upon, new enough and with GDAL's bindings, and what `probe` says of it.

    Args:
        candidates: Default the Python we run in, then the system's, which on Linux is QGIS's (`python3` is often
            another one there, of conda or pyenv).

    Raises:
        ResourceError: None of them will do.
    """
    complaints = []
    for python in candidates or dict.fromkeys([_own_python(), *SYSTEM_PYTHONS]):
        if not Path(python).is_file():
            continue
        found = probe(python)
        lacking = [words for name, words in found["missing"].items() if name in ("python", "osgeo")]
        if not lacking:
            return python, found
        complaints.append(f"{python} (Python {found['python']}) lacks {' and '.join(lacking)}")
    raise ResourceError(
        f"No Python to build upon: {'; '.join(complaints) or 'none is there'}.",
        "Install GDAL's bindings (on Debian and Ubuntu: sudo apt-get install python3-gdal python3-venv), or run this "
        f"with the Python {spell(OLDEST_PYTHON)} or newer of a QGIS.",
    )


def recipe(base: str, found: dict[str, Any]) -> dict[str, str]:
    """What an environment is built from: with another recipe it is built anew."""
    return {
        "requirements": hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest(),
        "base": base,
        "python": str(found["python"]),
        "numpy": str(found["versions"].get("numpy", "")),
    }


def _numpy_that_fits(found: Mapping[str, Any]) -> str:
    """A constraint for pip: what was compiled for a NumPy runs with the later ones of the same major version."""
    version = str(found["versions"].get("numpy", ""))
    if not version:
        return ""
    return f"numpy<{int(version.split('.')[0]) + 1}" if "numpy" in found["missing"] else f"numpy=={version}"


def read_marker(folder: Path) -> Optional[dict[str, str]]:
    """The recipe of a whole environment; None where there is none, or one whose build was interrupted."""
    try:
        marker: dict[str, str] = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return marker
    except (OSError, ValueError):
        return None


def _missing_or_broken(python: str) -> bool:
    try:
        return bool(check(python))
    except ResourceError:
        return True


def _clear(folder: Path) -> None:
    """Remove an old or interrupted environment, and nothing else that a user may have there."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "pyvenv.cfg").is_file():
        raise InputError(f"{folder} holds something that is no Python environment.", "Choose an empty or a new folder.")
    (folder / MARKER).unlink(missing_ok=True)  # first: a half removed environment must not pass for whole
    shutil.rmtree(folder)


def _run(command: list[str], python: str, on_line: Callable[[str], None]) -> None:
    environment = clean_environment(python)
    # The user's folder is no part of the environment, and pip must not install there whatever its settings say.
    environment.update(PYTHONNOUSERSITE="1", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    on_line("$ " + " ".join(command))
    tail: list[str] = []
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            **_no_console(),
        )
    except OSError as error:
        raise ResourceError(f"{command[0]} cannot be started ({error.strerror}).", "Choose another Python.") from error
    with process:
        try:
            for line in process.stdout or ():
                tail = [*tail[-9:], line.rstrip()]
                on_line(tail[-1])
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ResourceError(
            f"Building the environment failed at {' '.join(command[:4])} … (status {process.returncode}):\n"
            + "\n".join(tail),
            "Mend what they say (on Debian and Ubuntu python3-venv must be installed) and build again.",
        )


def _no_console() -> dict[str, Any]:
    """Keeps Windows from opening a console window for a child."""
    return {"creationflags": subprocess.CREATE_NO_WINDOW} if WINDOWS else {}


def _own_python() -> str:
    python = qgis_python()
    if python is None:
        raise ResourceError(f"No Python was found in {sys.prefix}.", "Run this script with a Python of your choice.")
    # Of a virtual environment take the Python beneath: one environment cannot see another's packages.
    if sys.prefix != sys.base_prefix:
        base = getattr(sys, "_base_executable", "") or python
        return str(base)
    return python


def main(arguments: list[str]) -> int:
    """The command line; results on standard output, all else on standard error."""
    parser = argparse.ArgumentParser(description="The Python environment of Terrazzo's worker.")
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="build or reuse an environment and print its interpreter")
    builder.add_argument("folder", nargs="?", help=f"default {default_folder()}")
    checker = commands.add_parser("check", help="say what an interpreter lacks")
    checker.add_argument("python", nargs="?", default="", help="default: the one the plugin would take")
    given = parser.parse_args(arguments)
    try:
        if given.command == "build":
            print(build(given.folder, on_line=lambda line: print(line, file=sys.stderr, flush=True)))
        else:
            found = require_python(given.python)
            print(f"{found.path} ({found.origin}) has all that the worker needs.")
    except (InputError, ResourceError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
