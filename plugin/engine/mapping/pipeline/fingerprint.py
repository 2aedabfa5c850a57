"""What the answers of a map follow from, by which an interrupted job is recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ...chips.fingerprint import features_hash, raster_state
from ...config import ActivationMapsConfig, ClassifyScenesConfig, SegmentRasterConfig
from ...errors import not_none
from ...strangers.paths import open_plain
from ..settings import ClassSettings, PolygonSettings, RasterSettings

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
    config: SegmentRasterConfig | ClassifyScenesConfig | ActivationMapsConfig, device: torch.device,
    decided: Collection[str] = (), **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Return what the answers of a network follow from, ready for JSON, by what it is called in a message.

    Args:
        config: Settings of the job.
        device: Where the network runs.
        decided: Settings of `LATER` on which what is compared depends as well.
        more: What else it follows from.
    """
    free = {*COMPARED, *config.outputs(), *(LATER - {*decided})}
    settings = {name.upper(): value for name, value in config.to_json().items() if name not in free}
    beside = config.more_images if isinstance(config, SegmentRasterConfig) else ()
    facts = {
        **settings,
        **more,
        "the image": _hash([raster_state(path) for path in (not_none(config.input), *beside)]),
        "the area of interest": features_hash(config.area),
        "the model": [_content_hash(path) for path in config.models],
        "the kind of device": device.type,
    }
    found: dict[str, Any] = json.loads(json.dumps(facts))
    return found


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what is different in the facts of two jobs, for a message."""
    return [_difference(name, then, now) for name in {**now, **then} if then.get(name) != now.get(name)]


def _difference(name: str, then: dict[str, Any], now: dict[str, Any]) -> str:
    return f"{name} {then.get(name)}, not {now.get(name)}" if name.isupper() else name


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
