"""Starts child processes apart from ours, and on Windows without a console window (standard library only)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

WINDOWS = sys.platform == "win32"
# The subprocess module defines these on Windows only.
NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0x08000000)
NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200)


def no_console() -> dict[str, Any]:
    """Return arguments of `subprocess.Popen` that keep Windows from opening a console window."""
    return {"creationflags": NO_WINDOW} if WINDOWS else {}


def own_group() -> dict[str, Any]:
    """Return the same arguments, and those that give the child a process group that can be killed as a whole.

    Ctrl+C in a terminal then reaches only us; the child notices the end of its input and shuts down cleanly.
    """
    return {"creationflags": NO_WINDOW | NEW_GROUP} if WINDOWS else {"start_new_session": True}
