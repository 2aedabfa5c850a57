"""Detect values of label rasters that are probably undeclared nodata."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

# The largest values of integer types, which often mark pixels without a class; they stand out among small class values.
LARGEST = (127, 255, 32767, 65535, 2**31 - 1)
USUAL = (999, 9999)


def filling_values(values: Collection[int], known: Collection[int]) -> list[int]:
    """Find values that look like nodata: negative values, and type maxima far above the other class values.

    Args:
        values: All values that are used as classes.
        known: Values that are listed in the class table or have a name, and are classes for certain.
    """
    odd = {value for value in values if value < 0 or value in LARGEST or value in USUAL}
    others = [value for value in values if value not in odd]
    found = []
    for value in sorted(odd - set(known)):
        # In a mask of 0 and 255 only, 255 is the second class.
        if value < 0 or (len(others) > 1 and 2 * max(others) < value):
            found.append(value)
    return found


def filling_warning(pixels: dict[int, int], total: int, known: Collection[int], nodata: Optional[float]) -> str:
    """Warn about label values that look like nodata; "" if there are none.

    Args:
        pixels: The number of pixels of each class value.
        total: The number of pixels examined, labelled or not.
        known: Values that are classes for certain.
        nodata: The nodata value; None if none is declared.
    """
    found = filling_values(pixels, known)
    if not found:
        return ""
    shares = " and ".join(f"{value} in {_percent(pixels[value] / total)}" for value in found)
    declared = "no nodata value is declared" if nodata is None else f"{nodata:.15g} is the nodata value"
    one = len(found) == 1
    free = one and nodata is None
    remedy = f"set LABEL_NODATA to {found[0]}" if free else "list it in CLASS_TABLE with an empty class"
    return (
        f"The label rasters have the value {shares} of their pixels, and {declared}, so "
        f"{'it counts as a class' if one else 'they count as classes'}. If {'it' if one else 'one'} means "
        f'"no label", {remedy}.'
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"
