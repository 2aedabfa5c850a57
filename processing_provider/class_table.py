"""The user's class table: which class each value of a layer becomes, or that it is dropped."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from math import isfinite
from typing import Any, Optional

from qgis.PyQt.QtGui import QColor

from ..plugin.engine.class_names import HIGHEST, LOWEST, class_text, whole_number
from ..plugin.engine.errors import InputError
from ..plugin.engine.records import Record
from .list_parameters import CLASS_COLUMNS

# A colour of a label picture, used as its value.
COLOR = re.compile(r"#[0-9a-fA-F]{6}")
LARGEST_TABLE = 2**24  # bytes


class ClassRow(Record):
    """A row of a class table.

    Attributes:
        source: Value in the layer, as text.
        value: Class value; None drops the source value.
        name: Name of the class; "" if not given.
        color: "#rrggbb", or None.
    """

    source: str
    value: Optional[int]
    name: str
    color: Optional[str]


class ClassMapping(Record):
    """A class table; values that it does not list are kept.

    Attributes:
        title: Its name in messages.
        rows: Its rows.
    """

    title: str
    rows: tuple[ClassRow, ...] = ()

    @classmethod
    def from_rows(cls, title: str, lines: Iterable[Sequence[Any]]) -> ClassMapping:
        """Create a table from rows of value, class value, name and colour; empty rows are skipped.

        Raises:
            InputError: A row has no value, its class value is not a 32-bit whole number, its colour is unknown, or a
                value is listed twice.
        """
        rows: dict[str, ClassRow] = {}
        for number, line in enumerate(lines, 1):
            source, value, name, color = (_text(cell) for cell in line)
            if not (source or value or name or color):
                continue
            if not source:
                raise InputError(
                    f"Line {number} of {title} has no value.", "Enter the value of the layer that this line applies to."
                )
            if source in rows:
                raise InputError(f'{title} lists the value "{source}" twice.', "Keep one of the two lines.")
            rows[source] = ClassRow(source, _class_value(value, number, title), name, _color(color, number, title))
        return cls(title, tuple(rows.values()))

    @classmethod
    def from_file(cls, path: str) -> ClassMapping:
        """Read a table from a .csv file with the header value,class,name,color, or a .json list of such objects.

        Raises:
            InputError: The file cannot be read, or as `from_rows`.
        """
        # Imported here because it is not needed to list the algorithms in the Toolbox.
        from ..plugin.engine.strangers.paths import read_bytes
        from ..plugin.engine.strangers.texts import parse_json

        try:
            data = read_bytes(path, LARGEST_TABLE)
            is_json = path.lower().endswith(".json")
            lines = _json_lines(parse_json(data)) if is_json else _csv_lines(data.decode("utf-8-sig"))
        except OSError as error:
            raise InputError(f"The class table {path} cannot be read ({error}).", "Check the path.") from error
        except (ValueError, csv.Error) as error:
            raise InputError(
                f"The file {path} is not a class table ({error}).",
                "Write a .csv file with the header value,class,name,color, or a .json list of objects with these keys.",
            ) from error
        return cls.from_rows(f"the class table {path}", lines)

    def rows_of(self, texts: Collection[str]) -> dict[str, Optional[ClassRow]]:
        """Return the row for each text of a field, or None: the row with this text, otherwise with the same number (1
        for 01).

        Numbers are not matched if the field writes one in two ways, because these may be different codes.
        """
        by_text = {row.source: row for row in self.rows}
        by_number = {whole_number(row.source): row for row in self.rows}
        ways = Counter(map(whole_number, texts))
        found = {}
        for text in sorted(texts):
            number = whole_number(text)
            same = by_number.get(number) if number is not None and ways[number] == 1 else None
            found[text] = by_text.get(text, same)
        return found

    def by_number(self) -> dict[float, ClassRow]:
        """Return the rows by their values as numbers.

        Raises:
            InputError: A value is not a number, or two values are the same number.
        """
        found: dict[float, ClassRow] = {}
        for row in self.rows:
            number = _number(row.source)
            if number is None:
                raise InputError(
                    f'{self.title} lists "{row.source}", but the layer holds numbers.',
                    "List numbers that the layer holds, or colours of a label picture as #rrggbb.",
                )
            if number in found:
                raise InputError(f"{self.title} lists the value {number:.15g} twice.", "Keep one of the two lines.")
            found[number] = row
        return found

    def for_rasters(self) -> dict[int, Optional[int]]:
        """Return class value by raster value, None to drop it; a colour of a label picture is the number 0xrrggbb.

        Raises:
            InputError: As `by_number`, or a value is not a whole number.
        """
        painted = [row for row in self.rows if COLOR.fullmatch(row.source)]
        numbers = ClassMapping(self.title, tuple(row for row in self.rows if row not in painted)).by_number()
        broken = [row.source for number, row in numbers.items() if not number.is_integer()]
        if broken:
            raise InputError(
                f"{self.title} lists {broken[0]}, but label rasters hold whole numbers.", "List whole numbers."
            )
        become = {int(number): row.value for number, row in numbers.items()}
        return {**become, **{int(row.source[1:], 16): row.value for row in painted}}

    def style_of(self, value: int) -> tuple[str, Optional[str]]:
        """Return the first name and the first colour of a class in the table; "" and None if there is none."""
        rows = [row for row in self.rows if row.value == value]
        return (
            next((row.name for row in rows if row.name), ""),
            next((row.color for row in rows if row.color), None),
        )


def _csv_lines(text: str) -> list[list[Any]]:
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter, skipinitialspace=True, strict=True)
    names = {(name or "").strip().lower(): name for name in rows.fieldnames or []}
    _check_names(names, "column")
    return [[row.get(names.get(column)) for column in CLASS_COLUMNS] for row in rows]


def _json_lines(rows: Any) -> list[list[Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is not a list of objects")
    for row in rows:
        _check_names(row, "key")
    return [[row.get(column) for column in CLASS_COLUMNS] for row in rows]


def _check_names(names: Iterable[str], noun: str) -> None:
    lacking = [column for column in CLASS_COLUMNS[:2] if column not in names]
    if lacking:
        raise ValueError(f'the {noun} "{lacking[0]}" is missing')


def _text(cell: Any) -> str:
    """Convert a cell to text; QGIS reads numbers in text cells as floats."""
    if cell is None or (hasattr(cell, "isNull") and cell.isNull()):
        return ""
    return f"{cell:.15g}" if isinstance(cell, float) else class_text(str(cell))


def _number(text: str) -> Optional[float]:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if isfinite(found) else None


def _class_value(text: str, line: int, title: str) -> Optional[int]:
    if not text:
        return None
    number = _number(text)
    if number is None or not number.is_integer() or not LOWEST <= number <= HIGHEST:
        raise InputError(
            f'Line {line} of {title} has the class value "{text}".',
            "Class values are 32-bit whole numbers; leave the cell empty to drop the value.",
        )
    return int(number)


def _color(text: str, line: int, title: str) -> Optional[str]:
    if not text:
        return None
    color = QColor(text)
    if not color.isValid():
        raise InputError(f'Line {line} of {title} has the colour "{text}".', "Write it as #rrggbb, such as #3366cc.")
    return str(color.name())
