"""Writes docs/choices.md: what each choice of a training is, from the tables that the dialogs use.

    python3 .ci/document_choices.py

A test compares the page with the tables.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "choices.md"
HEAD = """# Networks, losses, optimizers, schedules, augmentation

What the settings of a training choose from. This page is written by `.ci/document_choices.py`.
"""


def page() -> str:
    """The text of the page."""
    sys.path.insert(0, str(ROOT))
    from plugin.engine.config import TrainClassifierConfig, TrainSegmenterConfig

    parts = [HEAD]
    tables: dict[str, Any] = {}
    for config in (TrainSegmenterConfig, TrainClassifierConfig):
        for name, said in config.declared().items():
            if said.table is not None:
                tables.setdefault(name, said)
    for name, said in tables.items():
        parts.append(f"\n## `{name.upper()}`\n\nDefault: `{said.default}`.\n\n| choice | what it is |\n| --- | --- |\n")
        for choice, row in said.table.items():
            more = f" For {', '.join(row.tasks)}." if hasattr(row, "tasks") else ""
            if hasattr(row, "decay"):
                more = f" Learning rate {row.rate:g}, weight decay {row.decay:g}, where these are empty."
            parts.append(f"| `{choice}` | {row.words}{more}{f' ({row.source})' if row.source else ''} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
