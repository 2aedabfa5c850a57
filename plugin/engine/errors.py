"""Errors that users can fix, and cancellation."""

from __future__ import annotations

import re
from typing import Optional, TypeVar
from unicodedata import category

T = TypeVar("T")

# The maximum lengths of a problem and a remedy, which may contain untrusted texts or long messages of a library.
LONGEST = (650, 340)
# What hides secrets in an address: its login, and what follows a question mark, or a number sign with values; also
# where all of it is encoded. And in the names of databases, a password.
SECRETS = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#\"'<>]*@", re.IGNORECASE), r"\1…@"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#\"'<>]+)([?]|#(?=[^\s\"'<>]*=))[^\s\"'<>]*", re.IGNORECASE), r"\1\2…"),
    (re.compile(r"(/vsi\w+\?)[^\s\"'<>]+"), r"\1…"),
    (
        re.compile(
            r"\b((?:pass(?:word|wd)?|pwd|token|secret)\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s,;&'\"<>]+)", re.IGNORECASE
        ),
        r"\1…",
    ),
)
BREAK = re.compile(r"[\r\n]+\s*")
# The hidden folder of a result in the path of what is written there (`drafts.hidden_folder`).
HIDDEN = re.compile(r"\.([^/\\]{1,255})\.partial[/\\](?=\1)")


def plain(text: str, most: int) -> str:
    """A text in one line, without secrets, surrogates and control characters, with the final paths of results that are
    being written, and without its middle if longer than `most`.
    """
    kept = BREAK.sub(" ", HIDDEN.sub("", without_key(text[: 20 * most])))
    shown = "".join("\ufffd" if category(letter)[0] == "C" else letter for letter in kept)
    half = most // 2 - 1
    return shown if len(shown) <= most else f"{shown[:half]} … {shown[len(shown) - half + 1 :]}"


def without_key(text: str) -> str:
    """A path or message in which addresses lose their user and password, and what follows their question mark, which
    may be a key, and databases their password.
    """
    for secret, shown in SECRETS:
        text = secret.sub(shown, text)
    return text


def first_line(error: BaseException) -> str:
    """The first line of what a library says of an error; if it says nothing, the name of the error's kind."""
    return str(error).strip().partition("\n")[0].rstrip() or type(error).__name__


def not_none(value: Optional[T]) -> T:
    """Return a value that an earlier step guarantees not to be None; raises AssertionError if it is None."""
    if value is None:
        raise AssertionError("a value is None, although an earlier step should have set it")
    return value


class EngineError(Exception):
    """An error with a problem and a remedy.

    Args:
        problem: One sentence that says what is wrong, with the values.
        remedy: One sentence that says what to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem, self.remedy = (plain(text, most) for text, most in zip((problem, remedy), LONGEST))
        super().__init__(f"{self.problem} {self.remedy}")


class InputError(EngineError):
    """Raised if something the user gave cannot be used: a file, a layer or a setting."""


class NothingToMap(InputError):
    """Raised if a raster has no data, or lies outside the part to map."""


class ResourceError(EngineError):
    """Raised if the machine lacks something: memory, disk space, a device or a permission."""


class Cancelled(Exception):
    """Raised if the user cancelled the job, or the process that started it has ended."""
