"""The report of a regression training, as a self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.summary import Summary
from ..reports import charts, pictures
from ..reports.page import decimal, write_page
from .regression import FIGURES, WIDEST
from .report import TrainingReport, common_content, small_picture
from .segmenter_report import Example

NAMED = {"r2": "R²", "rmse": "RMSE", "mae": "MAE"}
PANELS = {"loss": "Loss", "rmse": "RMSE", "r2": "R²"}


@dataclass(frozen=True)
class Errors:
    """The results on one split: figures, and answers by target, and by error, see `regression.BINS`."""

    figures: dict[str, Any]
    pairs: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class RegressionReport(TrainingReport):
    """The content of the report on a network that gives numbers of pixels."""

    evaluations: dict[str, Errors]  # by split
    examples: Sequence[Example]  # labels and predictions are numbers


@dataclass(frozen=True)
class ChipErrors(Errors):
    """The same with (n, 2) what the network says of each chip, and its target."""

    answers: np.ndarray


@dataclass(frozen=True)
class Miss:
    """A chip whose number the network missed."""

    image: np.ndarray  # (B, S, S)
    caption: str
    target: float
    prediction: float


@dataclass(frozen=True)
class ChipRegressionReport(TrainingReport):
    """The content of the report on a network that gives numbers of chips."""

    evaluations: dict[str, ChipErrors]  # by split
    misses: Sequence[Miss]  # the worst first
    misses_split: str
    summary: Summary


def write_regression_report(path: str, report: RegressionReport | ChipRegressionReport) -> None:
    """Write a report.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_page(path, "assessment/regression_report.html.j2", _content(report))


def _content(report: RegressionReport | ChipRegressionReport) -> dict[str, Any]:
    header, target = report.header, report.header.target or {}
    shown: dict[str, Any] = {"examples": [], "misses": [], "misses_split": "", "summary": None}
    if isinstance(report, RegressionReport):
        network, unit = f"{header.architecture} with {header.encoder}", "pixels"
        shown["examples"] = [_example(example, report) for example in report.examples]
    else:
        network, unit = header.architecture, "chips"
        shown["misses"] = [_miss(miss, report) for miss in report.misses]
        shown["misses_split"] = report.misses_split
        shown["summary"] = report.summary.to_json()
    figures = {split: found.figures for split, found in report.evaluations.items()}
    reach = WIDEST * target["std"]
    middle = target["mean"]
    return {
        **common_content(report, figures, NAMED, PANELS, network, decimal),
        "unit": unit,
        "target": target,
        "names": FIGURES,
        "charts": {
            split: (
                charts.pairs_chart(found.pairs, middle - reach, middle + reach),
                charts.errors_chart(found.errors, -reach, reach),
            )
            for split, found in report.evaluations.items()
        },
        **shown,
    }


def _miss(miss: Miss, report: ChipRegressionReport) -> dict[str, Any]:
    return {
        "picture": small_picture(miss.image, report.info),
        "caption": miss.caption,
        "target": decimal(miss.target),
        "prediction": decimal(miss.prediction),
        "error": decimal(miss.prediction - miss.target),
    }


def _example(example: Example, report: RegressionReport) -> dict[str, Any]:
    known = np.isfinite(example.label) & np.isfinite(example.prediction)
    errors = (example.prediction - example.label)[known]
    both = np.concatenate([example.label[known], example.prediction[known]])
    low, high = np.percentile(both, pictures.STRETCH) if both.size else (0.0, 1.0)
    header = report.header
    return {
        "caption": example.caption,
        "rmse": decimal(float(np.sqrt(np.mean(errors**2))) if errors.size else None),
        "range": f"{decimal(float(low))} to {decimal(float(high))}",
        "pictures": [
            ("Image", pictures.png(pictures.stretch(example.image, header.band_names, header.nodata))),
            ("Target", pictures.png(pictures.ramp(example.label, low, high))),
            ("Prediction", pictures.png(pictures.ramp(example.prediction, low, high))),
        ],
    }
