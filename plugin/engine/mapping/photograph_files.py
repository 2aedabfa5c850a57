"""Folders of photographs, before one is opened; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..strangers.images import ENDINGS


def photographs_in(folder: str) -> list[Path]:
    """The images of a folder and of the folders in it, in the order of their paths; hidden ones are left out.

    Raises:
        InputError: There are none.
    """
    check_folder(folder)
    return sorted(_images(folder))


def check_folder(folder: str) -> Path:
    """Any photograph in a folder, or in the folders in it.

    Raises:
        InputError: There is none.
    """
    if not Path(folder).is_dir():
        raise InputError(f"INPUT_FOLDER is {folder}, which is no folder.", "Choose the folder of the photographs.")
    found = next(_images(folder), None)
    if found is None:
        raise InputError(f"The folder {folder} holds no images.", f"Images end in {', '.join(ENDINGS)}.")
    return found


def _images(folder: str) -> Iterator[Path]:
    root = Path(folder)
    return (
        path
        for path in root.rglob("*")
        if path.suffix.lower() in ENDINGS
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
