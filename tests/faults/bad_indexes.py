"""Harmful changes to the GeoPackage of a dataset."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from mutators import Mutator, Target


def _database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):  # GDAL's own triggers ask for them
        database.create_function(name, 1, lambda value: 0)
    return database


def _table(database: sqlite3.Connection) -> tuple[str, list[str]]:
    (name,) = database.execute("SELECT table_name FROM gpkg_contents").fetchone()
    return name, [row[1] for row in database.execute(f'PRAGMA table_info("{name}")')]


def _storable(value: Any, rng: random.Random) -> Any:
    """A value as SQLite takes it."""
    if isinstance(value, int):
        return max(-(2**63), min(value, 2**63 - 1))
    if value is None or isinstance(value, float):
        return value
    if not isinstance(value, str):
        return rng.choice([rng.randbytes(40), json.dumps(value, default=str)[:100_000]])
    return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def index_value(path: Path, rng: random.Random, target: Target) -> str:
    """Change a value of a row, or of all rows."""
    with closing(_database(path)) as database:
        name, columns = _table(database)
        column = rng.choice(columns[1:])
        named = column in ("image", "label") and rng.random() < 0.7
        junk = _storable(target.elsewhere(rng) if named else target.junk(rng), rng)
        where = "" if rng.random() < 0.3 else f"WHERE fid = {rng.randrange(1, 8)}"
        database.execute(f'UPDATE "{name}" SET "{column}" = ? {where}', (junk,))
        database.commit()
    return f"{column} is {str(junk)[:60]!r} {where}"


def index_schema(path: Path, rng: random.Random, target: Target) -> str:
    """Change what the database is made of."""
    secret = target.outside / "secret.tif"
    with closing(_database(path)) as database:
        name, columns = _table(database)
        others = ", ".join(f'"{column}"' for column in columns if column != "image")
        rest, crs = ", ".join(f'"{column}"' for column in columns[1:]), target.crs(rng).replace("\0", "")
        numbers = "(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 30) SELECT n FROM r)"
        forever = "(WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT MAX(n) FROM r)"
        values = {
            "a view": "image",
            "a view that reads a raster": f"gdal_get_pixel_value('{secret}', 1, 'pixel', 0, 0)",
            "a view that loads code": f"load_extension('{target.outside}/code')",
            "a view without end": forever,
            "a view of much": "hex(zeroblob(400000000))",
            "a view of paths": f"'{secret}'",
            "a view that writes": f"writefile('{target.outside}/new.txt', 'x')",
            "a view that fetches": f"ogr_geocode('{target.address}')",
        }
        view = f'ALTER TABLE "{name}" RENAME TO kept; CREATE VIEW "{name}" AS SELECT {{}} AS image, {others} FROM kept;'
        statements = {
            **{what: view.format(value) for what, value in values.items()},
            "a trigger that deletes": f'CREATE TRIGGER t AFTER UPDATE ON "{name}" BEGIN DELETE FROM "{name}"; END;',
            "a trigger that names": f'CREATE TRIGGER t AFTER UPDATE ON "{name}" BEGIN UPDATE "{name}" SET image = '
            f"'{secret}'; END;",
            "a trigger without end": f'CREATE TRIGGER t BEFORE UPDATE ON "{name}" BEGIN SELECT {forever}; END;',
            "a trigger on the counts": "CREATE TRIGGER t AFTER UPDATE ON gpkg_ogr_contents BEGIN SELECT "
            f"{forever}; END;",
            "no table": f'DROP TABLE "{name}";',
            "no rows": f'DELETE FROM "{name}";',
            "no contents": "DELETE FROM gpkg_contents;",
            "no geometry": "DELETE FROM gpkg_geometry_columns;",
            "another name": f'ALTER TABLE "{name}" RENAME TO other;',
            "a column less": f'ALTER TABLE "{name}" RENAME COLUMN "{rng.choice(columns[2:])}" TO nothing;',
            "a CRS": f"UPDATE gpkg_spatial_ref_sys SET organization = 'x', definition = '{crs}';",
            "shapes of nothing": f"UPDATE \"{name}\" SET geom = x'4750000300000000';",
            "shapes of junk": f'UPDATE "{name}" SET geom = randomblob(100);',
            "shapes that claim": f"UPDATE \"{name}\" SET geom = x'4750000100000000' || x'0103000000FFFFFF7FFFFFFF7F';",
            "many rows": f'INSERT INTO "{name}" ({rest}) SELECT {rest} FROM "{name}", {numbers};',
            "an extension": "CREATE TABLE IF NOT EXISTS gpkg_extensions (table_name TEXT, column_name TEXT, "
            "extension_name TEXT, definition TEXT, scope TEXT); INSERT INTO gpkg_extensions VALUES "
            f"(NULL, NULL, 'x', '{target.address}', 'read-write');",
            "a foreign module": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
            f"'CREATE VIRTUAL TABLE \"{name}\" USING VirtualOGR(''{target.outside}/secret.gpkg'')' "
            f"WHERE name = '{name}';",
            "junk as schema": "PRAGMA writable_schema = ON; "
            f"UPDATE sqlite_master SET sql = 'CREATE TABLE' WHERE name = '{name}';",
        }
        what = rng.choice(list(statements))
        try:
            database.executescript(statements[what])
        except sqlite3.Error as error:
            return f"{what}, which fails: {error}"
        database.commit()
    return what


def index_instead(path: Path, rng: random.Random, target: Target) -> str:
    """Another kind of file under its name."""
    other = target.outside / "secret.gpkg"
    named = target.elsewhere(rng)
    row = {"type": "Feature", "properties": {"image": named}, "geometry": None}
    crs = {"type": "link", "properties": {"href": target.address}}
    texts = {
        "OGR VRT": f'<OGRVRTDataSource><OGRVRTLayer name="chips"><SrcDataSource>{other}</SrcDataSource>'
        "</OGRVRTLayer></OGRVRTDataSource>",
        "WFS": f"<OGRWFSDataSource><URL>{target.address}</URL></OGRWFSDataSource>",
        "GeoJSON": json.dumps({"type": "FeatureCollection", "features": [row]}),
        "linked GeoJSON": json.dumps({"type": "FeatureCollection", "crs": crs, "features": []}),
        "CSV": "image,label,split\nimages/0.tif,,training\n",
        "GML": f'<?xml version="1.0"?><!DOCTYPE x SYSTEM "{target.address}"><ogr:FeatureCollection xmlns:ogr="x" '
        'xmlns:gml="http://www.opengis.net/gml"/>',
        "SQL": "-- SQL GPKG\nCREATE TABLE chips (a);",
        "SQLite": "",
    }
    what = rng.choice(list(texts))
    path.unlink()
    if what == "SQLite":
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE chips (image TEXT, label TEXT, split TEXT)")
            database.execute("INSERT INTO chips VALUES (?, '', 'training')", (named,))
            database.commit()
    else:
        path.write_text(texts[what])
    return f"is {what}"


INDEXES: tuple[Mutator, ...] = (*(index_value,) * 8, *(index_schema,) * 8, *(index_instead,) * 3)
