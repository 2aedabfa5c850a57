"""What other files and addresses a file names, which GDAL would open when it reads the file."""

from __future__ import annotations

import json
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from osgeo import gdal

from ..files import SIDECARS
from .addresses import SERVER, WEB
from .paths import open_plain
from .texts import parse_json, parse_xml

gdal.UseExceptions()

HEAD = 4096  # bytes in which GDAL looks for what a file is
LARGEST = 2**29  # bytes; a mosaic of a million rasters has about that
# Elements at the root of files that name others, or a service.
ROOTS = (
    "VRTDataset", "MRF_META", "GDALTileIndexDataset", "OGRVRTDataSource", "PAMDataset", "GDAL_WMS", "GDAL_WMTS",
    "WCS_GDAL", "OGRWFSDataSource", "WMT_MS_Capabilities", "WMS_Capabilities", "Capabilities", "TileMap",
    "TileMapService", "WMS_Tile_Service",
)  # fmt: skip
ROOT = re.compile(rb"<(?:\w+:)?(?:" + "|".join(ROOTS).encode() + rb")\b", re.IGNORECASE)
# Elements whose texts are no names of files; metadata are none but for a few.
TEXTS = frozenset(
    ("srs", "layersrs", "targetsrs", "sourcesrs", "description", "category", "f", "name", "unittype", "gcp")
)
METADATA_NAMES = re.compile(r"_DATASET$|_FILE$|DEM", re.IGNORECASE)
NUMBER = re.compile(r"[\d\s.,eE+-]*")
# Files whose metadata may name overviews elsewhere: TIFF and JPEG 2000.
WITH_OVERVIEWS = {"GTiff": (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+"), "JP2": (b"\0\0\0\x0cjP  ",)}
SQLITE = b"SQLite format 3\0"
QUOTED = re.compile(r"'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\"")
# A key of GeoJSON, how it may be written with escapes, which is slower to look for, and how far its value may reach.
CRS = re.compile(rb'"crs"\s*:\s*(?=\{)')
ESCAPES = (b"\\u0063", b"\\u0072", b"\\u0073")
ESCAPED_CRS = re.compile(rb'"(?:c|\\u0063)(?:r|\\u0072)(?:s|\\u0073)"\s*:\s*(?=\{)')
LONGEST_CRS = 20_000  # letters
# Rasters of numbers in a text, which may be long, and whose words name nothing.
NUMBERS = ("AAIGrid", "GRASSASCIIGrid", "GSAG", "ISG", "XYZ", "ZMap", "GXF", "USGSDEM", "DTED", "JDEM")
WORDS = re.compile(r"[\r\n<>\"'=;,(){}\[\]]+")
LONGEST_WORD = 2000
# Formats that begin with a text and may go on with pixels, and how many bytes of such a file are looked at.
LABELLED, LABEL = ("MAP", "TIL", "ERS", "ISIS2", "ISIS3", "PDS", "VICAR"), 2**20
# Files that name others by a handler of GDAL, which would be asked for them.
UNSEEN = re.compile(r"/vsi(?:sparse|cached|kerchunk\w*|stdin)\b")
# The list of a tile index: by the name of its file, or after this prefix.
INDEX = "GTI:"
INDEX_NAME = re.compile(r"\.gti\.\w+$", re.IGNORECASE)
INDEX_DRIVERS = ("GPKG", "FlatGeobuf", "ESRI Shapefile")
# Where a path may begin and end in a name such as NETCDF:"a.nc":x or vrt://a.tif?bands=1.
BEGIN, END = re.compile(r"vrt://|[:\"{]"), re.compile(r"[\"?,|}]|:(?![\\/])")


def names_of(place: str) -> list[str]:
    """What a file, or the text of a virtual raster, names: addresses, paths and texts, among other words.

    Args:
        place: The text, or the path of a file, also in an archive; after `INDEX` that of a tile index.

    Raises:
        OSError, ValueError: What it names cannot be read.
    """
    if place.lstrip().startswith("<"):
        return _of_xml(place.encode())
    path = place[len(INDEX) :] if place.startswith(INDEX) else place
    unseen = UNSEEN.search(path)
    if unseen:
        raise ValueError(f"{unseen[0]} is not looked through")
    if look(path)[0] < 0:
        return []
    found = [near for near in beside(path) if look(near)[0] >= 0]
    found += _of_index(path) if place.startswith(INDEX) else _of_file(path, found)
    return found


def paths_in(name: str) -> Iterator[str]:
    """What may be paths in a name."""
    for begin in (0, *(found.end() for found in BEGIN.finditer(name))):
        rest = name[begin:]
        yield rest
        end = END.search(rest, 2)
        if end and end.start():
            yield rest[: end.start()]


def beside(path: str) -> list[str]:
    """The files that GDAL opens together with a file, if they are there."""
    return [f"{path}{ending}" for ending in (*SIDECARS, *(ending.upper() for ending in SIDECARS[1:]))]


def look(path: str) -> tuple[int, int]:
    """Size and time of a file; (-1, 0) for one that is not there."""
    if path.startswith("/vsi"):
        found = None if UNSEEN.search(path) else gdal.VSIStatL(path)
        return (-1, 0) if found is None or found.IsDirectory() else (found.size, found.mtime)
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a null character
        return -1, 0
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (-1, 0)


def _of_file(path: str, near: list[str]) -> list[str]:
    """What a file names by itself.

    Args:
        path: The file.
        near: The files beside it.
    """
    head = _read(path, HEAD)
    if ROOT.search(head):
        return _of_xml(_read(path, LARGEST))
    for kind, marks in WITH_OVERVIEWS.items():
        if head.startswith(marks):
            return _overviews(path, near, kind)
    if head.startswith(SQLITE):
        return _of_database(path)
    driver, binary = _driver(path, near), b"\0" in head
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _crs_links(path) if driver is None else _strings(parse_json(_read(path, LARGEST)))
    if driver is None or driver in NUMBERS or (binary and driver not in LABELLED):
        return []
    # The texts of other formats are also full of addresses that GDAL does not follow there.
    words = WORDS.split(_read(path, LABEL if binary else LARGEST).decode("utf-8", "replace"))
    names = (word.strip("\0 \t") for word in words if len(word) <= LONGEST_WORD)
    return [name for name in names if not NUMBER.fullmatch(name) and not WEB.match(name)]


def _siblings(path: str, near: list[str]) -> list[str]:
    # Without this list, GDAL would read the whole folder.
    return [re.split(r"[\\/]", place)[-1] for place in (path, *near)]


def _driver(path: str, near: list[str]) -> str | None:
    """The name of GDAL's driver that takes a file for a raster; None if none does."""
    found = gdal.IdentifyDriverEx(path, gdal.OF_RASTER, sibling_files=_siblings(path, near))
    return None if found is None else str(found.ShortName)


def _overviews(path: str, near: list[str], kind: str) -> list[str]:
    every = (gdal.GetDriver(place).ShortName for place in range(gdal.GetDriverCount()))
    drivers = [kind] if kind == "GTiff" else [name for name in every if name.startswith(kind)]
    with suppress(RuntimeError):  # whoever opens it will say so
        image = gdal.OpenEx(path, gdal.OF_RASTER, allowed_drivers=drivers, sibling_files=_siblings(path, near))
        named = image.GetMetadataItem("OVERVIEW_FILE", "OVERVIEWS")
        return [named] if named else []
    return []


def _of_database(path: str) -> list[str]:
    """What the virtual tables of a SQLite database name."""
    if path.startswith("/vsi"):  # SQLite cannot read it, and GDAL opens it where it has room for a copy
        return []
    query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL AND coalesce(rootpage, 0) = 0"
    address = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            tables = [str(text) for (text,) in database.execute(query)]
    except sqlite3.Error:  # GDAL cannot read it either
        return []
    return [one or other for text in tables for one, other in QUOTED.findall(text)]


def _of_index(path: str) -> list[str]:
    """What the features of a tile index name.

    Raises:
        ValueError: It names something itself, or is in a format that is not looked at.
    """
    if any(SERVER.search(name) for name in _of_file(path, [])):
        raise ValueError("its tile index names an address")
    try:
        dataset = gdal.OpenEx(path, gdal.OF_VECTOR, allowed_drivers=list(INDEX_DRIVERS))
    except RuntimeError:
        raise ValueError(f"its tile index is in no format of {', '.join(INDEX_DRIVERS)}") from None
    found: set[Any] = set()
    for number in range(dataset.GetLayerCount()):
        layer = dataset.GetLayer(number)
        fields = layer.GetLayerDefn().GetFieldCount()
        for feature in layer:
            found.update(feature.GetField(place) for place in range(fields))
    return [value for value in found if isinstance(value, str)]


def _crs_links(path: str) -> list[str]:
    """Links to the definitions of CRSs in GeoJSON, which GDAL fetches; of a file of any size.

    Raises:
        ValueError: One cannot be read.
    """
    found = []
    decoder = json.JSONDecoder()
    with _text(path) as text:
        escaped = any(text.find(letter) >= 0 for letter in ESCAPES)
        for place in (ESCAPED_CRS if escaped else CRS).finditer(text):
            given, _ = decoder.raw_decode(text[place.end() :][:LONGEST_CRS].decode("utf-8", "replace"))
            if str(given.get("type")).lower() != "name":
                found += _strings(given)
    return found


def _strings(value: Any) -> list[str]:
    """All texts in a JSON value."""
    waiting, found = [value], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, (dict, list)):
            waiting += one.values() if isinstance(one, dict) else one
    return found


def _text(path: str) -> Any:
    """The bytes of a file of any size, for a `with` statement."""
    if path.startswith("/vsi"):
        return nullcontext(_read(path, LARGEST))
    with open_plain(path) as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ)


def _read(path: str, most: int) -> bytes:
    if not path.startswith("/vsi"):
        with open_plain(path) as file:
            return file.read(most)
    inside = gdal.VSIFOpenL(path, "rb")
    try:
        return bytes(gdal.VSIFReadL(1, most, inside))
    finally:
        gdal.VSIFCloseL(inside)


def _of_xml(text: bytes) -> list[str]:
    names: list[str] = parse_xml(text.strip(), builder=_Names())
    return names


class _Names:
    """Collects texts and attributes that may be names of files; keeps no tree, as there may be a million.

    GDAL takes attributes for elements, and the first of an element's texts for its value.
    """

    def __init__(self) -> None:
        self.found: dict[str, None] = {}
        self.open: list[tuple[str, str, list[str]]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        key = next((value for name, value in attributes.items() if name.lower() == "key"), "")
        self.open.append((tag, key, []))
        for name, value in attributes.items():
            if not name.lower().startswith("xmlns"):
                self._look(name, "", value)

    def data(self, text: str) -> None:
        self.open[-1][2].append(text)

    def end(self, tag: str) -> None:
        name, key, texts = self.open.pop()
        self._look(name, key, "".join(texts))

    def close(self) -> list[str]:
        return list(self.found)

    def _look(self, name: str, key: str, text: str) -> None:
        kind, text = name.rpartition(":")[2].lower(), text.strip()
        if NUMBER.fullmatch(text) or kind in TEXTS or (kind == "mdi" and not METADATA_NAMES.search(key)):
            return
        self.found[f"{INDEX}{text}" if kind == "indexdataset" else text] = None
