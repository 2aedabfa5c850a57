"""Finds and checks the Python that the worker runs in; `setup/` builds one. Standard library only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from .children import WINDOWS, no_console
from .engine.errors import InputError, ResourceError
from .engine.files import cache_folder
from .engine.probe import REQUIREMENTS
from .setup.building import MARKER, active_python

VARIABLE = "TERRAZZO_PYTHON"
HERE = Path(__file__).resolve().parent
PROBE = HERE / "engine" / "probe.py"
PROBE_SECONDS = 60  # reading from a cold disk takes time; a Python that needs longer cannot be used
# Set by QGIS for its own libraries; they would mislead those of another Python.
DROPPED_PREFIXES = ("PYTHON", "PROJ_", "GDAL_", "QGIS_", "DYLD_")
QGIS_PYTHON = "QGIS's Python"  # if no Python was named or built
DROPPED = ("LD_LIBRARY_PATH", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET")
SYSTEM_PYTHONS = ("/usr/bin/python3",) if sys.platform.startswith("linux") else ()


@dataclass(frozen=True)
class Interpreter:
    """A Python for the worker, and a short description of where it was found."""

    path: str
    origin: str


def clean_environment(python: str, base: Optional[Mapping[str, str]] = None) -> dict[str, str]:
    """Return the environment variables for a child that runs `python`: `base` (`os.environ`) without QGIS's own
    settings.
    """
    kept = {
        name: value
        for name, value in (os.environ if base is None else base).items()
        if not name.upper().startswith(DROPPED_PREFIXES) and name.upper() not in DROPPED
    }
    kept.update(PYTHONUNBUFFERED="1", PYTHONUTF8="1")
    # Otherwise torch's threads busy-wait for each other: when QGIS or anything else uses the cores too, training became
    # six times slower.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # By default, glibc returns every large tensor to the system and gets it back page by page: a sixth of a training's
    # CPU time, a quarter of a map's. A worker lives for one job, so it keeps its memory.
    kept.setdefault("MALLOC_MMAP_MAX_", "0")
    kept.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**40))
    if (Path(python).parent.parent / MARKER).exists():
        # Our own environment is complete, so packages in the user's folder, such as another NumPy, must not be used.
        # Other Pythons may have their torch there.
        kept["PYTHONNOUSERSITE"] = "1"
    return kept


# --- finding ---------------------------------------------------------------------------------------------------------


def default_folder(version: str = "") -> Path:
    """Return the default folder for environments of a Python version, by default of the one that runs this code."""
    major, minor = (version or sys.version).split(".")[:2]
    return cache_folder() / f"worker{major}.{minor}"


def find_python(setting: str = "") -> Interpreter:
    """Find the worker's Python: the setting, the variable TERRAZZO_PYTHON, Terrazzo's own environment, or QGIS's
    Python.

    Raises:
        InputError: The setting or the variable names a file that does not exist.
        ResourceError: There is no Python at all.
    """
    for path, origin in ((setting, "Terrazzo's setting"), (os.environ.get(VARIABLE, ""), f"the variable {VARIABLE}")):
        if not path.strip():
            continue
        given = Path(path.strip()).expanduser()
        if not given.is_file():
            raise InputError(
                f"The Python {given}, which {origin} names, does not exist.",
                "Correct it, or leave it empty so that Terrazzo searches.",
            )
        return Interpreter(str(given), origin)
    own = active_python(default_folder())
    if own is not None:
        return Interpreter(str(own), "Terrazzo's own environment")
    qgis = qgis_python()
    if qgis is None:
        raise ResourceError(
            f"No Python was found for the worker: neither in {default_folder()} nor the Python of QGIS in "
            f"{sys.prefix}.",
            f"Choose one in Terrazzo's settings or in the variable {VARIABLE}.",
        )
    return Interpreter(qgis, QGIS_PYTHON)


def is_set_up(setting: str = "") -> bool:
    """Return whether a Python for the worker was chosen or built, complete or not; starts no process."""
    try:
        return find_python(setting).origin != QGIS_PYTHON
    except InputError:  # the chosen one no longer exists
        return True
    except ResourceError:
        return False


def qgis_python() -> Optional[str]:
    """Return the interpreter of the Python that this code runs in.

    The folder from which GDAL's bindings were loaded comes first: if pyenv or conda is first in PATH, an embedded
    Python takes their prefix for its own. `sys.executable` comes last: on Windows and macOS it is QGIS itself.
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    prefixes = [*_prefixes_of_loaded(), sys.prefix, sys.exec_prefix, sys.base_prefix]
    candidates = []
    for prefix in prefixes:
        if WINDOWS:
            candidates += [Path(prefix) / "python.exe", Path(prefix) / "python3.exe"]
        else:
            candidates += [Path(prefix) / "bin" / name for name in (version, "python3")]
    if sys.executable:  # QGIS.app/Contents/MacOS/QGIS has its Python in the folder bin beside it
        candidates += [Path(sys.executable).parent / "bin" / "python3", Path(sys.executable)]
    for candidate in candidates:
        if candidate.name.lower().startswith("python") and candidate.is_file():
            return str(candidate)
    return None


def _prefixes_of_loaded() -> list[str]:
    """Return the prefixes of the Python whose packages qgis and osgeo are loaded."""
    found = []
    for name in ("qgis", "osgeo"):
        file = getattr(sys.modules.get(name), "__file__", None)
        parts = [path for path in Path(file).parents if path.name.lower() == "lib"] if file else []
        found += [str(path.parent) for path in parts[-1:]]
    return found


# --- checking --------------------------------------------------------------------------------------------------------


def probe(python: str) -> dict[str, Any]:
    """Return what an interpreter offers (see `engine/probe.py`); takes a tenth of a second, because nothing is
    imported.

    Raises:
        ResourceError: The interpreter cannot be run.
    """
    try:
        done = subprocess.run(  # nosec B603  # no shell; the Python that the user chose
            [python, str(PROBE)],
            env=clean_environment(python),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
            encoding="utf-8",
            errors="replace",
            **no_console(),
        )
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found
    except subprocess.TimeoutExpired as error:
        raise ResourceError(
            f"The Python {python} did not answer within {PROBE_SECONDS} seconds.",
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
            f"{python} does not behave like Python 3.7 or newer (status "
            f"{done.returncode}{': ' + words[-1] if words else ''}).",
            "Choose another one in Terrazzo's settings.",
        ) from error


def check(python: str) -> dict[str, str]:
    """Return what an interpreter lacks to run a worker, such as "torch" or "timm 1.0.3 or newer (it has 0.9)".

    Returns:
        Descriptions by "python" or name of the module; empty if nothing is missing.

    Raises:
        ResourceError: The interpreter cannot be run.
    """
    return dict(probe(python)["missing"])


def remedy(interpreter: Interpreter, missing: Mapping[str, str]) -> str:
    """Return the sentence that says what to do about the packages that `check` found missing."""
    own = interpreter.origin not in ("Terrazzo's setting", f"the variable {VARIABLE}")
    command = f'{own_python()} "{HERE / "environment.py"}" build'
    build = f"choose Plugins ▸ Terrazzo ▸ Set up training and mapping in QGIS, or run {command}"
    if own:
        return f"To build an environment (2 to 6 GB), {build}"
    if "python" in missing:
        return f"Choose a newer Python in Terrazzo's settings or in the variable {VARIABLE}."
    if "osgeo" in missing:
        return f"Choose a Python with GDAL's bindings. To build one, {build}"
    return f'Install them with: "{interpreter.path}" -m pip install -r "{REQUIREMENTS}"'


def require_python(setting: str = "") -> Interpreter:
    """Find the worker's Python and make sure that it has everything it needs.

    Raises:
        InputError: As `find_python`.
        ResourceError: As `find_python` and `probe`, or something is missing.
    """
    interpreter = find_python(setting)
    missing = check(interpreter.path)
    if missing:
        raise ResourceError(
            f"The worker's Python {interpreter.path} ({interpreter.origin}) lacks {', '.join(missing.values())}.",
            remedy(interpreter, missing),
        )
    return interpreter


def own_python() -> str:
    """Return the Python to build upon: the one that runs this code, or the one that its virtual environment is from."""
    python = qgis_python()
    if python is None:
        raise ResourceError(f"No Python was found in {sys.prefix}.", "Run this script with a Python of your choice.")
    # Not a virtual environment's Python, because an environment based on it cannot see its packages.
    if sys.prefix != sys.base_prefix:
        base = getattr(sys, "_base_executable", "") or python
        return str(base)
    return python
