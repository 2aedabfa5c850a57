"""A dataset folder on its way: hidden while it grows, published when it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..drafts import check_writable, claim, publish
from ..errors import InputError, ResourceError


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


@contextmanager
def building(output: str, keep: bool = False, join: bool = False, mark: str = "") -> Iterator[Path]:
    """The hidden folder to write a dataset into; it gets its name when the block ends well, else it goes.

    Args:
        output: The dataset's final folder; `check_target` has agreed to it.
        keep: Begin with what an interrupted job has left, and leave what there is when this one is interrupted.
        join, mark: See `drafts.publish`.

    Raises:
        InputError: Another job is writing the dataset.
        ResourceError: Something cannot be read or written, when a file turns out broken or the disk fills up.
    """
    with claim(output, keep) as draft:
        try:
            if not (keep and draft.path.is_dir()):
                draft.fresh().mkdir()
            yield draft.path
            publish(draft, join=join, mark=mark)
        except (RuntimeError, OSError) as error:
            raise ResourceError(
                f"Reading or writing failed ({error}).", "Check that the rasters are whole and the disk has room."
            ) from error


@contextmanager
def file_errors() -> Iterator[None]:
    """Failures of the file system become errors in words.

    Raises:
        ResourceError: A file cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"Reading or writing failed ({error}).", "Check that all files are there and the disk has room."
        ) from error
