"""The Python that an environment is built upon: QGIS's own, or one that uv brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from ..engine.probe import OLDEST_PYTHON, parse, spell
from .machine import Machine

# The Python that uv brings: the newest of which every package has wheels.
MANAGED_PYTHON = "3.13"
# GDAL's bindings with GDAL in them, for Pythons that have none: a package of PyPI.
GDAL_PACKAGE = "gdal-wheel"
GDAL_PYTHONS = ((3, 12), (3, 14))  # from, to


@dataclass(frozen=True)
class Base:
    """What an environment is built upon.

    Attributes:
        python: The interpreter that makes it; for one that uv brings, the interpreter that fetches uv.
        managed: Whether uv brings another Python.
        shares: Whether the environment sees the packages of the interpreter, for the sake of its GDAL.
        version: Such as "3.11.2".
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
    """
    version = found["python"]
    number = parse(version)[:2]
    reason = _unsuitable(number, found, machine)
    if reason:
        return Base(python, True, False, MANAGED_PYTHON, why=f"{reason}: uv brings Python {MANAGED_PYTHON}.")
    if "osgeo" not in found["missing"]:
        return Base(python, False, True, version, _numpy_that_fits(found))
    if GDAL_PYTHONS[0] <= number <= GDAL_PYTHONS[1]:
        why = f"Python {version} has no GDAL bindings: the package {GDAL_PACKAGE} brings them."
        return Base(python, False, False, version, why=why)
    why = f"Python {version} has no GDAL bindings, and there are none for it: uv brings Python {MANAGED_PYTHON}."
    return Base(python, True, False, MANAGED_PYTHON, why=why)


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
