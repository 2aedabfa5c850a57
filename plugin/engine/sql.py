"""SQL statements, put together in one way: names are quoted; what else goes in is a number, or a statement itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union


class Sql(str):
    """A statement, or a part of one, that is whole: it goes into others as it stands."""

    __slots__ = ()


Part = Union[str, int, float, Sql]


def sql(text: str, **parts: Part | Iterable[Part]) -> Sql:
    """A statement.

    Args:
        text: Of our own, with {names} of parts.
        **parts: Texts are names of tables and columns, and are quoted; several are joined by commas.
    """
    return Sql(text.format_map({name: written(part) for name, part in parts.items()}))


def written(part: Part | Iterable[Part]) -> str:
    """A part as SQL has it."""
    if isinstance(part, Sql):
        return part
    if isinstance(part, str):
        return '"' + part.replace('"', '""') + '"'
    if isinstance(part, (int, float)):
        return repr(part)
    return ", ".join(map(written, part))
