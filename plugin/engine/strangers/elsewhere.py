"""Files that lead GDAL to a server: Terrazzo uses the network only for addresses that the user gives.

A virtual raster, its mask or its overviews may name any address, and GDAL would ask there while it reads the file. So
before a file of this computer is opened, what it names is looked at, also in files that these name in turn.
"""

from __future__ import annotations

import re
import stat
from contextlib import suppress
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Optional

from osgeo import gdal

from ..errors import InputError, without_key
from ..files import SIDECARS
from .paths import open_plain
from .texts import parse_xml

gdal.UseExceptions()

# What GDAL reads over the network, also inside other names, such as NETCDF:"/vsicurl/https://a.example/b.nc":x.
SERVER = re.compile(
    r"/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(?:_streaming)?[/?]|(?:https?|ftp|s3|gs|az)://"
    r"|^\s*(?:WMS|WMTS|WCS|WFS3?|OAPIF(?:_COLLECTION)?|OGCAPI|CSW|NGW|EEDAI?|DAAS|PLMOSAIC|PLSCENES|STACTA|STACIT|CARTO"
    r"|AMIGOCLOUD|ES|ELASTIC|PG|POSTGRESQL|MYSQL|MSSQL|OCI|ODBC|HANA|MONGODB(?:V3)?|COUCHDB|CLOUDANT|JPIPS?|HTTP):",
    re.IGNORECASE,
)
HOST = re.compile(r"://(?:[^/\s@]*@)?([^/\s?#\"']+)")
# Elements at the root of files that name others, or a service.
ROOTS = (
    "VRTDataset", "MRF_META", "GDALTileIndexDataset", "OGRVRTDataSource", "PAMDataset", "GDAL_WMS", "GDAL_WMTS",
    "WCS_GDAL", "OGRWFSDataSource", "WMT_MS_Capabilities", "WMS_Capabilities", "Capabilities", "TileMap",
    "TileMapService", "WMS_Tile_Service",
)  # fmt: skip
ROOT = re.compile(rb"<(?:\w+:)?(?:" + "|".join(ROOTS).encode() + rb")\b", re.IGNORECASE)
HEAD = 4096  # bytes in which GDAL looks for these
LARGEST = 2**29  # bytes; a mosaic of a million rasters has about that
# Elements whose texts are no names of files; metadata are none but for a few.
TEXTS = frozenset(
    ("srs", "layersrs", "targetsrs", "sourcesrs", "description", "category", "f", "name", "unittype", "gcp")
)
METADATA_NAMES = re.compile(r"_DATASET$|_FILE$|DEM", re.IGNORECASE)
# Elements that name files of this computer, which may lead elsewhere in turn.
FILES = frozenset(("sourcefilename", "sourcedataset", "source", "srcdatasource", "indexdataset", "mdi"))
SEPARATOR = re.compile(r"[\\/]")
BASE = ":::BASE:::"  # in names of overviews: the folder of the raster
TIFF = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")
# In GeoJSON, a link to the definition of a CRS, which GDAL fetches; and the names in catalogues of rasters (STAC).
CRS_LINK = re.compile(rb'"crs"\s*:\s*\{[^}]*?"properties"\s*:\s*\{[^}]*?"href"\s*:\s*"([^"]*)"')
JSON_HREF = re.compile(rb'"(?:href|url)"\s*:\s*"([^"]*)"')


def check_here(source: str, name: str = "") -> None:
    """Check that a file of this computer, or the text of a virtual raster, leads GDAL to no server.

    Args:
        source: What GDAL would open; an address, which the user asks for, is fine.
        name: The name for messages; "" for the source.

    Raises:
        InputError: It leads to a server, or names files in a way that cannot be read.
    """
    if host_asked(source):
        return
    shown, source = name or source, _file_of(source)
    try:
        found = _leads_to(source, _state(source))
    except (OSError, ValueError) as error:
        raise InputError(
            f"What other files {shown} names cannot be read ({error}).", "Check that the file is intact."
        ) from None
    if found:
        raise InputError(
            f"{shown} leads to a server ({host_asked(found)}), which is not asked: the network is used only for "
            "addresses that you give yourself.",
            "Give that address itself, or save the data on this computer.",
        )


def host_asked(source: str) -> str:
    """The server that an address leads to, as shown to people; "" for a file of this computer or a text."""
    if source.lstrip().startswith("<") or not SERVER.search(source):
        return ""
    host = HOST.search(source)
    return (host[1] if host else without_key(source))[:100]


def _file_of(source: str) -> str:
    """The file of a name such as vrt://a.tif?bands=1; others are returned unchanged."""
    return source[len("vrt://") :].partition("?")[0] if source.lower().startswith("vrt://") else source


@lru_cache
def _leads_to(source: str, state: tuple[tuple[int, int], ...]) -> Optional[str]:
    """The first address that a file or text leads to, known until its `_state` changes; None if there is none."""
    waiting, seen = [source], {source}
    while waiting:
        place = waiting.pop()
        if place.lstrip().startswith("<"):
            names = _names_in(place.encode(), "")
        else:
            names = _names_of_file(place, place == source)
        for name in map(_file_of, names):
            if host_asked(name):
                return name
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return None


def _beside(path: str) -> list[str]:
    return [f"{path}{ending}" for ending in (*SIDECARS, *(ending.upper() for ending in SIDECARS[1:]))]


def _state(path: str) -> tuple[tuple[int, int], ...]:
    """Size and time of a file and of those beside it, (-1, 0) for one that is not there."""
    return tuple(_look(place) for place in (path, *_beside(path)))


def _look(path: str) -> tuple[int, int]:
    if path.startswith("/vsi"):
        found = gdal.VSIStatL(path)
        return (-1, 0) if found is None or found.IsDirectory() else (found.size, found.mtime)
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a null character
        return -1, 0
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (-1, 0)


def _names_of_file(path: str, first: bool) -> list[str]:
    """What a file names, and the files beside it that GDAL opens with it.

    Args:
        path: The file, also one in an archive.
        first: Whether the user gave it; GDAL reads neither overviews nor the CRS of those that are named by others.
    """
    (size, _), *others = _state(path)
    found = [place for place, (length, _) in zip(_beside(path), others) if length >= 0]
    if size < 0:
        return found
    head = _read(path, HEAD)
    if ROOT.search(head):
        found += _names_in(_read(path, LARGEST), path[: -len(SEPARATOR.split(path)[-1])])
    elif first and head.startswith(TIFF):
        found += _overviews_of(path, found)
    elif first and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        links = _all_in(path, JSON_HREF if b'"stac_version"' in head else CRS_LINK)
        found += [link.decode("utf-8", "replace").replace("\\/", "/") for link in links]
    return found


def _all_in(path: str, pattern: re.Pattern[bytes]) -> list[bytes]:
    """What a pattern finds in a file of any size."""
    if path.startswith("/vsi"):
        return pattern.findall(_read(path, LARGEST))
    with open_plain(path) as file, mmap(file.fileno(), 0, access=ACCESS_READ) as text:
        return pattern.findall(text)


def _overviews_of(path: str, beside: list[str]) -> list[str]:
    # Without a list of its siblings, GDAL would read the whole folder.
    siblings = [SEPARATOR.split(place)[-1] for place in (path, *beside)]
    with suppress(RuntimeError):  # whoever opens it will say so
        image = gdal.OpenEx(path, gdal.OF_RASTER, allowed_drivers=["GTiff"], sibling_files=siblings)
        named = image.GetMetadataItem("OVERVIEW_FILE", "OVERVIEWS")
        return [named] if named else []
    return []


def _read(path: str, most: int) -> bytes:
    if not path.startswith("/vsi"):
        with open_plain(path) as file:
            return file.read(most)
    inside = gdal.VSIFOpenL(path, "rb")
    try:
        return bytes(gdal.VSIFReadL(1, most, inside))
    finally:
        gdal.VSIFCloseL(inside)


def _names_in(text: bytes, folder: str) -> list[str]:
    """What an XML text names: addresses, paths, and texts of virtual rasters.

    Raises:
        ValueError: It is not valid XML.
    """
    names = parse_xml(text.strip(), builder=_Names())
    paths = (name.replace(BASE, "", 1) for name in names if not name.startswith("<") and not SERVER.search(name))
    return [*names, *(f"{folder}{path}" for path in paths)]


class _Names:
    """Collects texts and attributes that may be names of files; keeps no tree, as there may be a million.

    GDAL takes attributes for elements, and the first of an element's texts for its value.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
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
        return self.found

    def _look(self, name: str, key: str, text: str) -> None:
        kind, text = name.rpartition(":")[2].lower(), text.strip()
        if not text or kind in TEXTS or (kind == "mdi" and not METADATA_NAMES.search(key)):
            return
        if kind in FILES or SERVER.search(text) or text.startswith("<"):
            self.found.append(text)
