"""The user's own class table: which class a value of a layer becomes, or that it is dropped."""

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

# What stands for a class in a label picture.
COLOR = re.compile(r"#[0-9a-fA-F]{6}")
LARGEST_TABLE = 2**24  # bytes
COLUMNS = ("value", "class", "name", "color")


class ClassRow(Record):
    """One line of a class table.

    Attributes:
        source: The value in the layer, as text.
        value: The class value; None drops the source value.
        name: What the class is called; "" leaves that open.
        color: "#rrggbb", or None.
    """

    source: str
    value: Optional[int]
    name: str
    color: Optional[str]


class ClassMapping(Record):
    """A class table; values that it does not list stay as they are.

    Attributes:
        title: What messages call it.
        rows: Its lines.
    """

    title: str
    rows: tuple[ClassRow, ...] = ()

    @classmethod
    def from_rows(cls, title: str, lines: Iterable[Sequence[Any]]) -> ClassMapping:
        """A table from lines of value, class value, name and colour; lines with nothing in them do not count.

        Raises:
            InputError: A line lacks its value, its class value is no whole number of 32 bits, its colour is unknown, or
                a value is listed twice.
        """
        rows: dict[str, ClassRow] = {}
        for number, line in enumerate(lines, 1):
            source, value, name, color = (_text(cell) for cell in line)
            if not (source or value or name or color):
                continue
            if not source:
                raise InputError(f"Line {number} of {title} has no value.", "Write which value of the layer it is for.")
            if source in rows:
                raise InputError(f'{title} lists the value "{source}" twice.', "Keep one of the two lines.")
            rows[source] = ClassRow(source, _class_value(value, number, title), name, _color(color, number, title))
        return cls(title, tuple(rows.values()))

    @classmethod
    def from_file(cls, path: str) -> ClassMapping:
        """A table from a .csv file with the header value,class,name,color, or a .json list of such objects.

        Raises:
            InputError: The file cannot be read, or as `from_rows`.
        """
        # Here and not above: what reads a stranger's text is not needed to show the algorithms in the Toolbox.
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
                f"The file {path} is no class table ({error}).",
                "Write a .csv file with the header value,class,name,color, or a .json list of objects with these keys.",
            ) from error
        return cls.from_rows(f"the class table {path}", lines)

    def rows_of(self, texts: Collection[str]) -> dict[str, Optional[ClassRow]]:
        """The line of each text of a field, or None: that with the text, else that with its number, as 1 for 01.

        A number that the field writes in two ways is no help: they may be different codes.
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
        """The lines by their values as numbers.

        Raises:
            InputError: A value is no number, or two are the same one.
        """
        found: dict[float, ClassRow] = {}
        for row in self.rows:
            number = _number(row.source)
            if number is None:
                raise InputError(
                    f'{self.title} lists "{row.source}", and the layer holds numbers.',
                    "List the numbers that the layer holds, or the colours of a label picture as #rrggbb.",
                )
            if number in found:
                raise InputError(f"{self.title} lists the value {number:.15g} twice.", "Keep one of the two lines.")
            found[number] = row
        return found

    def for_rasters(self) -> dict[int, Optional[int]]:
        """Raster value → class value, or None to drop it; a colour of a label picture as 0xrrggbb.

        Raises:
            InputError: As `by_number`, or a value is not whole.
        """
        painted = [row for row in self.rows if COLOR.fullmatch(row.source)]
        numbers = ClassMapping(self.title, tuple(row for row in self.rows if row not in painted)).by_number()
        broken = [row.source for number, row in numbers.items() if not number.is_integer()]
        if broken:
            raise InputError(
                f"{self.title} lists {broken[0]}, and label rasters hold whole numbers.", "List whole numbers."
            )
        become = {int(number): row.value for number, row in numbers.items()}
        return {**become, **{int(row.source[1:], 16): row.value for row in painted}}

    def style_of(self, value: int) -> tuple[str, Optional[str]]:
        """The first name and the first colour that a class has here; "" and None where there is none."""
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
    return [[row.get(names.get(column)) for column in COLUMNS] for row in rows]


def _json_lines(rows: Any) -> list[list[Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it is no list of objects")
    for row in rows:
        _check_names(row, "key")
    return [[row.get(column) for column in COLUMNS] for row in rows]


def _check_names(names: Iterable[str], noun: str) -> None:
    lacking = [column for column in COLUMNS[:2] if column not in names]
    if lacking:
        raise ValueError(f'the {noun} "{lacking[0]}" is missing')


def _text(cell: Any) -> str:
    """A cell as text; QGIS reads numbers in a text of cells as floats."""
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
            "Class values are whole numbers of 32 bits; leave it empty to drop the value.",
        )
    return int(number)


def _color(text: str, line: int, title: str) -> Optional[str]:
    if not text:
        return None
    color = QColor(text)
    if not color.isValid():
        raise InputError(f'Line {line} of {title} has the colour "{text}".', "Write it as #rrggbb, such as #3366cc.")
    return str(color.name())
