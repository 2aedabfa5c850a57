"""Writes the list of suspicious chips as a layer: open it over the image, and each chip says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from osgeo import gdal, ogr

from ..drafts import claim, publish
from ..errors import ResourceError
from ..raster_io import spatial_reference
from .suspects import REASONS

if TYPE_CHECKING:
    from .inspection import Inspection

# Kinds of files that are one file.
DRIVERS = {".gpkg": "GPKG", ".csv": "CSV", ".geojson": "GeoJSON"}
LAYER = "suspects"
FIELDS = ("image", "label", "split", "reason", "meaning", "detail", "other")


def write_suspects(path: str, inspection: Inspection) -> None:
    """Write a row for each chip and reason, with the chip's footprint where it is known.

    Raises:
        ResourceError: The file cannot be written.
    """
    try:
        with claim(path) as draft:
            _write(draft.fresh(), inspection, DRIVERS[Path(path).suffix.lower()])
            publish(draft)
    except (OSError, RuntimeError) as error:
        raise ResourceError(
            f"The list {path} could not be written ({error}).", "Free some space, or choose another folder."
        ) from error


def _write(path: Path, inspection: Inspection, driver: str) -> None:
    dataset, table = inspection.dataset, inspection.table
    target = gdal.GetDriverByName(driver).Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
    options = ["GEOMETRY=AS_WKT"] if driver == "CSV" else []
    layer = target.CreateLayer(LAYER, spatial_reference(dataset.info.crs), ogr.wkbPolygon, options)
    for name in FIELDS:
        layer.CreateField(ogr.FieldDefn(name, ogr.OFTString))
    target.StartTransaction() if driver == "GPKG" else None
    for suspicion in inspection.suspects:
        chip = suspicion.chip
        other = "" if suspicion.other < 0 else str(dataset.images[suspicion.other])
        feature = ogr.Feature(layer.GetLayerDefn())
        texts = (dataset.images[chip], dataset.labels[chip], dataset.splits[chip], suspicion.reason,
                 REASONS[suspicion.reason].title, suspicion.detail, other)  # fmt: skip
        for name, text in zip(FIELDS, texts):
            feature.SetField(name, str(text))
        corners = table.corners[chip]
        if not np.isnan(corners).any():
            ring = ",".join(f"{x!r} {y!r}" for x, y in [*corners.tolist(), corners[0].tolist()])
            feature.SetGeometryDirectly(ogr.CreateGeometryFromWkt(f"POLYGON(({ring}))"))
        layer.CreateFeature(feature)
    target.CommitTransaction() if driver == "GPKG" else None
    target.FlushCache()
