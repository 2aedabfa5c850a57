"""Mean, standard deviation and range of bands, accumulated over chips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..errors import InputError
from ..strangers.rules import DAMAGES
from ..strangers.texts import parse_json


@dataclass
class BandStatistics:
    """Running statistics of C bands; all fields have shape (C,) and type float64."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray  # sum of squared deviations from the mean
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def empty(cls, bands: int) -> BandStatistics:
        """Statistics of zero pixels."""
        zero = np.zeros(bands)
        return cls(zero, zero.copy(), zero.copy(), np.full(bands, np.inf), np.full(bands, -np.inf))

    @classmethod
    def of(cls, data: np.ndarray, excluded: Optional[np.ndarray]) -> BandStatistics:
        """Compute the statistics of (C, H, W) data, without the pixels where `excluded` is true; it may be None."""
        found = cls.empty(len(data))
        for channel, band in enumerate(data):
            values = band[~excluded[channel]] if excluded is not None else band.ravel()
            if values.size == 0:
                continue
            found.count[channel] = values.size
            found.minimum[channel], found.maximum[channel] = values.min(), values.max()
            exact = values.dtype.kind in "iu" and values.dtype.itemsize <= 2  # sums of squares are exact in float64
            values = values.astype(np.float64)
            mean = values.sum() / values.size
            found.mean[channel] = mean
            if not exact:
                values -= mean
            # Not a dot product, for which BLAS would start threads.
            squares = np.einsum("i,i", values, values)
            found.squares[channel] = max(0.0, squares - values.size * mean**2) if exact else squares
        return found

    def to_json(self) -> str:
        """Rows of count, mean, squares, minimum and maximum as JSON; all are 0 for bands without pixels."""
        seen = self.count > 0
        sums = [[f"{value:.10g}" for value in row.tolist()] for row in (self.count, self.mean, self.squares)]
        # With all digits, since they are compared with pixel values.
        limits = [[repr(value) for value in np.where(seen, row, 0).tolist()] for row in (self.minimum, self.maximum)]
        return "[" + ",".join("[" + ",".join(row) + "]" for row in (*sums, *limits)) + "]"

    @classmethod
    def from_json(cls, text: str, bands: int) -> BandStatistics:
        """Read the result of `to_json`.

        Raises:
            InputError: The text is damaged.
        """
        try:
            count, mean, squares, minimum, maximum = read_statistics(text, bands)
        except ValueError as error:
            raise InputError(f"The index of the chips is damaged: {error}.", "Export the chips again.") from error
        seen = count > 0
        return cls(count, mean, squares, np.where(seen, minimum, np.inf), np.where(seen, maximum, -np.inf))

    def add(self, other: BandStatistics) -> None:
        """Merge the statistics of `other` (Chan, Golub and LeVeque 1979, pairwise update of mean and variance)."""
        total = self.count + other.count
        share = np.divide(other.count, total, out=np.zeros_like(total), where=total > 0)
        delta = other.mean - self.mean
        self.squares += other.squares + delta**2 * self.count * share
        self.mean = self.mean + delta * share
        self.count = total
        self.minimum = np.minimum(self.minimum, other.minimum)
        self.maximum = np.maximum(self.maximum, other.maximum)

    @property
    def known_mean(self) -> np.ndarray:
        """(C,) mean; NaN for a band without pixels."""
        return np.where(self.count > 0, self.mean, np.nan)

    @property
    def std(self) -> np.ndarray:
        """(C,) population standard deviation; 0 for a band without variation."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))


def read_statistics(text: str, bands: int) -> np.ndarray:
    """Read the rows written by `BandStatistics.to_json`: (5, B) float64.

    Raises:
        ValueError: The text is not valid, or has another number of bands.
    """
    try:
        rows = np.array(parse_json(text.encode("utf-8")), np.float64)
    except DAMAGES as error:
        raise ValueError(f"statistics are damaged: {error}") from error
    # Squares and sums over all chips must stay finite.
    if rows.shape != (5, bands) or not np.isfinite(rows).all() or (rows[[0, 2]] < 0).any() or (rows[0] > 2**53).any():
        raise ValueError("statistics are damaged")
    return rows
