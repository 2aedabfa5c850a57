"""What came out of a job of mapping: how much there is of each class, as numbers and in words for the log.

C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..classes import ClassTable
from ..errors import InputError
from ..events import Reporter, readable_time
from ..rasters.raster_io import RasterInfo, spatial_reference
from .answers import Answers

# Classes that a line of the log names, those with most first.
NAMED = 8
METRES = ("metre", "meter", "m")


def class_areas(info: RasterInfo, classes: ClassTable, pixels: Sequence[int] | np.ndarray) -> dict[str, Any]:
    """`classes` and `area_unit` of a result; areas are None where the CRS has no lengths.

    Args:
        info: The raster whose pixels were counted.
        pixels: (C,) of each class.
    """
    reference = spatial_reference(info.crs)
    projected = reference is not None and not reference.IsGeographic()
    one = abs(info.grid.step_x * info.grid.step_y) if projected else None
    return {
        "classes": [
            {"value": kind.value, "name": kind.name, "pixels": count, "area": None if one is None else count * one}
            for kind, count in zip(classes.classes, map(int, pixels))
        ],
        "area_unit": reference.GetLinearUnitsName() if reference is not None and projected else None,
    }


def number_of(count: int, noun: str) -> str:
    """A count in words: "1 step", "12,000 steps"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def area_text(area: float, unit: str) -> str:
    """An area in words: "800 m²", "1.2 ha", "35 km²"; in squares of the unit where that is not the metre."""
    if unit.lower() not in METRES:
        return f"{area:,.3g} square {unit}"
    size, name = next((size, name) for limit, size, name in ((1e4, 1, "m²"), (1e7, 1e4, "ha"), (np.inf, 1e6, "km²"))
                      if area < limit)  # fmt: skip
    return f"{area / size:.3g} {name}" if area / size < 1000 else f"{area / size:,.0f} {name}"


def shares_text(
    classes: ClassTable, counts: Sequence[int] | np.ndarray, total: int, info: RasterInfo | None = None
) -> str:
    """Which classes there are, those with most first: "land 60 % (1.2 ha), water 40 % (8000 m²)".

    Args:
        counts: (C,).
        total: What the shares are of.
        info: The raster whose pixels were counted; None without areas.
    """
    found = class_areas(info, classes, counts) if info is not None else {"classes": [], "area_unit": None}
    order = [index for index in np.argsort(-np.asarray(counts), kind="stable").tolist() if counts[index]]
    texts = []
    for index in order[:NAMED]:
        text = f"{classes.names[index]} {100 * counts[index] / total:.3g} %"
        if found["area_unit"]:
            text += f" ({area_text(found['classes'][index]['area'], found['area_unit'])})"
        texts.append(text)
    more = len(order) - NAMED
    return ", ".join(texts) + (f" and {number_of(more, 'other')}" if more > 0 else "")


def tell_unanswered(reporter: Reporter, noun: str, unanswered: int, answered: int) -> None:
    """Warn of what got no class because the network gives no numbers there.

    Args:
        noun: What got none, one of it.

    Raises:
        InputError: Nothing got a class.
    """
    if not unanswered:
        return
    problem = f"The network gives no numbers for {number_of(unanswered, noun)}"
    if not answered:
        raise InputError(f"{problem}, and for none else a class.", "Train again, at a lower LEARNING_RATE.")
    reporter.warning(f"{problem}: they get no class. If the model does so elsewhere too, train it again.")


def tell_answers(
    reporter: Reporter, noun: str, answered: int, seconds: float, answers: Answers, counts: Sequence[int] | np.ndarray,
    info: RasterInfo | None = None,
) -> None:  # fmt: skip
    """The last word of a job that classified: how many, how long it took, and what came out.

    Args:
        noun: What was classified, one of it.
        answered: How many the network looked at.
        counts, info: As of `shares_text`.
    """
    done = f"Classified {number_of(answered, noun)} in {readable_time(seconds)}"
    shown = shares_text(answers.classes, counts, answered, info)
    if not shown:
        reporter.warning(f"{done}: none reaches a class at THRESHOLD {answers.threshold:g}. Give a smaller one.")
        return
    reporter.log(f"{done}: {shown}.")
    bare = 0 if answers.several else answered - int(np.sum(counts))
    if bare:
        reporter.log(f"{number_of(bare, noun)} of them reach no class at THRESHOLD {answers.threshold:g}.")
