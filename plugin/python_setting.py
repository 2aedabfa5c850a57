"""QGIS's setting for the Python that the worker runs in."""

from __future__ import annotations

from qgis.core import QgsSettings

PYTHON_SETTING = "terrazzo/python"


def python_setting() -> str:
    """Return the Python interpreter that the user chose for the worker; "" means that Terrazzo searches for one."""
    return str(QgsSettings().value(PYTHON_SETTING, "") or "")
