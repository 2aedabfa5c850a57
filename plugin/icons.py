"""The plugin's icons."""

from __future__ import annotations

from pathlib import Path

from qgis.PyQt.QtGui import QIcon

ICONS = Path(__file__).resolve().parent.parent / "resources" / "icons"


def icon_path(name: str) -> str:
    """Return the path of an icon."""
    return str(ICONS / f"{name}.svg")


def icon(name: str) -> QIcon:
    """Return an icon."""
    return QIcon(icon_path(name))
