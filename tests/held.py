"""What the files of a job hold, to compare jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osgeo import gdal, ogr


def contents(folder: Path) -> dict[str, Any]:
    """What results hold, and all names."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        found[path.name] = None
        if path.suffix == ".tif":
            raster = gdal.Open(str(path))
            band = raster.GetRasterBand(1)
            found[path.name] = (raster.ReadAsArray().tobytes(), band.GetStatistics(False, False))
        elif path.suffix == ".gpkg":
            layer = ogr.Open(str(path))
            found[path.name] = [feature.ExportToJson() for feature in layer.GetLayer(0)]
        elif path.suffix == ".csv":
            found[path.name] = path.read_text()
    return found
