"""The classes of a foreign folder: those that it names, and those in its masks."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ...classes import BACKGROUND_NAME, MAX_CLASSES, ClassTable
from ...errors import InputError, not_none
from ...events import Reporter, Stage
from ...strangers.images import Unreadable
from ...strangers.rules import LONGEST_NAME
from ...threads import work_ahead
from ..scheme import BACKGROUND_COLOR
from .foreign import NO_CLASS, ForeignChip, ForeignFolder
from .images import ImageFacts
from .masks import values_in
from .words import first_of

TOLD = 9  # maximum number of classes in a message
LARGEST_VALUE = 2**31 - 2  # int32, with one value left for "no label"
Found = list  # list[tuple[ForeignChip, ImageFacts]]


def find_classes(folder: ForeignFolder, found: Found, reporter: Reporter) -> tuple[Found, ClassTable, Optional[int]]:
    """Find the chips with readable labels, the classes, and the class value of unlabelled ground, if any.

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
        # The same rule as in exportchips: a single class cannot be learned.
        background = next(value for value in (0, 255, max(values) + 1) if value not in values)
        values.add(background)
        named[background] = (BACKGROUND_NAME, BACKGROUND_COLOR)
        reporter.log('The labels have one class; unlabelled ground becomes the class "background".')
    if len(values) < 2 and folder.task in ("segmentation", "classification"):
        held = f"only one class: {min(values)}" if values else "no class"
        raise InputError(f"The labels of the folder have {held}.", "Label a second class.")
    far = [value for value in values if abs(value) > LARGEST_VALUE]
    if far:
        raise InputError(f"A class has the value {far[0]}.", f"Give it one from {-LARGEST_VALUE} to {LARGEST_VALUE}.")
    long = next((value for value in values if len(named.get(value, ("",))[0]) > LONGEST_NAME), None)
    if long is not None:
        raise InputError(f"The name of the class {long} has {len(named[long][0])} characters.", "Shorten it.")
    if len(values) > MAX_CLASSES:
        raise InputError(
            f"The labels have {len(values)} different values, from {min(values)} to {max(values)}.",
            f"At most {MAX_CLASSES} classes are supported. Check that these are class labels.",
        )
    table = ClassTable.from_rows((value, *named.get(value, ("", None))) for value in sorted(values))
    if len(table):
        reporter.log(f"Classes: {first_of((f'{info.value} {info.name}' for info in table.classes), TOLD)}.")
    return found, table, background


def label_nodata_of(folder: ForeignFolder, classes: ClassTable) -> int:
    """The value for "no label" in masks: that of the original dataset if it was converted from one, or a free one."""
    given = folder.label_nodata
    fits = given is not None and abs(given) <= LARGEST_VALUE and given not in classes.values
    return given if given is not None and fits else classes.free_value()


def _labelled(folder: ForeignFolder, found: Found, reporter: Reporter) -> tuple[Found, set[int]]:
    """The chips with readable masks, and all values in the masks."""
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
                f"The label of {chip.image} has {mask.shape[1]} × {mask.shape[0]} pixels, but the image has "
                f"{facts.width} × {facts.height}.",
                "Labels must have the same size as their images.",
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
        raise InputError("No label can be read.", "Check that the labels exist and are intact.")
    return kept, seen
