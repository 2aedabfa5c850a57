"""Which files layers are read from, and where outputs will be, as far as these are files."""

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
# What stands in front of the address of a database; one letter is a disk of Windows.
PROVIDER = re.compile(r"^\w{2,}:")


class Place(Record):
    """Where a layer is.

    Attributes:
        path: Its file; None where it has none, as in memory or in a database.
        layer: Its name in that file; "" for the file as a whole.
        temporary: Whether QGIS will choose a name.
    """

    path: Optional[Path] = None
    layer: str = ""
    temporary: bool = False

    def overwrites(self, other: Place) -> bool:
        """Whether to write here is to lose what lies there: the same layer, or a file in a folder that is replaced."""
        if self.path is None or other.path is None or not other.path.exists():
            return False
        same = is_same(self.path, other.path) and self.layer.lower() in ("", other.layer.lower())
        return same or lies_in(other.path, self.path)


def place_wished(given: Any, context: QgsProcessingContext) -> Place:
    """Where an output will be, by what a parameter holds."""
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
    """Whether an output is to be written, by what a parameter holds."""
    return bool(_text(given.sink if isinstance(given, QgsProcessingOutputLayerDefinition) else given, context))


def place_read(given: Any, context: QgsProcessingContext) -> Place:
    """Where an input layer is read from, by what a parameter holds."""
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
    """The file or folder that a parameter holds, the first of several, as far as that is known without opening it."""
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
    """Where a layer of the project is read from; "" for the layer where its file is named alone."""
    return place_of(layer.source(), layer.providerType())


def place_of(source: str, provider: str = "ogr") -> Place:
    """Where a result is, or a layer, by its source."""
    parts = QgsProviderRegistry.instance().decodeUri(provider, source)
    path = parts.get("path")
    return Place(_absolute(path), parts.get("layerName") or "") if path else Place()


def check_kept(outputs: dict[str, Place], inputs: dict[str, Place]) -> None:
    """Refuse to write over the layers that are read.

    Args:
        outputs: By the names of their parameters.
        inputs: The same.

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
                    "Give the result another name.",
                )


def check_closed(outputs: dict[str, Place], project: Optional[QgsProject]) -> None:
    """Refuse to replace a file that is open in the project where the system does not let anybody replace such.

    Args:
        outputs: By the names of their parameters.
        project: The user's project.

    Raises:
        InputError: A layer is read from what would be replaced.
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
                    f'{output} {wished.path} is open in the project as the layer "{layer.name()}", and Windows does '
                    "not let anybody replace an open file.",
                    "Remove that layer from the project first, or give the result another name.",
                )


def places_read(names: Iterable[str], parameters: dict, context: QgsProcessingContext) -> dict[str, Place]:
    """`place_read` of some parameters."""
    return {name: place_read(parameters.get(name), context) for name in names}


def _text(given: Any, context: QgsProcessingContext) -> str:
    if isinstance(given, QgsProperty):
        return given.valueAsString(context.expressionContext(), "")[0]
    return given if isinstance(given, str) else ""


def _absolute(path: str) -> Optional[Path]:
    return Path(path).expanduser().absolute() if path else None


def _only_layer(path: str) -> str:
    """The first layer of a file, which QGIS opens where none is named."""
    try:
        source = gdal.OpenEx(path, gdal.OF_VECTOR)
        return source.GetLayer(0).GetName() if source is not None and source.GetLayerCount() else ""
    except RuntimeError:
        return ""
