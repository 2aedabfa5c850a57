"""Values of label rasters that look as if they meant "no label", though nothing says so."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

# The largest values of types, with which others mark what has no class; among small class values they stand out.
LARGEST = (127, 255, 32767, 65535, 2**31 - 1)
USUAL = (999, 9999)


def filling_values(values: Collection[int], known: Collection[int]) -> list[int]:
    """The values that look like filling: negative ones, and those that are far beyond the classes and in use for it.

    Args:
        values: All values that are taken for classes.
        known: Those that the user lists or that have a name, which are classes without a question.
    """
    odd = {value for value in values if value < 0 or value in LARGEST or value in USUAL}
    others = [value for value in values if value not in odd]
    found = []
    for value in sorted(odd - set(known)):
        # 255 beside 0 alone is the other class of a mask.
        if value < 0 or (len(others) > 1 and 2 * max(others) < value):
            found.append(value)
    return found


def filling_warning(pixels: dict[int, int], total: int, known: Collection[int], nodata: Optional[float]) -> str:
    """What to tell of a label raster's values that look like filling; "" where none does.

    Args:
        pixels: How many pixels each value has that is taken for a class.
        total: The pixels that were looked at, labelled or not.
        known: Values that are classes without a question.
        nodata: The value that means "no label" already.
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
        f"The label rasters have the value {shares} of their pixels, and {declared}: "
        f"{'it is taken for a class' if one else 'they are taken for classes'}. Where {'it' if one else 'one'} means "
        f'"no label", {remedy}.'
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"
