"""Decoded chips in a file, for datasets that do not fit into memory: an array of NumPy, one record a chip.

A cache is named after its dataset's folder and a hash of everything that its records follow from: the dataset's
fingerprint, the classes in its index, and name, size and time of every chip file. So a cache is never changed: it
fits, or another one is written. It is removed when its dataset has changed, or when nobody used it for `UNUSED_DAYS`.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy

from ..drafts import claim, publish, recover
from ..errors import EngineError, ResourceError
from ..events import Reporter, Stage
from ..files import cache_folder, check_space, readable_size, why_not_written
from ..strangers.paths import is_plain, open_plain
from ..threads import READERS, work_ahead
from .chips import Batch, ChipReader, Reads, load_orders

NAME = re.compile(r"chips-[0-9a-f]{16}-[0-9a-f]{16}\.npy")
UNUSED_DAYS = 30
SPARED = 10**9  # bytes of the disk that a cache leaves free


class CachedChips:
    """Reads chips from a cache; safe to share between threads.

    Args:
        records: (n,) of `record_type`, for all chips of a dataset.
    """

    def __init__(self, records: np.ndarray) -> None:
        self.records = records

    def read(self, places: Sequence[int] | np.ndarray) -> Batch:
        """As `ChipReader.read`."""
        parts = []
        for name in ("image", "target"):
            stored = self.records[name]
            values = np.empty((len(places), *stored.shape[1:]), stored.dtype)
            for row, place in enumerate(places):  # one copy a chip, during which other threads run
                values[row] = stored[place]
            parts.append(torch.from_numpy(values))
        return parts[0], parts[1]


def cached_chips(reader: ChipReader, folder: str | None, reporter: Reporter, stage: Stage) -> Reads:
    """Open the cache of a dataset, or decode all of its chips into a new one.

    Args:
        reader: The dataset's reader.
        folder: Where caches lie; None: in the user's folder for such.
        reporter: Is told where the cache is, or why there is none.
        stage: Advances by the number of chips.

    Returns:
        What reads the cache; `reader` where there can be none, because the disk is full, say, or a chip is damaged.

    Raises:
        Cancelled: The user asked for the end.
    """
    path = (Path(folder) if folder else cache_folder() / "chips") / cache_name(reader)
    count, dtype = len(reader.dataset.images), record_type(reader)
    size = readable_size(count * dtype.itemsize)
    try:
        remove_old(path)
        records = open_cache(path, count, dtype)
        if records is not None:
            stage.advance(count)
            reporter.log(f"The decoded chips ({size}) are in {path}.")
            return CachedChips(records)
        with claim(path) as draft:
            check_space(path, count * dtype.itemsize + SPARED)
            reporter.log(f"All chips are decoded once and written to {path} ({size}).")
            _write(draft.fresh(), reader, stage)
            publish(draft)
        records = open_cache(path, count, dtype)
    except EngineError as error:
        reporter.log(f"{error.problem} So there is no file of decoded chips, and they are decoded anew in each epoch.")
        records = None
    return reader if records is None else CachedChips(records)


def cache_name(reader: ChipReader) -> str:
    """The name of a cache: of its dataset's folder, and a hash of all that its records follow from."""
    dataset = reader.dataset
    found = hashlib.sha256(repr((dataset.fingerprint(), npy.dtype_to_descr(record_type(reader)))).encode())
    found.update(dataset.shown.tobytes())
    for name in (*dataset.images.tolist(), *dataset.labels.tolist()):
        try:
            state = (dataset.folder / name).stat()
            found.update(f"{name}:{state.st_size}:{state.st_mtime_ns}\n".encode())
        except OSError:  # whoever reads it will say so
            found.update(f"{name}\n".encode())
    folder = hashlib.sha256(os.fsencode(os.path.realpath(dataset.folder)))
    return f"chips-{folder.hexdigest()[:16]}-{found.hexdigest()[:16]}.npy"


def record_type(reader: ChipReader) -> np.dtype:
    """What is kept of a chip: its image in the stored type, and its target."""
    size = reader.size
    return np.dtype(
        [("image", reader.dtype, (reader.bands, size, size)), ("target", reader.target_dtype, reader.target_shape)]
    )


def open_cache(path: Path, count: int, dtype: np.dtype) -> np.ndarray | None:
    """Map a cache into memory, and note that it was used.

    Returns:
        (n,) records; None where there is no cache, or where it is not whole, not ours or not what it should be.
    """
    try:
        with open_plain(path) as file:
            status = os.fstat(file.fileno())
            if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
                return None
            if npy.read_magic(file) != (1, 0) or npy.read_array_header_1_0(file) != ((count,), False, dtype):
                return None
            begin = file.tell()
            if status.st_size != begin + count * dtype.itemsize:
                return None
            records = np.memmap(file, dtype, "r", begin, (count,))
        with suppress(OSError):
            os.utime(path)
        return np.asarray(records)
    except (OSError, ValueError):
        return None


def remove_old(path: Path) -> None:
    """Remove what lies beside a cache and is of no use: caches of the same dataset as it was before, those that nobody
    used for long, and what killed jobs have left.
    """
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    dataset = path.name.rpartition("-")[0]
    with suppress(OSError):  # the folder may not be there yet, and on Windows an open file stays
        for entry in path.parent.iterdir():
            final = path.parent / entry.name.removeprefix(".").removesuffix(".partial")
            if not NAME.fullmatch(final.name):
                continue
            if entry != final:
                recover(final, undecided=True)
            elif entry != path and is_plain(entry):
                with suppress(OSError):
                    if entry.name.startswith(dataset) or entry.stat().st_mtime < oldest:
                        entry.unlink()


def _write(path: Path, reader: ChipReader, stage: Stage) -> None:
    """Decode all chips of a dataset, in their order, with several threads."""
    count, dtype = len(reader.dataset.images), record_type(reader)

    def decode(places: np.ndarray) -> np.ndarray:
        images, targets = reader.read(places)
        records = np.empty(len(places), dtype)
        records["image"], records["target"] = images.numpy(), targets.numpy()
        return records

    orders = load_orders(count, reader.chip_bytes)
    try:
        with open(path, "wb") as file, closing(work_ahead(decode, orders, None, READERS, READERS + 1)) as decoded:
            npy.write_array_header_1_0(
                file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
            )
            for order, records in decoded:
                file.write(records.view(np.uint8).data)
                stage.advance(len(order))
            file.flush()
            os.fsync(file.fileno())  # so that no cache has its name and size, but not its content, after a power cut
    except OSError as error:
        raise ResourceError(
            f"{path} could not be written ({why_not_written(path, error)}).",
            "Free some space, or choose another folder.",
        ) from error
