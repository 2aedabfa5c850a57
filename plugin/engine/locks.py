"""A lock file, held by one process at a time; the system releases it when the process ends."""

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

# Errors of file systems that do not support locks, where work continues without them.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# Windows locks prevent reading too, so a byte far behind the text is locked.
LOCKED_BYTE = 2**30


class Lock:
    """A held lock; also excludes other holders in the same process.

    Args:
        path: The lock file, which is created if necessary.
        words: A description of the holder for other processes.

    Attributes:
        real: False if the file system does not support locks.

    Raises:
        BlockingIOError: The lock is held by another holder.
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path, words: str) -> None:
        self.path, self.real = path, True
        self._file: Optional[int] = None
        while self._file is None:
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            try:
                self.real = _take(file)
                # The previous holder may have removed the file in between.
                if _is_same(file, path):
                    os.ftruncate(file, 0)
                    os.write(file, words.encode("utf-8"))
                    self._file = file
            finally:
                if self._file is None:
                    os.close(file)

    def release(self) -> None:
        """Release the lock and remove the file; does nothing if already released."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if sys.platform == "win32":  # cannot remove open files
            os.close(file)
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # opened by another process; an unlocked file does no harm
        if sys.platform != "win32":
            os.close(file)


def read_words(path: Path) -> str:
    """The description of a lock's holder; "" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(200).decode("utf-8", "replace")
    except OSError:
        return ""


def _take(file: int) -> bool:
    """Lock an open file; returns False if locks are not supported."""
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
