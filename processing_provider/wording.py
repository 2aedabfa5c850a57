"""Messages in the words of the dialogs: a parameter is named by its label, with its name in scripts in brackets."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# Where a label begins to explain.
EXPLANATION = re.compile(r" \(|: |, such as ")
# A name as the engine writes it: not in brackets already, nor quoted, nor a part of a path or of name=value.
NAME = re.compile(r"(?<![\w(“\"'/\\.=-])[A-Z][A-Z_]*[A-Z](?![\w/\\=-]|\.\w)")


def in_words_of(algorithm: Any, text: str) -> str:
    """A message of the engine for the user of an algorithm: "CHIP_SIZE is 3." → "Chip size (CHIP_SIZE) is 3."."""
    labels = {**_all_labels(), **_labels(algorithm)}
    return NAME.sub(lambda found: f"{labels[found[0]]} ({found[0]})" if found[0] in labels else found[0], text)


@cache
def _all_labels() -> dict[str, str]:
    """Of the parameters of all algorithms; where they differ, those of the first."""
    from .provider import ALGORITHMS

    found: dict[str, str] = {}
    for kind in reversed(ALGORITHMS):
        found.update(_labels(kind()))
    return found


def _labels(algorithm: Any) -> dict[str, str]:
    """The name of each parameter → what the dialog calls it, without what the label explains beside it."""
    return {row.name: EXPLANATION.split(row.label)[0] for row in algorithm.rows()}
