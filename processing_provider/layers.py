"""Turns layers of the user into the plain paths, numbers and texts that the engine needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional, Union

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsProperty,
    QgsProviderRegistry,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)

from ..plugin.engine.config import WebLayer
from ..plugin.engine.errors import InputError
from ..plugin.engine.records import Record
from .coordinates import WKT2, crs_text, ground_crs, same_ground
from .parameters import Parameters
from .web_layers import OPEN_OPTIONS, SAVE_IT, described_at, describes_tiles, is_web, web_layer

# Appended by QGIS to the source of any layer.
LAYER_OPTIONS = re.compile(r"\|\w+[=:].*$", re.DOTALL)

# What a job reads: a path for GDAL, or a web layer, whose tiles must be fetched.
Source = Union[str, WebLayer]


def raster_layer(
    algorithm: QgsProcessingAlgorithm, parameters: Parameters, name: str, context: QgsProcessingContext
) -> QgsRasterLayer:
    """Return the raster layer of a parameter.

    Raises:
        InputError: There is none, or its pixels cannot be read.
    """
    check_stays_here(parameters.get(name), context)
    layer = algorithm.parameterAsRasterLayer(parameters, name, context)
    if layer is None or not layer.isValid():
        raise InputError(
            f"{name} ({_shown(parameters.get(name))}) is not a raster that QGIS can open.", "Check the path."
        )
    source_of(layer)
    return layer


def vector_layer(
    algorithm: QgsProcessingAlgorithm, parameters: Parameters, name: str, context: QgsProcessingContext
) -> Optional[QgsVectorLayer]:
    """Return the vector layer of a parameter, even if only its selected features are used; None if there is none."""
    given = parameters.get(name)
    if isinstance(given, QgsProcessingFeatureSourceDefinition):  # older QGIS does not resolve it to a layer
        given = given.source
    check_stays_here(given, context)
    return algorithm.parameterAsVectorLayer({**parameters, name: given}, name, context)


def raster_layers(
    algorithm: QgsProcessingAlgorithm, parameters: Parameters, name: str, context: QgsProcessingContext
) -> list[QgsRasterLayer]:
    """Return the raster layers of a parameter in order.

    Raises:
        InputError: One cannot be opened; QGIS itself would silently skip it.
    """
    given = parameters.get(name)
    if given in (None, "", []):
        return []
    found = []
    for place, entry in enumerate(given if isinstance(given, (list, tuple)) else [given]):
        check_stays_here(entry, context)
        layers = algorithm.parameterAsLayerList({name: [entry]}, name, context)
        rasters = [layer for layer in layers if isinstance(layer, QgsRasterLayer) and layer.isValid()]
        if not rasters or len(rasters) < len(layers):
            raise InputError(
                f"Entry {place + 1} of {name} ({_shown(entry)}) is not a raster that QGIS can open.",
                "Check the path, and that the layer is not broken.",
            )
        found.extend(rasters)
    for layer in found:
        source_of(layer)
    return found


def check_stays_here(given: Any, context: QgsProcessingContext) -> None:
    """Check what the user gives for a layer before QGIS opens it: no file may lead to a server.

    Raises:
        InputError: It does, and describes no web layer.
    """
    from ..plugin.engine.strangers.elsewhere import check_here

    if isinstance(given, QgsProcessingFeatureSourceDefinition):
        given = given.source
    if isinstance(given, QgsProperty):
        given = given.staticValue()
    if isinstance(given, str) and context.project() is not None:
        known = context.project().mapLayer(given)
        given = known or next(iter(context.project().mapLayersByName(given)), given)
    if isinstance(given, QgsMapLayer):
        given = given.source() if given.providerType() in ("gdal", "ogr") else None
    if not isinstance(given, str) or not given:
        return
    source = given if given.lstrip().startswith("<") else LAYER_OPTIONS.sub("", given)
    if describes_tiles(source):
        described_at(Path(source), Path(source).name)
    else:
        check_here(source)


def _shown(entry: Any) -> str:
    return entry.name() if isinstance(entry, QgsMapLayer) else str(entry)


def source_of(layer: QgsRasterLayer) -> Source:
    """Return what is read of a layer: the path for GDAL, or a web layer, whose tiles must be fetched.

    Raises:
        InputError: It is neither.
    """
    if not is_web(layer):
        return gdal_path(layer)
    return web_layer(layer)


def gdal_path(layer: QgsRasterLayer) -> str:
    """Return what GDAL opens to read the layer: a file, a subdataset or a /vsi path.

    Raises:
        InputError: The layer is not read by GDAL.
    """
    if layer.providerType() != "gdal":
        raise InputError(
            f'The raster layer "{layer.name()}" comes from the provider {layer.providerType()}, not from a file.',
            SAVE_IT,
        )
    source = layer.source()
    if "authcfg=" in source:
        source = layer.dataProvider().dataSourceUri(True)  # with user and password in the address
    source = OPEN_OPTIONS.sub("", source)
    if "authcfg=" in source:
        raise InputError(
            f'The login of the raster layer "{layer.name()}" cannot be passed to the program that reads it.',
            "Use a login with user and password, enter the master password, or save the raster on this computer.",
        )
    path = Path(source)
    # The worker runs in another folder; names such as NETCDF:"file":variable are not paths.
    return str(path.absolute()) if path.exists() else source


def hidden_in_qgis(layer: QgsRasterLayer) -> str:
    """Describe how the layer's nodata in QGIS differs from its file; "" if it does not."""
    provider = layer.dataProvider()
    bands = range(1, provider.bandCount() + 1)
    if any(provider.userNoDataValues(band) for band in bands):
        what = "has additional nodata values in QGIS"
    elif any(provider.sourceHasNoDataValue(band) and not provider.useSourceNoDataValue(band) for band in bands):
        what = "ignores its nodata value in QGIS"
    else:
        return ""
    return (
        f'The raster layer "{layer.name()}" {what}, which has no effect here. The nodata value of its file is used, '
        "or the parameter NODATA if there is one."
    )


def layer_crs(layer: QgsRasterLayer) -> QgsCoordinateReferenceSystem:
    """Return the horizontal CRS of a layer: the one set in QGIS, otherwise that of its file."""
    return ground_crs(layer.crs() if layer.crs().isValid() else layer.dataProvider().crs())


def given_crs(layer: QgsRasterLayer) -> str:
    """Return the CRS set in QGIS, as WKT, if it differs from that of the layer's file; otherwise ""."""
    if not layer.crs().isValid() or layer.crs() == layer.dataProvider().crs():
        return ""
    return layer.crs().toWkt(WKT2)


class Images(Record):
    """The rasters of an export.

    Attributes:
        paths: What is read of each.
        given: CRS of each as the user set it in QGIS, as WKT; "" for the file's own.
        crs: CRS of the first.
        extent: Extent of all, in that CRS; web layers, which may cover the world, count only if there is nothing else.
        pixel_size: Pixel size of the first, in units of that CRS; None for a web layer.
    """

    paths: list[Source]
    given: list[str]
    crs: QgsCoordinateReferenceSystem
    extent: QgsRectangle
    pixel_size: Optional[float] = None

    @classmethod
    def of_layers(cls, layers: list[QgsRasterLayer], context: QgsProcessingContext) -> Images:
        """Create from raster layers of QGIS."""
        paths, given, first = [source_of(layer) for layer in layers], list(map(given_crs, layers)), layers[0]
        files = [layer for layer in layers if not is_web(layer)] or layers
        grounds = [(layer_crs(layer), layer.extent()) for layer in files]
        extent = _around(list(map(_shown, files)), layer_crs(first), grounds, context)
        size = None if is_web(first) else first.rasterUnitsPerPixelX()
        return cls(paths, given, layer_crs(first), extent, size)

    @classmethod
    def of_files(cls, paths: list[str], context: QgsProcessingContext) -> Images:
        """Create from files, without a layer for each, because a folder may hold thousands.

        Raises:
            InputError: One cannot be opened.
        """
        grounds = []
        for path in paths:
            check_stays_here(path, context)
            provider = QgsProviderRegistry.instance().createProvider("gdal", path)
            if provider is None or not provider.isValid():
                raise InputError(
                    f"The raster {path} cannot be opened.", "Check that the file is complete, or remove it."
                )
            grounds.append((ground_crs(provider.crs()), provider.extent()))
        extent = _around(paths, grounds[0][0], grounds, context)
        return cls(list(paths), [""] * len(paths), grounds[0][0], extent)


def _around(
    names: list[str],
    crs: QgsCoordinateReferenceSystem,
    grounds: list[tuple[QgsCoordinateReferenceSystem, QgsRectangle]],
    context: QgsProcessingContext,
) -> QgsRectangle:
    """Return the extent of all rasters in a CRS."""
    extent = QgsRectangle()
    for name, (own, rectangle) in zip(names, grounds):
        if own.isValid() and crs.isValid() and not same_ground(own, crs):
            try:
                transform = QgsCoordinateTransform(own, crs, context.transformContext())
                rectangle = transform.transformBoundingBox(rectangle)
                reason = "" if rectangle.isFinite() else "it is outside the area of that CRS"
            except QgsCsException as error:
                reason = str(error)
            if reason:
                raise InputError(
                    f"The raster {name} is in {crs_text(own)}, which cannot be transformed to {crs_text(crs)} "
                    f"({reason}).",
                    "Choose rasters of the same part of the world.",
                )
        extent.combineExtentWith(rectangle)
    return extent


def label_partners(images: list[Source], labels: list[str], folder: str) -> list[str]:
    """Return, for each image, the label raster with the same name and any extension.

    Raises:
        InputError: An image has none or several.
    """
    found: dict[str, list[str]] = {}
    for path in labels:
        found.setdefault(Path(path).stem, []).append(path)
    partners = []
    for image in images:
        path = image if isinstance(image, str) else image.title
        named = found.get(Path(path).stem, [])
        if len(named) != 1:
            raise InputError(
                f"LABEL_FOLDER ({folder}) holds {len(named) or 'no'} label raster{'s' if named else ''} named "
                f"{Path(path).stem} for the image {path}.",
                "Give each image one label raster of the same name.",
            )
        partners.append(named[0])
    return partners


def chosen_extent(
    algorithm: QgsProcessingAlgorithm,
    parameters: Parameters,
    name: str,
    context: QgsProcessingContext,
    crs: QgsCoordinateReferenceSystem,
) -> Optional[QgsRectangle]:
    """Return the extent of a parameter in `crs`; None if it is not given.

    Raises:
        InputError: The extent is empty or outside the area of the CRS, or that of a file that leads to a server.
    """
    if parameters.get(name) in (None, ""):
        return None
    check_stays_here(parameters[name], context)  # an extent may be that of a file
    rectangle = algorithm.parameterAsExtent(parameters, name, context, crs)
    if rectangle.isEmpty() or not rectangle.isFinite():
        raise InputError(
            f"{name} ({parameters[name]}) is empty, or outside the area of {crs_text(crs)}.",
            "Give xmin,xmax,ymin,ymax, or leave it empty.",
        )
    return rectangle
