"""What can be said of a training before torch is there: while the dialog is still open, too."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from ..chips.dataset import DATASET, DatasetInfo, check_fold, own_files, read_info
from ..config import (
    FindLearningRateConfig,
    TrainClassifierConfig,
    TrainingConfig,
    TrainSegmenterConfig,
)
from ..device_name import check_device_name
from ..errors import InputError
from ..files import check_kept, check_names
from ..models.classifier_arguments import ARGUMENTS, TeachingArguments, check_arguments, read_arguments
from ..models.encoders import check_pair
from ..models.header import read_header
from ..models.pretrained import choose_source
from ..models.tasks import check_task
from ..models.weights_path import check_weights_path
from ..rasters.likeness import named_otherwise, sizes_differ
from ..rasters.raster_io import AS_MEASURED, scale_text, spatial_reference
from ..tasks import CLASSIFIER_TASKS, NUMBER_TASKS, SEGMENTER_TASKS
from .recipe_file import with_recipe

MODEL_ENDINGS = {".safetensors": "a safetensors file"}
REPORT_ENDINGS = {".html": "HTML", ".htm": "HTML"}
# In smaller chips, segmentation networks would see more padding than ground.
SMALLEST_CHIP = 32

WHY_NOT = {
    "segmentation": "Export chips with TASK classification or multilabel, or use “Train a segmentation network”.",
    "regression": "Use “Train a segmentation network”, which learns the numbers of pixels; or export chips with TASK "
    "chip_regression, for one number a chip.",
    "unlabelled": "They have no labels to learn from: export chips with TASK classification, multilabel or "
    "chip_regression.",
}


def check_training(config: TrainingConfig, folder: str, info: DatasetInfo) -> None:
    """Whether the settings that all trainings share can work.

    Args:
        folder: The chip dataset.
        info: Its description.

    Raises:
        InputError: The loss is for another task, class weights or sampling do not fit the classes, the optimizer lacks
            what is set, all targets are the same number, the dataset has no such fold, or the names of device or
            weights will not do.
    """
    check_device_name(config.device)
    config.loss.check(info.task, info.classes)
    config.sampling.check(info.task, info.classes)
    config.optimizer.check()
    if info.task in NUMBER_TASKS and not (info.target and info.target.get("std", 0) > 0):
        raise InputError(
            f"The targets of the training chips in {folder} do not differ.",
            "Export chips whose targets do; with one number everywhere there is nothing to learn.",
        )
    config.stopping.check(info.task)
    check_unlabelled(config, info)
    schedule = config.schedule
    given = [name for name in ("epochs", "steps", "minutes") if getattr(schedule, name) is not None]
    if len(given) > 1:
        values = " and ".join(f"{name.upper()} {getattr(schedule, name):g}" for name in given)
        raise InputError(f"The length of the training is given more than once: {values}.", "Give one of them.")
    if config.fold is not None and "folds" in info.split:  # else the index of the chips tells, later
        check_fold(config.fold, info.split["folds"] or 0, folder)
    if config.encoder_weights:
        check_weights_path(config.encoder_weights)


def check_unlabelled(config: TrainingConfig, info: DatasetInfo) -> None:
    """Check that the unlabelled chips are of the same kind as the labelled ones; reads their description.

    Raises:
        InputError: They differ in something that matters to a network, or the task or a setting does not fit.
    """
    folder, settings = config.unlabelled_chips, config.unlabelled
    if not folder:
        if settings.baseline:
            raise InputError(
                "BASELINE is on, and UNLABELLED_CHIPS is empty: there is nothing to compare with.",
                "Turn BASELINE off, or give UNLABELLED_CHIPS.",
            )
        return
    settings.check(info.task, len(info.classes), config.loss.label_smoothing)
    if settings.baseline and config.schedule.minutes is not None:
        raise InputError(
            f"BASELINE is on, and MINUTES is {config.schedule.minutes:g}: in as many minutes, the baseline would train "
            "for more steps.",
            "Give EPOCHS or STEPS in place of MINUTES, or turn BASELINE off.",
        )
    other = read_info(folder)
    bands, others = info.band_names, other.band_names
    scales, other_scales = ([*each.scales] or [AS_MEASURED] * len(each.bands) for each in (info, other))
    differences = [
        ("bands", ", ".join(bands), ", ".join(others), len(bands) != len(others) or named_otherwise(bands, others)),
        ("pixels a side", info.chip_size, other.chip_size, info.chip_size != other.chip_size),
        ("values of type", info.dtype, other.dtype, info.dtype != other.dtype),
        ("values with", scale_text(scales), scale_text(other_scales), scales != other_scales),
        ("pixels of", f"{info.pixel_size:g}", f"{other.pixel_size:g}", _sizes_differ(info, other)),
    ]
    for what, own, theirs, differs in differences:
        if differs:
            raise InputError(
                f"The labelled chips have {what} {own}, and those in {folder} (UNLABELLED_CHIPS) {theirs}.",
                "Export both from the same kind of image, with the same bands, CHIP_SIZE and PIXEL_SIZE.",
            )


def _sizes_differ(info: DatasetInfo, other: DatasetInfo) -> bool:
    """Return whether pixel sizes differ, as far as they can be compared without knowing the latitude."""
    references = [spatial_reference(each.crs) for each in (info, other)]
    units = [1.0 if found is None or found.IsGeographic() else float(found.GetLinearUnits()) for found in references]
    kinds = {None if found is None else bool(found.IsGeographic()) for found in references}
    return len(kinds) == 1 and sizes_differ(info.pixel_size * units[0], other.pixel_size * units[1])


def check_results(config: TrainingConfig) -> None:
    """Whether the names of the results will do.

    Raises:
        InputError: One has another ending, or would replace what is read.
    """
    check_names({"OUTPUT": config.output}, MODEL_ENDINGS)
    check_names({"REPORT": config.report}, REPORT_ENDINGS)
    check_names({"HISTORY": config.history}, {".csv": "CSV"})
    outputs = {"OUTPUT": config.output, "REPORT": config.report, "HISTORY": config.history}
    check_kept(outputs, _read(config))


def check_range_test(config: FindLearningRateConfig, info: DatasetInfo) -> TrainingConfig:
    """Whether a range test can work; returns the settings of the training that it tries.

    Args:
        config: The settings.
        info: The description of the chip dataset.

    Raises:
        InputError: As `check_segmenter` and `check_classifier`, or the name of the report will not do.
    """
    training = with_recipe(config.training(info.task))
    # As the network learns after a warm-up; one epoch, so that nobody works out how many there should be.
    freeze = "encoder" if training.fine_tuning.freeze == "encoder" else "none"
    training = training.replace(learning_rate=None, epochs=1, steps=None, minutes=None, freeze=freeze)
    if isinstance(training, TrainSegmenterConfig):
        check_segmenter(training, config.chips, info)
    elif isinstance(training, TrainClassifierConfig):
        check_classifier(training, config.chips, info)
    check_names({"REPORT": config.report}, REPORT_ENDINGS)
    check_kept({"REPORT": config.report}, _read(training))
    return training


def _read(config: TrainingConfig) -> dict[str, Sequence[str | os.PathLike[str]]]:
    """What a training reads, by what it is."""
    weights = config.encoder_weights
    return {
        "the file of ENCODER_WEIGHTS": [weights] if weights else [],
        "the model file of START_FROM": [config.start_from] if config.start_from else [],
        "the file of RECIPE": [config.recipe] if config.recipe else [],
        DATASET: [*own_files(config.chips), *(own_files(config.unlabelled_chips) if config.unlabelled_chips else [])],
    }


def check_segmenter(config: TrainSegmenterConfig, folder: str, info: DatasetInfo) -> None:
    """Whether a segmentation network can learn from chips of this kind; raises as `check_training`."""
    if info.task not in SEGMENTER_TASKS:
        raise InputError(
            f"The chips in {folder} are for {info.task}.",
            "Export chips with TASK segmentation or regression"
            + (", or use “Train a classifier”." if info.task in CLASSIFIER_TASKS else "."),
        )
    if info.chip_size < SMALLEST_CHIP:
        raise InputError(
            f"The chips are {info.chip_size} × {info.chip_size} pixels; the networks need "
            f"{SMALLEST_CHIP} × {SMALLEST_CHIP}.",
            f"Export the chips again with CHIP_SIZE {SMALLEST_CHIP} or more (128 to 512 is usual).",
        )
    _check_start(config, config.encoder_name, SEGMENTER_TASKS)
    check_pair(config.architecture, config.encoder_name)
    config.decoder.check(config.architecture)
    check_training(config, folder, info)


def check_classifier(config: TrainClassifierConfig, folder: str, info: DatasetInfo) -> Optional[TeachingArguments]:
    """Whether a network can learn from chips of this kind and size.

    Args:
        folder: The chip dataset.
        info: Its description.

    Returns:
        The shape of a teaching network; None for others.

    Raises:
        InputError: The chips are for another task or too small, or the settings do not fit them or each other.
    """
    if info.task not in CLASSIFIER_TASKS:
        raise InputError(f"The chips in {folder} are for {info.task}.", WHY_NOT[info.task])
    if config.threshold is not None and info.task == "chip_regression":
        raise InputError(
            f"THRESHOLD is {config.threshold:g}, and each chip has a number, not a class.", "Leave it empty."
        )
    if config.threshold is not None and info.task == "classification" and len(info.classes) != 2:
        raise InputError(
            f"THRESHOLD is {config.threshold:g}, and each chip has one of {len(info.classes)} classes.",
            "Leave it empty: it decides between two classes, or for each of several a chip.",
        )
    arguments = read_arguments(config.architecture, {name: getattr(config, name) for name in ARGUMENTS})
    check_arguments(config.architecture, arguments, len(info.band_names), info.chip_size)
    check_training(config, folder, info)
    _check_start(config, config.architecture, CLASSIFIER_TASKS)
    return arguments


def _check_start(config: TrainSegmenterConfig | TrainClassifierConfig, network: str, tasks: tuple[str, ...]) -> None:
    """Whether there are the weights to start with.

    Args:
        config: The settings.
        network: What has pretrained weights: the encoder, or the classifier.
        tasks: Of the models that a training can start from.

    Raises:
        InputError: They are given twice, do not exist, or are those of another network.
    """
    path = config.start_from
    if not path:
        choose_source(network, config.pretrained, config.encoder_weights, config.download_weights)
        return
    if config.encoder_weights or config.pretrained != "auto":
        other = "ENCODER_WEIGHTS" if config.encoder_weights else f"PRETRAINED {config.pretrained}"
        raise InputError(
            f"{other} is given, and START_FROM {path}, which has all weights.", "Leave one of them as it was."
        )
    header = read_header(path)
    check_task(header, path, tasks)
    encoder = getattr(config, "encoder_name", "")
    if (header.architecture, header.encoder) != (config.architecture, encoder):
        theirs, ours = (
            " with ".join(filter(None, pair))
            for pair in ((header.architecture, header.encoder), (config.architecture, encoder))
        )
        raise InputError(
            f"START_FROM {path} is a model of {theirs}, and the network is to be {ours}.",
            "Leave ARCHITECTURE and ENCODER as they were, or give the file as ENCODER_WEIGHTS, of which only the "
            "encoder is taken.",
        )
