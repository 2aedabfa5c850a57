"""What the answers of a map follow from, by which an interrupted job is recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from ..chips.fingerprint import features_hash, raster_state
from ..config import ClassifyScenesConfig, SegmentRasterConfig
from ..errors import not_none
from ..strangers.paths import open_plain
from .result_settings import ClassSettings, PolygonSettings, RasterSettings

if TYPE_CHECKING:
    import torch

# Settings whose files are compared by their contents, or that nothing depends on.
COMPARED = {"model", "ensemble", "input", "more_images", "area", "device", "resume"}
# What is done with the answers of the network.
LATER = {
    "map_grid", "threshold", *PolygonSettings.declared(), *ClassSettings.declared(), *RasterSettings.declared()
}  # fmt: skip
CHUNK = 2**20


def facts_of(
    config: SegmentRasterConfig | ClassifyScenesConfig, device: torch.device, outputs: Iterable[str] = (),
    decided: Collection[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return what is kept of a map follows from, ready for JSON, by what it is called in a message.

    Args:
        config: Settings of the job.
        device: Where the network runs.
        outputs: Names of the rasters whose values are kept; empty for the answers of the network.
        decided: Settings of `LATER` on which these depend.
    """
    free = {*COMPARED, *config.outputs(), *LATER} - {*decided}
    settings = {name.upper(): value for name, value in config.to_json().items() if name not in free}
    more = config.more_images if isinstance(config, SegmentRasterConfig) else ()
    facts = {
        **settings,
        "the rasters to write": [*outputs],
        "the image": _hash([raster_state(path) for path in (not_none(config.input), *more)]),
        "the area of interest": features_hash(config.area),
        "the model": [_content_hash(path) for path in config.models],
        "the kind of device": device.type,
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
