"""Checks the file names of outputs of mapping jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from ..files import check_kept, check_names
from ..rasters.raster_io import RasterReader

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


def check_not_input(
    outputs: Mapping[str, str | None], raster: RasterReader, models: Sequence[str], more: Sequence[str] = ()
) -> None:
    """Refuse to overwrite the raster, a file that it consists of, more rasters of a mosaic, or a model."""
    # A virtual raster may not list the raster below, or list a text that is not a file.
    files = [*more, raster.info.path, *raster.files()]
    check_kept(outputs, {"the raster to be mapped": files, "the model file": models})
