"""`chips.gpkg`, the index of a chip dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal, ogr, osr

from ..classes import ClassTable
from ..errors import InputError
from ..rasters.raster_io import spatial_reference
from ..sql import Sql, sql
from ..strangers.indexes import LAYER, check_fields, index_errors, open_index
from .dataset import field_types

ROWS_A_STATEMENT = 500
# Corners of a chip as (x, y) in CRS units, clockwise from its first pixel.
Corners = Sequence[tuple[float, float]]


class ChipIndex:
    """An open index, for use in a `with` statement, which commits the changes.

    Args:
        path: The GeoPackage, which is created if `crs` is given.
        classes: Give the names of the columns with pixel counts.
        crs: The CRS of a new index as WKT; "" for none.
    """

    def __init__(self, path: Path, classes: ClassTable, crs: Optional[str] = None) -> None:
        # Safety against crashes is switched off for speed: an export that crashes writes a new index.
        gdal.SetThreadLocalConfigOption("OGR_SQLITE_SYNCHRONOUS", "OFF")
        try:
            with index_errors(path):
                self._open(path, crs)
                check_fields(self.layer, field_types(classes))
        finally:
            gdal.SetThreadLocalConfigOption("OGR_SQLITE_SYNCHRONOUS", None)
        self._names = field_types(classes)
        self.definition = self.layer.GetLayerDefn()
        for name, kind in self._names.items():
            if self.definition.GetFieldIndex(name) < 0:
                self.layer.CreateField(ogr.FieldDefn(name, kind))
        self._places = {name: self.definition.GetFieldIndex(name) for name in self._names}
        self._pixel_places = [self._places[f"pixels_{value}"] for value in classes.values.tolist()]
        self.count = self.layer.GetFeatureCount()
        self.source.StartTransaction()

    def _open(self, path: Path, crs: Optional[str]) -> None:
        if crs is not None:
            self.source = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
            self.layer = self.source.CreateLayer(LAYER, spatial_reference(crs) or _no_crs(), ogr.wkbPolygon)
            return
        self.source = open_index(path, update=True)
        # GDAL stores the number of features last, so it is wrong after a crash.
        self.source.ExecuteSQL(
            "UPDATE gpkg_ogr_contents SET feature_count = (SELECT COUNT(*) FROM chips) WHERE table_name = 'chips'"
        )
        self.source = gdal.OpenEx(str(path), gdal.OF_VECTOR | gdal.OF_UPDATE, allowed_drivers=["GPKG"])
        self.layer = self.source.GetLayerByName(LAYER)

    def add(self, corners: Corners, values: dict[str, Any], pixels: np.ndarray) -> None:
        """Add a chip: the corners of its footprint, values of some `CHIP_FIELDS`, and (C,) pixels per class."""
        feature = ogr.Feature(self.definition)
        for name, value in values.items():
            if value is not None:
                feature.SetField(self._places[name], value)
        for place, value in zip(self._pixel_places, pixels.tolist()):
            feature.SetField(place, value)
        ring = ",".join(f"{x!r} {y!r}" for x, y in (*corners, corners[0]))
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkt(f"POLYGON(({ring}))"))
        self.layer.CreateFeature(feature)
        self.count += 1

    def commit(self) -> None:
        """Commit added rows, so that they survive a crash of this process."""
        self.source.CommitTransaction()
        self.source.StartTransaction()

    def rows(self, names: Sequence[str], condition: str = "") -> Iterator[list[Any]]:
        """Read fields of every chip, ordered by `fid`; "fid" itself can be read as well.

        Args:
            names: The fields.
            condition: An SQL condition, from trusted code only.
        """
        where = Sql(f"WHERE {condition}" if condition else "")
        found = self.source.ExecuteSQL(
            sql("SELECT {names} FROM {layer} {where} ORDER BY fid", names=names, layer=LAYER, where=where)
        )
        if found is None:
            return
        # GDAL returns the primary key as the feature's id, not as a field.
        numbers = [found.GetLayerDefn().GetFieldIndex(name) if name != "fid" else -1 for name in names]
        try:
            for feature in found:
                yield [feature.GetField(number) if number >= 0 else feature.GetFID() for number in numbers]
        finally:
            self.source.ReleaseResultSet(found)

    def corners(self) -> np.ndarray:
        """(n, 4, 2) float64: the footprint corners of every chip, ordered by `fid`.

        Raises:
            InputError: A chip has no footprint.
        """
        found = np.empty((self.count, 4, 2))
        self.layer.ResetReading()
        for place, feature in enumerate(self.layer):
            shape = feature.GetGeometryRef()
            ring = shape.GetGeometryRef(0) if shape is not None else None
            if ring is None or ring.GetPointCount() < 4:
                raise InputError(
                    f"Chip {feature.GetFID()} in {self.source.GetDescription()} has no footprint with four corners.",
                    "Export or import the chips again.",
                )
            found[place] = [ring.GetPoint_2D(corner) for corner in range(4)]
        return found

    def set_splits(self, fids: Iterable[int], splits: Iterable[str], folds: Iterable[Optional[int]]) -> None:
        """Set the splits and folds of chips."""
        execute = self.source.ExecuteSQL
        execute("CREATE TEMP TABLE new_splits (id INTEGER PRIMARY KEY, split TEXT, fold INTEGER)")
        rows = [
            f"({fid:d},'{split}',{'NULL' if fold is None else int(fold)})"
            for fid, split, fold in zip(fids, splits, folds)
        ]
        for begin in range(0, len(rows), ROWS_A_STATEMENT):
            some = Sql(",".join(rows[begin : begin + ROWS_A_STATEMENT]))
            execute(sql("INSERT INTO new_splits VALUES {rows}", rows=some))
        execute(
            'UPDATE chips SET ("split", fold) = '
            "(SELECT new_splits.split, new_splits.fold FROM new_splits WHERE new_splits.id = chips.fid) "
            "WHERE fid IN (SELECT id FROM new_splits)"
        )
        execute("DROP TABLE new_splits")

    def forget_splits(self) -> None:
        """Remove the split and fold of all chips."""
        self.source.ExecuteSQL('UPDATE chips SET "split" = NULL, fold = NULL')

    def remove(self, condition: str) -> None:
        """Delete the rows that match an SQL condition, from trusted code only."""
        for (fid,) in list(self.rows(["fid"], condition)):
            self.layer.DeleteFeature(fid)
        self.count = self.layer.GetFeatureCount()

    def __enter__(self) -> ChipIndex:
        return self

    def __exit__(self, *error: object) -> None:
        self.source.CommitTransaction()
        self.layer = self.definition = self.source = None


def _no_crs() -> osr.SpatialReference:
    """GeoPackage's CRS for undefined Cartesian coordinates; without it they would be taken for degrees."""
    reference = osr.SpatialReference()
    reference.SetLocalCS("Undefined Cartesian SRS")
    return reference
