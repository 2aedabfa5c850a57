"""Reads the raster that an algorithm maps, its CRS, and the part to map."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingAlgorithm, QgsProcessingContext

from .layers import bounds, chosen_extent, gdal_path, given_crs, layer_crs, raster_layer
from .parameters import Parameters


def mapped_raster(
    algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext
) -> dict[str, Any]:
    """Return the settings `input`, `input_crs`, `extent` and `area`, from INPUT, EXTENT and AREA.

    Raises:
        InputError: The raster, the extent or the polygons cannot be used.
    """
    from .features import feature_source

    image = raster_layer(algorithm, parameters, "INPUT", context)
    crs = layer_crs(image)
    extent = chosen_extent(algorithm, parameters, "EXTENT", context, crs)
    near = image.extent() if extent is None else extent
    return {
        "input": gdal_path(image),
        "input_crs": given_crs(image),
        "extent": None if extent is None else bounds(extent),
        "area": feature_source(algorithm, parameters, "AREA", context, crs, near),
    }
