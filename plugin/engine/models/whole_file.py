"""Reads files of weights once and completely, so that later changes to them have no effect."""

from __future__ import annotations

import os

from ..errors import InputError, ResourceError
from ..files import readable_size
from ..status import machine_memory
from ..strangers.paths import open_plain

# While a file is read, memory holds its content and the tensors made from it.
COPIES = 2


def read_whole(path: str) -> bytes:
    """Read the content of a file as it is at one moment.

    Raises:
        OSError: It cannot be opened.
        InputError: It was changed while it was read.
        ResourceError: It does not fit into memory.
    """
    with open_plain(path) as file:
        before = os.fstat(file.fileno())
        free = machine_memory()[1]
        if free is not None and COPIES * before.st_size > free:
            raise ResourceError(
                f"Reading {path} ({readable_size(before.st_size)}) needs twice as much memory, but "
                f"{readable_size(free)} are free.",
                "Close other programs, or choose another file.",
            )
        content = file.read()
        after = os.fstat(file.fileno())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, len(content)):
        raise InputError(f"{path} changed while it was read.", "Wait until it is complete, and start again.")
    return content
