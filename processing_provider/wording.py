"""Puts the dialog's labels into messages: a parameter is named by its label, with its scripting name in brackets."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

# Separates a label from an explanation in it.
EXPLANATION = re.compile(r" \(|, such as ")
# A parameter name in a message of the engine: not in brackets or quotes, nor a part of a path or of name=value.
NAME = re.compile(r"(?<![\w(“\"'/\\.=-])[A-Z][A-Z_]*[A-Z](?![\w/\\=-]|\.\w)")


def in_words_of(algorithm: Any, text: str) -> str:
    """Put labels into a message for the user of an algorithm: "CHIP_SIZE is 3." → "Chip size (CHIP_SIZE) is 3."."""
    labels = {**_labels_of(algorithm.ALL), **_labels(algorithm)}
    return NAME.sub(lambda found: f"{labels[found[0]]} ({found[0]})" if found[0] in labels else found[0], text)


@cache
def _labels_of(kinds: tuple[type, ...]) -> dict[str, str]:
    """Return the labels of the parameters of several algorithms; where algorithms differ, the first one's."""
    found: dict[str, str] = {}
    for kind in reversed(kinds):
        found.update(_labels(kind()))
    return found


def _labels(algorithm: Any) -> dict[str, str]:
    """Return the label of each parameter of an algorithm, without the explanation in it."""
    return {row.name: EXPLANATION.split(row.label)[0] for row in algorithm.rows()}
