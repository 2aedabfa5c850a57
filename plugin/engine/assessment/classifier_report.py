"""The report of a classification training, as a self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models.summary import Summary
from ..reports import charts
from ..reports.page import percent, write_page
from . import scores
from .report import TrainingReport, common_content, small_picture
from .threshold_chart import threshold_chart

NAMED = {"overall_accuracy": "Overall accuracy", "mean_f1": "Mean F1"}
PANELS = {"loss": "Loss", "overall_accuracy": "Overall accuracy", "mean_f1": "Mean F1"}
NAMED_SEVERAL = {
    "mean_average_precision": "Mean average precision",
    "mean_f1": "Mean F1",
    "label_accuracy": "Right answers",
}
PANELS_SEVERAL = {"loss": "Loss", "mean_average_precision": "Mean average precision", "mean_f1": "Mean F1"}


@dataclass(frozen=True)
class Answered:
    """The results of a model on a split.

    Attributes:
        figures: Accuracies from `scores`, and the loss.
        probabilities: (n, C).
        reference: (n,) class indices, or (n, C) bool if chips may have several classes.
    """

    figures: dict[str, Any]
    probabilities: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class Mistake:
    """A chip with a wrong prediction."""

    image: np.ndarray  # (B, S, S)
    caption: str
    reference: list[tuple[int, float]]  # (class index, probability) of its true classes
    prediction: list[tuple[int, float]]  # (class index, probability) of the predicted classes


@dataclass(frozen=True)
class ClassifierReport(TrainingReport):
    """The content of the report."""

    answered: dict[str, Answered]  # by split
    shown: dict[str, np.ndarray]  # by split: (C,) number of chips with each class
    mistakes: Sequence[Mistake]  # the worst first
    mistakes_split: str
    summary: Summary

    @property
    def several(self) -> bool:
        """Whether a chip may have several classes."""
        return self.header.task == "multilabel"


def write_report(path: str, report: ClassifierReport) -> None:
    """Write the report to an HTML file.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_page(path, "assessment/classifier_report.html.j2", _content(report))


def _content(report: ClassifierReport) -> dict[str, Any]:
    header, several = report.header, report.several
    figures = {split: answered.figures for split, answered in report.answered.items()}
    named, panels = (NAMED_SEVERAL, PANELS_SEVERAL) if several else (NAMED, PANELS)
    return {
        **common_content(report, figures, named, panels, header.architecture),
        "several": several,
        "threshold": header.threshold,
        "per_class": _per_class(report),
        "matrices": {} if several else _matrices(report),
        "thresholds": _thresholds(report),
        "mistakes": [_shown(mistake, report) for mistake in report.mistakes],
        "mistakes_split": report.mistakes_split,
        "mistakes_count": _wrong(report),
        "summary": report.summary.to_json(),
    }


def _per_class(report: ClassifierReport) -> list[dict[str, Any]]:
    """One row per class: the number of training chips, and the accuracies in each split."""
    names = ["precision", "recall", "f1", *(["average_precision"] if report.several else [])]
    rows = []
    for index, info in enumerate(report.header.classes.classes):
        splits = {
            split: {
                "chips": f"{report.shown[split][index]:,}",
                "values": [percent(answered.figures[name][index]) for name in names],
            }
            for split, answered in report.answered.items()
        }
        rows.append({"class": info, "training": f"{report.shown['training'][index]:,}", "splits": splits})
    return rows


def _matrices(report: ClassifierReport) -> dict[str, str]:
    return {
        split: charts.confusion_chart(
            scores.chip_matrix(answered.probabilities, answered.reference, report.header.threshold),
            report.header.classes.names,
        )
        for split, answered in report.answered.items()
    }


def _thresholds(report: ClassifierReport) -> dict[str, str]:
    """A chart per split of the effect of other thresholds; empty if the task has no threshold."""
    if not report.several and len(report.header.classes) != 2:
        return {}
    threshold = 0.5 if report.header.threshold is None else report.header.threshold
    charts_by_split = {}
    for split, answered in report.answered.items():
        probabilities = answered.probabilities if report.several else answered.probabilities[:, 1]
        shown = answered.reference > 0 if report.several else answered.reference == 1
        charts_by_split[split] = threshold_chart(probabilities.ravel(), shown.ravel(), threshold)
    return charts_by_split


def _wrong(report: ClassifierReport) -> tuple[int, int]:
    """The number of chips with a wrong prediction in the split shown, and the number of its chips."""
    answered = report.answered.get(report.mistakes_split)
    if answered is None:
        return 0, 0
    right = answered.figures["overall_accuracy"] or 0.0
    count = len(answered.reference)
    return round((1 - right) * count), count


def _shown(mistake: Mistake, report: ClassifierReport) -> dict[str, Any]:
    classes = report.header.classes.classes
    answers = {
        name: [(classes[index], percent(probability)) for index, probability in pairs]
        for name, pairs in (("label", mistake.reference), ("network", mistake.prediction))
    }
    return {
        "picture": small_picture(mistake.image, report.info),
        "caption": mistake.caption,
        **answers,
    }
