"""The job of `activationmaps`: shows what a network looks for, and where."""

from __future__ import annotations

import time
from typing import Any

from ..config import ActivationMapsConfig
from ..drafts import check_writable
from ..errors import not_none
from ..events import Reporter, readable_time
from ..models.classifier_network import Classifier
from ..models.header import ModelHeader, read_header
from ..models.model_file import load_classifier, load_model
from ..models.networks import Segmenter
from ..tasks import CLASSIFIER_TASKS
from .activation.filters import write_filters
from .activation.overlays import write_overlays
from .activation.rasters import write_activation
from .activation.taps import Tap, describe_layers
from .answers.chosen import find_class
from .early_checks import check_activation


def activation_maps(config: ActivationMapsConfig, reporter: Reporter) -> dict[str, Any]:
    """Show what a network looks at.

    Args:
        config: Settings of the job.
        reporter: Receives progress and log lines.

    Returns:
        output (a raster), picture and pictures (a folder), None if not written; channels (of the raster), seconds.

    Raises:
        InputError: The model, the raster, the photographs or a setting cannot be used.
        ResourceError: An output cannot be written, the device does not exist, or memory is insufficient.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    begun = time.monotonic()
    network, header = load_any(config.model)
    check_activation(config, header)
    if config.resume and not config.input:
        reporter.log("RESUME is for rasters: filters and pictures are made from the beginning.")
    result: dict[str, Any] = {"output": None, "picture": None, "pictures": None, "channels": 0}
    if config.kind == "filters":
        picture = not_none(config.picture)
        check_writable(picture)
        reporter.log(write_filters(picture, network, header))
        result["picture"] = picture
    else:
        if config.kind == "feature_maps":
            reporter.log(describe_layers(network, len(header.band_names), header.chip_size))
        tap = Tap(network, config.layer)
        if config.input_folder:
            write_overlays(config, tap, header, reporter)
            result["pictures"] = config.pictures
        else:
            target = find_class(header, config.target_class) if config.kind == "class_activation" else None
            result["channels"] = write_activation(config, tap, header, target, reporter)
            result["output"] = config.output
    seconds = time.monotonic() - begun
    reporter.log(f"Done in {readable_time(seconds)}.")
    return {**result, "seconds": seconds}


def load_any(path: str) -> tuple[Classifier | Segmenter, ModelHeader]:
    """Read the model file of a classifier or a segmentation network; raises as `load_model`."""
    if read_header(path).task in CLASSIFIER_TASKS:
        return load_classifier(path)
    return load_model(path)
