"""Rules for values from untrusted files, and descriptions of those that break them."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from ..classes import ClassTable

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
# Networks calculate in float32: its maximum, and a standard deviation whose inverse is still finite.
LARGEST, SMALLEST_STD = 3.4e38, 1e-30
LARGEST_FLOAT = 1.7976931348623157e308
LARGEST_CLASS = 2**31 - 1
LONGEST_NAME = 1000  # letters
COLOR = re.compile(r"#[0-9a-fA-F]{6}")
# Exceptions that damaged values can raise.
DAMAGES = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)

# A description of the values, the values, and a test for a single one.
Rule = tuple[str, Iterable[Any], Callable[[Any], Any]]


def find_fault(rules: Iterable[Rule]) -> Optional[str]:
    """Describe the first value that breaks a rule; None if all are valid."""
    for what, values, fits in rules:
        for value in values:
            if not fits(value):
                return f"{what} is {reprlib.repr(value)}"
    return None


def within(low: float, high: float) -> Callable[[Any], bool]:
    """A test for numbers between two limits; also for integers in JSON too large for a float."""
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def whole(low: int, high: int) -> Callable[[Any], bool]:
    """A test for integers between two limits."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def or_none(fits: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A test that also accepts None."""
    return lambda value: value is None or fits(value)


def of_type(*kinds: type) -> Callable[[Any], bool]:
    """A test for values of the given types."""
    return lambda value: isinstance(value, kinds)


def is_name(value: Any) -> bool:
    """Return whether a value is valid as the name of a band or class."""
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def is_std(value: Any) -> bool:
    """Return whether a value is valid as a standard deviation."""
    return within(SMALLEST_STD, LARGEST)(value) or within(0, 0)(value)


def read_classes(rows: Any) -> ClassTable:
    """Read a class table from the rows of a JSON file.

    Raises:
        ValueError: It is not a valid class table; other errors of `DAMAGES` are possible.
    """
    from ..classes import MAX_CLASSES, ClassTable  # needs numpy; without it the worker must still start

    if not isinstance(rows, list):
        raise ValueError(f"its classes are {reprlib.repr(rows)}")
    if len(rows) > MAX_CLASSES:
        raise ValueError(f"it has {len(rows)} classes")
    values, names, colors = ([row[key] for row in rows] for key in ("value", "name", "color"))
    fault = find_fault(
        (
            ("a class value", values, whole(-LARGEST_CLASS, LARGEST_CLASS)),
            ("a class name", names, or_none(is_name)),
            ("a class colour", colors, or_none(lambda value: isinstance(value, str) and COLOR.fullmatch(value))),
        )
    )
    if fault is None and len(set(values)) < len(values):
        fault = "two classes have the same value"
    if fault is not None:
        raise ValueError(fault)
    table = ClassTable.from_json(rows)
    if values:
        table.mask_dtype(table.free_value())  # raises if no data type can hold all values and one for "no label"
    return table
