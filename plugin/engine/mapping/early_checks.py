"""What can be said of a mapping before torch is there: while the dialog is still open, and once more in the worker.

Nothing here reads pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ..config import ActivationMapsConfig, ClassifyFeaturesConfig, ClassifyScenesConfig, SegmentRasterConfig
from ..device_name import check_device_name
from ..errors import InputError
from ..events import Reporter
from ..files import check_kept, check_names
from ..models.header import ModelHeader
from ..models.tasks import CLASSIFIER_TASKS, SEGMENTER_TASKS, check_task
from ..vector_files import VECTOR_ENDINGS
from .checks import open_for
from .outputs import check_not_input, check_rasters
from .photograph_files import check_folder
from .tables import PHOTOGRAPH_LAYER, SCENE_LAYER, check_replaceable

PICTURE_ENDINGS = {".png": "PNG"}


def check_segmentation(config: SegmentRasterConfig, header: ModelHeader) -> None:
    """Whether a raster can be mapped with a model.

    Raises:
        InputError: The model is for something else, or the raster, a name or a setting does not suit.
    """
    check_task(header, config.model, SEGMENTER_TASKS)
    check_device_name(config.device)
    outputs = {"OUTPUT": config.output, "PROBABILITIES": config.probabilities}
    check_rasters(outputs)
    check_raster(config.input, config.bands, header, config.model, outputs)


def check_scenes(config: ClassifyScenesConfig, header: ModelHeader) -> None:
    """Whether a raster or photographs can be classified with a model; raises as `check_segmentation`."""
    check_task(header, config.model, CLASSIFIER_TASKS)
    check_device_name(config.device)
    check_source(config)
    if config.input_folder:
        check_table(config)
        check_folder(config.input_folder)
    elif config.input:
        # What a dialog has filled in as TABLE does no harm.
        outputs = check_scene_outputs(dataclasses.replace(config, table=None))
        check_raster(config.input, config.bands, header, config.model, outputs)


def check_features(config: ClassifyFeaturesConfig, header: ModelHeader) -> None:
    """Whether features can be classified with a model; raises as `check_segmentation`."""
    check_task(header, config.model, CLASSIFIER_TASKS)
    check_device_name(config.device)
    check_raster(config.input, config.bands, header, config.model, {})


def check_activation(config: ActivationMapsConfig, header: ModelHeader) -> None:
    """Whether what is given and what is to be written goes together; raises as `check_segmentation`."""
    check_device_name(config.device)
    if config.kind == "filters":
        if not config.picture:
            raise InputError("KIND is filters, and no PICTURE is to be written.", "Give the name of a .png file.")
        check_names({"PICTURE": config.picture}, PICTURE_ENDINGS)
        check_kept({"PICTURE": config.picture}, {"the model file": [config.model]})
        return
    check_source(config)
    if config.input:
        outputs = {"OUTPUT": config.output}
        if not config.output:
            raise InputError("INPUT is a raster, and no OUTPUT is to be written.", "Give the name of a .tif file.")
        check_rasters(outputs)
        check_raster(config.input, config.bands, header, config.model, outputs)
    elif config.input_folder:
        _check_pictures(config, header)
        check_folder(config.input_folder)
    if config.kind == "class_activation" and (config.input or config.target_class):
        find_class(header, config.target_class)


def _check_pictures(config: ActivationMapsConfig, header: ModelHeader) -> None:
    if config.kind == "feature_maps":
        raise InputError(
            "Feature maps of photographs are not written.", "Choose a raster as INPUT, or KIND class_activation."
        )
    if header.task not in CLASSIFIER_TASKS:
        raise InputError(
            f"Photographs are for classifiers, and the model is for {header.task}.", "Choose a raster as INPUT instead."
        )
    if not config.pictures:
        raise InputError(
            "INPUT_FOLDER is given, and no folder of PICTURES is to be written.", "Give the name of a new folder."
        )
    folder = Path(config.pictures)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"PICTURES ({folder}) exists and is not empty.", "Choose a new or an empty folder.")


def check_source(config: ClassifyScenesConfig | ActivationMapsConfig) -> None:
    """Whether either a raster or a folder of photographs is given.

    Raises:
        InputError: Both or neither are.
    """
    if bool(config.input) == bool(config.input_folder):
        what = "INPUT and INPUT_FOLDER are given." if config.input else "Neither INPUT nor INPUT_FOLDER is given."
        raise InputError(what, "Choose a raster as INPUT, or a folder of photographs as INPUT_FOLDER.")


def check_scene_outputs(config: ClassifyScenesConfig) -> dict[str, str | None]:
    """The outputs of a classified raster by their parameters, once their names are right.

    Raises:
        InputError: They are of other kinds, two have one name, there are none, or GRID would replace other layers.
    """
    rasters = {"OUTPUT": config.output, "PROBABILITIES": config.probabilities}
    outputs = {**rasters, "GRID": config.grid}
    if config.table:
        raise InputError("TABLE is for photographs, and INPUT is a raster.", "Give a name as GRID: it has the answers.")
    if not any(outputs.values()):
        raise InputError("Nothing is to be written.", "Give a name as OUTPUT, PROBABILITIES or GRID.")
    check_rasters(rasters)
    check_names({"GRID": config.grid}, VECTOR_ENDINGS)
    check_replaceable({"GRID": config.grid}, SCENE_LAYER)
    return outputs


def check_table(config: ClassifyScenesConfig) -> str:
    """The table of classified photographs, once its name is right.

    Raises:
        InputError: There is none, it is of another kind, or would replace other layers.
    """
    if not config.table:
        raise InputError(
            "INPUT_FOLDER is given, and no TABLE to write.", "Give the name of a .csv or .gpkg file as TABLE."
        )
    check_names({"TABLE": config.table}, VECTOR_ENDINGS)
    check_kept({"TABLE": config.table}, {"the model file": [config.model]})
    check_replaceable({"TABLE": config.table}, PHOTOGRAPH_LAYER)
    return config.table


def check_raster(
    path: str, bands: tuple[int, ...], header: ModelHeader, model: str, outputs: Mapping[str, str | None]
) -> None:
    """Whether a raster has the bands of a model, and neither is written over.

    Raises:
        InputError: It has them not, or is; or it cannot be opened.
    """
    # What it warns of is told when the job runs.
    reader = open_for(header, path, "", bands, Reporter())
    check_not_input(outputs, reader, model)


def find_class(header: ModelHeader, text: str) -> int:
    """The index of a class by its value or name.

    Raises:
        InputError: There is none, or the text is empty.
    """
    wanted = text.strip()
    known = ", ".join(f"{kind.value} {kind.name}" for kind in header.classes.classes)
    if not wanted:
        raise InputError(
            "A raster shows the activation of one class, and no TARGET_CLASS is given.", f"Name one of {known}."
        )
    for index, kind in enumerate(header.classes.classes):
        if wanted == str(kind.value):
            return index
    names = [name.casefold() for name in header.classes.names]
    if names.count(wanted.casefold()) == 1:
        return names.index(wanted.casefold())
    raise InputError(f'TARGET_CLASS is "{text}", and the model has no such class.', f"Choose one of {known}.")
