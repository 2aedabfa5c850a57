"""Vector files that are one file with one layer, written row by row.

GDAL writes them, but for CSV: some builds of GDAL have no driver for it, among them the one that an environment gets
where the base has none.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from osgeo import gdal, ogr

from .rasters.raster_io import spatial_reference

ogr.UseExceptions()

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}
CSV = ".csv"
VECTOR_ENDINGS = {".gpkg": "a GeoPackage", ".geojson": "GeoJSON", CSV: "CSV"}
INTEGER, NUMBER, TEXT = "integer", "number", "text"
TYPES = {INTEGER: ogr.OFTInteger, NUMBER: ogr.OFTReal, TEXT: ogr.OFTString}
SPELLING = {INTEGER: "{:d}", NUMBER: "{:.15g}", TEXT: "{}"}  # as GDAL writes them
# A journal of everything since the begin of a transaction is kept on the disk.
ROWS_A_TRANSACTION = 50_000


@dataclass(frozen=True)
class Field:
    """A column."""

    name: str
    kind: str  # INTEGER, NUMBER or TEXT
    title: str = ""  # for people, where the name does not say it


def create_vector_file(path: Path, layer: str, fields: Sequence[Field], crs: Optional[str]) -> Union[GdalFile, CsvFile]:
    """Begin a new file, of the kind that its ending says.

    Args:
        path: Where there is none yet.
        layer: Its layer's name.
        fields: Its columns.
        crs: WKT2 of the geometries; None for a table without any.

    Raises:
        RuntimeError, OSError: It cannot be made.
    """
    if path.suffix.lower() == CSV:
        return CsvFile(path, fields, crs is not None)
    return GdalFile(path, layer, fields, crs)


def keeps_style(path: str) -> bool:
    """Whether a file of this kind holds the style of its layer."""
    return DRIVERS.get(Path(path).suffix.lower()) == "GPKG"


class GdalFile:
    """A file that GDAL writes, see `create_vector_file`; its methods raise `RuntimeError`."""

    def __init__(self, path: Path, layer: str, fields: Sequence[Field], crs: Optional[str]) -> None:
        driver = DRIVERS[path.suffix.lower()]
        self._transactions = driver == "GPKG"
        self._count = 0
        self.dataset = gdal.GetDriverByName(driver).Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
        kind = ogr.wkbNone if crs is None else ogr.wkbPolygon
        self.layer = self.dataset.CreateLayer(layer, spatial_reference(crs) if crs else None, kind)
        for field in fields:
            definition = ogr.FieldDefn(field.name, TYPES[field.kind])
            if field.title:
                definition.SetAlternativeName(field.title)
            self.layer.CreateField(definition)
        self._definition = self.layer.GetLayerDefn()
        self._begin()

    def add(self, row: Sequence[Any], polygon: Optional[ogr.Geometry] = None, number: Optional[int] = None) -> None:
        """Write a row; None is an empty value.

        Args:
            number: Its id, where rows have their own.
        """
        feature = ogr.Feature(self._definition)
        for place, value in enumerate(row):
            if value is not None:
                feature.SetField(place, value)
        if polygon is not None:
            feature.SetGeometry(polygon)
        if number is not None:
            feature.SetFID(number)
        self.layer.CreateFeature(feature)
        self._count += 1
        if self._count % ROWS_A_TRANSACTION == 0:
            self.commit()
            self._begin()

    def commit(self) -> None:
        """End what was begun, so that other layers can be written."""
        if self._transactions:
            self.layer.CommitTransaction()

    def close(self) -> None:
        """Write what is still in memory; once more does nothing."""
        try:
            if self.dataset is not None:
                self.dataset.FlushCache()
        finally:
            self.layer = self.dataset = self._definition = None

    def _begin(self) -> None:
        if self._transactions:
            self.layer.StartTransaction()


class CsvFile:
    """A list, with geometries as WKT in its first column; its methods are those of `GdalFile`, and raise `OSError`."""

    def __init__(self, path: Path, fields: Sequence[Field], spatial: bool) -> None:
        self._fields, self._spatial = fields, spatial
        self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115 (closed by close)
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow([*(["WKT"] if spatial else []), *(field.name for field in fields)])

    def add(self, row: Sequence[Any], polygon: Optional[ogr.Geometry] = None, number: Optional[int] = None) -> None:
        """As `GdalFile.add`; ids have no place."""
        shape = [polygon.ExportToWkt() if polygon is not None else ""] if self._spatial else []
        texts = ("" if value is None else SPELLING[field.kind].format(value) for field, value in zip(self._fields, row))
        self._rows.writerow([*shape, *texts])

    def commit(self) -> None:
        """As `GdalFile.commit`."""

    def close(self) -> None:
        """As `GdalFile.close`."""
        self._file.close()
