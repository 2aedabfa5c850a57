"""The files that mapping jobs write, by parameter, and checks of their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...config import ClassifyScenesConfig, SegmentRasterConfig
from ...errors import InputError
from ...files import check_names

RASTER_ENDINGS = {".tif": "GeoTIFF", ".tiff": "GeoTIFF"}
POLYGON_ENDINGS = {".gpkg": "a GeoPackage"}
# Outputs beside which a style is written.
WITH_STYLE = ("OUTPUT", "CONFIDENCE", "ENTROPY", "MARGIN", "DISAGREEMENT")
# Layers that QGIS draws in the style file beside them.
STYLED = (".shp", ".gpkg", ".geojson", ".csv", ".tif", ".tiff", ".vrt", ".img", ".jp2", ".png", ".jpg")


def check_rasters(outputs: Mapping[str, str | None]) -> None:
    """Check that outputs are GeoTIFFs with different names, and that no style of another layer would be replaced.

    Args:
        outputs: Path of each output by parameter; None is not written. Those with a style get it beside them.

    Raises:
        InputError: A name cannot be used.
    """
    check_names(outputs, RASTER_ENDINGS)
    for name in WITH_STYLE:
        output = outputs.get(name)
        if not output or Path(output).exists():  # it is replaced together with its style
            continue
        style = Path(output).with_suffix(".qml")
        owner = next((ending for ending in STYLED if style.with_suffix(ending).exists()), None)
        if style.exists() and owner is not None:
            raise InputError(
                f"The style of {name} {output} would replace {style.name}, the style of {style.stem}{owner}.",
                "Choose another name for the result.",
            )


def segmentation_rasters(config: SegmentRasterConfig) -> dict[str, str | None]:
    """Return the path of each raster by parameter; None is not written."""
    measures = config.measures
    return {
        "OUTPUT": config.output, "PROBABILITIES": config.probabilities, "CONFIDENCE": measures.confidence,
        "ENTROPY": measures.entropy, "MARGIN": measures.margin, "DISAGREEMENT": measures.disagreement,
    }  # fmt: skip


def segmentation_outputs(config: SegmentRasterConfig) -> dict[str, str | None]:
    """Return the path of each file by parameter; None is not written."""
    return {**segmentation_rasters(config), **class_outputs(config)}


def class_outputs(config: SegmentRasterConfig | ClassifyScenesConfig) -> dict[str, str | None]:
    """Return the path of each file that follows from the raster of classes, by parameter; None is not written."""
    return {"POLYGONS": config.regions.polygons, "AREAS": config.areas}
