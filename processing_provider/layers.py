"""What the engine needs of a person's layers, as plain paths, numbers and texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsProviderRegistry,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)

from ..plugin.engine.errors import InputError
from ..plugin.engine.records import Record

# What QGIS appends to a GDAL source when the user set options for opening it.
OPEN_OPTIONS = re.compile(r"\|(option|credential):.*$")
WKT2 = QgsCoordinateReferenceSystem.WktVariant.WKT2_2019
MAP_SERVICES = ("wms", "arcgismapserver")


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


def vector_layer(
    algorithm: QgsProcessingAlgorithm, parameters: dict, name: str, context: QgsProcessingContext
) -> Optional[QgsVectorLayer]:
    """The vector layer that a parameter holds, also where only its selected features count; None if there is none."""
    given = parameters.get(name)
    if isinstance(given, QgsProcessingFeatureSourceDefinition):  # of which older QGIS makes no layer
        given = given.source
    return algorithm.parameterAsVectorLayer({**parameters, name: given}, name, context)


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
    if layer.providerType() in MAP_SERVICES:
        raise InputError(
            f'The raster layer "{layer.name()}" is a map service: its pixels change with the zoom level.',
            'Save it as a GeoTIFF at the pixel size that you want ("Export", "Save As…") and use that.',
        )
    if layer.providerType() != "gdal":
        raise InputError(
            f'The raster layer "{layer.name()}" comes from the provider {layer.providerType()}, not from a file.',
            'Save it as a GeoTIFF ("Export", "Save As…") and use that.',
        )
    source = OPEN_OPTIONS.sub("", layer.source())
    path = Path(source)
    # The worker runs in another folder; names such as NETCDF:"file":variable are no paths.
    return str(path.absolute()) if path.exists() else source


def hidden_in_qgis(layer: QgsRasterLayer) -> str:
    """What QGIS alone takes for missing, or no longer does, in words; "" where it keeps to the file."""
    provider = layer.dataProvider()
    bands = range(1, provider.bandCount() + 1)
    if any(provider.userNoDataValues(band) for band in bands):
        what = "has additional no-data values in QGIS"
    elif any(provider.sourceHasNoDataValue(band) and not provider.useSourceNoDataValue(band) for band in bands):
        what = "shows its no-data value in QGIS"
    else:
        return ""
    return (
        f'The raster layer "{layer.name()}" {what}, which does not count here: the no-data value of its file does, or '
        "that of the parameter NODATA where there is one."
    )


def layer_crs(layer: QgsRasterLayer) -> QgsCoordinateReferenceSystem:
    """Where a layer lies on the ground: the CRS that it has in QGIS, or that of its file where it has none there."""
    return ground_crs(layer.crs() if layer.crs().isValid() else layer.dataProvider().crs())


def given_crs(layer: QgsRasterLayer) -> str:
    """The CRS that a layer has in QGIS, as WKT, where it is another than its file's; "" where the file's holds."""
    if not layer.crs().isValid() or layer.crs() == layer.dataProvider().crs():
        return ""
    return layer.crs().toWkt(WKT2)


def ground_crs(crs: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    """A CRS without its heights, which say nothing of where things lie and need grids that few have."""
    if not crs.isValid():
        return crs
    from ..plugin.engine.rasters.raster_io import ground_crs

    wkt = crs.toWkt(WKT2)
    ground = QgsCoordinateReferenceSystem.fromWkt(ground_crs(wkt))
    return ground if ground.isValid() and ground != crs else crs


def same_ground(one: QgsCoordinateReferenceSystem, other: QgsCoordinateReferenceSystem) -> bool:
    """Whether two CRSs place things alike; an unknown one is like no other."""
    if one == other or not (one.isValid() and other.isValid()):
        return one == other
    from ..plugin.engine.rasters.raster_io import same_crs

    return same_crs(one.toWkt(WKT2), other.toWkt(WKT2))


class Images(Record):
    """The rasters of an export.

    Attributes:
        paths: What GDAL opens.
        given: Of each, the CRS that the user gave it, as WKT; "" where its own holds.
        crs: The CRS of the first.
        extent: The rectangle around all, in that CRS.
    """

    paths: list[str]
    given: list[str]
    crs: QgsCoordinateReferenceSystem
    extent: QgsRectangle

    @classmethod
    def of_layers(cls, layers: list[QgsRasterLayer], context: QgsProcessingContext) -> Images:
        """Raster layers of QGIS."""
        grounds = [(layer_crs(layer), layer.extent()) for layer in layers]
        paths, given = [gdal_path(layer) for layer in layers], [given_crs(layer) for layer in layers]
        return cls(paths, given, grounds[0][0], _around(paths, grounds, context))

    @classmethod
    def of_files(cls, paths: list[str], context: QgsProcessingContext) -> Images:
        """Files; a folder may have thousands, and a layer for each would take long.

        Raises:
            InputError: One cannot be opened.
        """
        grounds = []
        for path in paths:
            provider = QgsProviderRegistry.instance().createProvider("gdal", path)
            if provider is None or not provider.isValid():
                raise InputError(f"The raster {path} cannot be opened.", "Check that it is whole, or take it away.")
            grounds.append((ground_crs(provider.crs()), provider.extent()))
        return cls(paths, [""] * len(paths), grounds[0][0], _around(paths, grounds, context))


def _around(
    paths: list[str], grounds: list[tuple[QgsCoordinateReferenceSystem, QgsRectangle]], context: QgsProcessingContext
) -> QgsRectangle:
    """The rectangle around all, in the CRS of the first."""
    crs, extent = grounds[0][0], QgsRectangle(grounds[0][1])
    for path, (own, rectangle) in zip(paths, grounds):
        if own.isValid() and crs.isValid() and not same_ground(own, crs):
            try:
                transform = QgsCoordinateTransform(own, crs, context.transformContext())
                rectangle = transform.transformBoundingBox(rectangle)
                reason = "" if rectangle.isFinite() else "it reaches beyond that"
            except QgsCsException as error:
                reason = str(error)
            if reason:
                raise InputError(
                    f"The raster {path} lies in {crs_text(own)}, which cannot be brought to {crs_text(crs)} "
                    f"({reason}).",
                    "Choose rasters of the same part of the world.",
                )
        extent.combineExtentWith(rectangle)
    return extent


def label_partners(images: list[str], labels: list[str], folder: str) -> list[str]:
    """For each image the label raster with its name, whatever the ending.

    Raises:
        InputError: An image has none or several.
    """
    found: dict[str, list[str]] = {}
    for path in labels:
        found.setdefault(Path(path).stem, []).append(path)
    partners = []
    for path in images:
        named = found.get(Path(path).stem, [])
        if len(named) != 1:
            raise InputError(
                f"LABEL_FOLDER ({folder}) holds {len(named) or 'no'} label raster{'s' if named else ''} called "
                f"{Path(path).stem} for the image {path}.",
                "Give each image one label raster of the same name.",
            )
        partners.append(named[0])
    return partners


def chosen_extent(
    algorithm: QgsProcessingAlgorithm,
    parameters: dict,
    name: str,
    context: QgsProcessingContext,
    crs: QgsCoordinateReferenceSystem,
) -> Optional[QgsRectangle]:
    """The extent that a parameter holds, in `crs`; None where it is not given."""
    if parameters.get(name) in (None, ""):
        return None
    rectangle = algorithm.parameterAsExtent(parameters, name, context, crs)
    if rectangle.isEmpty() or not rectangle.isFinite():
        raise InputError(
            f"{name} ({parameters[name]}) is empty, or lies beyond what {crs_text(crs)} can say.",
            "Give xmin,xmax,ymin,ymax, or leave it out.",
        )
    return rectangle


def bounds(rectangle: QgsRectangle) -> tuple[float, float, float, float]:
    """(left, bottom, right, top)."""
    return rectangle.xMinimum(), rectangle.yMinimum(), rectangle.xMaximum(), rectangle.yMaximum()


def place_text(rectangle: QgsRectangle, crs: QgsCoordinateReferenceSystem) -> str:
    """Where something lies, in words: "x 1 to 2, y 3 to 4 in EPSG:4326 (WGS 84)"."""
    if rectangle.isNull() or not rectangle.isFinite():  # a null one has the largest numbers that there are
        return f"an unknown place in {crs_text(crs)}"
    left, bottom, right, top = (f"{value:.7g}" for value in bounds(rectangle))
    return f"x {left} to {right}, y {bottom} to {top} in {crs_text(crs)}"


def crs_text(crs: QgsCoordinateReferenceSystem) -> str:
    """A CRS in a few words: "EPSG:4326 (WGS 84)"."""
    if not crs.isValid():
        return "an unknown CRS"
    name = crs.description() or "without a name"
    return f"{crs.authid()} ({name})" if crs.authid() else name
