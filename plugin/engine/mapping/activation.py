"""The job behind `activationmaps`: what a network looks for, and where it sees it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..config import ActivationMapsConfig
from ..errors import InputError
from ..events import Reporter, readable_time
from ..files import check_names, check_writable
from ..models.classifier_network import Classifier
from ..models.header import ModelHeader, read_header
from ..models.model_file import CLASSIFIER_TASKS, load_classifier, load_model
from ..models.networks import Segmenter
from .activation_rasters import ActivationRaster, suits_photographs
from .filters import write_filters
from .grad_cam import find_class
from .outputs import RASTER_ENDINGS
from .overlays import write_overlays
from .taps import Tap, describe_layers

PICTURE_ENDINGS = {".png": "PNG"}


def activation_maps(config: ActivationMapsConfig, reporter: Reporter) -> dict[str, Any]:
    """Show what a network looks at.

    Returns:
        output (a raster), picture, pictures (a folder); those that are not of this kind are None. channels (of the
        raster), seconds.

    Raises:
        InputError: The model, the raster, the photographs or a setting cannot be used.
        ResourceError: An output cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end, or is gone.
    """
    begun = time.monotonic()
    check_wishes(config)
    network, header = load_any(config.model)
    result: dict[str, Any] = {"output": None, "picture": None, "pictures": None, "channels": 0}
    if config.kind == "filters":
        assert config.picture is not None
        check_writable(config.picture)
        reporter.log(write_filters(config.picture, network, header))
        result["picture"] = config.picture
    else:
        if config.kind == "feature_maps":
            reporter.log(describe_layers(network, len(header.band_names), header.chip_size))
        tap = Tap(network, config.layer)
        if config.input_folder:
            suits_photographs(tap)
            write_overlays(config, tap, header, reporter)
            result["pictures"] = config.pictures
        else:
            target = find_class(header, config.target_class) if config.kind == "class_activation" else None
            result["channels"] = ActivationRaster(config, tap, header, target, reporter).write()
            result["output"] = config.output
    seconds = time.monotonic() - begun
    reporter.log(f"Done in {readable_time(seconds)}.")
    return {**result, "seconds": seconds}


def load_any(path: str) -> tuple[Classifier | Segmenter, ModelHeader]:
    """Read the model file of a classifier or of a segmentation network; raises as `load_model`."""
    if read_header(path).task in CLASSIFIER_TASKS:
        return load_classifier(path)
    network, header = load_model(path)
    assert isinstance(network, Segmenter)
    return network, header


def check_wishes(config: ActivationMapsConfig) -> None:
    """Whether what is given and what is to be written goes together.

    Raises:
        InputError: It does not.
    """
    if config.kind == "filters":
        if not config.picture:
            raise InputError("KIND is filters, and no PICTURE is to be written.", "Give the name of a .png file.")
        check_names({"PICTURE": config.picture}, PICTURE_ENDINGS)
        return
    if bool(config.input) == bool(config.input_folder):
        what = "INPUT and INPUT_FOLDER are given." if config.input else "Neither INPUT nor INPUT_FOLDER is given."
        raise InputError(what, "Choose a raster as INPUT, or a folder of photographs as INPUT_FOLDER.")
    if config.input:
        if not config.output:
            raise InputError("INPUT is a raster, and no OUTPUT is to be written.", "Give the name of a .tif file.")
        check_names({"OUTPUT": config.output}, RASTER_ENDINGS)
        return
    if config.kind == "feature_maps":
        raise InputError(
            "Feature maps of photographs are not written.", "Choose a raster as INPUT, or KIND class_activation."
        )
    if not config.pictures:
        raise InputError(
            "INPUT_FOLDER is given, and no folder of PICTURES is to be written.", "Give the name of a new folder."
        )
    folder = Path(config.pictures)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"PICTURES ({folder}) exists and is not empty.", "Choose a new or an empty folder.")
