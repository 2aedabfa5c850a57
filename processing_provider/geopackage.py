"""The GeoPackage that passes features to the engine."""

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

# Adding features one by one costs Python more than storing them; more at once would need much memory if they are large.
FEATURES_AT_ONCE = 25
# Features that were never saved have negative ids; they are stored last, in the order in which they were created. The
# engine keeps ids in doubles, which are exact below 2**53.
UNSAVED = 2**52


class GeoPackage:
    """A new GeoPackage with one layer of features and the field "value"; used in a `with` statement.

    Features keep their ids: spatial indexes return features in any order, but where features overlap, the later one
    of the user's layer must win; and chips record the feature that they were cut for.

    Args:
        path: File to write.
        layer: Name of its layer.
        crs: CRS of the layer.
        fractional: Whether values may be any numbers, not only 32-bit whole numbers.
        ranked: Whether the features have a field "priority".
    """

    def __init__(
        self, path: Path, layer: str, crs: QgsCoordinateReferenceSystem, fractional: bool = False, ranked: bool = False
    ) -> None:
        self.path, self.ranked = path, ranked
        self.fields = QgsFields()
        self.fields.append(QgsField("fid", field_types.LONG))  # QGIS uses it as the id
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
        """Return the open file."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Write the remaining features, create the spatial index and close the file."""
        if error is None:
            self._write()
        self.waiting = []
        self.writer = None

    def add(self, feature: QgsFeature, value: float, priority: Optional[float] = None) -> None:
        """Write a feature of the user's layer.

        Args:
            feature: The feature; its attributes are replaced.
            value: Its value.
            priority: Its priority, in a file with priorities; None is the lowest.

        Raises:
            InputError: The id of the feature is too large.
            ResourceError: The disk is full, or GDAL fails.
        """
        number = feature.id()
        if number >= UNSAVED:
            raise InputError(
                f"A feature has the id {number}, but ids must be smaller than {UNSAVED} to keep their order.",
                "Save the layer to a new file without its ids.",
            )
        place = number if number >= 0 else UNSAVED - number
        # The feature is reused, because creating a new one takes as long as everything else here.
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
                f"The features could not be written to {self.path} ({self.writer.errorMessage()}).",
                "Check the free space on this disk.",
            )
