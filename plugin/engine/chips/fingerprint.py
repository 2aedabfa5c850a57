"""A hash of settings and inputs, which tells whether an interrupted export can be resumed."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Optional

from osgeo import gdal

from ..config import ExportChipsConfig
from ..rasters.opening import files_behind, open_any_raster
from ..sql import sql

# Settings that do not change the chips; features are compared by their contents, not their path.
IRRELEVANT = ("output", "overwrite", "resume", "labels", "area", "split_areas")
# Files with statistics that QGIS writes when it shows a raster; other entries of them are read from the raster itself.
STATISTICS = ".aux.xml"
# A virtual raster contains its statistics; GDAL then omits what it knows of the sources.
STATISTICS_OF_VIRTUAL = re.compile(r"<(Metadata|Histograms)\b.*?</\1>\s*|<SourceProperties\b[^>]*/>\s*", re.DOTALL)


def fingerprint_of(config: ExportChipsConfig) -> str:
    """Hash the settings, all features, and the state of the rasters and of the dataset to append to."""
    settings = {name: value for name, value in config.to_json().items() if name not in IRRELEVANT}
    rasters = [raster_state(path) for path in (*config.input, *config.label_rasters)]
    layers = [features_hash(path) for path in (config.labels, config.area, config.split_areas)]
    earlier = _file_state(str(Path(config.output) / "dataset.json")) if config.append else None
    text = json.dumps([settings, rasters, layers, earlier], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def without_files(config: ExportChipsConfig) -> list[str]:
    """The rasters whose changes cannot be detected, such as those in databases and on servers."""
    paths = dict.fromkeys((*config.input, *config.label_rasters))
    return [path for path in paths if not any(state for _, state in _files_of(open_any_raster(path)))]


def raster_state(path: str) -> list[Any]:
    """The files that a raster consists of, and how it is read."""
    dataset = open_any_raster(path)
    bands = [dataset.GetRasterBand(place + 1) for place in range(dataset.RasterCount)]
    return [
        _files_of(dataset),
        [dataset.RasterXSize, dataset.RasterYSize, dataset.GetGeoTransform(), dataset.GetProjection()],
        [(point.GCPPixel, point.GCPLine, point.GCPX, point.GCPY, point.GCPZ) for point in dataset.GetGCPs() or ()],
        dataset.GetGCPProjection(),
        [_band_state(band) for band in bands],
    ]


def _band_state(band: gdal.Band) -> list[Any]:
    """How the values of a band are read; with statistics, GDAL stores a scale of 1 explicitly."""
    scale, offset = band.GetScale(), band.GetOffset()
    unscaled = scale in (None, 1.0) and offset in (None, 0.0)
    colors = band.GetRasterColorTable()
    return [
        band.DataType, str(band.GetNoDataValue()), band.GetMaskFlags(), None if unscaled else (scale, offset),
        band.GetDescription(), band.GetColorInterpretation(),
        None if colors is None else [colors.GetColorEntry(place) for place in range(colors.GetCount())],
    ]  # fmt: skip


def _files_of(dataset: gdal.Dataset) -> list[tuple[str, Any]]:
    """The files of a raster and their states, including the sources of virtual rasters."""
    files = files_behind(dataset.GetFileList() or ())
    return sorted((file, _file_state(file)) for file in files if not file.endswith(STATISTICS))


def _file_state(path: str) -> Any:
    """Size and time of a file, also in an archive or on a server; the text of a VRT; None if it does not exist."""
    try:
        if path.lower().endswith(".vrt"):
            return STATISTICS_OF_VIRTUAL.sub("", Path(path).read_text(encoding="utf-8"))
        state = Path(path).stat()
        return [state.st_size, state.st_mtime_ns]
    except (OSError, ValueError):
        there = gdal.VSIStatL(path)
        return None if there is None else [there.size, there.mtime]


def features_hash(path: Optional[str]) -> str:
    """A hash of the contents of a GeoPackage of features, ordered by id; "" for none."""
    if not path:
        return ""
    found = hashlib.sha256()
    # The file is not written any more; immutable avoids locks, which would clash with GDAL's SQLite in this process.
    address = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as database:
        query = "SELECT table_name, column_name FROM gpkg_geometry_columns ORDER BY table_name"
        for table, shape in database.execute(query).fetchall():
            about = database.execute(sql("PRAGMA table_info({table})", table=table))
            columns = [row[1] for row in about if row[1] != shape]
            rows = sql("SELECT {names} FROM {table} ORDER BY rowid", names=[*columns, shape], table=table)
            _add_rows(found, database.execute(rows), [table, *columns])
    return found.hexdigest()


def _add_rows(found: Any, rows: Iterable[Any], begin: list[str]) -> None:
    """Hash rows whose last column is a geometry; a million rows take seconds."""
    found.update(repr(begin).encode())
    for *values, shape in rows:
        found.update(repr((*values, len(shape or b""))).encode())
        found.update(shape or b"")
