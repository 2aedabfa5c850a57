"""Untrusted chip indexes: GeoPackages, which are SQLite databases and may contain code.

Views, triggers, virtual tables, computed columns and constraints are evaluated when a row is read or written, with all
functions that GDAL adds (some read files and addresses). Files beside a database may refer to others. So the schema is
checked before GDAL opens the file, and so are the pages, since damaged ones can contain cycles.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Optional

from osgeo import gdal, ogr

from ..errors import InputError
from ..files import JOURNALS
from .crs import fault_of_crs
from .paths import check_plain, is_plain

LAYER = "chips"
MOST_ENTRIES, LONGEST_ENTRY = 2000, 200_000  # of the schema, in letters
QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/""", re.DOTALL)
# Tokens of the triggers with which GDAL updates the spatial index and the feature count.
TRIGGER_WORDS = frozenset((
    "create", "trigger", "after", "insert", "update", "delete", "of", "on", "when", "old", "new", "not", "null",
    "isnull", "notnull", "and", "or", "is", "begin", "end", "replace", "into", "values", "set", "from", "where", "id",
    "in", "st_isempty", "st_minx", "st_maxx", "st_miny", "st_maxy", "minx", "maxx", "miny", "maxy",
    "gpkg_ogr_contents", "feature_count", "table_name", "lower", "1", "chips", "geom", "fid", "rtree_chips_geom",
))  # fmt: skip
TRIGGER_TARGETS = ("rtree_chips_geom", "gpkg_ogr_contents")
# Tables that are never written here.
UNTOUCHED = ("gpkg_tile_matrix", "gpkg_tile_matrix_set", "gpkg_metadata", "gpkg_metadata_reference")
# Marks a journal that names another one, which SQLite would read and delete.
SUPER_JOURNAL = bytes((0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7))
WHOLE_TYPES = (ogr.OFTInteger, ogr.OFTInteger64)


@contextmanager
def index_errors(path: Path) -> Iterator[None]:
    """Convert errors of an index to `InputError`."""
    try:
        yield
    except (RuntimeError, AttributeError, OSError, sqlite3.Error, UnicodeError) as error:
        raise InputError(f"The index {path} cannot be read ({error}).", "Export the chips again.") from error


def open_index(path: Path, update: bool = False) -> gdal.Dataset:
    """Open an index after checking that it contains no code and no damaged pages.

    Raises:
        RuntimeError, OSError, sqlite3.Error: It is missing, damaged or unsafe; see `index_errors`.
    """
    check_plain(path)
    for ending in JOURNALS:
        _check_journal(Path(f"{path}{ending}"))
    fault = _fault(path, update)
    if fault is not None:
        raise RuntimeError(fault)
    flags = gdal.OF_VECTOR | gdal.OF_VERBOSE_ERROR | (gdal.OF_UPDATE if update else 0)
    source = gdal.OpenEx(str(path.absolute()), flags, allowed_drivers=["GPKG"])
    if source.GetLayerByName(LAYER) is None:
        raise RuntimeError(f"no layer {LAYER}")
    return source


def check_fields(layer: ogr.Layer, kinds: Mapping[str, int]) -> set[str]:
    """The field names of a layer; those in `kinds` must have the given types if they exist.

    Raises:
        RuntimeError: A field has another type.
    """
    definition = layer.GetLayerDefn()
    fields = [definition.GetFieldDefn(place) for place in range(definition.GetFieldCount())]
    for field in fields:
        kind = kinds.get(field.GetName(), field.GetType())
        fits = (kind,) if kind == ogr.OFTString else (*WHOLE_TYPES, kind)
        if field.GetType() not in fits:
            raise RuntimeError(f"the field {field.GetName()} holds {field.GetTypeName()}")
    return {field.GetName() for field in fields}


def _check_journal(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not is_plain(path):
        raise RuntimeError(f"{path.name} is not a regular file")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(SUPER_JOURNAL)))
        if file.read() == SUPER_JOURNAL:
            raise RuntimeError(f"{path.name} refers to another file")


def _fault(path: Path, update: bool) -> Optional[str]:
    """Describe why an index is unsafe; None if it is not."""
    wal = Path(f"{path}-wal")
    # Without updates it is read as immutable, which works in read-only folders too.
    mode = "rw" if update else "ro" if wal.exists() else "ro&immutable=1"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)) as database:
        database.execute("PRAGMA trusted_schema = OFF")
        rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT ?", (MOST_ENTRIES + 1,))
        entries = [tuple(str(part or "") for part in row) for row in rows]
        if len(entries) > MOST_ENTRIES:
            return "its schema is very long"
        for kind, name, table, sql in entries:
            if not _is_harmless(kind, name.lower(), table.lower(), sql.lower()):
                return f"the {kind} {name} in it could run code"
        if any(kind == "table" and name == "gpkg_spatial_ref_sys" for kind, name, _, _ in entries):
            for (text,) in database.execute("SELECT definition FROM gpkg_spatial_ref_sys LIMIT 1000"):
                fault = None if text == "undefined" else fault_of_crs(text)
                if fault is not None:
                    return f"a CRS in it cannot be used: {fault}"
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        return None if found == "ok" else str(found)


def _is_harmless(kind: str, name: str, table: str, sql: str) -> bool:
    """Return whether a schema entry, in lower case, only stores values."""
    if len(sql) > LONGEST_ENTRY:
        return False
    if not sql:
        return kind == "index"  # of a primary key
    bare = QUOTED.sub(" x ", sql)
    words = set(re.findall(r"\w+", bare))
    if kind == "index":
        return bare.count("(") == 1 and "where" not in words
    if kind == "table":
        if "virtual" in words:
            return name.startswith("rtree_") and re.search(r"\busing\s+rtree\s*\(", bare) is not None
        if name.startswith("gpkg_"):
            return not words & {"check", "generated", "as"}
        return not words & {"check", "generated", "as"} and re.search(r"\bdefault\s*\(", bare) is None
    if kind != "trigger":
        return False
    if table in UNTOUCHED:
        return True
    used = set(re.findall(r"\w+", sql)) - {name}
    _, _, body = sql.partition("begin")
    targets = re.findall(r"\b(?:into|from|update)\W+(\w+)", body)
    return table == LAYER and used <= TRIGGER_WORDS and all(target in TRIGGER_TARGETS for target in targets)


def rows_of(layer: Any, names: list[str]) -> list[list[Any]]:
    """The values of some fields, for every row."""
    definition = layer.GetLayerDefn()
    held = {definition.GetFieldDefn(place).GetName() for place in range(definition.GetFieldCount())}
    missing = [name for name in names if name not in held]
    if missing:
        raise RuntimeError(f"no field {missing[0]}")
    layer.SetIgnoredFields(["OGR_GEOMETRY", *sorted(held - set(names))])
    places = [definition.GetFieldIndex(name) for name in names]
    return [[feature.GetField(place) for place in places] for feature in layer]
