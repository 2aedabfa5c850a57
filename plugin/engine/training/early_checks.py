"""What can be said of a classification training before torch is there: while the dialog is still open, too."""

from __future__ import annotations

from typing import Optional

from ..chips.dataset import DatasetInfo
from ..config import TrainClassifierConfig
from ..errors import InputError
from ..models.classifier_arguments import TeachingArguments, check_arguments, read_arguments

TASKS = ("classification", "multilabel")
# The settings that shape a teaching network.
ARGUMENTS = ("filters", "hidden_sizes", "kernel_size", "stride", "padding", "activation", "dropout", "block_dropout")
WHY_NOT = {
    "segmentation": "Export chips with TASK classification or multilabel, or use “Train a segmentation network”.",
    "regression": "Their targets are numbers, and a classifier gives classes: export chips with TASK classification, "
    "of classes such as low, middle and high.",
    "unlabelled": "They have no labels to learn from: export chips with TASK classification or multilabel.",
}


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
    if info.task not in TASKS:
        raise InputError(f"The chips in {folder} are for {info.task}.", WHY_NOT[info.task])
    if config.threshold is not None and info.task == "classification" and len(info.classes) != 2:
        raise InputError(
            f"THRESHOLD is {config.threshold:g}, and each chip has one of {len(info.classes)} classes.",
            "Leave it empty: it decides between two classes, or for each of several a chip.",
        )
    arguments = read_arguments(config.architecture, {name: getattr(config, name) for name in ARGUMENTS})
    check_arguments(config.architecture, arguments, len(info.band_names), info.chip_size)
    return arguments
