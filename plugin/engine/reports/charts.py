"""Charts for reports, as SVG to embed in HTML."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

UNLIMITED = ("loss", "rmse", "r2")  # figures that may be above 1 or below 0
INK, FAINT, TRAINING, VALIDATION = "#1f2933", "#d5dbe1", "#8a97a6", "#0b6e4f"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",  # keep text as text: sharp, small and searchable
    "svg.hashsalt": "terrazzo",  # makes the output reproducible
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def curves(history: Sequence[dict[str, Any]], best_epoch: int, panels: Mapping[str, str]) -> str:
    """Draw accuracies or losses by epoch, for training and validation, and the learning rate; mark the best epoch.

    Args:
        history: The records of all epochs.
        best_epoch: The epoch to mark.
        panels: Key in the records → title.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 3.1), layout="constrained")
        rows = figure.subplots(1, len(panels) + 1)
        for axes, (key, title) in zip(rows, panels.items()):
            _curve(axes, history, key, best_epoch)
            axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        _rate_curve(rows[-1], history, best_epoch)
        rows[0].legend(frameon=False, fontsize=8.5)
        return svg(figure)


def _curve(axes: Axes, history: Sequence[dict[str, Any]], key: str, best_epoch: int) -> None:
    epochs = [record["epoch"] for record in history]
    _prepare_axes(axes, best_epoch)
    for split, color in (("training", TRAINING), ("validation", VALIDATION)):
        values = [
            math.nan if not record[split] or record[split][key] is None else record[split][key] for record in history
        ]
        if not np.isnan(values).all():
            axes.plot(
                epochs,
                values,
                color=color,
                linewidth=1.6,
                marker="o",
                markersize=3 if len(epochs) < 40 else 0,
                label=split,
            )
            if best_epoch in epochs:
                axes.plot(best_epoch, values[epochs.index(best_epoch)], "o", color=color, markersize=6)
    if key not in UNLIMITED:
        axes.set_ylim(0, 1.04)


def _rate_curve(axes: Axes, history: Sequence[dict[str, Any]], best_epoch: int) -> None:
    """Draw the highest learning rate of the last step of each epoch."""
    _prepare_axes(axes, best_epoch)
    epochs, rates = [record["epoch"] for record in history], [record["learning_rate"] for record in history]
    axes.plot(epochs, rates, color=INK, linewidth=1.6, marker="o", markersize=3 if len(epochs) < 40 else 0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.set_title("Learning rate", loc="left", fontsize=10, fontweight="bold")


def _prepare_axes(axes: Axes, best_epoch: int) -> None:
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.axvline(best_epoch, color=VALIDATION, linewidth=0.8, linestyle=(0, (4, 3)), label="best epoch")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def confusion_chart(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Draw a confusion matrix; each cell has its share of the row as colour and text, and its count.

    Args:
        matrix: (C, C) counts, rows = map, columns = reference.
        names: (C,) names of the classes.
    """
    classes = len(names)
    rows = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, rows, out=np.zeros(matrix.shape), where=rows > 0)
    cell = 0.82 if classes <= 8 else 0.5
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(max(3.6, 1.7 + cell * classes), max(2.6, 1.3 + cell * classes)), layout="constrained")
        axes = figure.subplots()
        axes.pcolormesh(shares, cmap="Greens", vmin=0, vmax=1.15, edgecolors="white", linewidth=1.5)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        for (row, col), share in np.ndenumerate(shares if classes <= 20 else np.empty((0, 0))):
            ink = "white" if share > 0.6 else INK
            text = f"{share:.0%}" if rows[row, 0] else "–"
            if classes <= 8:
                axes.text(col + 0.5, row + 0.38, text, ha="center", va="center", color=ink, fontsize=10)
                count = short_count(matrix[row, col])
                axes.text(col + 0.5, row + 0.74, count, ha="center", va="center", color=ink, fontsize=7)
            else:
                axes.text(col + 0.5, row + 0.5, text, ha="center", va="center", color=ink, fontsize=7)
        # Matplotlib would read a pair of dollar signs as a formula.
        labels = [(name if len(name) <= 24 else name[:23] + "…").replace("$", r"\$") for name in names]
        slanted: dict[str, Any] = {"rotation": 40, "ha": "right"} if max(map(len, labels)) > 9 or classes > 8 else {}
        axes.set_xticks(np.arange(classes) + 0.5, labels, **slanted)
        axes.set_yticks(np.arange(classes) + 0.5, labels)
        axes.set_xlabel("label")
        axes.set_ylabel("prediction")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return svg(figure)


def pairs_chart(pairs: np.ndarray, low: float, high: float) -> str:
    """Draw how often which prediction went with which target.

    Args:
        pairs: (n, n) pixels by prediction (rows) and target (columns), in even bins.
        low, high: Where the bins begin and end.
    """
    used = np.flatnonzero(pairs.any(axis=0) | pairs.any(axis=1))
    first, last = (int(used[0]), int(used[-1]) + 1) if used.size else (0, len(pairs))
    edges = np.linspace(low, high, len(pairs) + 1)[first : last + 1]
    shown = pairs[first:last, first:last]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 4.0), layout="constrained")
        axes = figure.subplots()
        cells = np.ma.masked_equal(shown, 0)
        # As one picture: many thousands of shapes would make the page heavy.
        axes.pcolormesh(edges, edges, cells, cmap="Greens", norm=LogNorm(1, max(2, shown.max())), rasterized=True)
        axes.plot(edges[[0, -1]], edges[[0, -1]], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_aspect("equal")
        axes.set_xlabel("target")
        axes.set_ylabel("prediction")
        axes.tick_params(length=0)
        return svg(figure)


def errors_chart(errors: np.ndarray, low: float, high: float) -> str:
    """Draw a histogram of errors.

    Args:
        errors: (n,) pixels by error, in even bins.
        low, high: Where the bins begin and end.
    """
    used = np.flatnonzero(errors)
    first, last = (int(used[0]), int(used[-1]) + 1) if used.size else (0, len(errors))
    edges = np.linspace(low, high, len(errors) + 1)[first : last + 1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 4.0), layout="constrained")
        axes = figure.subplots()
        axes.stairs(errors[first:last], edges, fill=True, color=VALIDATION, alpha=0.75)
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlabel("prediction − target")
        axes.set_ylabel("pixels")
        axes.tick_params(length=0)
        return svg(figure)


def short_count(count: float) -> str:
    """A count in about four characters: "950", "12.3k", "4.56M"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def svg(figure: Figure) -> str:
    """A figure as SVG to embed in HTML."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
