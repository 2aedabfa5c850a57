"""The report of a training: one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..chips.dataset import DatasetInfo
from ..events import readable_time
from ..models.header import ModelHeader
from ..raster_io import crs_text
from . import charts, confusion, pictures
from .page import percent, write_page


@dataclass(frozen=True)
class Evaluation:
    """How a model does on one split: its figures (see `confusion.figures`, and the loss) and its confusion matrix."""

    figures: dict[str, Any]
    matrix: np.ndarray


@dataclass(frozen=True)
class Example:
    """A chip: its bands (B, H, W), label and prediction as class indices (H, W), and what to call it."""

    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    caption: str


@dataclass(frozen=True)
class TrainingReport:
    """All that the report of a training shows."""

    header: ModelHeader
    info: DatasetInfo
    dataset: str  # the folder
    evaluations: dict[str, Evaluation]  # by split
    examples: Sequence[Example]
    best_epoch: int
    parameters: int
    seconds: float
    device: str


def write_report(path: str, report: TrainingReport) -> None:
    """Write a report.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_page(path, "training_report.html.j2", _content(report))


def _content(report: TrainingReport) -> dict[str, Any]:
    header, classes = report.header, report.header.classes
    main = next((split for split in ("test", "validation") if split in report.evaluations), None)
    return {
        "title": Path(report.dataset).name,
        "cards": _cards(report, main),
        "facts": _facts(report),
        "classes": classes.classes,
        "curves": charts.curves(header.history, report.best_epoch),
        "splits": list(report.evaluations),
        "figures": {split: evaluation.figures for split, evaluation in report.evaluations.items()},
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
        "settings": header.training,
        "versions": header.versions,
    }


def _cards(report: TrainingReport, main: str | None) -> list[tuple[str, str]]:
    """The figures at the top: what matters most, in large type."""
    cards = [
        ("Best epoch", f"{report.best_epoch} of {len(report.header.history)}"),
        ("Time", readable_time(report.seconds)),
    ]
    if main is None:
        return cards
    figures = report.evaluations[main].figures
    named = (("Overall accuracy", "overall_accuracy"), ("Mean IoU", "mean_iou"), ("Mean F1", "mean_f1"))
    return [(f"{name}, {main}", percent(figures[key])) for name, key in named] + cards


def _facts(report: TrainingReport) -> list[tuple[str, str]]:
    header, info = report.header, report.info
    counts = ", ".join(f"{info.chip_counts.get(split, 0):,} {split}" for split in ("training", "validation", "test"))
    names = ", ".join(header.band_names[:16]) + (", …" if len(header.band_names) > 16 else "")
    return [
        ("Chip dataset", report.dataset),
        ("Chips", f"{counts}; {info.chip_size} × {info.chip_size} pixels, stride {info.stride}"),
        ("Bands", f"{len(header.band_names)} ({names}), {header.dtype}"),
        ("Pixel size, CRS", f"{info.pixel_size:g}, {crs_text(info.crs)}"),
        ("Network", f"{header.architecture} with {header.encoder}, {report.parameters:,} parameters"),
        ("Encoder weights", _start(header.training)),
        ("Device", report.device),
    ]


def _start(settings: dict[str, Any]) -> str:
    if settings.get("encoder_weights"):
        return Path(settings["encoder_weights"]).name
    return "ImageNet, downloaded" if settings.get("download_weights") else "random"


def _per_class(report: TrainingReport) -> list[dict[str, Any]]:
    """A row a class: share of the training pixels, and the accuracies in each split."""
    training = np.asarray(report.info.pixel_counts["training"], np.float64)
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
