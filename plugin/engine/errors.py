"""What can go wrong in a way that the user can mend, and the end that the user asked for."""

from __future__ import annotations

from typing import Optional, TypeVar
from unicodedata import category

T = TypeVar("T")

# Letters of a problem and of a remedy. Some hold what a stranger wrote, or what a library says of a whole file.
LONGEST = (650, 340)


def plain(text: str, most: int) -> str:
    """A text for people: no half or control characters, and its middle left out where it is long."""
    kept = text[: 20 * most]
    shown = "".join("\ufffd" if category(letter)[0] == "C" and letter != "\n" else letter for letter in kept)
    half = most // 2 - 1
    return shown if len(shown) <= most else f"{shown[:half]} … {shown[len(shown) - half + 1 :]}"


def not_none(value: Optional[T]) -> T:
    """Return a value that an earlier step has made sure of; raises AssertionError for None, which is a bug."""
    if value is None:
        raise AssertionError("an optional value is None where an earlier step guarantees one")
    return value


class EngineError(Exception):
    """An error in two sentences: what is wrong, with the values, and what to do about it.

    Args:
        problem: One sentence that names the values.
        remedy: One sentence that says what to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem, self.remedy = (plain(text, most) for text, most in zip((problem, remedy), LONGEST))
        super().__init__(f"{self.problem} {self.remedy}")


class InputError(EngineError):
    """Something the user gave cannot be used: a file, a layer, a setting."""


class ResourceError(EngineError):
    """The machine lacks something: memory, disk space, a device, a permission."""


class Cancelled(Exception):
    """The user asked for the end; there is nothing to explain."""
