"""The GeoPackage in which polygons go to the engine."""

from __future__ import annotations

from pathlib import Path

from osgeo import gdal, ogr, osr
from qgis.core import QgsCoordinateReferenceSystem, QgsGeometry

from ..plugin.engine.errors import ResourceError

VALUE_FIELD = "value"
FEATURES_PER_TRANSACTION = 50_000
# Features that were never saved have negative ids; they come last, in the order in which they were made.
UNSAVED = 2**62


class GeoPackage:
    """A new GeoPackage with one layer of polygons and the integer field "value"; to be used in a `with` statement.

    A feature keeps its id as its place: spatial indexes hand features out in any order, and where polygons overlap,
    the later one of the user's layer must win.
    """

    def __init__(self, path: Path, layer: str, crs: QgsCoordinateReferenceSystem) -> None:
        self.path = path
        reference = None
        if crs.isValid():
            reference = osr.SpatialReference(crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT_PREFERRED_GDAL))
            reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        self.dataset = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
        self.layer = self.dataset.CreateLayer(layer, reference, ogr.wkbUnknown)
        self.layer.CreateField(ogr.FieldDefn(VALUE_FIELD, ogr.OFTInteger))
        self.definition = self.layer.GetLayerDefn()
        self.count = 0

    def __enter__(self) -> GeoPackage:
        """Begin to write."""
        self.layer.StartTransaction()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Write what is left and close the file."""
        self.layer.CommitTransaction()
        self.layer = self.dataset = None

    def add(self, number: int, geometry: QgsGeometry, value: int) -> None:
        """Write one feature.

        Raises:
            ResourceError: The disk is full, or GDAL refuses.
        """
        feature = ogr.Feature(self.definition)
        feature.SetFID(number + 1 if number >= 0 else UNSAVED - number)
        feature.SetField(0, value)
        try:
            feature.SetGeometryDirectly(ogr.CreateGeometryFromWkb(geometry.asWkb().data()))
            self.layer.CreateFeature(feature)
            self.count += 1
            if self.count % FEATURES_PER_TRANSACTION == 0:
                self.layer.CommitTransaction()
                self.layer.StartTransaction()
        except RuntimeError as error:
            raise ResourceError(
                f"The polygons cannot be written to {self.path} ({error}).", "Check the space on its disk."
            ) from error
