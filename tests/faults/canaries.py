"""Detects forbidden access: files that are watched, and a server that must not be called."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

EVENTS = {0x1: "read", 0x2: "written", 0x20: "opened", 0x40: "moved away", 0x80: "moved here", 0x100: "made"}
EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Watches folders and what lies in them, with inotify."""

    def __init__(self, *folders: Path) -> None:
        self._file = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._file >= 0, "no inotify"
        self._folders = {_libc.inotify_add_watch(self._file, os.fsencode(path), sum(EVENTS)): path for path in folders}

    def seen(self) -> list[str]:
        """What was done there, in words."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data = os.read(self._file, 1 << 16)
                while data:
                    watch, mask, _, length = EVENT.unpack_from(data)
                    name = data[EVENT.size : EVENT.size + length].rstrip(b"\0").decode()
                    data = data[EVENT.size + length :]
                    found += [f"{self._folders.get(watch)}/{name} {word}" for bit, word in EVENTS.items() if mask & bit]
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Watch no longer."""
        os.close(self._file)


@contextlib.contextmanager
def watching(*folders: Path) -> Iterator[Watch]:
    """A watch for the time of a block."""
    watch = Watch(*folders)
    try:
        yield watch
    finally:
        watch.close()


class DeafServer:
    """Listens on this machine, answers nobody, and counts who calls."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(16)
        self._socket.setblocking(False)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def calls(self) -> int:
        """How many have called since the last look; they hear the line go dead."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                caller, _ = self._socket.accept()
                caller.close()
                count += 1
        return count
