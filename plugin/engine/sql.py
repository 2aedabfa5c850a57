"""Composition of SQL statements: names are quoted, and other parts must be numbers or `Sql`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union


class Sql(str):
    """A statement or a part of one, which is inserted into others unchanged."""

    __slots__ = ()


Part = Union[str, int, float, Sql]


def sql(text: str, **parts: Part | Iterable[Part]) -> Sql:
    """Compose a statement.

    Args:
        text: A trusted template with {names} of parts.
        **parts: Texts are table or column names and are quoted; sequences are joined by commas.
    """
    return Sql(text.format_map({name: written(part) for name, part in parts.items()}))


def written(part: Part | Iterable[Part]) -> str:
    """Format a part for SQL."""
    if isinstance(part, Sql):
        return part
    if isinstance(part, str):
        return '"' + part.replace('"', '""') + '"'
    if isinstance(part, (int, float)):
        return repr(part)
    return ", ".join(map(written, part))
