"""What an interrupted export has done already, so that the next one can go on from there."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from ..files import rename
from ..strangers.paths import read_bytes
from ..strangers.rules import DAMAGES, find_fault, whole
from ..strangers.texts import JSON_MEMORY, parse_json

JOURNAL = "export.json"
SECONDS_BETWEEN_NOTES = 2.0


@dataclass
class Progress:
    """How far an export has come; all chips of the first `units` units are written and in the index."""

    fingerprint: str
    units: int = 0
    chips: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)  # chips that show one value a band, by that value


class Journal:
    """Keeps an export's progress in its hidden folder, beside what becomes the dataset.

    Args:
        folder: The hidden folder.
        fingerprint: Of settings and inputs, see `fingerprint.py`.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = folder / JOURNAL, fingerprint
        self.noted = time.monotonic()

    def earlier(self) -> Optional[Progress]:
        """What an interrupted export of the same settings and inputs has done; None where there is none."""
        try:
            found = Progress(**parse_json(read_bytes(self.path, JSON_MEMORY)))
            tables = (found.left_out, found.plain)
            counts = [found.units, found.chips, *(count for table in tables for count in table.values())]
            if find_fault([("a count", counts, whole(0, 2**53))]):
                return None
        except (OSError, *DAMAGES):
            return None
        return found if found.fingerprint == self.fingerprint and found.units > 0 else None

    def due(self) -> bool:
        """Whether the last note is long enough ago."""
        return time.monotonic() - self.noted > SECONDS_BETWEEN_NOTES

    def note(self, progress: Progress) -> None:
        """Write the progress down; all that it names must be on disk."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        rename(fresh, self.path)
        self.noted = time.monotonic()
