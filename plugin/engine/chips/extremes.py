"""Outliers that are probably undeclared nodata: found per chip, judged over all chips.

A single chip is not enough to judge: a boat on smooth water may be as far off. So the statistics of a chip leave such
values out, and the index stores them separately. When the statistics of chips are merged, the outliers are included
again, except for those far beyond all values of all chips.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from ..errors import InputError
from ..strangers.rules import DAMAGES, LARGEST_FLOAT, find_fault, whole, within
from ..strangers.texts import parse_json
from .statistics import BandStatistics

# The least distance from all other values, in multiples of their range: for a common nodata value, for a value that
# repeats, and for a single pixel.
USUAL_FAR, REPEATED_FAR, SINGLE_FAR = 0.5, 3.0, 100.0
REPEATED = 10  # pixels
_WRITTEN = (
    -999, -9999, -99999, -32767, -32768, -(2**31), 1e20, -1e20, 1e30, -1e30, 1e38, -1e38, 3.4e38, -3.4e38,
    float(np.finfo("f4").max), float(np.finfo("f4").min), 9.969209968386869e36,
)  # fmt: skip
USUAL = {*map(float, _WRITTEN), *(float(np.float32(value)) for value in _WRITTEN)}
# The maximum number of outliers per band of a chip, and the size of the sample for a quick check.
MOST, LOOKED_AT = 4, 256


class Extreme(NamedTuple):
    """An outlier of a chip or dataset."""

    band: int  # counted from 0
    value: float
    pixels: int

    def statistics(self, bands: int) -> BandStatistics:
        """The statistics of its pixels."""
        found = BandStatistics.empty(bands)
        found.count[self.band] = self.pixels
        found.mean[self.band] = found.minimum[self.band] = found.maximum[self.band] = self.value
        return found


def measure(data: np.ndarray, excluded: Optional[np.ndarray]) -> tuple[BandStatistics, list[Extreme]]:
    """The statistics of a chip without its outliers, and the outliers; arguments as of `BandStatistics.of`."""
    found: list[Extreme] = []
    hidden = None
    for band, pixels in enumerate(data):
        values = pixels.ravel() if excluded is None else pixels[~excluded[band]]
        for value, count in _extremes(values):
            if hidden is None:
                hidden = np.zeros(data.shape, bool) if excluded is None else np.array(excluded)
            hidden[band] |= pixels == value
            found.append(Extreme(band, float(value), count))
    return BandStatistics.of(data, excluded if hidden is None else hidden), found


def _extremes(values: np.ndarray) -> list[tuple[Any, int]]:
    """(value, pixels) of the outliers, the farthest first."""
    found: list[tuple[Any, int]] = []
    for _ in range(MOST if values.size else 0):
        low, high = values.min(), values.max()
        if low == high or not _may_have(values, low, high):
            break
        at_low, at_high = values == low, values == high
        inner = values[~(at_low | at_high)]
        counts = int(np.count_nonzero(at_low)), int(np.count_nonzero(at_high))
        if not inner.size:  # only two values: the rarer one is the outlier
            found.append((low, counts[0]) if counts[0] < counts[1] else (high, counts[1]))
            break
        inner_low, inner_high = float(inner.min()), float(inner.max())
        if _is_far(float(low), inner_low, float(high)):
            found.append((low, counts[0]))
            values = values[~at_low]
        elif _is_far(float(high), inner_high, float(low)):
            found.append((high, counts[1]))
            values = values[~at_high]
        else:
            break
    return found


def _may_have(values: np.ndarray, low: Any, high: Any) -> bool:
    """Return False if a sample shows that there is no outlier."""
    some = values[:: max(1, values.size // LOOKED_AT)]
    some = some[(some != low) & (some != high)]
    if not some.size:
        return True
    first, last = float(some.min()), float(some.max())
    # With all values, the nearest is at most as far away, and the range at least as large.
    return _is_far(float(low), first, last) or _is_far(float(high), last, first)


def _is_far(value: float, nearest: float, farthest: float) -> bool:
    """Return whether a value may be an outlier of values that range from `nearest` to `farthest`."""
    return abs(nearest - value) > (USUAL_FAR if value in USUAL else REPEATED_FAR) * abs(farthest - nearest)


def to_json(extremes: Sequence[Extreme]) -> Optional[str]:
    """The outliers as JSON for the index; None if there are none."""
    return json.dumps(extremes) if extremes else None


def from_json(text: Optional[str], bands: int) -> list[Extreme]:
    """Read the result of `to_json`.

    Raises:
        InputError: The text is damaged.
    """
    try:
        found = [Extreme(*row) for row in parse_json((text or "[]").encode("utf-8"))]
        fault = find_fault(
            [
                ("a band", [extreme.band for extreme in found], whole(0, bands - 1)),
                ("a value", [extreme.value for extreme in found], within(-LARGEST_FLOAT, LARGEST_FLOAT)),
                ("a count", [extreme.pixels for extreme in found], whole(0, 2**53)),
            ]
        )
        if fault is not None:
            raise ValueError(fault)
        return found
    except DAMAGES as error:
        raise InputError(f"The index of the chips is damaged ({error}).", "Export the chips again.") from error


class Ranges:
    """The range of each band over all chips, without outliers.

    A value that fills a whole chip is treated like an outlier, since it may be undeclared nodata.
    """

    def __init__(self, bands: int) -> None:
        self.low, self.high = np.full(bands, np.inf), np.full(bands, -np.inf)
        self._judged: dict[tuple[int, float], int] = {}  # pixels by band and value

    def add(self, statistics: BandStatistics, extremes: Iterable[Extreme]) -> None:
        """Include a chip."""
        varied = statistics.minimum < statistics.maximum
        self.low = np.where(varied, np.minimum(self.low, statistics.minimum), self.low)
        self.high = np.where(varied, np.maximum(self.high, statistics.maximum), self.high)
        plain = np.flatnonzero((statistics.minimum == statistics.maximum) & (statistics.count > 0))
        everywhere = (
            Extreme(int(band), float(statistics.minimum[band]), int(statistics.count[band])) for band in plain
        )
        for band, value, count in (*extremes, *everywhere):
            self._judged[band, value] = self._judged.get((band, value), 0) + count

    def far(self) -> list[Extreme]:
        """Return the outliers far beyond all other values of all chips, and extend the ranges by the others."""
        found = []
        distance = {key: self._distance(*key) for key in self._judged}
        for band, value in sorted(distance, key=lambda key: distance[key]):
            count, reach = self._judged[band, value], self.high[band] - self.low[band]
            limit = USUAL_FAR if value in USUAL else REPEATED_FAR if count >= REPEATED else SINGLE_FAR
            if reach > 0 and self._distance(band, value) > limit * reach:
                found.append(Extreme(band, value, count))
            else:
                self.low[band], self.high[band] = min(self.low[band], value), max(self.high[band], value)
        return found

    def _distance(self, band: int, value: float) -> float:
        return float(max(self.low[band] - value, value - self.high[band]))


def together(statistics: BandStatistics, extremes: Iterable[Extreme], far: set[tuple[int, float]]) -> BandStatistics:
    """Merge the statistics of a chip and its outliers, except for those in `far`; bands filled with one are emptied.

    Args:
        statistics: The statistics of the chip, which are changed.
        extremes: Its outliers.
        far: (band, value) of the result of `Ranges.far`.
    """
    for extreme in extremes:
        if (extreme.band, extreme.value) not in far:
            statistics.add(extreme.statistics(len(statistics.count)))
    for band, value in far:
        if statistics.minimum[band] == statistics.maximum[band] == value:
            for name, nothing in vars(BandStatistics.empty(1)).items():
                getattr(statistics, name)[band] = nothing[0]
    return statistics
