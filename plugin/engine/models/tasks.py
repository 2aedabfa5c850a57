"""What models are for, and which algorithm takes which; needs no torch."""

from __future__ import annotations

from ..errors import InputError
from .header import ModelHeader

SEGMENTER_TASKS = ("segmentation",)
CLASSIFIER_TASKS = ("classification", "multilabel")


def check_task(header: ModelHeader, path: str, tasks: tuple[str, ...]) -> None:
    """Refuse a model that is for something else.

    Raises:
        InputError: It is; with the algorithm that would take it.
    """
    if header.task in tasks:
        return
    remedy = "Choose another model file."
    if header.task in SEGMENTER_TASKS:
        remedy = "Use “Segment a raster” with it, or choose a model that “Train a classifier” wrote."
    elif header.task in CLASSIFIER_TASKS:
        remedy = "Use “Classify scenes” with it, or choose a model that “Train a segmentation network” wrote."
    raise InputError(f"The model file {path} is for {header.task}, not for {' or '.join(tasks)}.", remedy)
