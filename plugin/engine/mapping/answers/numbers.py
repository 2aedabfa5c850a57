"""Numbers that a model predicts: their statistics, and the colours that they are drawn in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Colours of numbers from the lowest to the highest: viridis.
RAMP = ((0.0, "#440154"), (0.25, "#3b528b"), (0.5, "#21918c"), (0.75, "#5ec962"), (1.0, "#fde725"))
# Where one colour of features and polygons ends and the next begins, in standard deviations of the target.
EDGES = (-1.2, -0.4, 0.4, 1.2)
FAR = 1e30  # beyond all numbers, because QGIS draws nothing outside the ranges


class NumberRange(NamedTuple):
    """A range of numbers that is drawn in one colour."""

    low: float
    high: float
    label: str
    color: str


def number_ranges(target: dict[str, float]) -> list[NumberRange]:
    """Return the ranges in which polygons and other features are drawn; equal for all maps of a model.

    Args:
        target: Statistics of the target, see `ModelHeader`.
    """
    edges = [target["mean"] + edge * target["std"] for edge in EDGES]
    texts = [f"{edge:.3g}" for edge in edges]
    labels = [
        f"below {texts[0]}", *(f"{low} to {high}" for low, high in zip(texts, texts[1:])), f"{texts[-1]} and above"
    ]  # fmt: skip
    bounds = zip([-FAR, *edges], [*edges, FAR])
    return [NumberRange(*pair, label, color) for pair, label, (_, color) in zip(bounds, labels, RAMP)]


class Moments:
    """Minimum, maximum, mean and standard deviation of numbers that are seen part by part."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = self._squares = 0.0
        self._lowest, self._highest = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Add finite numbers."""
        if values.size:
            found = values.astype(np.float64)
            self.count += found.size
            self._sum += found.sum()
            self._lowest, self._highest = min(self._lowest, found.min()), max(self._highest, found.max())
            self._squares += np.square(found, out=found).sum()

    @property
    def figures(self) -> dict[str, float]:
        """Minimum, maximum, mean and standard deviation; of at least one number."""
        mean = self._sum / self.count
        std = float(np.sqrt(max(self._squares / self.count - mean**2, 0.0)))
        return {"minimum": float(self._lowest), "maximum": float(self._highest), "mean": float(mean), "std": std}

    def __str__(self) -> str:
        return "{minimum:.3g} to {maximum:.3g}, mean {mean:.3g}".format(**self.figures)
