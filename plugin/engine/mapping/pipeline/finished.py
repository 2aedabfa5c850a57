"""What a finished map says of the job that made it, by which a resumed job of several rasters knows its own maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from osgeo import gdal

from ...strangers.rules import DAMAGES, find_fault, whole, within
from ...strangers.texts import parse_json

# Its name in GDAL's metadata of the file; other domains get lost when GDAL 3.6 writes a COG.
ITEM = "TERRAZZO_JOB"
MOST_PIXELS, MOST_HECTARES, LARGEST = 2**62, 1e12, 3.4e38
FIGURES = ("minimum", "maximum", "mean", "std")


@dataclass(frozen=True)
class Finished:
    """A finished map.

    Attributes:
        facts: What it follows from, by what that is called in a message.
        pixels: Those of each class, or of all numbers; of other rasters nothing is counted.
        nodata: All others.
        hectares: The area of each class; None if it is not known.
        statistics: Of the numbers; None for classes.
    """

    facts: dict[str, Any]
    pixels: list[int]
    nodata: int
    hectares: list[float] | None = None
    statistics: dict[str, float] | None = None

    def write(self, dataset: gdal.Dataset) -> None:
        """Write this into an open raster."""
        dataset.SetMetadataItem(ITEM, json.dumps(vars(self)))


def read_finished(path: str) -> Finished | None:
    """Return what a map says; None if there is no map, or it says nothing of use."""
    try:
        dataset = gdal.OpenEx(path, gdal.OF_RASTER, allowed_drivers=["GTiff"])
        found = Finished(**parse_json(dataset.GetMetadataItem(ITEM).encode()))
        rules = (
            ("a count", [*found.pixels, found.nodata], whole(0, MOST_PIXELS)),
            ("an area", found.hectares or (), within(0, MOST_HECTARES)),
            ("a figure", [] if found.statistics is None else [found.statistics[name] for name in FIGURES],
             within(-LARGEST, LARGEST)),
        )  # fmt: skip
        sound = isinstance(found.facts, dict) and len(found.hectares or found.pixels) == len(found.pixels)
        # Other programs copy what a map says into parts of it, and into those with other pixels.
        whole_map = sound and find_fault(rules) is None
        size = dataset.RasterXSize * dataset.RasterYSize
        return found if whole_map and sum(found.pixels) + found.nodata == size else None
    except (RuntimeError, *DAMAGES):
        return None
