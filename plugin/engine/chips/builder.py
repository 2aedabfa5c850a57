"""Write a dataset in a hidden folder, and publish it when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..drafts import check_writable, claim, publish
from ..errors import InputError, ResourceError


def check_target(output: str, overwrite: bool) -> None:
    """Check that the output folder is new or empty, or a dataset that may be overwritten.

    Raises:
        InputError: The folder exists and must not be replaced.
        ResourceError: The folder cannot be written.
    """
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / "dataset.json").is_file():
            raise InputError(f"{folder} exists and is not a chip dataset.", "Choose a new or empty folder.")
        if not overwrite:
            raise InputError(f"The chip dataset {folder} exists.", "Choose another folder, or set OVERWRITE.")
    check_writable(output)


@contextmanager
def building(output: str, keep: bool = False, join: bool = False, mark: str = "") -> Iterator[Path]:
    """A context manager with the hidden folder to write a dataset in; published on success, else removed.

    Args:
        output: The dataset's final folder, checked by `check_target`.
        keep: Start with the files of an interrupted job, and keep the files if this one is interrupted.
        join, mark: See `drafts.publish`.

    Raises:
        InputError: Another job is writing the dataset.
        ResourceError: Reading or writing failed, because of a damaged file or a full disk.
    """
    with claim(output, keep) as draft:
        try:
            if not (keep and draft.path.is_dir()):
                draft.fresh().mkdir()
            yield draft.path
            publish(draft, join=join, mark=mark)
        except (RuntimeError, OSError) as error:
            raise ResourceError(
                f"Reading or writing failed ({error}).", "Check that the rasters are intact and the disk is not full."
            ) from error


@contextmanager
def file_errors() -> Iterator[None]:
    """Convert errors of the file system to `ResourceError`.

    Raises:
        ResourceError: A file cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"Reading or writing failed ({error}).", "Check that all files exist and the disk is not full."
        ) from error
