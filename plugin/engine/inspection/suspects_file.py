"""Write the suspicious chips to a layer that shows the problems of each chip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from osgeo import ogr

from ..drafts import claim, publish
from ..errors import ResourceError
from ..files import why_not_written
from ..vector_files import TEXT, Field, create_vector_file
from .inspected import Inspection
from .suspects import REASONS

LAYER = "suspects"
FIELDS = ("image", "label", "split", "reason", "meaning", "detail", "other")


def write_suspects(path: str, inspection: Inspection) -> None:
    """Write a row for each chip and reason, with the chip's footprint if it is known.

    Raises:
        ResourceError: The file cannot be written.
    """
    try:
        with claim(path) as draft:
            _write(draft.fresh(), inspection)
            publish(draft)
    except (OSError, RuntimeError) as error:
        raise ResourceError(
            f"The list {path} could not be written ({why_not_written(path, error)}).",
            "Free some space, or choose another folder.",
        ) from error


def _write(path: Path, inspection: Inspection) -> None:
    dataset, table = inspection.dataset, inspection.table
    file = create_vector_file(path, LAYER, [Field(name, TEXT) for name in FIELDS], dataset.info.crs or "")
    for suspicion in inspection.suspects:
        chip = suspicion.chip
        other = "" if suspicion.other < 0 else str(dataset.images[suspicion.other])
        texts = (dataset.images[chip], dataset.labels[chip], dataset.splits[chip], suspicion.reason,
                 REASONS[suspicion.reason].title, suspicion.detail, other)  # fmt: skip
        footprint = None
        corners = table.corners[chip]
        if not np.isnan(corners).any():
            ring = ",".join(f"{x!r} {y!r}" for x, y in [*corners.tolist(), corners[0].tolist()])
            footprint = ogr.CreateGeometryFromWkt(f"POLYGON(({ring}))")
        file.add([str(text) for text in texts], footprint)
    file.commit()
    file.close()
