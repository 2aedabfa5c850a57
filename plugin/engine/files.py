"""Names of files: what belongs together, what may be written, and the one way in which anything is renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import InputError, ResourceError

# What GDAL and QGIS read beside a raster; it moves with the raster.
SIDECARS = (".aux.xml", ".ovr", ".msk")
# What SQLite leaves beside a GeoPackage whose writer was killed; beside another one it would spoil that.
JOURNALS = ("-journal", "-wal", "-shm")
# What may stand beside a .shp.
SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg", ".qpj", ".qix", ".sbn", ".sbx", ".idm", ".ind", ".cst")


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name, in one step; a file of that name is replaced.

    All renames by which results appear go through here.
    """
    source.replace(target)


def check_space(final: str | os.PathLike[str], needed_bytes: int) -> None:
    """Refuse to begin what will not fit on the disk.

    Args:
        final: The file or folder that will be written.
        needed_bytes: An estimate of its size.

    Raises:
        ResourceError: The disk has too little space.
    """
    folder = Path(final).absolute().parent
    while not folder.exists():
        folder = folder.parent
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
        InputError: Such a name, that of a folder, or that of another output.
    """
    first = next(iter(endings))
    for name, path in outputs.items():
        if not path:
            continue
        if Path(path).suffix.lower() not in endings:
            others = [ending for ending in endings if endings[ending] != endings[first]]
            more = f" (or {', '.join(others)})" if others else ""
            remedy = f"Give it the ending {first}{more}: it is written as {endings[first]}."
            raise InputError(f"{name} is {path}.", remedy)
        if Path(path).is_dir():
            raise InputError(f"{name} {path} is a folder.", "Give the name of a file.")
    check_kept(outputs, {})


def check_kept(outputs: Mapping[str, str | None], inputs: Mapping[str, Iterable[str | os.PathLike[str]]]) -> None:
    """Refuse to write over what a job reads, and two outputs to one place; links are followed.

    Args:
        outputs: Parameter → file or folder; None is not wanted.
        inputs: What is read, such as "the raster to be mapped" → its files and folders; what is none does not count.

    Raises:
        InputError: An output is an input, lies in one or holds one; or two outputs do so.
    """
    wanted = [(name, Path(path)) for name, path in outputs.items() if path]
    for place, (name, path) in enumerate(wanted):
        for other, earlier in wanted[:place]:
            if is_same(earlier, path):
                raise InputError(f"{other} and {name} are both {path}.", "Give them different names.")
            if lies_in(path, earlier) or lies_in(earlier, path):
                raise InputError(f"{other} {earlier} and {name} {path} lie in each other.", "Choose another folder.")
    for name, path in wanted:
        for what, files in inputs.items():
            for file in map(Path, files):
                if not _exists(file):
                    continue
                if is_same(path, file):
                    relation = f"is {what}, which would be lost"
                elif lies_in(path, file):
                    relation = f"lies in {file}, which is {what}"
                elif lies_in(file, path):
                    relation = f"holds {file}, which is {what} and would be lost"
                else:
                    continue
                raise InputError(f"{name} {path} {relation}.", "Give the result another name.")


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths name one file or folder, also one that is not there yet."""
    if _exists(one) and _exists(other):
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a path lies somewhere in a folder, also one that is not there yet."""
    if _exists(folder) and not folder.is_dir():
        return False
    return any(is_same(parent, folder) for parent in Path(os.path.realpath(path)).parents)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # what GDAL opens may be no name of a file at all
        return False


def readable_size(count: float) -> str:
    """Bytes in words: "12 kB", "3.4 GB" (powers of 1000)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
