"""Tiles of web layers, kept in the user's cache folder for later jobs: a file each, named after a hash of its request.

GDAL's own cache of its driver WMS does not do for this: it writes tiles in place, so a killed job may leave half a
tile; it knows tiles by their address alone, whatever headers went with it; and it is not bounded in size. So it only
passes the bytes on, see `fetch_tiles`. It does not tell what the server says about how long a tile is valid either.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
import time
import zlib
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Optional

from ..files import rename
from ..strangers.paths import open_plain

MOST_BYTES = 10**9  # of all tiles that are kept
# The oldest tiles are looked for whenever this share of it has been added.
LOOK_AFTER = 0.05
LARGEST = 2**25  # bytes of a tile
DAY = 24 * 3600
# At the start of a file: mark, CRC-32 of its own name and the rest, length of the name that GDAL gives the tile.
HEAD = struct.Struct(">4sIB")
MARK = b"tzt2"
PARTIAL = ".partial"
OWN = re.compile(r"[0-9a-f]{62}|\.[0-9a-f]{62}\.[\d-]+\.partial")  # names of files

_numbers = count()


class TileCache:
    """The tiles of a layer; safe to use from several threads, and by several jobs at a time.

    Whatever goes wrong with the files, the only consequence is that a tile is fetched again.

    Args:
        folder: The folder for the tiles of all layers.
        layer: What tells the layer apart from others; may hold keys, of which the files tell nothing.
        days: Age from which tiles are not used any more.
    """

    def __init__(self, folder: str, layer: str, days: float) -> None:
        self.folder, self.layer, self.days = Path(folder), layer, days
        self.lock, self.added = threading.Lock(), 0
        self.trim()

    def get(self, place: str) -> Optional[tuple[str, bytes]]:
        """Return the name that GDAL gives a tile, and its bytes.

        Args:
            place: What tells the tile apart from others of the layer.

        Returns:
            None if the tile is not kept.
        """
        path = self._path(place)
        try:
            with open_plain(path) as file:
                status = os.fstat(file.fileno())
                old = not 0 <= time.time() - status.st_mtime + 60 <= self.days * DAY
                if old or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
                    return None
                record = file.read(LARGEST)
            mark, checksum, length = HEAD.unpack_from(record)
            if mark != MARK or checksum != _checksum(path, record[HEAD.size :]):
                return None
            end = HEAD.size + length
            return record[HEAD.size : end].decode("ascii"), record[end:]
        except (OSError, ValueError, struct.error):
            return None

    def put(self, place: str, name: str, data: bytes) -> None:
        """Keep a tile; arguments as `get` returns them."""
        path = self._path(place)
        rest = name.encode("ascii") + data
        draft = path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}{PARTIAL}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # "x" follows no link.
            with open(draft, "xb", opener=partial(os.open, mode=0o600)) as file:
                file.write(HEAD.pack(MARK, _checksum(path, rest), len(name)) + rest)
            rename(draft, path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            return
        with self.lock:
            self.added += HEAD.size + len(rest)
            full = self.added > LOOK_AFTER * MOST_BYTES
        if full:
            self.trim()

    def trim(self) -> None:
        """Remove what is too old, what killed jobs have left, and the oldest tiles where there are too many."""
        with self.lock:
            self.added = 0
        files, oldest = [], time.time() - self.days * DAY
        for folder in _entries(self.folder):
            for file in _entries(folder) if len(folder.name) == 2 else ():
                with suppress(OSError):
                    status = file.lstat()
                    if not OWN.fullmatch(file.name):
                        continue
                    if status.st_mtime < (oldest if file.suffix != PARTIAL else time.time() - DAY):
                        file.unlink()
                    else:
                        files.append((status.st_mtime, status.st_size, file))
        spare = sum(size for _, size, _ in files) - MOST_BYTES
        for _, size, file in sorted(files, key=lambda found: found[0]):
            if spare <= 0:
                break
            with suppress(OSError):
                file.unlink()
            spare -= size

    def _path(self, place: str) -> Path:
        name = hashlib.sha256(f"{self.layer}\n{place}".encode()).hexdigest()
        return self.folder / name[:2] / name[2:]


def _checksum(path: Path, rest: bytes) -> int:
    return zlib.crc32(rest, zlib.crc32(f"{path.parent.name}{path.name}".encode()))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
