"""File names: sidecar files, checks of output paths, the folder for caches, and renaming."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path

from .errors import InputError, ResourceError

# Sidecar files that GDAL and QGIS read beside a raster, which are moved together with it.
SIDECARS = (".aux.xml", ".ovr", ".msk")
# Files that SQLite leaves beside a GeoPackage if its writer is killed; they would damage another one.
JOURNALS = ("-journal", "-wal", "-shm")
# Files that belong to a shapefile.
SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg", ".qpj", ".qix", ".sbn", ".sbx", ".idm", ".ind", ".cst")
# Bytes; a disk with fewer may not have had space for the part of a raster that was written at a time.
FULL = 4_000_000
LONGEST_NAME = 80  # letters of a raster's name in those of its results


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder atomically; an existing file is replaced.

    All renames that publish results use this function.
    """
    source.replace(target)


def check_space(final: str | os.PathLike[str], needed_bytes: int) -> None:
    """Check that a result fits on the disk.

    Args:
        final: The file or folder that will be written.
        needed_bytes: An estimate of its size.

    Raises:
        ResourceError: The disk has too little space.
    """
    folder, free = _free_space(final)
    if free < needed_bytes:
        raise ResourceError(
            f"The disk of {folder} has {readable_size(free)} free, and about {readable_size(needed_bytes)} are needed.",
            "Free some space, or choose a folder on another disk.",
        )


def why_not_written(path: str | os.PathLike[str], error: Exception) -> str:
    """Return why a result could not be written, for a message in brackets.

    Libraries such as GDAL rarely say that the disk is full.

    Args:
        path: The file or folder.
        error: What went wrong.
    """
    _, free = _free_space(path)
    if free < FULL:
        return f"its disk has only {readable_size(free)} free"
    return (isinstance(error, OSError) and error.strerror) or str(error).strip() or type(error).__name__


def _free_space(final: str | os.PathLike[str]) -> tuple[Path, int]:
    """The folder of a result, or the one in which it will be created, and how many bytes are free on its disk."""
    folder = Path(final).absolute().parent
    while not folder.exists():
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free


def check_names(outputs: Mapping[str, str | None], endings: Mapping[str, str]) -> None:
    """Check the suffixes of outputs, and that no two have the same name.

    Args:
        outputs: Parameter → path; None for outputs that are not wanted.
        endings: Suffix → name of the format.

    Raises:
        InputError: An output has another suffix, is a folder, or has the path of another output.
    """
    first = next(iter(endings))
    for name, path in outputs.items():
        if not path:
            continue
        if Path(path).suffix.lower() not in endings:
            others = [ending for ending in endings if endings[ending] != endings[first]]
            more = f" (or {', '.join(others)})" if others else ""
            remedy = f"Use the extension {first}{more}, since it is written as {endings[first]}."
            raise InputError(f"{name} is {path}.", remedy)
        if Path(path).is_dir():
            raise InputError(f"{name} {path} is a folder.", "Enter the name of a file.")
    check_kept(outputs, {})


def check_kept(outputs: Mapping[str, str | None], inputs: Mapping[str, Iterable[str | os.PathLike[str]]]) -> None:
    """Check that no output would overwrite an input or another output; links are resolved.

    Args:
        outputs: Parameter → file or folder; None for outputs that are not wanted.
        inputs: Description, such as "the raster to be mapped" → files and folders, which need not exist.

    Raises:
        InputError: An output is equal to, inside of or a parent of an input or another output.
    """
    wanted = [(name, Path(path)) for name, path in outputs.items() if path]
    for place, (name, path) in enumerate(wanted):
        for other, earlier in wanted[:place]:
            if is_same(earlier, path):
                raise InputError(f"{other} and {name} are both {path}.", "Give them different names.")
            if lies_in(path, earlier) or lies_in(earlier, path):
                raise InputError(f"{other} {earlier} and {name} {path} overlap.", "Choose another folder.")
    for name, path in wanted:
        for what, files in inputs.items():
            for file in map(Path, files):
                if not _exists(file):
                    continue
                if is_same(path, file):
                    relation = f"is {what}, which would be overwritten"
                elif lies_in(path, file):
                    relation = f"is inside {file}, which is {what}"
                elif lies_in(file, path):
                    relation = f"contains {file}, which is {what} and would be overwritten"
                else:
                    continue
                raise InputError(f"{name} {path} {relation}.", "Give the result another name.")


def is_same(one: Path, other: Path) -> bool:
    """Return whether two paths are the same file or folder; they need not exist."""
    if _exists(one) and _exists(other):
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)


def lies_in(path: Path, folder: Path) -> bool:
    """Return whether a path is inside a folder; it need not exist."""
    if _exists(folder) and not folder.is_dir():
        return False
    return any(is_same(parent, folder) for parent in Path(os.path.realpath(path)).parents)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a GDAL source may not be a valid file name
        return False


def cache_folder() -> Path:
    """Return the folder for caches on this system, in which Terrazzo keeps what can be built again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "terrazzo"


def readable_size(count: float) -> str:
    """Format a number of bytes: "12 kB", "3.4 GB" (powers of 1000)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def raster_names(paths: Sequence[str]) -> list[str]:
    """Names for rasters that can be part of a file name; those that would be the same get a number.

    Addresses lose what follows a question mark, which may hold a key.
    """
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        stem = re.sub(r"[^\w.-]+", "_", Path(path.partition("?")[0]).stem).strip("_.")[:LONGEST_NAME] or "raster"
        name = next(
            name for number in count(1) if (name := stem if number == 1 else f"{stem}_{number}").casefold() not in taken
        )
        taken.add(name.casefold())
        names.append(name)
    return names


def with_name(path: str, name: str) -> str:
    """The path of a result with the name of its raster appended: "maps/landcover_scene6.tif"."""
    place = Path(path)
    return str(place.with_name(f"{place.stem}_{name}{place.suffix}"))


def checkpoint_path(output: str) -> Path:
    """Where the checkpoint of a model file lies: beside it."""
    return Path(output).with_suffix(".checkpoint.safetensors")


def baseline_path(output: str) -> Path:
    """The path that the model file of a baseline would have; its checkpoint is beside it."""
    return Path(output).with_suffix(".baseline.safetensors")
