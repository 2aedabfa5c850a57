"""The classes of a folder: those that it names, and those that its masks show."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ...classes import MAX_CLASSES, ClassTable
from ...errors import InputError, not_none
from ...events import Reporter, Stage
from ...strangers.images import Unreadable
from ...strangers.rules import LONGEST_NAME
from ...threads import work_ahead
from ..scheme import BACKGROUND_COLOR, BACKGROUND_NAME
from .foreign import NO_CLASS, ForeignChip, ForeignFolder
from .images import ImageFacts
from .masks import values_in
from .words import first_of

TOLD = 9  # classes in a message
LARGEST_VALUE = 2**31 - 2  # with one more for "no label", 32 bits
Found = list  # list[tuple[ForeignChip, ImageFacts]]


def find_classes(folder: ForeignFolder, found: Found, reporter: Reporter) -> tuple[Found, ClassTable, Optional[int]]:
    """The chips whose label can be read, the classes, and the class value of ground without a label, if any.

    Raises:
        InputError: There are too few or too many classes.
    """
    named, values, unlabelled = {**folder.names, **folder.classes}, set(folder.classes), True
    if folder.task == "segmentation" and not folder.complete:
        found, seen = _labelled(folder, found, reporter)
        unlabelled = NO_CLASS in seen
        values |= seen - {NO_CLASS}
    values |= {value for chip, _ in found for value in chip.classes}
    background: Optional[int] = None
    if folder.task == "segmentation" and len(values) == 1 and unlabelled:
        # As `exportchips` does: else nothing could be learned.
        background = next(value for value in (0, 255, max(values) + 1) if value not in values)
        values.add(background)
        named[background] = (BACKGROUND_NAME, BACKGROUND_COLOR)
        reporter.log('The labels hold one class: ground without a label is the class "background".')
    if len(values) < 2 and folder.task in ("segmentation", "classification"):
        held = f"one class only: {min(values)}" if values else "no class"
        raise InputError(f"The labels of the folder hold {held}.", "Label a second class.")
    far = [value for value in values if abs(value) > LARGEST_VALUE]
    if far:
        raise InputError(f"A class has the value {far[0]}.", f"Give it one from {-LARGEST_VALUE} to {LARGEST_VALUE}.")
    long = next((value for value in values if len(named.get(value, ("",))[0]) > LONGEST_NAME), None)
    if long is not None:
        raise InputError(f"The name of the class {long} has {len(named[long][0])} letters.", "Give it a shorter one.")
    if len(values) > MAX_CLASSES:
        raise InputError(
            f"The labels hold {len(values)} different values, from {min(values)} to {max(values)}.",
            f"Class labels have at most {MAX_CLASSES}; these look like something else.",
        )
    table = ClassTable.from_rows((value, *named.get(value, ("", None))) for value in sorted(values))
    if len(table):
        reporter.log(f"Classes: {first_of((f'{info.value} {info.name}' for info in table.classes), TOLD)}.")
    return found, table, background


def label_nodata_of(folder: ForeignFolder, classes: ClassTable) -> int:
    """The value for "no label" in masks: that of the dataset which the folder was made of, or a free one."""
    given = folder.label_nodata
    fits = given is not None and abs(given) <= LARGEST_VALUE and given not in classes.values
    return given if given is not None and fits else classes.free_value()


def _labelled(folder: ForeignFolder, found: Found, reporter: Reporter) -> tuple[Found, set[int]]:
    """The chips whose mask can be read, and the values in all masks."""
    read = not_none(folder.mask)

    def look(item: tuple[ForeignChip, ImageFacts]) -> Optional[np.ndarray]:
        chip, facts = item
        try:
            mask = read(chip)
        except Unreadable:
            return None
        drawn = facts.as_drawn(mask.shape)
        if mask.shape != (drawn.height, drawn.width):
            raise InputError(
                f"The label of {chip.image} has {mask.shape[1]} × {mask.shape[0]} pixels, and the image "
                f"{facts.width} × {facts.height}.",
                "Labels must have the size of their images.",
            )
        return values_in(mask)

    kept, seen, damaged = [], set(), []
    for item, values in work_ahead(look, found, Stage(reporter, len(found), "Looking for classes", 0.2, 0.4)):
        if values is None:
            damaged.append(item[0].image.name)
            continue
        kept.append(item)
        seen.update(values.tolist())
    if damaged:
        reporter.warning(f"Chips whose label cannot be read are left out: {first_of(damaged)}.")
    if not kept:
        raise InputError("No label can be read.", "Check that the labels are there and whole.")
    return kept, seen
