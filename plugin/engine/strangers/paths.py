"""Plain files inside an untrusted folder."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from ..files import is_same, lies_in, readable_size

# An absolute path, a drive or address, a parent folder, a null character.
STRAY = re.compile(r"^/|^[A-Za-z][A-Za-z0-9+._-]*:|(^|/)\.\.(/|$)|\0", re.MULTILINE)


def inside(folder: Path, name: str, named_in: Path) -> Path:
    """The path of a file inside `folder`, given by a name from an untrusted file; the file need not exist.

    The folder itself may be a link made by the user; links below it must not lead out of it.

    Args:
        folder: The folder.
        name: The name, with / or \\ as separator.
        named_in: The file that contains the name, for messages.

    Raises:
        InputError: The name or a link leads out of the folder.
    """
    name = name.replace("\\", "/")
    if STRAY.search(name) or leads_out(folder, name):
        raise _outside(name, named_in)
    return folder / name


def check_names(names: Iterable[str], named_in: Path) -> None:
    """Check names for absolute paths and parent folders; fast enough for a million names.

    Raises:
        InputError: A name leads out of the folder.
    """
    names = list(names)
    text = "\n".join(names)
    found = STRAY.search(text)
    if found is not None:
        raise _outside(names[text.count("\n", 0, found.start() + 1)], named_in)
    if text.count("\n") >= max(1, len(names)) or "\\" in text:
        raise _outside(next(name for name in names if "\n" in name or "\\" in name), named_in)


def _outside(name: str, named_in: Path) -> InputError:
    return InputError(f'{named_in} names "{name[:200]}", which is outside of its folder.', "Do not use it.")


def leads_out(folder: Path, name: str) -> bool:
    """Return whether a part of a relative path is a link that leads out of `folder`."""
    path = os.fspath(folder)
    for part in name.split("/"):
        path = f"{path}/{part}"
        try:
            found = os.lstat(path)
        except OSError:
            return False  # does not exist
        if _is_link(found):
            return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    return False


def _is_link(found: os.stat_result) -> bool:
    """Return whether a path may be a link; Windows has several kinds."""
    return stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_reparse_tag", 0))


def entries(folder: Path, root: Path) -> list[Path]:
    """The sorted contents of a folder inside `root`.

    Raises:
        InputError: It contains a link that leads out of `root`.
        OSError: It cannot be read.
    """
    found = []
    with os.scandir(folder) as held:
        for entry in held:
            if _is_link(entry.stat(follow_symlinks=False)):
                name = os.path.relpath(entry.path, root).replace(os.sep, "/")
                if leads_out(root, name):
                    raise InputError(
                        f"{entry.path} is a link to somewhere outside of {root}.",
                        "Put the files themselves there, or remove the link.",
                    )
            found.append(Path(entry.path))
    return sorted(found)


def is_plain(path: Path) -> bool:
    """Return whether a path is a regular file, not a link, pipe, device or folder."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def check_plain(path: str | os.PathLike[str]) -> int:
    """The size of a regular file in bytes; opening a pipe or device could block forever.

    Raises:
        OSError: It does not exist, or is not a regular file.
    """
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return found.st_size


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading in binary mode, without blocking.

    Raises:
        OSError: It does not exist, or is not a regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    check_plain(path)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a whole file of bounded size.

    Raises:
        OSError: It does not exist, or is not a regular file.
        ValueError: It is larger than `most` bytes.
    """
    with open_plain(path) as file:
        # The size is asked first: what is too large takes no memory.
        data = b"" if (large := os.fstat(file.fileno()).st_size > most) else file.read(most + 1)
    if large or len(data) > most:
        raise ValueError(f"it has more than {readable_size(most)}")
    return data


def check_apart(source: str, output: str) -> None:
    """Check that neither the input folder nor the output folder is inside the other.

    Raises:
        InputError: One is inside the other.
    """
    one, other = Path(source), Path(output)
    if is_same(one, other) or lies_in(one, other) or lies_in(other, one):
        raise InputError(f"The folders {source} and {output} overlap.", "Choose another OUTPUT.")
