"""Helpers for messages."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import plain

LONGEST = 100  # characters of a name in a message; names are untrusted


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 chip", "2 chips"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def first_of(names: Iterable[str], most: int = 5) -> str:
    """The first names of a list, for a message: "a, b, c and 7 more"."""
    names = list(names)
    rest = len(names) - most
    return ", ".join(plain(name, LONGEST) for name in names[:most]) + (f" and {rest} more" if rest > 0 else "")
