"""Charts of an inspection report, as SVG; their legends are in the page."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from ..classes import ClassTable
from ..reports.charts import FAINT, INK, STYLE, svg
from .shares import ClassShares

# The colours of footprints in QGIS: visible on any image, and with red-green colour blindness.
SPLIT_COLORS = {"training": "#ffb000", "validation": "#648fff", "test": "#dc267f", "none": "#9aa5b1"}
BINS = 64
TALLEST = 4.0  # limit of a column's height, relative to the 90th percentile
HISTOGRAM_RANGE = (0.2, 99.8)  # percentiles, so that outliers do not compress the rest
LONGEST_NAME = 28


def class_bars(shares: ClassShares, classes: ClassTable) -> str:
    """Draw the share of each class in each split, as grouped bars."""
    count = len(classes)
    rows = [row for row, name in enumerate(shares.names) if name in ("training", "validation", "test")]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 0.9 + count * (0.16 * len(rows) + 0.18)), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(rows):
            values = np.nan_to_num(shares.shares[row])
            heights = np.arange(count) + (place - (len(rows) - 1) / 2) * 0.8 / len(rows)
            bars = axes.barh(heights, values, 0.72 / len(rows), color=SPLIT_COLORS[shares.names[row]])
            axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=3, fontsize=7.5)
        axes.set_yticks(np.arange(count), [shown_name(name) for name in classes.names])
        axes.set_ylim(count - 0.45, -0.55)
        axes.set_xlim(0, 1.1 * max(np.nanmax(shares.shares[rows], initial=0), 1e-6))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        axes.grid(axis="x", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        return svg(figure)


def histograms(names: Sequence[str], values: Sequence[dict[str, np.ndarray]]) -> str:
    """Draw a histogram per band, with one normalised line per split.

    Args:
        names: Names of the bands, or of other quantities.
        values: For each band, split → values.
    """
    columns = min(4, max(len(names), 2))
    rows = -(-len(names) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 0.4 + 1.55 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, name, of_splits in zip(panels, names, values):
            known = {split: some for split, some in of_splits.items() if len(some)}
            if known:
                _steps(axes, known)
            axes.set_title(shown_name(name), loc="left", fontsize=9, fontweight="bold")
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(FuncFormatter(_plain))
            axes.tick_params(length=2, labelsize=7.5)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        return svg(figure)


def _steps(axes: Axes, of_splits: dict[str, np.ndarray]) -> None:
    edges = _edges(np.concatenate(list(of_splits.values())))
    drawn = []
    for split, some in of_splits.items():
        heights = np.histogram(some, edges)[0] / len(some)
        drawn.append(heights[heights > 0])
        color = SPLIT_COLORS[split]
        if split == "training":
            axes.stairs(heights, edges, fill=True, color=color, alpha=0.35)
        dashes = (0, (3, 1.5)) if split == "test" else "-"
        axes.stairs(heights, edges, color=color, linewidth=1.3, linestyle=dashes)
    heights = np.concatenate([*drawn, [1e-9]])
    # A value that fills half of the image would flatten all other columns.
    axes.set_ylim(0, min(1.08 * heights.max(), TALLEST * np.percentile(heights, 90)))


def _edges(values: np.ndarray) -> np.ndarray:
    """Bin edges; integers for integer values, so that all bins contain equally many of them."""
    low, high = np.percentile(values, HISTOGRAM_RANGE)
    if values.dtype.kind in "iu":
        width = max(1, int(np.ceil((high - low + 1) / BINS)))
        return np.arange(np.floor(low), np.ceil(high) + width + 1, width) - 0.5
    if not high > low:
        return np.array([low - 0.5, low + 0.5])
    return np.linspace(low, high, BINS + 1)


def signatures(classes: ClassTable, names: Sequence[str], means: np.ndarray, deviations: np.ndarray) -> str:
    """Draw the spectral signatures of the classes: a line through the means, with a band of ± one standard deviation.

    Args:
        classes: The classes.
        names: Names of the bands.
        means, deviations: (C, B), in standard deviations from the mean of the training chips; NaN for a class without
            pixels.
    """
    places = np.arange(len(names))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 3.2), layout="constrained")
        axes = figure.subplots()
        for index, info in enumerate(classes.classes):
            if np.isnan(means[index]).all():
                continue
            axes.fill_between(places, means[index] - deviations[index], means[index] + deviations[index],
                              color=info.color, alpha=0.12, linewidth=0)  # fmt: skip
            axes.plot(places, means[index], color=INK, alpha=0.25, linewidth=2.8)  # an outline for pale colours
            axes.plot(places, means[index], color=info.color, linewidth=1.8, marker="o",
                      markersize=4 if len(names) < 40 else 0)  # fmt: skip
        step = max(1, len(names) // 24)
        slanted = max(map(len, names)) * len(names[::step]) > 110
        axes.set_xticks(places[::step], [shown_name(name) for name in names[::step]], fontsize=8,
                        rotation=35 if slanted else 0, ha="right" if slanted else "center")  # fmt: skip
        axes.set_ylabel("standard deviations from the mean")
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        return svg(figure)


def counts_chart(labels: Sequence[str], counts: Sequence[int], title: str) -> str:
    """Draw the number of chips of each kind, as columns."""
    places = np.arange(len(labels))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(3.0, min(10.4, 1 + 0.42 * len(labels))), 2.0), layout="constrained")
        axes = figure.subplots()
        bars = axes.bar(places, counts, 0.7, color="#8a97a6")
        if len(labels) <= 24:
            axes.bar_label(bars, [f"{count:,}" for count in counts], padding=2, fontsize=7.5)
        step = max(1, len(labels) // 24)
        axes.set_xticks(places[::step], labels[::step], fontsize=8)
        axes.set_xlabel(title)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.tick_params(length=0)
        return svg(figure)


def shown_name(name: str) -> str:
    """A name shortened for a chart, without dollar signs, which Matplotlib would read as formulas."""
    return (name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…").replace("$", r"\$")


def _plain(value: float, _: int) -> str:
    return f"{value:,.10g}"
