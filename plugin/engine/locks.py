"""A file that one process at a time holds; the system lets go of it when that process ends, however it does."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Optional

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# What a file system without locks answers; work goes on there without them.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# Windows locks bytes against reading, too: one far behind the words that others shall read.
LOCKED_BYTE = 2**30


class Lock:
    """A held lock; it holds against other holders in this process as well.

    Args:
        path: The file; made where it is not there.
        words: What others shall read of the holder.

    Attributes:
        real: Whether it keeps others off; a file system may know no locks.

    Raises:
        BlockingIOError: Somebody else holds it.
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path, words: str) -> None:
        self.path, self.real = path, True
        self._file: Optional[int] = None
        while self._file is None:
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            try:
                self.real = _take(file)
                # The holder before may have removed the file between the two steps.
                if _is_same(file, path):
                    os.ftruncate(file, 0)
                    os.write(file, words.encode("utf-8"))
                    self._file = file
            finally:
                if self._file is None:
                    os.close(file)

    def release(self) -> None:
        """Let go, and remove the file; once more does nothing."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if sys.platform == "win32":  # which removes no open file
            os.close(file)
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # somebody looks at it; an unlocked file does no harm
        if sys.platform != "win32":
            os.close(file)


def read_words(path: Path) -> str:
    """What the holder of a lock has told of itself; "" where nothing can be read."""
    try:
        with open(path, "rb") as file:
            return file.read(200).decode("utf-8", "replace")
    except OSError:
        return ""


def _take(file: int) -> bool:
    """Lock an open file; gives whether there are locks."""
    try:
        if sys.platform == "win32":
            os.lseek(file, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise BlockingIOError(error.errno, "held by another") from error
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
