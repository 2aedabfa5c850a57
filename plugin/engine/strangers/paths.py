"""What lies inside a stranger's folder, and is a plain file there."""

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

# An absolute path, a drive or an address, a step up, a character that ends a name.
STRAY = re.compile(r"^/|^[A-Za-z][A-Za-z0-9+._-]*:|(^|/)\.\.(/|$)|\0", re.MULTILINE)


def inside(folder: Path, name: str, named_in: Path) -> Path:
    """The file inside `folder` that a stranger names, with / or \\ between its parts; it need not be there.

    The folder itself may be reached by a link, which is the user's own; below it no link may lead out.

    Raises:
        InputError: It lies elsewhere, by its name or through a link.
    """
    name = name.replace("\\", "/")
    if STRAY.search(name) or leads_out(folder, name):
        raise _outside(name, named_in)
    return folder / name


def check_names(names: Iterable[str], named_in: Path) -> None:
    """Refuse names that lead out of a folder by what they say; a million of them take no time.

    Raises:
        InputError: One does.
    """
    names = list(names)
    text = "\n".join(names)
    found = STRAY.search(text)
    if found is not None:
        raise _outside(names[text.count("\n", 0, found.start() + 1)], named_in)
    if text.count("\n") >= max(1, len(names)) or "\\" in text:
        raise _outside(next(name for name in names if "\n" in name or "\\" in name), named_in)


def _outside(name: str, named_in: Path) -> InputError:
    return InputError(f'{named_in} names "{name[:200]}", which lies outside of its folder.', "Do not use it.")


def leads_out(folder: Path, name: str) -> bool:
    """Whether one of the folders in a relative path, or its end, is a link to somewhere outside of `folder`."""
    path = os.fspath(folder)
    for part in name.split("/"):
        path = f"{path}/{part}"
        try:
            found = os.lstat(path)
        except OSError:
            return False  # nothing is there
        if _is_link(found):
            return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    return False


def _is_link(found: os.stat_result) -> bool:
    """Whether something may be a link; Windows has several kinds."""
    return stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_reparse_tag", 0))


def entries(folder: Path, root: Path) -> list[Path]:
    """What a folder inside `root` holds, by name.

    Raises:
        InputError: There is a link to somewhere outside of `root`.
        OSError: As the system has it.
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
    """Whether a path is a file of its own: no link, pipe, device or folder."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def check_plain(path: str | os.PathLike[str]) -> int:
    """The size of a file, bytes; opening a pipe or a device could wait for ever.

    Raises:
        OSError: It is not there, or no plain file.
    """
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")
    return found.st_size


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read its bytes, without waiting.

    Raises:
        OSError: It is not there, or no plain file.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    check_plain(path)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no plain file")
    return file


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """All of a file.

    Raises:
        OSError: It is not there, or no plain file.
        ValueError: It has more than `most` bytes.
    """
    with open_plain(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {readable_size(most)}")
    return data


def check_apart(source: str, output: str) -> None:
    """A folder that is written must not lie in the one that is read, nor the other way round.

    Raises:
        InputError: It does.
    """
    one, other = Path(source), Path(output)
    if is_same(one, other) or lies_in(one, other) or lies_in(other, one):
        raise InputError(f"The folders {source} and {output} lie in each other.", "Choose another OUTPUT.")
