"""Set-up: builds the Python that the worker runs in, and says what stands in the way. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

# Shows the set-up where there is a window.
open_window: Optional[Callable[[], None]] = None
