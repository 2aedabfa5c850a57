"""Files of the finished pieces of a map, from which an interrupted job is resumed; format 1.

They lie in one folder. `job.json` says what the map is made from, and what was measured for it. `N.pieces`, one for
each process that has worked on the map, is a sequence of records: a head (`HEAD`), and what the sinks took of a unit of
work. Files are only appended to, so a process that is killed leaves whole records, and at most one that is cut off.

The folder may come from anywhere, so all that is read from it is checked.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ...files import rename
from ...strangers.paths import open_plain, read_bytes
from ...strangers.rules import DAMAGES
from ...strangers.texts import JSON_MEMORY, parse_json
from ..reading.tile_reader import asked_of
from ..reading.tiling import Tile, Tiles

FORMAT_VERSION = 2  # 1 knew no columns
JOB, ENDING = "job.json", ".pieces"
# Of a record: a mark, the number of the unit, its pixels, the length of what follows, and its CRC-32.
HEAD = struct.Struct("<8sQQQI")
MARK = b"terrazzo"
# What a record says of each tile of its unit: nothing to map, all of it, or the pixels of a mask.
NONE, ALL, SOME = range(3)
LENGTH = struct.Struct("<Q")
# A record has at most so many bytes for those that its arrays have.
GROWTH, OVERHEAD = 1.01, 100_000
# Damage of files that the readers below let pass as missing pieces.
DAMAGED = (OSError, zlib.error, struct.error, *DAMAGES)


@dataclass(frozen=True)
class Piece:
    """What the sinks took of a unit."""

    tiles: list[Tile]  # those with pixels to map
    wanted: list[np.ndarray | None]  # for each of them, (rows, cols) bool; None = every pixel
    taken: list[np.ndarray]  # by each sink, (N, ..., rows, cols)

    @property
    def asked(self) -> np.ndarray:
        """As `Batch.asked`."""
        return asked_of(self.tiles, self.wanted)


@dataclass(frozen=True)
class Place:
    """Where a record lies."""

    file: Path
    offset: int
    length: int
    checksum: int


class Pieces:
    """The pieces of a map in their folder.

    Args:
        folder: The folder, which need not exist.
        examples: What each sink takes of a single pixel; larger pieces have the same type and number of dimensions.
    """

    def __init__(self, folder: Path, examples: Sequence[np.ndarray]) -> None:
        self.folder, self.examples = folder, examples
        self._places: dict[int, Place] = {}
        self._file: FileIO | None = None

    def read_job(self) -> dict[str, Any] | None:
        """What `begin` has written; None if there is nothing, or nothing of use."""
        try:
            if not stat.S_ISDIR(os.lstat(self.folder).st_mode):
                return None
            job = parse_json(read_bytes(self.folder / JOB, JSON_MEMORY))
            whole = job["format_version"] == FORMAT_VERSION and isinstance(job["facts"], dict)
            return job if whole and isinstance(job["decisions"], dict) else None
        except (OSError, *DAMAGES):
            return None

    def begin(self, facts: dict[str, Any], decisions: dict[str, Any]) -> None:
        """Create the folder, and say what the map is made from.

        Args:
            facts, decisions: Ready for JSON.

        Raises:
            OSError: It cannot be written.
        """
        self.folder.mkdir(0o700, exist_ok=True)
        fresh = self.folder / f"{JOB}.new"
        job = {"format_version": FORMAT_VERSION, "facts": facts, "decisions": decisions}
        fresh.write_text(json.dumps(job), encoding="utf-8")
        rename(fresh, self.folder / JOB)

    def find(self) -> int:
        """Look for the records of all files; returns the pixels of their units."""
        pixels = {}
        for path in sorted(self.folder.glob(f"*{ENDING}")):
            for number, size, place in _records(path):
                self._places[number], pixels[number] = place, size
        return sum(pixels.values())

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def read(self, number: int, unit: Tiles) -> Piece | None:
        """Read a piece; None if there is none, or it is damaged.

        Args:
            number: Of the unit.
            unit: Its tiles.
        """
        place = self._places.get(number)
        try:
            if place is None:
                return None
            return _unpacked(_content(place, _begun(unit), self._most(unit)), unit, self.examples)
        except DAMAGED:
            del self._places[number]
            return None

    def write(self, number: int, unit: Tiles, piece: Piece) -> int:
        """Append a piece to this process's file; returns its size in bytes.

        Raises:
            OSError: It cannot be written.
        """
        if self._file is None:
            self._file = self._own_file()
        parts = _packed(piece, unit)
        checksum, length = _begun(unit), 0
        for part in parts:
            checksum, length = zlib.crc32(part, checksum), length + len(part)
        place = Place(Path(self._file.name), self._file.tell() + HEAD.size, length, checksum)
        for part in (HEAD.pack(MARK, number, len(unit), length, checksum), *parts):
            while part:  # a call may write less than all
                part = part[self._file.write(part) :]
        self._places[number] = place
        return HEAD.size + length

    def close(self) -> None:
        """Close this process's file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _own_file(self) -> FileIO:
        """Create a file with a name that no other process has."""
        for number in count():
            with suppress(FileExistsError):
                return FileIO(self.folder / f"{number}{ENDING}", "x")
        raise AssertionError

    def _most(self, unit: Tiles) -> int:
        """The largest size of a record of a unit."""
        bytes_per_pixel = 1 + sum(example.nbytes for example in self.examples)
        return int(len(unit) * bytes_per_pixel * GROWTH) + OVERHEAD + len(unit.tiles)


def _records(path: Path) -> Iterator[tuple[int, int, Place]]:
    """Yield the number, pixels and place of each record up to one that is cut off or damaged."""
    try:
        with open_plain(path) as file:
            offset, end = 0, os.fstat(file.fileno()).st_size
            while offset + HEAD.size <= end:
                file.seek(offset)
                mark, number, pixels, length, checksum = HEAD.unpack(file.read(HEAD.size))
                offset += HEAD.size + length
                if mark != MARK or offset > end:
                    return
                yield number, pixels, Place(path, offset - length, length, checksum)
    except (OSError, struct.error):
        return


def _begun(unit: Tiles) -> int:
    """A checksum of where a unit lies, with which that of its record begins: so it fits no unit of another plan."""
    return zlib.crc32(repr([tuple(tile.core) for tile in unit.tiles]).encode())


def _content(place: Place, begun: int, most: int) -> bytearray:
    """The content of a record, whose checksum was begun."""
    if place.length > most:
        raise ValueError(f"{place.length} bytes")
    content = bytearray(place.length)
    with open_plain(place.file) as file:
        file.seek(place.offset)
        if file.readinto(content) != place.length or zlib.crc32(content, begun) != place.checksum:  # type: ignore[attr-defined]
            raise ValueError("it is damaged")
    return content


def _packed(piece: Piece, unit: Tiles) -> list[bytes | memoryview]:
    """Return the parts of a record: a byte for each tile of the unit, the masks, and each array.

    Masks and classes become small at little cost. Other numbers hardly do, and compressing them takes long: a megapixel
    of six probabilities as floats takes 7 ms for the checksum and 8 ms for writing; compressed with level 1, it would
    be 7 % smaller, after 790 ms.
    """
    masks = dict(zip(piece.tiles, piece.wanted))
    says = bytes(NONE if tile not in masks else ALL if masks[tile] is None else SOME for tile in unit.tiles)
    bits = [np.packbits(mask) for mask in piece.wanted if mask is not None]
    parts: list[bytes | memoryview] = [says]
    for array in ([np.concatenate(bits)] if bits else []) + piece.taken:
        raw = np.ascontiguousarray(array).data.cast("B")
        part = zlib.compress(raw, 1) if array.dtype.kind in "ui" else raw
        parts += [LENGTH.pack(len(part)), part]
    return parts


def _unpacked(content: bytearray, unit: Tiles, examples: Sequence[np.ndarray]) -> Piece:
    """The reverse of `_packed`.

    Raises:
        Exception: One of `DAMAGED`.
    """
    says = content[: len(unit.tiles)]
    if len(says) != len(unit.tiles) or any(one > SOME for one in says):
        raise ValueError("it has other tiles")
    tiles = [tile for tile, one in zip(unit.tiles, says) if one]
    height, width = unit.tiles[0].core.height, unit.tiles[0].core.width
    rest = _Rest(memoryview(content)[len(says) :])
    partly, size = says.count(SOME), -(-height * width // 8)
    bits = rest.array(np.dtype(np.uint8), (partly, size)) if partly else np.empty((0, size), np.uint8)
    masks = iter(np.unpackbits(bits, axis=1, count=height * width).astype(bool).reshape(-1, height, width))
    wanted = [None if one == ALL else next(masks) for one in says if one]
    taken = []
    for example in examples if tiles else ():
        taken.append(rest.array(example.dtype, (len(tiles), *example.shape[1:-2], height, width)))
    if len(rest.data):
        raise ValueError("it is too long")
    return Piece(tiles, wanted, taken)


class _Rest:
    """What of a record is not read yet."""

    def __init__(self, data: memoryview) -> None:
        self.data = data

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
        """Read an array, which can be written to."""
        (length,) = LENGTH.unpack(self.data[: LENGTH.size])
        part, self.data = self.data[LENGTH.size :][:length], self.data[LENGTH.size + length :]
        size = dtype.itemsize * int(np.prod(shape))
        if dtype.kind in "ui":
            reader = zlib.decompressobj()
            raw = bytearray(reader.decompress(part, size + 1))
            if not reader.eof:
                raise ValueError("it is cut off")
        else:
            raw = part  # type: ignore[assignment]
        if len(part) != length or len(raw) != size:
            raise ValueError("it has another size")
        return np.require(np.frombuffer(raw, dtype).reshape(shape), requirements="A")
