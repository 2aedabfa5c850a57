"""The files that layers are read from and outputs are written to, as far as they are files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

from osgeo import gdal
from qgis.core import (
    QgsDataSourceUri,
    QgsMapLayer,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
    QgsProject,
    QgsProperty,
    QgsProviderRegistry,
)

from ..plugin.engine.errors import InputError
from ..plugin.engine.files import is_same, lies_in
from ..plugin.engine.records import Record

REPLACES_OPEN_FILES = os.name != "nt"
# The prefix of a database address; a single letter is a Windows drive.
PROVIDER = re.compile(r"^\w{2,}:")


class Place(Record):
    """Location of a layer.

    Attributes:
        path: File; None if there is none, as in memory or in a database.
        layer: Name of the layer in the file; "" for the whole file.
        temporary: Whether QGIS will choose a name.
    """

    path: Optional[Path] = None
    layer: str = ""
    temporary: bool = False

    def overwrites(self, other: Place) -> bool:
        """Return whether writing here replaces the other: the same layer, or a file in a folder that is replaced."""
        if self.path is None or other.path is None or not other.path.exists():
            return False
        same = is_same(self.path, other.path) and self.layer.lower() in ("", other.layer.lower())
        return same or lies_in(other.path, self.path)


def place_wished(given: Any, context: QgsProcessingContext) -> Place:
    """Return the location of an output, from the value of its parameter."""
    if isinstance(given, QgsProcessingOutputLayerDefinition):
        given = given.sink
    text = _text(given, context)
    if text.startswith("ogr:"):
        uri = QgsDataSourceUri(text[len("ogr:") :])
        return Place(_absolute(uri.database()), uri.table())
    if text == QgsProcessing.TEMPORARY_OUTPUT:
        return Place(temporary=True)
    if not text or PROVIDER.match(text):
        return Place()
    return Place(_absolute(text))


def wanted(given: Any, context: QgsProcessingContext) -> bool:
    """Return whether an output is to be written, from the value of its parameter."""
    return bool(_text(given.sink if isinstance(given, QgsProcessingOutputLayerDefinition) else given, context))


def place_read(given: Any, context: QgsProcessingContext) -> Place:
    """Return the location of an input layer, from the value of its parameter."""
    if isinstance(given, QgsProcessingFeatureSourceDefinition):
        given = given.source
    layer = given
    if not isinstance(given, QgsMapLayer):
        text = _text(given, context)
        layer = QgsProcessingUtils.mapLayerFromString(text, context) if text else None
    place = Place() if layer is None else layer_place(layer)
    if place.path is None or not place.path.is_file():
        return Place()
    return Place(place.path, place.layer or _only_layer(str(place.path)))


def file_given(given: Any, context: QgsProcessingContext) -> Optional[Path]:
    """Return the file or folder of a parameter, the first of several, as far as it is known without opening it."""
    if isinstance(given, (list, tuple)):
        given = given[0] if given else None
    layer = given
    if not isinstance(given, QgsMapLayer):
        text = _text(given, context)
        if text and Path(text).is_absolute() and Path(text).exists():
            return Path(text)
        layer = QgsProcessingUtils.mapLayerFromString(text, context, False) if text else None
    path = None if layer is None else layer_place(layer).path
    return path if path is not None and path.exists() else None


def layer_place(layer: QgsMapLayer) -> Place:
    """Return the location of a layer; its `layer` is "" if the source names only the file."""
    return place_of(layer.source(), layer.providerType())


def place_of(source: str, provider: str = "ogr") -> Place:
    """Return the location of a layer or result from its source."""
    parts = QgsProviderRegistry.instance().decodeUri(provider, source)
    path = parts.get("path")
    return Place(_absolute(path), parts.get("layerName") or "") if path else Place()


def check_kept(outputs: dict[str, Place], inputs: dict[str, Place]) -> None:
    """Refuse to overwrite input layers.

    Args:
        outputs: Locations of the outputs, by parameter name.
        inputs: Locations of the inputs, by parameter name.

    Raises:
        InputError: An output would replace an input.
    """
    for output, wished in outputs.items():
        for name, there in inputs.items():
            if wished.overwrites(there):
                same = wished.path and there.path and is_same(wished.path, there.path)
                relation = "is" if same else "holds"
                raise InputError(
                    f"{output} {wished.path} {relation} the file that {name} is read from, which would be lost.",
                    "Choose another name for the result.",
                )


def check_closed(outputs: dict[str, Place], project: Optional[QgsProject]) -> None:
    """Refuse to replace a file that is open in the project, on systems that do not allow it.

    Args:
        outputs: Locations of the outputs, by parameter name.
        project: The user's project.

    Raises:
        InputError: A layer of the project is read from a file that would be replaced.
    """
    if REPLACES_OPEN_FILES or project is None:
        return
    for output, wished in outputs.items():
        if wished.path is None or not wished.path.exists():
            continue
        for layer in project.mapLayers().values():
            shown = layer_place(layer).path
            if shown is not None and wished.path in (shown, *shown.parents):
                raise InputError(
                    f'{output} {wished.path} is open in the project as the layer "{layer.name()}", and Windows cannot '
                    "replace open files.",
                    "Remove the layer from the project first, or choose another name for the result.",
                )


def places_read(names: Iterable[str], parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, Place]:
    """Return `place_read` of several parameters, by name."""
    return {name: place_read(parameters.get(name), context) for name in names}


def _text(given: Any, context: QgsProcessingContext) -> str:
    if isinstance(given, QgsProperty):
        return given.valueAsString(context.expressionContext(), "")[0]
    return given if isinstance(given, str) else ""


def _absolute(path: str) -> Optional[Path]:
    return Path(path).expanduser().absolute() if path else None


def _only_layer(path: str) -> str:
    """Return the name of the first layer of a file, which QGIS opens if none is named."""
    try:
        source = gdal.OpenEx(path, gdal.OF_VECTOR)
        return source.GetLayer(0).GetName() if source is not None and source.GetLayerCount() else ""
    except RuntimeError:
        return ""
