"""What the engine needs of a person's layers, as plain paths, numbers and texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsMapLayer,
    QgsPalettedRasterRenderer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsRasterLayer,
    QgsRectangle,
)

from ..plugin.engine.errors import InputError

# What QGIS appends to a GDAL source when the user set options for opening it.
OPEN_OPTIONS = re.compile(r"\|(option|credential):.*$")


def raster_layer(
    algorithm: QgsProcessingAlgorithm, parameters: dict, name: str, context: QgsProcessingContext
) -> QgsRasterLayer:
    """The raster layer that a parameter holds.

    Raises:
        InputError: There is none, or GDAL has no part in it.
    """
    layer = algorithm.parameterAsRasterLayer(parameters, name, context)
    if layer is None or not layer.isValid():
        raise InputError(f"{name} ({_shown(parameters.get(name))}) is no raster that QGIS can open.", "Check the path.")
    gdal_path(layer)
    return layer


def raster_layers(
    algorithm: QgsProcessingAlgorithm, parameters: dict, name: str, context: QgsProcessingContext
) -> list[QgsRasterLayer]:
    """The raster layers that a parameter holds, in its order.

    Raises:
        InputError: One cannot be opened; QGIS itself leaves such out without a word.
    """
    given = parameters.get(name)
    if given in (None, "", []):
        return []
    found = []
    for place, entry in enumerate(given if isinstance(given, (list, tuple)) else [given]):
        layers = algorithm.parameterAsLayerList({name: [entry]}, name, context)
        rasters = [layer for layer in layers if isinstance(layer, QgsRasterLayer) and layer.isValid()]
        if not rasters or len(rasters) < len(layers):
            raise InputError(
                f"Entry {place + 1} of {name} ({_shown(entry)}) is no raster that QGIS can open.",
                "Check the path, and that the layer is not broken.",
            )
        found.extend(rasters)
    for layer in found:
        gdal_path(layer)
    return found


def _shown(entry: Any) -> str:
    return entry.name() if isinstance(entry, QgsMapLayer) else str(entry)


def gdal_path(layer: QgsRasterLayer) -> str:
    """What GDAL opens to read the layer: a file, a subdataset, a /vsi path.

    Raises:
        InputError: The layer does not come from GDAL.
    """
    if layer.providerType() != "gdal":
        raise InputError(
            f'The raster layer "{layer.name()}" comes from the provider {layer.providerType()}, not from a file.',
            'Save it as a GeoTIFF ("Export", "Save As…") and use that.',
        )
    source = OPEN_OPTIONS.sub("", layer.source())
    path = Path(source)
    # The worker runs in another folder; names such as NETCDF:"file":variable are no paths.
    return str(path.absolute()) if path.exists() else source


def union_extent(layers: list[QgsRasterLayer]) -> QgsRectangle:
    """The rectangle around all rasters, in their common CRS."""
    extent = QgsRectangle(layers[0].extent())
    for layer in layers[1:]:
        extent.combineExtentWith(layer.extent())
    return extent


def chosen_extent(
    algorithm: QgsProcessingAlgorithm,
    parameters: dict,
    name: str,
    context: QgsProcessingContext,
    raster: QgsRasterLayer,
) -> Optional[QgsRectangle]:
    """The extent that a parameter holds, in the CRS of `raster`; None where it is not given."""
    if parameters.get(name) in (None, ""):
        return None
    rectangle = algorithm.parameterAsExtent(parameters, name, context, raster.crs())
    if rectangle.isEmpty():
        raise InputError(f"{name} ({parameters[name]}) is empty.", "Give xmin,xmax,ymin,ymax, or leave it out.")
    return rectangle


def bounds(rectangle: QgsRectangle) -> tuple[float, float, float, float]:
    """(left, bottom, right, top)."""
    return rectangle.xMinimum(), rectangle.yMinimum(), rectangle.xMaximum(), rectangle.yMaximum()


def place_text(rectangle: QgsRectangle, crs: QgsCoordinateReferenceSystem) -> str:
    """Where something lies, in words: "x 1 to 2, y 3 to 4 in EPSG:4326 (WGS 84)"."""
    left, bottom, right, top = (f"{value:.7g}" for value in bounds(rectangle))
    return f"x {left} to {right}, y {bottom} to {top} in {crs_text(crs)}"


def crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """A CRS in a few words: "EPSG:4326 (WGS 84)"."""
    if not crs.isValid():
        return "an unknown CRS"
    name = crs.description() or "without a name"
    return f"{crs.authid()} ({name})" if crs.authid() else name


def chosen_renderer(layer: Optional[QgsMapLayer], context: QgsProcessingContext) -> Any:
    """How somebody chose to draw a layer: in the project, or in the style beside its file; None if nobody did.

    Processing opens a path without its style, so that a headless run would know no names and colours.
    """
    project = context.project()
    if layer is None or (project is not None and project.mapLayer(layer.id()) is not None):
        return layer and layer.renderer()
    if layer.providerType() != "memory":  # whose clone would copy its features
        styled = layer.clone()
        _, found = styled.loadDefaultStyle()
        if found:
            return styled.renderer().clone()
    # QGIS draws lots for the colour of any other renderer.
    chosen = isinstance(layer.renderer(), (QgsCategorizedSymbolRenderer, QgsPalettedRasterRenderer))
    return layer.renderer() if chosen else None


def raster_classes(layers: list[QgsRasterLayer], context: QgsProcessingContext) -> list[list[Any]]:
    """[value, name, colour] of the classes that the renderers of label rasters show; a number is no name."""
    rows: dict[int, list[Any]] = {}
    for layer in layers:
        renderer = chosen_renderer(layer, context)
        if not isinstance(renderer, QgsPalettedRasterRenderer):
            continue
        for entry in renderer.classes():
            if float(entry.value).is_integer():
                name = "" if _is_number(entry.label) else entry.label
                rows.setdefault(int(entry.value), [int(entry.value), name, entry.color.name()])
    return [rows[value] for value in sorted(rows)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text
    return True
