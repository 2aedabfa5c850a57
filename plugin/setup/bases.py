"""The Python that an environment is built upon: QGIS's own, or one that uv brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from ..engine.errors import ResourceError
from ..engine.probe import OLDEST_PYTHON, parse, spell
from .machine import Machine
from .troubles import BASE

WITH_GDAL = f"Install a Python 3.10 or newer of 64 bits that has GDAL's bindings (osgeo), and {BASE}."

# The Python that uv brings: the newest of which every package has wheels.
MANAGED_PYTHON = "3.13"
# GDAL's bindings with GDAL in them, for Pythons that have none: a package of PyPI.
GDAL_PACKAGE = "gdal-wheel"
GDAL_PYTHONS = ((3, 12), (3, 14))  # from, to
GDAL_MACHINES = (("linux", "x86_64"), ("win32", "x86_64"), ("darwin", "arm64"))
# A uv for Intel processors, as an Intel QGIS gets it, would bring another Python for them.
MANAGED_ON_MAC = f"cpython-{MANAGED_PYTHON}-macos-aarch64-none"


@dataclass(frozen=True)
class Base:
    """What an environment is built upon.

    Attributes:
        python: The interpreter that makes it; for one that uv brings, the interpreter that fetches uv.
        managed: Whether uv brings another Python.
        shares: Whether the environment sees the packages of the interpreter, for the sake of its GDAL.
        version: Such as "3.11.2"; for uv, what it is asked for.
        numpy: pip's constraint for the NumPy that its GDAL was made for; "" for any.
        why: Why it is not simply the interpreter; "" where it is.
    """

    python: str
    managed: bool
    shares: bool
    version: str
    numpy: str = ""
    why: str = ""


def choose_base(python: str, found: dict[str, Any], machine: Machine) -> Base:
    """Decide what to build upon.

    Args:
        python: QGIS's interpreter, or another that the user named.
        found: What `probe` says of it.

    Raises:
        ResourceError: There is no GDAL for it, nor for another Python on this kind of machine.
    """
    version = found["python"]
    number = parse(version)[:2]
    reason = _unsuitable(number, found, machine)
    if not reason and "osgeo" not in found["missing"]:
        return Base(python, False, True, version, _numpy_that_fits(found))
    if not machine.translated and (machine.system, machine.processor) not in GDAL_MACHINES:
        raise ResourceError(
            f"{reason or f'Python {version} has no GDAL bindings'}, and no package brings them to this kind of machine "
            f"({machine.system}, {machine.processor}).",
            WITH_GDAL,
        )
    managed = MANAGED_ON_MAC if machine.translated else MANAGED_PYTHON
    if reason:
        return Base(python, True, False, managed, why=f"{reason}: uv brings Python {MANAGED_PYTHON}.")
    if GDAL_PYTHONS[0] <= number <= GDAL_PYTHONS[1]:
        why = f"Python {version} has no GDAL bindings: the package {GDAL_PACKAGE} brings them."
        return Base(python, False, False, version, why=why)
    why = f"Python {version} has no GDAL bindings, and there are none for it: uv brings Python {MANAGED_PYTHON}."
    return Base(python, True, False, managed, why=why)


def _unsuitable(number: tuple[int, ...], found: dict[str, Any], machine: Machine) -> Optional[str]:
    if number < OLDEST_PYTHON:
        return f"Python {found['python']} is older than {spell(OLDEST_PYTHON)}"
    if machine.translated:
        return "This QGIS is for Intel processors, and PyTorch for them is no longer made on a Mac"
    if found.get("bits", 64) != 64:
        return f"Python {found['python']} is one of {found['bits']} bits"
    if not found.get("venv", True):
        return f"Python {found['python']} cannot make environments"
    return None


def _numpy_that_fits(found: dict[str, Any]) -> str:
    """What was compiled for a NumPy runs with the later ones of the same major version."""
    version = str(found["versions"].get("numpy", ""))
    if not version:
        return ""
    return f"numpy<{parse(version)[0] + 1}" if "numpy" in found["missing"] else f"numpy=={version}"
