"""Means and deviations of bands, gathered chip by chip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..errors import InputError
from ..strangers.rules import DAMAGES
from ..strangers.texts import parse_json


@dataclass
class BandStatistics:
    """Running statistics of C bands; each field has shape (C,) and type float64."""

    count: np.ndarray
    mean: np.ndarray
    squares: np.ndarray  # sum of squared deviations from the mean
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def empty(cls, bands: int) -> BandStatistics:
        """Statistics of no pixels."""
        zero = np.zeros(bands)
        return cls(zero, zero.copy(), zero.copy(), np.full(bands, np.inf), np.full(bands, -np.inf))

    @classmethod
    def of(cls, data: np.ndarray, excluded: Optional[np.ndarray]) -> BandStatistics:
        """Statistics of (C, H, W) data without the pixels where `excluded`, (C, H, W) or None, is true."""
        found = cls.empty(len(data))
        for channel, band in enumerate(data):
            values = band[~excluded[channel]] if excluded is not None else band.ravel()
            if values.size == 0:
                continue
            found.count[channel] = values.size
            found.minimum[channel], found.maximum[channel] = values.min(), values.max()
            exact = values.dtype.kind in "iu" and values.dtype.itemsize <= 2  # sums of squares fit a double's 53 bits
            values = values.astype(np.float64)
            mean = values.sum() / values.size
            found.mean[channel] = mean
            if not exact:
                values -= mean
            # Not a product of vectors: BLAS would wake threads of its own for it.
            squares = np.einsum("i,i", values, values)
            found.squares[channel] = max(0.0, squares - values.size * mean**2) if exact else squares
        return found

    def to_json(self) -> str:
        """A row each for count, mean, squares, minimum and maximum; bands without a pixel have 0 everywhere."""
        seen = self.count > 0
        sums = [[f"{value:.10g}" for value in row.tolist()] for row in (self.count, self.mean, self.squares)]
        # To the last digit: they are compared with values of pixels.
        limits = [[repr(value) for value in np.where(seen, row, 0).tolist()] for row in (self.minimum, self.maximum)]
        return "[" + ",".join("[" + ",".join(row) + "]" for row in (*sums, *limits)) + "]"

    @classmethod
    def from_json(cls, text: str, bands: int) -> BandStatistics:
        """Read what `to_json` wrote.

        Raises:
            InputError: It is damaged.
        """
        try:
            count, mean, squares, minimum, maximum = read_statistics(text, bands)
        except ValueError as error:
            raise InputError(f"In the index of the chips {error}.", "Export the chips again.") from error
        seen = count > 0
        return cls(count, mean, squares, np.where(seen, minimum, np.inf), np.where(seen, maximum, -np.inf))

    def add(self, other: BandStatistics) -> None:
        """Count in the pixels of `other` (Chan, Golub and LeVeque 1979, pairwise update of mean and variance)."""
        total = self.count + other.count
        share = np.divide(other.count, total, out=np.zeros_like(total), where=total > 0)
        delta = other.mean - self.mean
        self.squares += other.squares + delta**2 * self.count * share
        self.mean = self.mean + delta * share
        self.count = total
        self.minimum = np.minimum(self.minimum, other.minimum)
        self.maximum = np.maximum(self.maximum, other.maximum)

    @property
    def std(self) -> np.ndarray:
        """(C,) population standard deviation; 0 for a band without variation."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))


def read_statistics(text: str, bands: int) -> np.ndarray:
    """(5, B) float64: the rows that `BandStatistics.to_json` writes.

    Raises:
        ValueError: They are none, or no statistics of so many bands.
    """
    try:
        rows = np.array(parse_json(text.encode("utf-8")), np.float64)
    except DAMAGES as error:
        raise ValueError(f"statistics are damaged: {error}") from error
    # What is squared and summed over all chips must stay finite.
    if rows.shape != (5, bands) or not np.isfinite(rows).all() or (rows[[0, 2]] < 0).any() or (rows[0] > 2**53).any():
        raise ValueError("statistics are damaged")
    return rows
