"""Files of weights, read once: what happens to them afterwards changes nothing any more."""

from __future__ import annotations

import os

from ..errors import InputError, ResourceError
from ..files import readable_size
from ..status import machine_memory
from ..strangers.paths import open_plain

# While a file is read there is its content, and the tensors made of it.
COPIES = 2


def read_whole(path: str) -> bytes:
    """The content of a file as it was at one moment.

    Raises:
        OSError: It cannot be opened.
        InputError: Somebody wrote to it meanwhile.
        ResourceError: It does not fit into memory.
    """
    with open_plain(path) as file:
        before = os.fstat(file.fileno())
        free = machine_memory()[1]
        if free is not None and COPIES * before.st_size > free:
            raise ResourceError(
                f"{path} has {readable_size(before.st_size)}, which takes twice as much memory to read; "
                f"{readable_size(free)} are free.",
                "Close other programs, or choose another file.",
            )
        content = file.read()
        after = os.fstat(file.fileno())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, len(content)):
        raise InputError(f"{path} changed while it was read.", "Wait until it is whole, and start again.")
    return content
