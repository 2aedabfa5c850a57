"""Chooses the Python that an environment is built upon: QGIS's own, or one that uv downloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from ..engine.errors import ResourceError
from ..engine.probe import OLDEST_PYTHON, parse, spell
from .machine import Machine
from .troubles import BASE

WITH_GDAL = f"Install a 64-bit Python 3.10 or newer with GDAL's bindings (osgeo), and {BASE}."

# The Python that uv downloads: the newest one for which every package has wheels.
MANAGED_PYTHON = "3.13"
# A PyPI package with GDAL and its bindings, for Pythons that have none.
GDAL_PACKAGE = "gdal-wheel"
GDAL_PYTHONS = ((3, 12), (3, 14))  # from, to
GDAL_MACHINES = (("linux", "x86_64"), ("win32", "x86_64"), ("darwin", "arm64"))
# In an Intel QGIS on an Apple processor, uv would otherwise download a Python for Intel.
MANAGED_ON_MAC = f"cpython-{MANAGED_PYTHON}-macos-aarch64-none"


@dataclass(frozen=True)
class Base:
    """The Python that an environment is built upon.

    Attributes:
        python: The interpreter that creates it; if uv downloads one, the interpreter that installs uv.
        managed: Whether uv downloads another Python.
        shares: Whether the environment sees the packages of the interpreter, to use its GDAL.
        version: Version, such as "3.11.2"; for uv, the one that is requested.
        numpy: Constraint for pip on the NumPy that the GDAL bindings were compiled for; "" for any.
        why: Why the interpreter cannot simply be used; "" if it can.
    """

    python: str
    managed: bool
    shares: bool
    version: str
    numpy: str = ""
    why: str = ""


def choose_base(python: str, found: dict[str, Any], machine: Machine) -> Base:
    """Choose the Python to build upon.

    Args:
        python: QGIS's interpreter, or another one that the user chose.
        found: What `probe` reports about it.
        machine: This computer.

    Raises:
        ResourceError: There is no GDAL for it, nor for another Python on this kind of computer.
    """
    version = found["python"]
    number = parse(version)[:2]
    reason = _unsuitable(number, found, machine)
    if not reason and "osgeo" not in found["missing"]:
        return Base(python, False, True, version, _numpy_that_fits(found))
    if not machine.translated and (machine.system, machine.processor) not in GDAL_MACHINES:
        raise ResourceError(
            f"{reason or f'Python {version} has no GDAL bindings'}, and no package provides them on this kind of "
            f"computer ({machine.system}, {machine.processor}).",
            WITH_GDAL,
        )
    managed = MANAGED_ON_MAC if machine.translated else MANAGED_PYTHON
    if reason:
        return Base(python, True, False, managed, why=f"{reason}: uv downloads Python {MANAGED_PYTHON}.")
    if GDAL_PYTHONS[0] <= number <= GDAL_PYTHONS[1]:
        why = f"Python {version} has no GDAL bindings: the package {GDAL_PACKAGE} provides them."
        return Base(python, False, False, version, why=why)
    why = f"Python {version} has no GDAL bindings and no package provides them: uv downloads Python {MANAGED_PYTHON}."
    return Base(python, True, False, managed, why=why)


def _unsuitable(number: tuple[int, ...], found: dict[str, Any], machine: Machine) -> Optional[str]:
    if number < OLDEST_PYTHON:
        return f"Python {found['python']} is older than {spell(OLDEST_PYTHON)}"
    if machine.translated:
        return "This QGIS is for Intel processors, for which PyTorch is no longer released on macOS"
    if found.get("bits", 64) != 64:
        return f"Python {found['python']} is a {found['bits']}-bit Python"
    if not found.get("venv", True):
        return f"Python {found['python']} cannot create virtual environments"
    return None


def _numpy_that_fits(found: dict[str, Any]) -> str:
    """Return pip's constraint on NumPy: code compiled for a version runs with later ones of the same major version."""
    version = str(found["versions"].get("numpy", ""))
    if not version:
        return ""
    return f"numpy<{parse(version)[0] + 1}" if "numpy" in found["missing"] else f"numpy=={version}"
