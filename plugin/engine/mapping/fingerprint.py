"""What the answers of a map follow from, by which an interrupted job is recognised."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ..chips.fingerprint import features_hash, raster_state
from ..config import SegmentRasterConfig
from ..strangers.paths import open_plain
from .opening import Opened
from .result_settings import ClassSettings, MeasureSettings, PolygonSettings, RasterSettings

# Settings that the answers do not depend on, or whose files are compared by their contents. What is done to the
# finished map may differ.
FREE = {
    "model", "ensemble", "input", "more_images", "area", "output", "probabilities", "areas", "device", "resume",
    "map_grid",
    *MeasureSettings.declared(), *PolygonSettings.declared(), *(ClassSettings.declared().keys() - {"min_confidence"}),
    *(RasterSettings.declared().keys() - {"probability_type"}),
}  # fmt: skip
CHUNK = 2**20


def facts_of(config: SegmentRasterConfig, opened: Opened, outputs: list[str]) -> dict[str, Any]:
    """Return what a map is made from, ready for JSON, by what it is called in a message.

    Args:
        config: Settings of the job.
        opened: The raster.
        outputs: Names of the rasters to write.
    """
    settings = {name.upper(): value for name, value in config.to_json().items() if name not in FREE}
    facts = {
        **settings,
        "the rasters to write": outputs,
        "the image": _hash([raster_state(path) for path in (config.input, *config.more_images)]),
        "the area of interest": features_hash(config.area),
        "the model": [_content_hash(path) for path in config.models],
        "the kind of device": opened.device.type,
    }
    found: dict[str, Any] = json.loads(json.dumps(facts))
    return found


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _content_hash(path: str) -> str:
    found = hashlib.sha256()
    try:
        with open_plain(path) as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
    except OSError:  # the model is loaded, so this is only a name
        return path
    return found.hexdigest()
