"""A dataset folder on its way: hidden while it grows, published when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, ResourceError
from ..files import check_writable, partial_path, remove_partial


def check_target(output: str, overwrite: bool) -> None:
    """An existing dataset is replaced only when asked; any other folder with something in it never is.

    Raises:
        InputError: Something is there that may not go.
        ResourceError: Nothing can be written there.
    """
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / "dataset.json").is_file():
            raise InputError(f"{folder} exists and is no chip dataset.", "Choose a new or an empty folder.")
        if not overwrite:
            raise InputError(f"The chip dataset {folder} exists.", "Choose another folder, or set OVERWRITE.")
    check_writable(output)


def publish_folder(partial: Path, final: Path) -> None:
    """Give a finished folder its name; an earlier one of that name goes only once the new one stands there."""
    if not final.exists():
        partial.replace(final)
        return
    old = final.with_name(f".{final.name}.replaced-{os.getpid()}")
    final.replace(old)
    try:
        partial.replace(final)
    except OSError:
        old.replace(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def building(output: str, keep: bool = False, finish: Callable[[Path, Path], None] = publish_folder) -> Iterator[Path]:
    """The hidden folder to write a dataset into; it gets its name when the block ends well, else it goes.

    Args:
        output: The dataset's final folder; `check_target` has agreed to it.
        finish: Gives the hidden folder (first) its name (second).
        keep: Begin with what an interrupted job has left, and leave what there is when this one is interrupted.

    Raises:
        ResourceError: GDAL fails to read or write, when a file turns out broken or the disk fills up.
    """
    partial = partial_path(output)
    if not keep:
        remove_partial(output)
    partial.mkdir(exist_ok=keep)
    try:
        yield partial
        finish(partial, Path(output))
    except BaseException as error:
        if not keep:
            remove_partial(output)
        if isinstance(error, RuntimeError):
            raise ResourceError(
                f"Reading or writing failed ({error}).", "Check that the rasters are whole and the disk has room."
            ) from error
        raise
