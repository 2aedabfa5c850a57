"""The effect of a threshold on precision, recall and F1."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..reports.charts import FAINT, STYLE, TRAINING, VALIDATION, svg
from . import confusion

STEPS = 201
PRECISION, RECALL = "#b45309", TRAINING


def threshold_figures(probabilities: np.ndarray, shown: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 for each threshold; NaN if undefined.

    Args:
        probabilities: (n,).
        shown: (n,) bool, true for chips with the class.
        thresholds: (t,), ascending.

    Returns:
        "precision", "recall" and "F1", (t,) each.
    """
    ranked = np.sort(probabilities), np.sort(probabilities[shown])
    said, right = (len(values) - np.searchsorted(values, thresholds, side="left") for values in ranked)
    whole = np.full(len(thresholds), shown.sum())
    return {
        "precision": confusion.ratio(right, said),
        "recall": confusion.ratio(right, whole),
        "F1": confusion.ratio(2 * right, said + whole),
    }


def threshold_chart(probabilities: np.ndarray, shown: np.ndarray, threshold: float) -> str:
    """Draw the curves over all thresholds, with the current one marked; arguments as of `threshold_figures`."""
    thresholds = np.linspace(0, 1, STEPS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.axvline(threshold, color=VALIDATION, linewidth=0.8, linestyle=(0, (4, 3)))
        colors = {"precision": PRECISION, "recall": RECALL, "F1": VALIDATION}
        for name, values in threshold_figures(probabilities, shown, thresholds).items():
            axes.plot(thresholds, values, color=colors[name], linewidth=1.6, label=name)
        axes.set_xlabel("threshold")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.04)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.legend(frameon=False, fontsize=8.5, loc="lower left")
        return svg(figure)
