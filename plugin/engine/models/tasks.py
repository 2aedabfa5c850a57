"""The tasks of models, and which algorithms use them; does not import torch."""

from __future__ import annotations

from ..errors import InputError
from ..tasks import CLASSIFIER_TASKS, SEGMENTER_TASKS
from .header import ModelHeader


def check_task(header: ModelHeader, path: str, tasks: tuple[str, ...]) -> None:
    """Refuse a model for another task, and name the algorithm that can use it.

    Raises:
        InputError: The model has another task.
    """
    if header.task in tasks:
        return
    remedy = "Choose another model file."
    if header.task in SEGMENTER_TASKS:
        remedy = "Use “Segment a raster” with it, or choose a model written by “Train a classifier”."
    elif header.task in CLASSIFIER_TASKS:
        remedy = "Use “Classify scenes” with it, or choose a model written by “Train a segmentation network”."
    raise InputError(f"The model file {path} is for {header.task}, not for {' or '.join(tasks)}.", remedy)
