"""What jobs of mapping check of the names they are given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from ..files import check_kept, check_names
from ..rasters.raster_io import RasterReader

RASTER_ENDINGS = {".tif": "GeoTIFF", ".tiff": "GeoTIFF"}
# Layers that QGIS draws in the style beside them.
STYLED = (".shp", ".gpkg", ".geojson", ".csv", ".tif", ".tiff", ".vrt", ".img", ".jp2", ".png", ".jpg")


def check_rasters(outputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that are no GeoTIFFs or share a name, and one whose style would replace that of another layer.

    Args:
        outputs: Parameter → path; None is not wanted. OUTPUT gets a style beside it.

    Raises:
        InputError: Such a name.
    """
    check_names(outputs, RASTER_ENDINGS)
    output = outputs.get("OUTPUT")
    if not output or Path(output).exists():  # which is replaced with its style
        return
    style = Path(output).with_suffix(".qml")
    owner = next((ending for ending in STYLED if style.with_suffix(ending).exists()), None)
    if style.exists() and owner is not None:
        raise InputError(
            f"The style of OUTPUT {output} would replace {style.name}, that of {style.stem}{owner}.",
            "Give the result another name.",
        )


def check_not_input(outputs: Mapping[str, str | None], raster: RasterReader, model: str) -> None:
    """Refuse to write over the raster, a file that it is made of, or the model."""
    # A virtual one may not know the raster below, or give a text for it, which is no file.
    files = [raster.info.path, *(raster.dataset.GetFileList() or [])]
    check_kept(outputs, {"the raster to be mapped": files, "the model file": [model]})
