"""Lists the photographs of a folder without opening them; does not import torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ...strangers.images import ENDINGS


def photographs_in(folder: str) -> list[Path]:
    """Return the images of a folder and its subfolders, ordered by path, without hidden ones.

    Raises:
        InputError: There are none.
    """
    check_folder(folder)
    return sorted(_images(folder))


def check_folder(folder: str) -> Path:
    """Return any photograph in a folder or its subfolders.

    Raises:
        InputError: There is none.
    """
    if not Path(folder).is_dir():
        raise InputError(f"INPUT_FOLDER is {folder}, which is not a folder.", "Choose the folder of the photographs.")
    found = next(_images(folder), None)
    if found is None:
        raise InputError(
            f"The folder {folder} contains no images.", f"Images have the extensions {', '.join(ENDINGS)}."
        )
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
