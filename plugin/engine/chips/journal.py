"""The progress of an interrupted export, so that it can be resumed."""

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
    """The progress of an export; all chips of the first `units` units are written and indexed."""

    fingerprint: str
    units: int = 0
    chips: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)  # value → chips that have only this value in each band


class Journal:
    """Stores an export's progress in the hidden folder of the draft.

    Args:
        folder: The hidden folder.
        fingerprint: A hash of settings and inputs, see `fingerprint.py`.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = folder / JOURNAL, fingerprint
        self.noted = time.monotonic()

    def earlier(self) -> Optional[Progress]:
        """The progress of an interrupted export with the same settings and inputs; None if there is none."""
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
        """Return whether the last note is old enough to write a new one."""
        return time.monotonic() - self.noted > SECONDS_BETWEEN_NOTES

    def note(self, progress: Progress) -> None:
        """Save the progress; all files that it counts must be on disk."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        rename(fresh, self.path)
        self.noted = time.monotonic()
