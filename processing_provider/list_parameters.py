"""Parameters that are written as lists: bands, numbers, sizes, tables."""

from __future__ import annotations

import math
from typing import Any, Optional

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterMatrix,
    QgsProcessingParameterString,
)

from ..plugin.engine.config import JobConfig
from ..plugin.engine.errors import InputError
from .parameters import Parameters, ValueRow

CLASS_COLUMNS = ("value", "class", "name", "color")  # of a class table


class Bands(ValueRow):
    """Band numbers written as "1-3,5"."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a text parameter."""
        return QgsProcessingParameterString(self.name, self.label, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the numbers in the order given."""
        return band_numbers(algorithm.parameterAsString(parameters, self.name, context))


def band_numbers(text: str) -> list[int]:
    """Parse "1-3,5" to [1, 2, 3, 5], and "3-1" to [3, 2, 1].

    Raises:
        InputError: The text is not a list of band numbers.
    """
    numbers: list[int] = []
    for part in text.replace(";", ",").replace(" ", "").split(","):
        if not part:
            continue
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(first) < 1 or (dash and int(last) < 1):
            raise InputError(f'BANDS is "{text}".', 'Give band numbers from 1, such as "1-3,5".')
        end = int(last) if dash else int(first)
        step = 1 if end >= int(first) else -1
        numbers.extend(range(int(first), end + step, step))
    return numbers


class Numbers(ValueRow):
    """Numbers such as angles, written as "0,90,180"."""

    example: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a text parameter."""
        return QgsProcessingParameterString(self.name, self.label, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the numbers in the order given."""
        return numbers(self.name, algorithm.parameterAsString(parameters, self.name, context), self.example)


def numbers(name: str, text: str, example: str) -> list[float]:
    """Parse "0, 90,180" to [0.0, 90.0, 180.0].

    Raises:
        InputError: The text is not a list of numbers.
    """
    found: list[float] = []
    for part in text.replace(";", ",").split(","):
        if not part.strip():
            continue
        try:
            found.append(float(part))
        except ValueError:
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise InputError(f'{name} is "{text}".', f'Give numbers, such as "{example}".')
    return found


class Sizes(ValueRow):
    """Whole numbers written as "8,16,32"; a single 0 is the empty list."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a text parameter."""
        return QgsProcessingParameterString(self.name, self.label, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the numbers in the order given; None if nothing is given."""
        return sizes(self.name, algorithm.parameterAsString(parameters, self.name, context))


def sizes(name: str, text: str) -> Optional[list[int]]:
    """Parse "8, 16" to [8, 16], "0" to [] and "" to None.

    Raises:
        InputError: The text is not a list of whole numbers.
    """
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    if not parts:
        return None
    if parts == ["0"]:
        return []
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise InputError(f'{name} is "{text}".', 'Give whole numbers, such as "8,16,32,64".')
    return [int(part) for part in parts]


class Table(ValueRow):
    """A table with one column per header."""

    headers: tuple[str, ...] = ()

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """Create a matrix parameter to which rows can be added."""
        return QgsProcessingParameterMatrix(
            self.name, self.label, numberRows=0, headers=list(self.headers), defaultValue=[], optional=True
        )

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """Return the rows.

        Raises:
            InputError: A row has too few or too many cells.
        """
        cells = algorithm.parameterAsMatrix(parameters, self.name, context)
        width = len(self.headers)
        # Scripts may give a list of rows; QGIS itself gives one flat list.
        if any(isinstance(cell, (list, tuple)) for cell in cells):
            lines = [list(cell) if isinstance(cell, (list, tuple)) else [cell] for cell in cells]
        else:
            lines = [list(cells[at : at + width]) for at in range(0, len(cells), width)]
        for number, line in enumerate(lines, 1):
            if len(line) != width:
                raise InputError(
                    f"Line {number} of {self.name} has {len(line)} cells.",
                    f"Give {width} cells per line: {', '.join(self.headers)}; some may be empty.",
                )
        return lines
