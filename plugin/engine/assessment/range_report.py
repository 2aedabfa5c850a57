"""The report of a learning rate range test: one HTML file that needs nothing beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..events import readable_time
from ..reports.charts import FAINT, INK, STYLE, TRAINING, VALIDATION, svg
from ..reports.page import MISSING, write_page

STEEPEST = "#b45309"
HEADROOM = 0.3  # of the range of smoothed losses, above the first one


@dataclass(frozen=True)
class RangeReport:
    """All that the report shows; n steps."""

    dataset: str
    network: str
    optimizer: str
    batch_size: int
    device: str
    seconds: float
    rates: np.ndarray  # (n,)
    losses: np.ndarray  # (n,)
    smoothed: np.ndarray  # (n,)
    valley: float | None
    steepest: float | None
    automatic: float
    settings: dict[str, Any]


def write_report(path: str, report: RangeReport) -> None:
    """Write a report.

    Raises:
        ResourceError: The file cannot be written.
    """
    content = {
        "title": Path(report.dataset).name,
        "cards": [
            ("Valley", rate_text(report.valley)),
            ("Steepest", rate_text(report.steepest)),
            ("Automatic", rate_text(report.automatic)),
            ("Time", readable_time(report.seconds)),
        ],
        "chart": _chart(report),
        "facts": [
            ("Chips", report.dataset),
            ("Network", report.network),
            ("Optimizer", report.optimizer),
            ("Chips a step", report.batch_size),
            ("Steps", f"{len(report.rates)}, at learning rates from {report.rates[0]:.2g} to {report.rates[-1]:.2g}"),
            ("Device", report.device),
        ],
        "valley": report.valley,
        "settings": {name: value for name, value in report.settings.items() if value is not None},
    }
    write_page(path, "assessment/range_report.html.j2", content)


def rate_text(rate: float | None) -> str:
    """A learning rate in two digits."""
    return MISSING if rate is None else f"{rate:.2g}"


def _chart(report: RangeReport) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.plot(report.rates, report.losses, ".", color=TRAINING, markersize=4, alpha=0.6, label="loss of a batch")
        axes.plot(report.rates, report.smoothed, color=INK, linewidth=1.8, label="smoothed")
        for name, rate, color in (
            ("valley", report.valley, VALIDATION),
            ("steepest", report.steepest, STEEPEST),
            ("automatic", report.automatic, TRAINING),
        ):
            if rate is not None:
                style = (0, (1, 2)) if name == "automatic" else (0, (4, 3))
                axes.axvline(rate, color=color, linewidth=1.2, linestyle=style, label=f"{name}: {rate_text(rate)}")
        low, first = float(report.smoothed.min()), float(report.smoothed[0])
        room = HEADROOM * max(first - low, abs(low) / 10, 1e-9)
        axes.set_ylim(low - room, first + 3 * room)  # what diverges would flatten all else
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.legend(frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(0, 1), ncol=5)  # above the plot
        return svg(figure)
