"""Set-up: builds the Python that the worker runs in, and explains what prevents it. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

# Opens the set-up in QGIS Desktop; None without a window.
open_window: Optional[Callable[[], None]] = None
