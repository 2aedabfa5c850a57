"""The GeoPackage in which features go to the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFeatureSink,
    QgsField,
    QgsFields,
    QgsVectorFileWriter,
    QgsWkbTypes,
)

from ..plugin.engine.errors import InputError, ResourceError
from . import field_types

# Handing over single features takes Python longer than storing them; many may be large.
FEATURES_AT_ONCE = 25
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
        crs: The layer's CRS.
        fractional: The values are any numbers, not whole ones of 32 bits.
        ranked: The features have a field "priority".
    """

    def __init__(
        self, path: Path, layer: str, crs: QgsCoordinateReferenceSystem, fractional: bool = False, ranked: bool = False
    ) -> None:
        self.path, self.ranked = path, ranked
        self.fields = QgsFields()
        self.fields.append(QgsField("fid", field_types.LONG))  # of which QGIS makes the id
        self.fields.append(QgsField("value", field_types.NUMBER if fractional else field_types.INTEGER))
        if ranked:
            self.fields.append(QgsField("priority", field_types.NUMBER))
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName, options.layerName = "GPKG", layer
        self.writer = QgsVectorFileWriter.create(
            str(path), self.fields, QgsWkbTypes.Type.Unknown, crs, QgsCoordinateTransformContext(), options
        )
        self.waiting: list[QgsFeature] = []
        self.count = 0
        self._check(self.writer.hasError() == QgsVectorFileWriter.WriterError.NoError)

    def __enter__(self) -> GeoPackage:
        """Begin to write."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Write what is left, index it and close the file."""
        if error is None:
            self._write()
        self.waiting = []
        self.writer = None

    def add(self, feature: QgsFeature, value: float, priority: Optional[float] = None) -> None:
        """Write a feature of the user's layer; in a file with priorities, None is the lowest.

        Raises:
            InputError: The feature's id is too large to keep.
            ResourceError: The disk is full, or GDAL refuses.
        """
        number = feature.id()
        if number >= UNSAVED:
            raise InputError(
                f"A feature has the id {number}, and ids of {UNSAVED} and more cannot keep their order.",
                "Save the layer to a new file without its ids.",
            )
        place = number if number >= 0 else UNSAVED - number
        # The same feature again, with other attributes: to make a new one takes as long as all else here.
        feature.setAttributes([place, value, priority] if self.ranked else [place, value])
        self.waiting.append(feature)
        self.count += 1
        if len(self.waiting) == FEATURES_AT_ONCE:
            self._write()

    def _write(self) -> None:
        self._check(self.writer.addFeatures(self.waiting, QgsFeatureSink.Flag.FastInsert))
        self.waiting = []

    def _check(self, fine: bool) -> None:
        if not fine:
            raise ResourceError(
                f"The features cannot be written to {self.path} ({self.writer.errorMessage()}).",
                "Check the space on its disk.",
            )
