"""The GeoPackage in which features go to the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from osgeo import gdal, ogr, osr
from qgis.core import QgsCoordinateReferenceSystem, QgsGeometry

from ..plugin.engine.errors import InputError, ResourceError

VALUE_FIELD, PRIORITY_FIELD = "value", "priority"
FEATURES_PER_TRANSACTION = 50_000
# Features that were never saved have negative ids; they come last, in the order in which they were made. The engine
# holds ids in doubles, which are exact below 2**53.
UNSAVED = 2**52


class GeoPackage:
    """A new GeoPackage with one layer of features and the field "value"; to be used in a `with` statement.

    A feature keeps its id: spatial indexes hand features out in any order, and where they overlap, the later one of
    the user's layer must win; and chips tell which feature they were cut for.

    Args:
        path: The file to write.
        layer: The name of its layer.
        crs: The layer's CRS; an invalid one is left out.
        fractional: The values are any numbers, not whole ones.
        ranked: The features have a field "priority".
    """

    def __init__(
        self, path: Path, layer: str, crs: QgsCoordinateReferenceSystem, fractional: bool = False, ranked: bool = False
    ) -> None:
        self.path = path
        reference = None
        if crs.isValid():
            reference = osr.SpatialReference(crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT_PREFERRED_GDAL))
            reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        self.dataset = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
        self.layer = self.dataset.CreateLayer(layer, reference, ogr.wkbUnknown)
        self.layer.CreateField(ogr.FieldDefn(VALUE_FIELD, ogr.OFTReal if fractional else ogr.OFTInteger))
        if ranked:
            self.layer.CreateField(ogr.FieldDefn(PRIORITY_FIELD, ogr.OFTReal))
        # One for all: to make and to free a feature takes Python longer than GDAL to store it.
        self.feature = ogr.Feature(self.layer.GetLayerDefn())
        self.count = 0

    def __enter__(self) -> GeoPackage:
        """Begin to write."""
        self.layer.StartTransaction()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Write what is left and close the file."""
        self.layer.CommitTransaction()
        self.feature = self.layer = self.dataset = None

    def add(self, number: int, geometry: QgsGeometry, value: float, priority: Optional[float] = None) -> None:
        """Write one feature; in a file with priorities, None is the lowest.

        Raises:
            InputError: The feature's id is too large to keep.
            ResourceError: The disk is full, or GDAL refuses.
        """
        if number >= UNSAVED:
            raise InputError(
                f"A feature has the id {number}, and ids of {UNSAVED} and more cannot keep their order.",
                "Save the layer to a new file without its ids.",
            )
        feature = self.feature
        feature.SetFID(number if number >= 0 else UNSAVED - number)
        feature.SetField(0, value)
        if priority is not None:
            feature.SetField(1, priority)
        elif self.feature.GetFieldCount() > 1:
            feature.SetFieldNull(1)
        try:
            feature.SetGeometryDirectly(ogr.CreateGeometryFromWkb(geometry.asWkb().data()))
            self.layer.CreateFeature(feature)
            self.count += 1
            if self.count % FEATURES_PER_TRANSACTION == 0:
                self.layer.CommitTransaction()
                self.layer.StartTransaction()
        except RuntimeError as error:
            raise ResourceError(
                f"The features cannot be written to {self.path} ({error}).", "Check the space on its disk."
            ) from error
