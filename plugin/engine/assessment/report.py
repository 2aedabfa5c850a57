"""Common parts of all training reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..chips.dataset import DatasetInfo
from ..events import readable_time
from ..models.header import ModelHeader
from ..models.pretrained import PUBLISHED
from ..rasters.raster_io import crs_text
from ..reports import charts, pictures
from ..reports.page import percent
from .calibration import Calibration, reliability_chart
from .confusion import doubt

SIDE = 224  # maximum side of a small picture in pixels
STANDARDISED = -2.0, 2.0  # the range in which standardised targets are drawn


@dataclass(frozen=True)
class Evaluation:
    """The results on one split: accuracies, loss and confusion matrix."""

    figures: dict[str, Any]
    matrix: np.ndarray


@dataclass(frozen=True)
class Varied:
    """A chip without and with augmentation: small pictures of three bands, and masks if it has any."""

    images: list[np.ndarray]  # (3, s, s) each, in stored values; NaN where missing
    masks: list[np.ndarray]  # (s, s) each, class indices or standardised targets
    caption: str


@dataclass(frozen=True)
class TrainingReport:
    """The content common to all training reports."""

    header: ModelHeader
    info: DatasetInfo
    dataset: str  # the folder
    chips: dict[str, int]  # by split
    best_epoch: int
    parameters: int
    seconds: float
    device: str
    variants: Sequence[Varied]
    calibration: Calibration | None


def common_content(
    report: TrainingReport,
    figures: Mapping[str, dict[str, Any]],
    named: Mapping[str, str],
    panels: Mapping[str, str],
    network: str,
    text: Callable[[float | None], str] = percent,
) -> dict[str, Any]:
    """The content for the template that all training reports extend.

    Args:
        report: The report.
        figures: Split → accuracies.
        named: Key → name of the accuracies shown in large type.
        panels: Key → name of the accuracies shown as curves.
        network: A short description of the network.
        text: Formats the accuracies shown in large type.
    """
    main = next((split for split in ("test", "validation") if split in figures), None)
    cards = [(f"{name}, {main}", text(figures[main].get(key))) for key, name in named.items()] if main else []
    return {
        "title": Path(report.dataset).name,
        "cards": [
            *cards,
            ("Best epoch", f"{report.best_epoch} of {len(report.header.history)}"),
            ("Time", readable_time(report.seconds)),
        ],
        "doubts": _doubts(report, figures),
        "named": named,
        "compared": _compared(report.header.metrics.get("baseline") or {}, figures, named, text),
        "facts": _facts(report, network),
        "classes": report.header.classes.classes,
        "curves": charts.curves(report.header.history, report.best_epoch, panels),
        "variants": [_strips(varied, report.info) for varied in report.variants],
        "calibration": _calibration(report.calibration),
        "splits": list(figures),
        "figures": figures,
        "settings": report.header.recipe,
        "versions": report.header.versions,
    }


def usual_limits(info: DatasetInfo) -> np.ndarray:
    """The common stretch of all pictures: (3, 2) usual range of the bands that are shown."""
    return np.stack(info.usual_range(), axis=1)[pictures.visible_bands(info.band_names)]


def small_picture(image: np.ndarray, info: DatasetInfo) -> str:
    """A picture of a chip (B, S, S), with the stretch of all pictures."""
    small = pictures.smaller(image[pictures.visible_bands(info.band_names)], SIDE, info.nodata)
    return pictures.jpeg(pictures.between(small, usual_limits(info), info.nodata))


def _strips(varied: Varied, info: DatasetInfo) -> dict[str, str]:
    """The pictures of a chip side by side, and its masks."""
    limits = usual_limits(info)
    masks = [
        pictures.ramp(mask, *STANDARDISED) if info.target else pictures.colored(mask, info.classes)
        for mask in varied.masks
    ]
    return {
        "images": pictures.jpeg(pictures.strip([pictures.between(image, limits) for image in varied.images])),
        "masks": pictures.png(pictures.strip(masks)) if masks else "",
        "caption": varied.caption,
    }


def _calibration(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    charts_by_split = {split: reliability_chart(*effect) for split, effect in calibration.splits.items()}
    return {"temperature": f"{calibration.temperature:.3g}", "charts": charts_by_split}


def _doubts(report: TrainingReport, figures: Mapping[str, dict[str, Any]]) -> list[str]:
    """Warnings about splits for which the network is not useful."""
    names, metrics = report.header.classes.names, report.header.metrics
    matrices = {split: metrics.get(split, {}).get("confusion_matrix") for split in figures}
    found = [doubt(np.array(matrix), names, split) for split, matrix in matrices.items() if matrix]
    return [text for text in found if text]


def _compared(
    baseline: Mapping[str, dict[str, Any]],
    figures: Mapping[str, dict[str, Any]],
    named: Mapping[str, str],
    text: Callable[[float | None], str],
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each split of both trainings, with each accuracy of the baseline and of the network."""
    return [
        (split, [(text(found.get(key)), text(figures[split].get(key))) for key in named])
        for split, found in baseline.items()
        if split in figures
    ]


def _facts(report: TrainingReport, network: str) -> list[tuple[str, str]]:
    header, info = report.header, report.info
    counts = ", ".join(f"{report.chips.get(split, 0):,} {split}" for split in ("training", "validation", "test"))
    fold = header.recipe.get("fold")
    counts += f" (fold {fold} validates)" if fold else ""
    names = ", ".join(header.band_names[:16]) + (", …" if len(header.band_names) > 16 else "")
    return [
        ("Chip dataset", report.dataset),
        ("Chips", f"{counts}; {info.chip_size} × {info.chip_size} pixels, stride {info.stride}"),
        *_unlabelled(report),
        ("Bands", f"{len(header.band_names)} ({names}), {header.dtype}"),
        ("Pixel size, CRS", f"{info.pixel_size:g} map units, {crs_text(info.crs)}"),
        ("Network", f"{network}, {report.parameters:,} parameters"),
        ("Encoder weights", _start(header.recipe)),
        ("Device", report.device),
    ]


def _unlabelled(report: TrainingReport) -> list[tuple[str, str]]:
    """The dataset of unlabelled chips, and how much of them the network learned from in the best epoch."""
    folder = report.header.recipe.get("unlabelled_chips")
    if not folder:
        return []
    share = report.header.history[report.best_epoch - 1]["training"].get("pseudo_label_share")
    return [("Unlabelled chips", f"{folder}; pseudo-labels for {percent(share)} of them in the best epoch")]


def _start(settings: dict[str, Any]) -> str:
    if settings.get("start_from"):
        return f"all of {Path(settings['start_from']).name}"
    if settings.get("encoder_weights"):
        return Path(settings["encoder_weights"]).name
    known = {"imagenet": "ImageNet", **{name: entry.title for name, entry in PUBLISHED.items()}}
    return known.get(settings.get("pretrained", ""), "random")
