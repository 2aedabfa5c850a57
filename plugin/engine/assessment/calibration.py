"""How far a network's confidence can be trusted: reliability diagrams and the expected calibration error.

Guo et al. (2017), "On calibration of modern neural networks": answers are sorted into bins by their confidence; in each
bin, a calibrated network is right as often as it is confident.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..reports.charts import FAINT, INK, STYLE, TRAINING, VALIDATION, svg
from .confusion import ratio

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """The answers of a network in bins of their confidence, from 0 to 1."""

    counts: np.ndarray  # (BINS,) answers
    confidences: np.ndarray  # (BINS,) sum of their confidences
    right: np.ndarray  # (BINS,) number of right ones

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of confidence and accuracy, 0 to 1."""
        return float(np.abs(self.confidences - self.right).sum() / self.counts.sum())

    @property
    def accuracy(self) -> np.ndarray:
        """(BINS,) share of right answers; NaN in empty bins."""
        return ratio(self.right, self.counts)

    @property
    def confidence(self) -> np.ndarray:
        """(BINS,) mean confidence; NaN in empty bins."""
        return ratio(self.confidences, self.counts)

    def to_json(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        return {
            "error": self.error,
            "counts": self.counts.tolist(),
            "confidences": self.confidences.tolist(),
            "right": self.right.tolist(),
        }


@dataclass(frozen=True)
class Calibration:
    """The temperature of a network, and what it does to its answers."""

    temperature: float
    splits: dict[str, tuple[Reliability, Reliability]]  # without and with the temperature

    def to_json(self) -> dict[str, Any]:
        """The bins of each split, ready for JSON."""
        return {
            split: {"before": before.to_json(), "after": after.to_json()}
            for split, (before, after) in self.splits.items()
        }

    def __str__(self) -> str:
        shown = ", ".join(
            f"of {split} chips {100 * before.error:.2g} % → {100 * after.error:.2g} %"
            for split, (before, after) in self.splits.items()
        )
        why = ", as a difference between confidence and right answers may be chance" if self.temperature == 1 else ""
        return f"temperature {self.temperature:.3g}{why}; expected calibration error {shown}"


def reliability_chart(before: Reliability, after: Reliability) -> str:
    """Draw accuracy over confidence, without and with the temperature, and below it how many answers each bin has."""
    edges = np.linspace(0, 1, BINS + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.6), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="calibrated")
        for one, color, name in ((before, TRAINING, "before"), (after, VALIDATION, "after")):
            label = f"{name}: error {100 * one.error:.2g} %"
            axes.plot(one.confidence, one.accuracy, color=color, linewidth=1.6, marker="o", markersize=3.5, label=label)
            below.stairs(one.counts / one.counts.sum(), edges, color=color, linewidth=1.4)
        axes.set_ylabel("share of right answers")
        axes.set_ylim(0, 1.04)
        axes.legend(frameon=False, fontsize=8.5, loc="upper left")
        below.set_ylabel("answers")
        below.yaxis.set_major_formatter("{x:.0%}")
        below.set_xlabel("confidence")
        below.set_xlim(0, 1)
        for one_axes in (axes, below):
            one_axes.grid(axis="y", color=FAINT, linewidth=0.6)
            one_axes.set_axisbelow(True)
            one_axes.tick_params(length=0)
        return svg(figure)
