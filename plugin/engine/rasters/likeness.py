"""Whether two images look alike to a network: names of bands, pixel sizes, values."""

from __future__ import annotations

import re
from collections.abc import Sequence

PIXEL_SIZE_TOLERANCE = 1.2  # ratio of the larger to the smaller
# How far a band's mean may be from that of training, in standard deviations of training, and its standard deviation, as
# a factor.
FAR_MEAN = 4.0
FAR_SPREAD = 20.0


def named_otherwise(names: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether bands in the same place have different names; names such as "band 1" fit all others."""
    pairs = [(name.casefold(), other.casefold()) for name, other in zip(names, others)]
    return any(name != other and not (_generic(name) or _generic(other)) for name, other in pairs)


def _generic(name: str) -> bool:
    return re.fullmatch(r"band[ _]?\d+", name) is not None


def sizes_differ(size: float, other: float) -> bool:
    """Return whether objects in pixels of two sizes look larger or smaller to a network."""
    return max(size, other) > PIXEL_SIZE_TOLERANCE * min(size, other)


def far_off(mean: float, std: float, usual_mean: float, usual_std: float) -> bool:
    """Return whether a band's values differ so much from training that bands or units are probably wrong.

    A small standard deviation alone is no sign, because a lake is smooth; in other units, the mean shrinks as well.
    """
    if abs(mean - usual_mean) > FAR_MEAN * (usual_std or 1.0):
        return True
    if usual_std == 0:
        return False
    shrunk = std * FAR_SPREAD < usual_std and abs(mean) * FAR_SPREAD < abs(usual_mean)
    return shrunk or std > FAR_SPREAD * usual_std
