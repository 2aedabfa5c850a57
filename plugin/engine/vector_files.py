"""Vector files with a single layer, written row by row.

GDAL writes all formats but CSV, for which some builds of GDAL have no driver, such as those installed by the set-up.
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
SPELLING = {INTEGER: "{:d}", NUMBER: "{:.15g}", TEXT: "{}"}  # as GDAL formats them
# SQLite keeps a journal of the whole transaction on disk, so transactions must be limited.
ROWS_A_TRANSACTION = 50_000


@dataclass(frozen=True)
class Field:
    """A column of a layer."""

    name: str
    kind: str  # INTEGER, NUMBER or TEXT
    title: str = ""  # alias, if the name is not clear


def create_vector_file(
    path: Path, layer: str, fields: Sequence[Field], crs: Optional[str], several: bool = False
) -> Union[GdalFile, CsvFile]:
    """Create a vector file in the format given by its suffix.

    Args:
        path: A path that does not exist yet.
        layer: The name of the layer.
        fields: The columns.
        crs: The CRS of the geometries as WKT2; None for a table without geometries.
        several: Whether a row has several polygons.

    Raises:
        RuntimeError, OSError: The file cannot be created.
    """
    if path.suffix.lower() == CSV:
        return CsvFile(path, fields, crs is not None)
    return GdalFile(path, layer, fields, crs, several)


def keeps_style(path: str) -> bool:
    """Return whether files of this format store the style of their layer."""
    return DRIVERS.get(Path(path).suffix.lower()) == "GPKG"


class GdalFile:
    """A file written by GDAL, see `create_vector_file`; all methods may raise `RuntimeError`."""

    def __init__(
        self, path: Path, layer: str, fields: Sequence[Field], crs: Optional[str], several: bool = False
    ) -> None:
        driver = DRIVERS[path.suffix.lower()]
        self._transactions = driver == "GPKG"
        self._count = 0
        self.dataset = gdal.GetDriverByName(driver).Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
        polygons = ogr.wkbMultiPolygon if several else ogr.wkbPolygon
        kind = ogr.wkbNone if crs is None else polygons
        self.layer = self.dataset.CreateLayer(layer, spatial_reference(crs) if crs else None, kind)
        for field in fields:
            definition = ogr.FieldDefn(field.name, TYPES[field.kind])
            if field.title:
                definition.SetAlternativeName(field.title)
            self.layer.CreateField(definition)
        self._definition = self.layer.GetLayerDefn()
        self._begin()

    def add(self, row: Sequence[Any], polygon: Optional[ogr.Geometry] = None, number: Optional[int] = None) -> None:
        """Write a row.

        Args:
            row: The values; None for an empty one.
            polygon: The geometry.
            number: The feature id; None to assign the next one.
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
        """Commit the transaction, so that other layers can be written."""
        if self._transactions:
            self.layer.CommitTransaction()

    def close(self) -> None:
        """Write pending rows and close the file; does nothing if it is closed."""
        try:
            if self.dataset is not None:
                self.dataset.FlushCache()
        finally:
            self.layer = self.dataset = self._definition = None

    def _begin(self) -> None:
        if self._transactions:
            self.layer.StartTransaction()


class CsvFile:
    """A CSV file with WKT geometries in its first column; has the methods of `GdalFile`, which may raise `OSError`."""

    def __init__(self, path: Path, fields: Sequence[Field], spatial: bool) -> None:
        self._fields, self._spatial = fields, spatial
        self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115 (closed by close)
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow([*(["WKT"] if spatial else []), *(field.name for field in fields)])

    def add(self, row: Sequence[Any], polygon: Optional[ogr.Geometry] = None, number: Optional[int] = None) -> None:
        """See `GdalFile.add`; feature ids are not written."""
        shape = [polygon.ExportToWkt() if polygon is not None else ""] if self._spatial else []
        texts = ("" if value is None else SPELLING[field.kind].format(value) for field, value in zip(self._fields, row))
        self._rows.writerow([*shape, *texts])

    def commit(self) -> None:
        """Nothing to do; see `GdalFile.commit`."""

    def close(self) -> None:
        """See `GdalFile.close`."""
        self._file.close()
