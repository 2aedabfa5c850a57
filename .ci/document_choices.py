"""Writes docs/choices.md: what each loss, optimizer, schedule and preset is, from the tables that the dialogs use.

    python3 .ci/document_choices.py

A test compares the page with the tables.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "choices.md"
HEAD = """# Losses, optimizers, schedules, augmentation

What the settings of a training choose from. This page is written by `.ci/document_choices.py`.
"""


def page() -> str:
    """The text of the page."""
    sys.path.insert(0, str(ROOT))
    from plugin.engine.config import TrainClassifierConfig, TrainSegmenterConfig

    parts = [HEAD]
    for name, said in {**TrainSegmenterConfig.declared(), **TrainClassifierConfig.declared()}.items():
        if said.table is None:
            continue
        parts.append(f"\n## `{name.upper()}`\n\nDefault: `{said.default}`.\n\n| choice | what it is |\n| --- | --- |\n")
        for choice, row in said.table.items():
            tasks = f" For {', '.join(row.tasks)}." if hasattr(row, "tasks") else ""
            parts.append(f"| `{choice}` | {row.words}{tasks}{f' ({row.source})' if row.source else ''} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
