"""What an interrupted export has done already, so that the next one can go on from there."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from osgeo import gdal

from ..config import ExportChipsConfig

JOURNAL = "export.json"
SECONDS_BETWEEN_NOTES = 2.0
# Settings that do not change what is cut.
IRRELEVANT = ("output", "overwrite", "resume", "labels", "area", "split_areas")


@dataclass
class Progress:
    """How far an export has come; all chips of the first `units` units are written and in the index."""

    fingerprint: str
    units: int = 0
    chips: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)  # chips that show one value a band, by that value


class Journal:
    """Keeps an export's progress in its hidden folder.

    Args:
        folder: The hidden folder.
        fingerprint: Of settings and inputs, see `fingerprint_of`.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = folder / JOURNAL, fingerprint
        self.noted = time.monotonic()

    def earlier(self) -> Optional[Progress]:
        """What an interrupted export of the same settings and inputs has done; None where there is none."""
        try:
            found = Progress(**json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return found if found.fingerprint == self.fingerprint and found.units > 0 else None

    def due(self) -> bool:
        """Whether the last note is long enough ago."""
        return time.monotonic() - self.noted > SECONDS_BETWEEN_NOTES

    def note(self, progress: Progress) -> None:
        """Write the progress down; all that it names must be on disk."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        fresh.replace(self.path)
        self.noted = time.monotonic()

    def remove(self) -> None:
        """The export is whole."""
        self.path.unlink(missing_ok=True)


def fingerprint_of(config: ExportChipsConfig) -> str:
    """A hash of the settings, and of what the inputs look like from outside."""
    settings = {name: value for name, value in config.to_json().items() if name not in IRRELEVANT}
    files = [_file_state(path) for path in (*config.input, *config.label_rasters)]
    layers = [_features_state(path) for path in (config.labels, config.area, config.split_areas)]
    text = json.dumps([settings, files, layers], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_state(path: str) -> list[Any]:
    try:
        state = Path(path).stat()
    except OSError:
        return [path]  # no file, such as /vsicurl
    return [path, state.st_size, state.st_mtime_ns]


def _features_state(path: Optional[str]) -> list[Any]:
    if not path:
        return []
    source = gdal.OpenEx(path, gdal.OF_VECTOR)
    layer = source.GetLayer(0)
    count = layer.GetFeatureCount()
    return [layer.GetName(), count, layer.GetExtent() if count else None]
