"""Results appear whole or not at all: written beside their final name, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from .errors import InputError, ResourceError

# What GDAL and QGIS read beside a raster; it moves with the raster.
SIDECARS = (".aux.xml", ".ovr", ".msk")
# What SQLite leaves beside a GeoPackage whose writer was killed.
JOURNALS = ("-journal", "-wal", "-shm")


def partial_path(final: str | os.PathLike[str]) -> Path:
    """The name something is written under until it is whole: hidden, in the same folder, with the same ending.

    The name follows from the final one, so that whoever started a killed worker can clear it away.
    """
    final = Path(final)
    return final.with_name(f".{final.stem}.partial{final.suffix}")


def remove_partial(final: str | os.PathLike[str]) -> None:
    """Remove what an interrupted job has left under `partial_path(final)`, and its sidecars."""
    partial = partial_path(final)
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial, ignore_errors=True)
        return
    beside = (Path(f"{partial}{ending}") for ending in (*SIDECARS, *JOURNALS))
    for leftover in (partial, *beside, partial.with_suffix(".qml")):
        leftover.unlink(missing_ok=True)


def publish(final: str | os.PathLike[str]) -> None:
    """Give what stands under `partial_path(final)` its final name: sidecars first, the file itself last.

    Sidecars of an earlier file of that name which has no successor are removed.
    """
    final, partial = Path(final), partial_path(final)
    for ending in SIDECARS:
        old, new = Path(f"{final}{ending}"), Path(f"{partial}{ending}")
        if new.exists():
            new.replace(old)
        else:
            old.unlink(missing_ok=True)
    if partial.with_suffix(".qml").exists():
        partial.with_suffix(".qml").replace(final.with_suffix(".qml"))
    partial.replace(final)


def check_writable(final: str | os.PathLike[str], needed_bytes: int = 0) -> None:
    """Make the folder of `final` and try to write there, before hours of work.

    Args:
        final: The file or folder that will be written.
        needed_bytes: An estimate of its size; 0 asks for nothing.

    Raises:
        ResourceError: The folder cannot be made or written, or its disk has too little space.
    """
    folder = Path(final).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{Path(final).name}.probe-{os.getpid()}"
        probe.write_bytes(b"0")
        probe.unlink()
    except OSError as error:
        raise ResourceError(
            f"Nothing can be written to the folder {folder} ({error.strerror or error}).",
            "Choose another folder, or change its permissions.",
        ) from error
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ResourceError(
            f"The disk of {folder} has {readable_size(free)} free, and about {readable_size(needed_bytes)} are needed.",
            "Free some space, or choose a folder on another disk.",
        )


def check_names(outputs: Mapping[str, str | None], endings: Mapping[str, str]) -> None:
    """Refuse outputs of other kinds, and two of one name.

    Args:
        outputs: Parameter → path; None is not wanted.
        endings: The endings that will do, and what such files are called.

    Raises:
        InputError: Such a name, or that of a folder.
    """
    taken: dict[Path, str] = {}
    first = next(iter(endings))
    for name, path in outputs.items():
        if not path:
            continue
        if Path(path).suffix.lower() not in endings:
            others = [ending for ending in endings if endings[ending] != endings[first]]
            more = f" (or {', '.join(others)})" if others else ""
            remedy = f"Give it the ending {first}{more}: it is written as {endings[first]}."
            raise InputError(f"{name} is {path}.", remedy)
        other = taken.setdefault(Path(path).absolute(), name)
        if other != name:
            raise InputError(f"{other} and {name} are both {path}.", "Give them different names.")
        if Path(path).is_dir():
            raise InputError(f"{name} {path} is a folder.", "Give the name of a file.")


def readable_size(count: float) -> str:
    """Bytes in words: "12 kB", "3.4 GB" (powers of 1000)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
