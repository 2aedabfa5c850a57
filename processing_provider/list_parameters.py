"""Parameters that people write as lists: bands, numbers, tables."""

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


class Bands(ValueRow):
    """Band numbers as people write them: "1-3,5"."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A text."""
        return QgsProcessingParameterString(self.name, self.label, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """The numbers, in the order given."""
        return band_numbers(algorithm.parameterAsString(parameters, self.name, context))


def band_numbers(text: str) -> list[int]:
    """Read "1-3,5" as [1, 2, 3, 5], and "3-1" as [3, 2, 1].

    Raises:
        InputError: The text is no such list.
    """
    numbers: list[int] = []
    for part in text.replace(";", ",").replace(" ", "").split(","):
        if not part:
            continue
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(first) < 1 or (dash and int(last) < 1):
            raise InputError(f'BANDS is "{text}".', 'Write band numbers from 1, such as "1-3,5".')
        end = int(last) if dash else int(first)
        step = 1 if end >= int(first) else -1
        numbers.extend(range(int(first), end + step, step))
    return numbers


class Numbers(ValueRow):
    """Numbers, such as angles: "0,90,180"."""

    example: str = ""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A text."""
        return QgsProcessingParameterString(self.name, self.label, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """The numbers, in the order given."""
        return numbers(self.name, algorithm.parameterAsString(parameters, self.name, context), self.example)


def numbers(name: str, text: str, example: str) -> list[float]:
    """Read "0, 90,180" as [0.0, 90.0, 180.0].

    Raises:
        InputError: The text is no such list.
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
            raise InputError(f'{name} is "{text}".', f'Write numbers, such as "{example}".')
    return found


class Sizes(ValueRow):
    """Whole numbers: "8,16,32"; 0 alone is none of them."""

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A text."""
        return QgsProcessingParameterString(self.name, self.label, optional=True)

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """The numbers, in the order given; None where nothing is."""
        return sizes(self.name, algorithm.parameterAsString(parameters, self.name, context))


def sizes(name: str, text: str) -> Optional[list[int]]:
    """Read "8, 16" as [8, 16], "0" as [], and nothing as None.

    Raises:
        InputError: The text is no such list.
    """
    parts = [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]
    if not parts:
        return None
    if parts == ["0"]:
        return []
    if not all(part.isdecimal() and part.isascii() for part in parts):
        raise InputError(f'{name} is "{text}".', 'Write whole numbers, such as "8,16,32,64".')
    return [int(part) for part in parts]


class Table(ValueRow):
    """Lines of as many cells as there are headers."""

    headers: tuple[str, ...] = ()

    def definition(self, config: type[JobConfig]) -> QgsProcessingParameterDefinition:
        """A matrix to which lines can be added."""
        return QgsProcessingParameterMatrix(
            self.name, self.label, numberRows=0, headers=list(self.headers), defaultValue=[], optional=True
        )

    def value(self, algorithm: QgsProcessingAlgorithm, parameters: Parameters, context: QgsProcessingContext) -> Any:
        """The lines.

        Raises:
            InputError: A line has too few or too many cells.
        """
        cells = algorithm.parameterAsMatrix(parameters, self.name, context)
        width = len(self.headers)
        # Scripts may give a list of lines; QGIS itself has one long list.
        if any(isinstance(cell, (list, tuple)) for cell in cells):
            lines = [list(cell) if isinstance(cell, (list, tuple)) else [cell] for cell in cells]
        else:
            lines = [list(cells[at : at + width]) for at in range(0, len(cells), width)]
        for number, line in enumerate(lines, 1):
            if len(line) != width:
                raise InputError(
                    f"Line {number} of {self.name} has {len(line)} cells.",
                    f"Give {width} in each line: {', '.join(self.headers)}; some may be empty.",
                )
        return lines
