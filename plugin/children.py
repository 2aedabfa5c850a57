"""How child processes are started: apart from us, and on Windows without a console window (standard library only)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

WINDOWS = sys.platform == "win32"
# The module has them on Windows only.
NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0x08000000)
NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200)


def no_console() -> dict[str, Any]:
    """Arguments of `subprocess.Popen` that keep Windows from opening a console window."""
    return {"creationflags": NO_WINDOW} if WINDOWS else {}


def own_group() -> dict[str, Any]:
    """The same, and the child gets a group of its own, that can be stopped whole.

    Ctrl+C in a terminal then reaches us only; the child sees its input end and closes in good order.
    """
    return {"creationflags": NO_WINDOW | NEW_GROUP} if WINDOWS else {"start_new_session": True}
