"""What comes of a training: the model file, its header, the results of the job, and what its report tells."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

from ..assessment.calibration import Calibration
from ..assessment.confusion import doubt, never_answered
from ..assessment.regression import figures_text, regression_doubt
from ..device import describe_device, explain_memory
from ..events import Reporter, readable_time
from ..models.factory import count_parameters
from ..models.header import ModelHeader
from ..models.model_file import save_state
from .checkpoint import remove_checkpoints
from .examples import choose_examples, vary_examples
from .loop import Fitted
from .ready import Training
from .watch import write_history

# Figures that the log ends with, and their names there.
TOLD = {
    "overall_accuracy": "overall accuracy", "mean_iou": "mean IoU", "mean_f1": "mean F1",
    "mean_average_precision": "mean average precision",
}  # fmt: skip
VARIED = 6  # chips that a report shows as augmentation makes them


@dataclass(frozen=True)
class Trained:
    """The best weights, which the network then has, and what they answered to validation and test chips."""

    fitted: Fitted
    tallies: dict[str, Any]  # by split, a `Tally` each, where there are chips
    calibration: Calibration | None = None
    baseline: dict[str, dict[str, Any]] | None = None  # the figures of a training without unlabelled chips, by split

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the figures by split, those of the calibration included."""
        figures = {split: tally.figures() for split, tally in self.tallies.items()}
        for split, (before, after) in (self.calibration.splits if self.calibration else {}).items():
            figures[split].update(calibration_error=after.error, uncalibrated_error=before.error)
        return figures


def header(training: Training, trained: Trained, finished: bool) -> ModelHeader:
    """The description that goes into the model file."""
    info, fitted = training.dataset.info, trained.fitted
    metrics: dict[str, Any] = {
        "best_epoch": fitted.best_epoch,
        "seconds": fitted.seconds,
        "precision": fitted.precision,
    }
    for split, tally in trained.tallies.items():
        metrics[split] = {**tally.figures(), **tally.details()}
    calibration = trained.calibration
    if calibration is not None:
        metrics["calibration"] = calibration.to_json()
    if trained.baseline is not None:
        metrics["baseline"] = trained.baseline
    return ModelHeader(
        **training.kind,
        band_names=info.band_names,
        dtype=info.dtype,
        nodata=info.nodata,
        mean=info.mean,
        std=info.std,
        classes=info.classes,
        chip_size=info.chip_size,
        pixel_size=info.pixel_size,
        crs=info.crs,
        recipe=training.config.to_json(),
        history=fitted.history,
        metrics=metrics,
        dataset_fingerprint=training.fingerprint,
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "segmentation_models_pytorch": smp.__version__,
            "timm": timm.__version__,
        },
        finished=finished,
        temperature=calibration.temperature if calibration else None,
        placement=info.placement,
        scales=info.scales,
    )


def save(training: Training, trained: Trained, reporter: Reporter) -> ModelHeader:
    """Write the model file; returns its header."""
    described = header(training, trained, finished=True)
    with reporter.saving():
        save_state(training.config.output, trained.fitted.state, described)
    remove_checkpoints(training.config)
    if training.config.history:
        write_history(training.config.history, trained.fitted.history)
    return described


def results(training: Training, trained: Trained, reporter: Reporter) -> dict[str, Any]:
    """What the job gives back; the last word in the log."""
    fitted, seconds = trained.fitted, time.monotonic() - training.begun
    reporter.progress(1.0, "Done")
    reporter.log(f"Epoch {fitted.best_epoch} of {len(fitted.history)} was best; {readable_time(seconds)} in all.")
    figures = trained.figures()
    for split, found in figures.items():
        reporter.log(f"{split.capitalize()} chips: {_told(found)}.")
        if trained.baseline is not None:
            reporter.log(f"{split.capitalize()} chips, baseline: {_told(trained.baseline[split])}.")
        matrix = trained.tallies[split].details().get("confusion_matrix")
        names = training.dataset.info.classes.names
        poor = doubt(np.array(matrix), names, split) if matrix else regression_doubt(found, split)
        if poor:
            reporter.warning(poor)
        never = never_answered(np.array(matrix), training.dataset.info.classes.names, split) if matrix else ""
        if never and not poor:
            reporter.warning(never)
        if found["loss"] is None and trained.tallies[split].labelled:
            reporter.warning(
                f"To some {split} chips the network gives no numbers, and so no answer. Look for extreme values in the "
                "bands, and declare them as nodata."
            )
    return {
        "model": training.config.output,
        "report": training.config.report,
        "history": training.config.history,
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "seconds": seconds,
        "validation": figures.get("validation"),
        "test": figures.get("test"),
        "temperature": trained.calibration.temperature if trained.calibration else None,
        "baseline": trained.baseline,
    }


def report_values(training: Training, trained: Trained, header: ModelHeader, shown: np.ndarray) -> dict[str, Any]:
    """What the reports of all trainings tell: the fields of `TrainingReport`.

    Args:
        training: The training.
        trained: What came of it.
        header: Of the model file.
        shown: (n, C) how much each chip of the dataset shows of each class.
    """
    config, device, info = training.config, training.device, training.dataset.info
    with explain_memory(device, training.work):
        chosen = choose_examples(shown, training.splits["training"], VARIED, config.seed)
        variants = vary_examples(training.task, training.reader, chosen, config.seed, device)
    return {
        "header": header,
        "info": info,
        "dataset": str(training.dataset.folder),
        "chips": {split: len(places) for split, places in training.splits.items()},
        "best_epoch": trained.fitted.best_epoch,
        "parameters": count_parameters(training.network),
        "seconds": time.monotonic() - training.begun,
        "device": describe_device(device),
        "variants": variants,
        "calibration": trained.calibration,
    }


def shown_split(splits: dict[str, np.ndarray]) -> str:
    """The split whose chips a report shows: the one that training saw least of."""
    return next(split for split in ("test", "validation", "training") if len(splits[split]))


def _told(found: dict[str, Any]) -> str:
    """Figures as a text."""
    shown = [f"{name} {100 * found[key]:.1f} %" for key, name in TOLD.items() if found.get(key) is not None]
    return ", ".join(shown) or figures_text(found) or "no figures"
