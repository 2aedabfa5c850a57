"""Rules for which texts are the same class, and for their class values, in layers, class tables and folders."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import count
from typing import Optional

LOWEST, HIGHEST = -(2**31) + 1, 2**31 - 1  # range of class values
# Invisible characters: soft hyphen, zero-width space, word joiner, byte order mark.
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
# No class value has more digits, and Python refuses to parse thousands of digits.
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.0*)?")
NAMED = 5  # maximum number of texts in a message


def class_text(text: str) -> str:
    """Normalise the text of a class, so that texts that look alike are equal; "" is no class.

    White space is reduced to single spaces between words, accents are normalised (Unicode NFC), and invisible
    characters are removed. Upper and lower case differ.
    """
    return " ".join(unicodedata.normalize("NFC", text).translate(INVISIBLE).split())


def whole_number(text: str) -> Optional[int]:
    """Parse an integer such as "7", "007" or "7.0"; None for other texts."""
    return int(text.partition(".")[0]) if WHOLE_NUMBER.fullmatch(text) else None


def own_numbers(texts: Iterable[str], taken: Collection[Optional[int]] = ()) -> dict[str, int]:
    """The integers that all texts stand for; empty if one is not a class value, `taken`, or equal to another."""
    numbers = {text: whole_number(text) for text in texts}
    kept = {text: value for text, value in numbers.items() if value is not None and LOWEST <= value <= HIGHEST}
    return kept if len(set(kept.values()) - set(taken)) == len(numbers) else {}


def class_values(texts: Iterable[str], taken: Collection[Optional[int]] = (), first: int = 1) -> dict[str, int]:
    """Assign class values to normalised texts: their `own_numbers`, or else 1 … n in sorted order.

    Args:
        texts: The texts, see `class_text`.
        taken: Values that must not be used.
        first: The first number to assign.
    """
    ordered = sorted(set(texts))
    free = (value for value in count(first) if value not in taken)
    return own_numbers(ordered, taken) or {text: next(free) for text in ordered}


def remarks_on(given: Iterable[str], values: dict[str, int], where: str) -> list[str]:
    """Remarks on unexpected results of `class_text` and `class_values`, one sentence each.

    Args:
        given: The original texts.
        values: Class values by `class_text`.
        where: The source of the texts, such as "the field class".
    """
    found = []
    spelled = Counter(class_text(text) for text in set(given))
    several = sorted(text for text, ways in spelled.items() if ways > 1 and text)
    if several:
        found.append(
            f"Texts of {where} that differ only in white space or Unicode form are the same class: {_list(several)}."
        )
    folded: dict[str, list[str]] = {}
    for text in sorted(values):
        folded.setdefault(text.casefold(), []).append(text)
    capitals = [" and ".join(texts) for texts in folded.values() if len(texts) > 1]
    if capitals:
        found.append(f"Texts of {where} that differ in upper and lower case are different classes: {_list(capitals)}.")
    numbers = [whole_number(text) for text in values]
    if values and None not in numbers and list(values.values()) != numbers:
        shown = [f"{text} {value}" for text, value in values.items()]
        found.append(
            f"The integers in {where} cannot be used as class values, because some are equal, already used, or need "
            f"more than 32 bits. They get new numbers: {_list(shown)}."
        )
    return found


def _list(texts: list[str]) -> str:
    return ", ".join(texts[:NAMED]) + (", …" if len(texts) > NAMED else "")
