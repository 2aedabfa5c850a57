"""Reads the raster that an algorithm maps, its CRS, and the part to map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from qgis.core import QgsProcessingContext, QgsRasterLayer, QgsRectangle

from ..plugin.engine.config import KEEP_TILES, MAX_TILES, WebLayer
from ..plugin.engine.errors import not_none
from ..plugin.translation import tr
from .coordinates import bounds
from .layers import Images, chosen_extent, gdal_path, given_crs, layer_crs, raster_layer, source_of
from .parameters import Number, Parameters, Row, Setting

if TYPE_CHECKING:
    from .features import FeatureSource
    from .web_parts import Part

# Pixels around a part of a web layer that are fetched if the job itself chooses how many it looks at.
AUTOMATIC_HALO = 256


def web_rows() -> list[Row]:
    """Return the rows for what is fetched of layers from the web."""
    return [
        Number("MAX_TILES", tr("Maximum number of web tiles"), tr(
            "For layers from the web (XYZ, WMS, WMTS): how many tiles may be fetched from the server. Raise it only as "
            "far as the provider's terms of use allow."), default=float(MAX_TILES), low=1.0, whole=True, advanced=True),
        Number("KEEP_TILES", tr("Keep web tiles (days)"), tr(
            "For so many days, tiles that were fetched are kept in your cache folder and used again, so that another "
            "job on the same ground does not ask the server. 0: none are kept, and none that were kept are used."),
            default=float(KEEP_TILES), low=0.0, whole=True, advanced=True),
    ]  # fmt: skip


def pixel_rows() -> list[Row]:
    """Return the rows for the pixel size to map at, and for web layers."""
    return [
        Setting("PIXEL_SIZE", tr("Pixel size (map units)"), tr(
            "In map units. An image with other pixels is resampled while it is read, and the result has this pixel "
            "size. Empty: that of the image. 0: that of the model. Of a layer from the web, the zoom level of this "
            "size is fetched, or the next finer one; empty: that of the model."), advanced=True, decimals=10),
        *web_rows(),
    ]  # fmt: skip


def mapped_raster(
    algorithm: Any, parameters: Parameters, context: QgsProcessingContext, header: Any,
    more: Sequence[QgsRasterLayer] = (), around: Optional[QgsRectangle] = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the settings `input`, `input_crs`, `extent`, `area` and `pixel_size`, from the parameters of these names.

    Args:
        algorithm: The algorithm.
        parameters: Its parameters.
        context: The processing context.
        header: Header of the model.
        more: Rasters beside the first one.
        around: Extent of all rasters, in the CRS of the first; None for that of the layers.

    Raises:
        InputError: The raster, the extent or the polygons cannot be used.
    """
    from .features import feature_source
    from .web_parts import place_of

    image = raster_layer(algorithm, parameters, "INPUT", context)
    crs = layer_crs(image)
    extent = chosen_extent(algorithm, parameters, "EXTENT", context, crs)
    near = extent or around or Images.of_layers([image, *more], context).extent
    area = feature_source(algorithm, parameters, "AREA", context, crs, near)
    place = place_of(area, crs, context) if extent is None else extent
    return {
        **raster_settings(algorithm, parameters, context, header, place, area),
        "extent": None if extent is None else bounds(extent),
        "area": area,
    }


def raster_settings(
    algorithm: Any, parameters: Parameters, context: QgsProcessingContext, header: Any, place: Optional[QgsRectangle],
    near: Optional[FeatureSource] = None, reach: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """Return the settings `input`, `input_crs` and `pixel_size`.

    Args:
        algorithm: The algorithm.
        parameters: Its parameters.
        context: The processing context.
        header: Header of the model.
        place: The part of the raster that is needed, in its CRS; None for all of it.
        near: Only pixels near these features are needed; None for all.
        reach: How far beyond them pixels are needed, in units of the CRS; those that the network sees come on top.

    Raises:
        InputError: The raster cannot be used.
    """
    from .web_parts import WebInput, size_of_model

    image = raster_layer(algorithm, parameters, "INPUT", context)
    values, source = algorithm.values(parameters, context), source_of(image)
    settings = {"input": source, "input_crs": given_crs(image), "pixel_size": values["pixel_size"]}
    if isinstance(source, str):
        return settings
    size = values["pixel_size"] or None
    if size is None and place is not None:
        size = size_of_model(source, header, place)
    part, size = _part(source, image, size, values, context, header, place, near, reach)
    return {**settings, "input": WebInput([part], alone=True), "pixel_size": size}


def more_rasters(
    algorithm: Any, parameters: Parameters, context: QgsProcessingContext, header: Any,
    layers: Sequence[QgsRasterLayer], mapped: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return the settings `more_images` and `more_crs` for rasters beside the first one.

    Args:
        algorithm, parameters, context, header: As for `mapped_raster`.
        layers: The rasters.
        mapped: What `mapped_raster` has returned.

    Raises:
        InputError: One of them cannot be used.
    """
    from .web_parts import Part, WebInput, place_of

    found: list[Union[str, Part]] = []
    for layer in layers:
        source = source_of(layer)
        if isinstance(source, str):
            found.append(source)
        else:
            image, values = raster_layer(algorithm, parameters, "INPUT", context), algorithm.values(parameters, context)
            extent, area = mapped["extent"], mapped["area"]
            place = place_of(area, layer_crs(image), context) if extent is None else QgsRectangle(*extent)
            size = mapped["pixel_size"]
            if not size and (size is not None or values["combine"] == "mosaic"):
                size = _size_of_first(image, header, as_trained=size is not None)
            found.append(_part(source, image, size, values, context, header, place, area)[0])
    web = any(isinstance(source, Part) for source in found)
    more = WebInput(found, alone=False, setting="more_images") if web else found
    return {"more_images": more, "more_crs": [given_crs(layer) for layer in layers]}


def _part(
    source: WebLayer, first: QgsRasterLayer, size: Optional[float], values: dict[str, Any],
    context: QgsProcessingContext, header: Any, place: Optional[QgsRectangle], near: Optional[FeatureSource],
    reach: float = 0.0,
) -> tuple[Part, float]:  # fmt: skip
    """Return the part of a web layer to fetch, and the pixel size to map at.

    Args:
        source: The layer.
        first: The job's first raster, in whose CRS the place and sizes are.
        size: The pixel size that is wanted; None if unknown.
        values: Values of the parameters.
        context, header, place, near, reach: As for `raster_settings`.

    Raises:
        InputError: As `part_of`.
    """
    from .web_parts import part_of

    halo = values.get("halo", 0)
    seen = max(AUTOMATIC_HALO if halo is None else halo, header.chip_size)
    margin = seen + reach / (size or 1.0)
    part, size = part_of(source, place, layer_crs(first), size, margin, values, context, near, margin)
    return part, not_none(size)


def _size_of_first(image: QgsRasterLayer, header: Any, as_trained: bool) -> float:
    """Return the pixel size of a raster that is a file, or that of the model in the raster's units."""
    if not as_trained:
        return float(image.rasterUnitsPerPixelX())
    from ..plugin.engine.mapping.reading.checks import size_of_model
    from ..plugin.engine.rasters.images import open_image

    return size_of_model(open_image(gdal_path(image), given_crs(image)).look_at().info, header)
