"""Checks of mapping jobs that need no torch: made in the open dialog, and again in the worker.

No pixels are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config import (
    ActivationMapsConfig,
    ClassifyFeaturesConfig,
    ClassifyScenesConfig,
    SegmentRasterConfig,
)
from ..device_name import check_device_name
from ..errors import InputError
from ..events import Reporter
from ..files import check_kept, check_names
from ..models.header import ModelHeader
from ..models.tasks import check_task
from ..tasks import CLASSIFIER_TASKS, SEGMENTER_TASKS
from ..vector_files import VECTOR_ENDINGS
from .answers.chosen import chosen_classes, find_class
from .outputs.names import POLYGON_ENDINGS, check_rasters, class_outputs, segmentation_outputs, segmentation_rasters
from .outputs.tables import AREA_LAYER, PHOTOGRAPH_LAYER, POLYGON_LAYER, SCENE_LAYER, check_replaceable
from .reading.checks import check_not_input, open_for
from .reading.map_grid import input_pixels
from .reading.photograph_files import check_folder
from .separate import each_of

PICTURE_ENDINGS = {".png": "PNG"}


def check_segmentation(config: SegmentRasterConfig, header: ModelHeader) -> None:
    """Check that a raster can be mapped with a model.

    Raises:
        InputError: The model has another task, or the raster, a name or a setting does not fit.
    """
    check_task(header, config.model, SEGMENTER_TASKS)
    check_answers(config, header)
    check_device_name(config.device)
    if config.combine == "separate":
        config = each_of(config)[0]  # the others are checked when it is their turn
    outputs = check_segmentation_outputs(config, header)
    check_raster(config.input, config.bands, config.pixel_size, header, config.models, outputs, config.more)
    input_pixels(config, header)


def check_segmentation_outputs(config: SegmentRasterConfig, header: ModelHeader) -> dict[str, str | None]:
    """Check the files to write, and return their paths by parameter.

    Raises:
        InputError: A name or a class cannot be used.
    """
    outputs = segmentation_outputs(config)
    check_rasters(segmentation_rasters(config))
    _check_class_outputs(config, header)
    check_kept(outputs, {})
    return outputs


def _check_class_outputs(config: SegmentRasterConfig | ClassifyScenesConfig, header: ModelHeader) -> None:
    polygons = config.regions.polygons
    check_names({"POLYGONS": polygons}, POLYGON_ENDINGS)
    check_names({"AREAS": config.areas}, VECTOR_ENDINGS)
    check_replaceable({"POLYGONS": polygons}, POLYGON_LAYER)
    check_replaceable({"AREAS": config.areas}, AREA_LAYER)
    if polygons:
        chosen_classes(config.regions.polygon_classes, header.classes)


def check_answers(
    config: SegmentRasterConfig | ClassifyScenesConfig | ClassifyFeaturesConfig, header: ModelHeader
) -> None:
    """Refuse settings that do not fit the model: classes of one that predicts numbers, an ensemble of a single one, or
    one class per chip of one that gives several.

    Raises:
        InputError: There are some.
    """
    if isinstance(config, SegmentRasterConfig) and config.measures.disagreement and len(config.models) == 1:
        raise InputError(
            "DISAGREEMENT is given, but there is only one model.", "Choose more models as ENSEMBLE, or leave it empty."
        )
    if header.target is None:
        given = _of_one_class(config) if isinstance(config, ClassifyScenesConfig) else []
        if given and header.task == "multilabel":
            raise InputError(
                f"{given[0]} is given, but the model {config.model} gives several classes per chip, whose "
                "probabilities do not exclude each other.",
                f"Leave {' and '.join(given)} empty; PROBABILITIES has the probability of each class.",
            )
        return
    if isinstance(config, SegmentRasterConfig):
        outputs = [name for name, path in segmentation_outputs(config).items() if path and name != "OUTPUT"]
        wanted = [*outputs, *config.refining.given()]
    else:
        wanted = [name.upper() for name in ("probabilities", "threshold") if getattr(config, name, None) is not None]
        if isinstance(config, ClassifyScenesConfig):
            wanted += _of_one_class(config)
    if wanted:
        raise InputError(
            f"{wanted[0]} is given, but the model {config.model} predicts numbers, which have neither classes nor "
            "probabilities.",
            f"Leave {' and '.join(wanted)} empty.",
        )


def _of_one_class(config: ClassifyScenesConfig) -> list[str]:
    """Return the settings that are given and need one class per chip."""
    files = [name for name, path in class_outputs(config).items() if path]
    return [*(name.upper() for name in config.measures.wanted()), *files, *config.refining.given()]


def check_scenes(config: ClassifyScenesConfig, header: ModelHeader) -> None:
    """Check that a raster or photographs can be classified with a model; raises as `check_segmentation`."""
    check_task(header, config.model, CLASSIFIER_TASKS)
    check_answers(config, header)
    check_device_name(config.device)
    check_source(config)
    if config.input_folder:
        check_table(config)
        check_folder(config.input_folder)
    elif config.input:
        # TABLE may have been filled in by a dialog, and is ignored.
        outputs = check_scene_outputs(dataclasses.replace(config, table=None), header)
        check_raster(config.input, config.bands, config.pixel_size, header, config.models, outputs)


def check_features(config: ClassifyFeaturesConfig, header: ModelHeader) -> None:
    """Check that features can be classified with a model; raises as `check_segmentation`."""
    check_task(header, config.model, CLASSIFIER_TASKS)
    check_answers(config, header)
    check_device_name(config.device)
    check_raster(config.input, config.bands, config.pixel_size, header, config.models, {})


def check_activation(config: ActivationMapsConfig, header: ModelHeader) -> None:
    """Check that inputs and outputs of activation maps fit together; raises as `check_segmentation`."""
    check_device_name(config.device)
    if config.kind == "filters":
        if not config.picture:
            raise InputError("KIND is filters, but no PICTURE is given.", "Give the name of a .png file.")
        check_names({"PICTURE": config.picture}, PICTURE_ENDINGS)
        check_kept({"PICTURE": config.picture}, {"the model file": [config.model]})
        return
    check_source(config)
    if config.input:
        outputs = {"OUTPUT": config.output}
        if not config.output:
            raise InputError("INPUT is a raster, but no OUTPUT is given.", "Give the name of a .tif file.")
        check_rasters(outputs)
        check_raster(config.input, config.bands, config.pixel_size, header, config.models, outputs)
    elif config.input_folder:
        _check_pictures(config, header)
        check_folder(config.input_folder)
    # Of photographs, the likeliest class of each is shown if none is given.
    if config.kind == "class_activation" and (config.input or config.target_class or header.target is not None):
        find_class(header, config.target_class)


def _check_pictures(config: ActivationMapsConfig, header: ModelHeader) -> None:
    if config.kind == "feature_maps":
        raise InputError(
            "Feature maps of photographs cannot be written.", "Choose a raster as INPUT, or KIND class_activation."
        )
    if header.task not in CLASSIFIER_TASKS:
        raise InputError(
            f"Photographs need a classifier, but the model is for {header.task}.", "Choose a raster as INPUT."
        )
    if not config.pictures:
        raise InputError("INPUT_FOLDER is given, but no folder as PICTURES.", "Give the name of a new folder.")
    folder = Path(config.pictures)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"PICTURES ({folder}) exists and is not empty.", "Choose a new or empty folder.")


def check_source(config: ClassifyScenesConfig | ActivationMapsConfig) -> None:
    """Check that either a raster or a folder of photographs is given.

    Raises:
        InputError: Both or neither are given.
    """
    if bool(config.input) == bool(config.input_folder):
        what = "INPUT and INPUT_FOLDER are both given." if config.input else "Neither INPUT nor INPUT_FOLDER is given."
        raise InputError(what, "Choose a raster as INPUT, or a folder of photographs as INPUT_FOLDER.")


def check_scene_outputs(config: ClassifyScenesConfig, header: ModelHeader) -> dict[str, str | None]:
    """Check the outputs of a classified raster, and return them by parameter.

    Raises:
        InputError: An extension is wrong, two have the same name, there are none, other layers would be replaced, or
            the class raster is missing that others follow from.
    """
    measures = {name.upper(): path for name, path in config.measures.wanted().items()}
    rasters = {"OUTPUT": config.output, "PROBABILITIES": config.probabilities, **measures}
    follow = class_outputs(config)
    outputs = {**rasters, "GRID": config.grid, **follow}
    if config.table:
        raise InputError(
            "TABLE is for photographs, but INPUT is a raster.", "Give a name for GRID instead: it contains the answers."
        )
    if not any(outputs.values()):
        raise InputError("No output is given.", "Give a name for OUTPUT, PROBABILITIES, GRID or another raster.")
    check_rasters(rasters)
    check_names({"GRID": config.grid}, VECTOR_ENDINGS)
    check_replaceable({"GRID": config.grid}, SCENE_LAYER)
    _check_class_outputs(config, header)
    needing = [*(name for name, path in follow.items() if path), *config.refining.given()]
    if needing and not config.output:
        raise InputError(
            f"{needing[0]} is given, but no OUTPUT.",
            f"Give a name for OUTPUT, the raster of classes, or leave {' and '.join(needing)} empty.",
        )
    check_kept(outputs, {})
    return outputs


def check_table(config: ClassifyScenesConfig) -> str:
    """Check the table of classified photographs, and return its name.

    Raises:
        InputError: There is none, its extension is wrong, or it would replace other layers.
    """
    if not config.table:
        raise InputError(
            "INPUT_FOLDER is given, but no TABLE to write.", "Give the name of a .csv or .gpkg file as TABLE."
        )
    check_names({"TABLE": config.table}, VECTOR_ENDINGS)
    check_kept({"TABLE": config.table}, {"the model file": config.models})
    check_replaceable({"TABLE": config.table}, PHOTOGRAPH_LAYER)
    return config.table


def check_raster(
    path: str, bands: tuple[int, ...], pixel_size: float | None, header: ModelHeader, models: Sequence[str],
    outputs: Mapping[str, str | None], more: Sequence[tuple[str, str]] = (),
) -> None:  # fmt: skip
    """Check that a raster has the bands of a model, and that outputs overwrite neither.

    Raises:
        InputError: A band is missing, an output would overwrite an input, or the raster cannot be opened.
    """
    # Its warnings are reported when the job runs.
    reader = open_for(header, path, "", bands, Reporter(), pixel_size, more)
    check_not_input(outputs, reader, models, [path for path, _ in more])
