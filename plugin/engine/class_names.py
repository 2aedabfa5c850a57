"""Which texts are the same class, and which class values they get: one rule for layers, class tables and folders."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import count
from typing import Optional

LOWEST, HIGHEST = -(2**31) + 1, 2**31 - 1  # of class values
# What nobody sees: soft hyphen, zero-width space, word joiner, byte order mark.
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
# No class has more digits, and Python refuses to read thousands.
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.0*)?")
NAMED = 5  # texts that a message lists


def class_text(text: str) -> str:
    """A text as it names a class: texts that look alike, such as with a space at the end, are the same; "" is no class.

    White space of any kind and length is one space between words, letters with accents are written in one way
    (Unicode's NFC), and what is invisible does not count. Capitals do.
    """
    return " ".join(unicodedata.normalize("NFC", text).translate(INVISIBLE).split())


def whole_number(text: str) -> Optional[int]:
    """The whole number that a text is, such as "7", "007" or "7.0"; None for other texts."""
    return int(text.partition(".")[0]) if WHOLE_NUMBER.fullmatch(text) else None


def own_numbers(texts: Iterable[str], taken: Collection[Optional[int]] = ()) -> dict[str, int]:
    """The numbers that all of some texts are; none where one is no class value, is `taken`, or is that of another."""
    numbers = {text: whole_number(text) for text in texts}
    kept = {text: value for text, value in numbers.items() if value is not None and LOWEST <= value <= HIGHEST}
    return kept if len(set(kept.values()) - set(taken)) == len(numbers) else {}


def class_values(texts: Iterable[str], taken: Collection[Optional[int]] = (), first: int = 1) -> dict[str, int]:
    """Class values for texts, as `class_text` gives them: their `own_numbers`, else 1 … n in the order of the texts.

    Args:
        texts: The texts.
        taken: Values that they do not get.
        first: Where to begin to count.
    """
    ordered = sorted(set(texts))
    free = (value for value in count(first) if value not in taken)
    return own_numbers(ordered, taken) or {text: next(free) for text in ordered}


def remarks_on(given: Iterable[str], values: dict[str, int], where: str) -> list[str]:
    """What a user may not expect of texts that became classes, a sentence each.

    Args:
        given: The texts as they stand there.
        values: Class values by `class_text`.
        where: What holds the texts, such as "the field class".
    """
    found = []
    spelled = Counter(class_text(text) for text in set(given))
    several = sorted(text for text, ways in spelled.items() if ways > 1 and text)
    if several:
        found.append(f"Texts of {where} that differ in nothing but white space or Unicode are one: {_list(several)}.")
    folded: dict[str, list[str]] = {}
    for text in sorted(values):
        folded.setdefault(text.casefold(), []).append(text)
    capitals = [" and ".join(texts) for texts in folded.values() if len(texts) > 1]
    if capitals:
        found.append(f"Texts of {where} that differ in capitals are different classes: {_list(capitals)}.")
    numbers = [whole_number(text) for text in values]
    if values and None not in numbers and list(values.values()) != numbers:
        shown = [f"{text} {value}" for text, value in values.items()]
        found.append(
            f"The whole numbers in {where} cannot be class values as they stand, because some are the same number, "
            f"taken, or of more than 32 bits; they were numbered: {_list(shown)}."
        )
    return found


def _list(texts: list[str]) -> str:
    return ", ".join(texts[:NAMED]) + (", …" if len(texts) > NAMED else "")
