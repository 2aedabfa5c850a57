"""A feature sink for any format of QGIS; a file appears only when it is complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

from osgeo import gdal, ogr
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeatureSink,
    QgsFields,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingOutputLayerDefinition,
    QgsProperty,
    QgsVectorFileWriter,
    QgsWkbTypes,
)

from ..plugin.engine.drafts import Draft, claim, publish
from ..plugin.engine.errors import ResourceError
from .parameters import Parameters
from .places import place_wished


class WholeSink:
    """A feature sink whose layer appears when it is complete; its `with` block locks the file for this job.

    A file is written in a hidden folder. So is a table for an existing GeoPackage, which is then copied in one
    transaction, because other programs may have that file open. Databases and memory layers are left to QGIS.

    Args:
        algorithm: The algorithm that writes.
        parameters: Its parameters.
        name: Name of the output's parameter.
        context: The processing context.
    """

    def __init__(
        self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, name: str, context: QgsProcessingContext
    ) -> None:
        self.algorithm, self.parameters, self.name, self.context = algorithm, parameters, name, context
        place = place_wished(parameters.get(name), context)
        self.table = place.layer
        self.path = place.path if place.path is None or self.table else _with_ending(place.path)
        self.sink: Optional[QgsFeatureSink] = None
        self._draft: Optional[Draft] = None
        self._address = ""

    def __enter__(self) -> WholeSink:
        """Claim the file.

        Raises:
            EngineError: Another job is writing it, or the place is not writable.
        """
        if self.path is not None:
            self._draft = claim(self.path)
        return self

    def __exit__(self, *failure: object) -> None:
        """Remove what was not published."""
        self.sink = None  # closes the file
        if self._draft is not None:
            self._draft.close()

    def open(self, fields: QgsFields, kind: QgsWkbTypes.Type, crs: QgsCoordinateReferenceSystem) -> QgsFeatureSink:
        """Open the sink, to which features are added.

        Raises:
            QgsProcessingException: QGIS cannot write there.
        """
        parameters = dict(self.parameters)
        if self._draft is not None:
            parameters[self.name] = self._hidden(parameters[self.name], self._draft.fresh())
        self.sink, self._address = self.algorithm.parameterAsSink(
            parameters, self.name, self.context, fields, kind, crs
        )
        if self.sink is None:
            raise QgsProcessingException(self.algorithm.invalidSinkError(self.parameters, self.name))
        return self.sink

    def publish(self) -> str:
        """Close the layer, publish it, and return its source.

        Raises:
            ResourceError: It could not be written completely, or cannot replace an earlier file.
        """
        fine = self.sink is None or self.sink.flushBuffer()
        self.sink = None
        if not fine:
            raise ResourceError(f"The layer {self._address} could not be written completely.", "Free some disk space.")
        if self._draft is None or self.path is None:
            return self._address
        if self.table and self.path.exists():
            _copy_table(self._draft.path, self.path, self.table)
        else:
            publish(self._draft)
        address = self._address.replace(str(self._draft.path), str(self.path))
        given = self.parameters.get(self.name)
        if isinstance(given, QgsProcessingOutputLayerDefinition) and given.destinationProject is not None:
            title = given.destinationName or self.algorithm.parameterDefinition(self.name).description()
            details = QgsProcessingContext.LayerDetails(title, given.destinationProject, self.name)
            self.context.addLayerToLoadOnCompletion(address, details)
        return address

    def _hidden(self, given: Any, path: Path) -> QgsProcessingOutputLayerDefinition:
        """Return the destination with a hidden file instead of its own, and without a project that would load it."""
        text = str(path)
        if self.table:
            wished = given.sink.staticValue() if isinstance(given, QgsProcessingOutputLayerDefinition) else given
            quoted = text.replace("'", "\\'")
            text = re.sub(r"dbname='(?:[^'\\]|\\.)*'|dbname=\S+", lambda _: f"dbname='{quoted}'", str(wished), count=1)
        hidden = QgsProcessingOutputLayerDefinition(text)
        if isinstance(given, QgsProcessingOutputLayerDefinition):
            hidden = QgsProcessingOutputLayerDefinition(given)
            hidden.sink, hidden.destinationProject = QgsProperty.fromValue(text), None
        return hidden


def _with_ending(path: Path) -> Path:
    """Return the file that QGIS writes: without a known extension, QGIS appends .gpkg."""
    known = QgsVectorFileWriter.driverForExtension(path.suffix.lstrip(".")) if path.suffix else ""
    return path if known else path.with_name(f"{path.name}.gpkg")


def _copy_table(source: Path, target: Path, table: str) -> None:
    """Copy the only layer of a GeoPackage into another one in a transaction; a table of the same name is replaced.

    Raises:
        ResourceError: It cannot be written.
    """
    try:
        made, into = gdal.OpenEx(str(source), gdal.OF_VECTOR), gdal.OpenEx(str(target), gdal.OF_VECTOR | gdal.OF_UPDATE)
        layer = made.GetLayer(0)
        into.StartTransaction()  # GDAL's own CopyLayer would start a transaction inside this one
        for place in reversed(range(into.GetLayerCount())):
            if into.GetLayer(place).GetName().lower() == table.lower():
                into.DeleteLayer(place)
        options = [f"GEOMETRY_NAME={layer.GetGeometryColumn()}"] if layer.GetGeometryColumn() else []
        copy = into.CreateLayer(table, layer.GetSpatialRef(), layer.GetGeomType(), options)
        definition = layer.GetLayerDefn()
        for place in range(definition.GetFieldCount()):
            copy.CreateField(definition.GetFieldDefn(place))
        for feature in layer:
            copied = ogr.Feature(copy.GetLayerDefn())
            copied.SetFrom(feature)
            copied.SetFID(feature.GetFID())
            copy.CreateFeature(copied)
        into.CommitTransaction()
    except (RuntimeError, AttributeError) as error:
        raise ResourceError(
            f"The table {table} could not be written to {target} ({error}).",
            "Close the file in other programs, or free some disk space.",
        ) from error
