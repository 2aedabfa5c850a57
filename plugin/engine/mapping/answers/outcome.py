"""Summarises the result of a mapping job: the amount of each class, as numbers and as text for the log.

C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...classes import ClassTable
from ...errors import InputError
from ...events import Reporter, readable_time
from ...rasters.raster_io import RasterInfo, spatial_reference
from .answers import Answers, Numbers, Tally

# Maximum number of classes in a line of the log, the most frequent first.
NAMED = 8
METRES = ("metre", "meter", "m")


def class_areas(
    info: RasterInfo, classes: ClassTable, pixels: Sequence[int] | np.ndarray, hectares: Sequence[float] | None = None
) -> dict[str, Any]:
    """Return `classes` and `area_unit` of a result; areas are None if the CRS has no units of length.

    Args:
        info: The raster whose pixels were counted.
        classes: Classes of the model.
        pixels: (C,) pixels of each class.
        hectares: (C,) area of each class on the ground; None if it is not known.
    """
    reference = spatial_reference(info.crs)
    projected = reference is not None and not reference.IsGeographic()
    one = abs(info.grid.step_x * info.grid.step_y) if projected else None
    ground = [None] * len(classes) if hectares is None else hectares
    return {
        "classes": [
            {
                "value": kind.value,
                "name": kind.name,
                "pixels": count,
                "area": None if one is None else count * one,
                "hectares": size,
            }
            for kind, count, size in zip(classes.classes, map(int, pixels), ground)
        ],
        "area_unit": reference.GetLinearUnitsName() if reference is not None and projected else None,
    }


def number_of(count: int, noun: str) -> str:
    """Format a count: "1 step", "12,000 steps"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def area_text(area: float, unit: str) -> str:
    """Format an area: "800 m²", "1.2 ha", "35 km²"; in squares of the unit if that is not the metre."""
    if unit.lower() not in METRES:
        return f"{area:,.3g} square {unit}"
    size, name = next((size, name) for limit, size, name in ((1e4, 1, "m²"), (1e7, 1e4, "ha"), (np.inf, 1e6, "km²"))
                      if area < limit)  # fmt: skip
    return f"{area / size:.3g} {name}" if area / size < 1000 else f"{area / size:,.0f} {name}"


def shares_text(
    classes: ClassTable, counts: Sequence[int] | np.ndarray, total: int, info: RasterInfo | None = None,
    hectares: Sequence[float] | None = None,
) -> str:  # fmt: skip
    """List the classes with their shares, the most frequent first: "land 60 % (1.2 ha), water 40 % (8000 m²)".

    Args:
        classes: Classes of the model.
        counts: (C,) count of each class.
        total: The count that is 100 %.
        info: The raster whose pixels were counted; None leaves areas out.
        hectares: (C,) area of each class on the ground; None takes the area on the plane of the CRS instead.
    """
    unit, areas = None, []
    if hectares is not None:
        unit, areas = METRES[0], [1e4 * size for size in hectares]
    elif info is not None:
        found = class_areas(info, classes, counts)
        unit, areas = found["area_unit"], [row["area"] for row in found["classes"]]
    order = [index for index in np.argsort(-np.asarray(counts), kind="stable").tolist() if counts[index]]
    texts = []
    for index in order[:NAMED]:
        text = f"{classes.names[index]} {100 * counts[index] / total:.3g} %"
        if unit:
            text += f" ({area_text(areas[index], unit)})"
        texts.append(text)
    more = len(order) - NAMED
    return ", ".join(texts) + (f" and {number_of(more, 'other')}" if more > 0 else "")


def tell_unanswered(reporter: Reporter, noun: str, unanswered: int, answered: int) -> None:
    """Warn of items without a class because the network gave NaN or infinity for them.

    Args:
        reporter: Receives the warning.
        noun: What they are, in the singular.
        unanswered: Number of items without a class.
        answered: Number of items with a class.

    Raises:
        InputError: Nothing got a class.
    """
    if not unanswered:
        return
    problem = f"The network gives no valid numbers for {number_of(unanswered, noun)}"
    if not answered:
        raise InputError(f"{problem}, and there are no others.", "Train again with a lower LEARNING_RATE.")
    reporter.warning(f"{problem}: they get no answer. If this happens with other rasters too, train the model again.")


def tell_tally(
    reporter: Reporter, noun: str, tally: Tally, seconds: float, info: RasterInfo | None = None,
    hectares: Sequence[float] | None = None,
) -> None:  # fmt: skip
    """Report the result of a job of a classifier.

    Args:
        reporter: Receives the report.
        noun: What got an answer, in the singular.
        tally: Of the answers.
        seconds: Duration of the job.
        info, hectares: As for `shares_text`.
    """
    if isinstance(tally.answers, Numbers):
        reporter.log(f"Predicted {number_of(tally.answered, noun)} in {readable_time(seconds)}: {tally.numbers}.")
    else:
        tell_answers(reporter, noun, tally.answered, seconds, tally.answers, tally.counts, info, hectares)


def tell_answers(
    reporter: Reporter, noun: str, answered: int, seconds: float, answers: Answers, counts: Sequence[int] | np.ndarray,
    info: RasterInfo | None = None, hectares: Sequence[float] | None = None,
) -> None:  # fmt: skip
    """Report the result of a classification: how many items, how long it took, and the share of each class.

    Args:
        reporter: Receives the report.
        noun: What was classified, in the singular.
        answered: Number of items classified.
        seconds: Duration of the job.
        answers: How probabilities are read.
        counts, info, hectares: As for `shares_text`.
    """
    done = f"Classified {number_of(answered, noun)} in {readable_time(seconds)}"
    shown = shares_text(answers.classes, counts, answered, info, hectares)
    if not shown:
        reporter.warning(
            f"{done}: none reaches a class at THRESHOLD {answers.threshold:g}. Choose a smaller threshold."
        )
        return
    reporter.log(f"{done}: {shown}.")
    bare = 0 if answers.several else answered - int(np.sum(counts))
    if bare:
        reporter.log(f"{number_of(bare, noun)} of them reach no class at THRESHOLD {answers.threshold:g}.")
