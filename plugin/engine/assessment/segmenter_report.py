"""The report of a segmentation training, as a self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..reports import charts, pictures
from ..reports.page import percent, write_page
from . import confusion
from .report import Evaluation, TrainingReport, common_content

NAMED = {"overall_accuracy": "Overall accuracy", "mean_iou": "Mean IoU", "mean_f1": "Mean F1"}
PANELS = {"loss": "Loss", "overall_accuracy": "Overall accuracy", "mean_iou": "Mean IoU"}


@dataclass(frozen=True)
class Example:
    """A chip: its bands (B, H, W), label and prediction as class indices (H, W), and its caption."""

    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    caption: str


@dataclass(frozen=True)
class SegmenterReport(TrainingReport):
    """The content of the report."""

    evaluations: dict[str, Evaluation]  # by split
    training_pixels: np.ndarray  # (C,) labelled pixels of each class
    examples: Sequence[Example]


def write_report(path: str, report: SegmenterReport) -> None:
    """Write the report to an HTML file.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_page(path, "assessment/segmenter_report.html.j2", _content(report))


def _content(report: SegmenterReport) -> dict[str, Any]:
    header, classes = report.header, report.header.classes
    figures = {split: evaluation.figures for split, evaluation in report.evaluations.items()}
    return {
        **common_content(report, figures, NAMED, PANELS, f"{header.architecture} with {header.encoder}"),
        "per_class": _per_class(report),
        "matrices": {
            split: charts.confusion_chart(evaluation.matrix, classes.names)
            for split, evaluation in report.evaluations.items()
        },
        "examples": [
            {
                "caption": example.caption,
                "accuracy": percent(_accuracy(example)),
                "pictures": [
                    ("Image", pictures.png(pictures.stretch(example.image, header.band_names, header.nodata))),
                    ("Label", pictures.png(pictures.colored(example.label, classes))),
                    ("Prediction", pictures.png(pictures.colored(example.prediction, classes))),
                ],
            }
            for example in report.examples
        ],
    }


def _per_class(report: SegmenterReport) -> list[dict[str, Any]]:
    """One row per class: the share of training pixels, and the accuracies in each split."""
    training = np.asarray(report.training_pixels, np.float64)
    rows = []
    for index, info in enumerate(report.header.classes.classes):
        splits = {}
        for split, evaluation in report.evaluations.items():
            matrix = evaluation.matrix
            splits[split] = {
                "pixels": charts.short_count(matrix[:, index].sum()),
                "iou": percent(evaluation.figures["iou"][index]),
                "f1": percent(evaluation.figures["f1"][index]),
                "users": percent(confusion.number(confusion.users_accuracy(matrix)[index])),
                "producers": percent(confusion.number(confusion.producers_accuracy(matrix)[index])),
            }
        rows.append({"class": info, "share": percent(training[index] / max(training.sum(), 1)), "splits": splits})
    return rows


def _accuracy(example: Example) -> float | None:
    known = example.label < 255
    return float((example.label == example.prediction)[known].mean()) if known.any() else None
