"""The labels of an export: their sources and classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Optional

import numpy as np

from ..classes import BACKGROUND_NAME, MAX_CLASSES, ClassTable
from ..config import ExportChipsConfig
from ..errors import InputError, not_none
from ..events import Reporter, Stage
from ..rasters.raster_io import RasterInfo
from ..tasks import CLASS_TASKS, NUMBER_TASKS
from ..windows import Window, overlap, tiles
from .features import LABEL_LAYER, FeatureFile, FeatureLabels, FeatureTargets, feature_values
from .label_filling import filling_warning
from .label_rasters import LabelRaster, color_text, color_values, label_mosaic, raster_classes, unlike_labels
from .labels import (
    ColorLabels,
    LabelSource,
    MappedLabels,
    NoLabels,
    RasterLabels,
    RasterTargets,
    discover_classes,
    merge_classes,
    no_overlap,
)
from .plan import Plan

DISCOVERY_TILE = 2048  # pixels per side
TOO_MANY_VALUES = InputError(
    f"The labels hold more than {MAX_CLASSES - 1} different values.",
    "Choose a layer of classes; continuous values cannot be used as classes.",
)
BACKGROUND_COLOR = "#d9d9d9"


@dataclass(frozen=True)
class LabelScheme:
    """The classes of the chips."""

    classes: ClassTable
    nodata: Optional[int]  # of class masks
    background: Optional[int]  # the class value of unlabelled ground; None to leave it unlabelled


def open_labels(config: ExportChipsConfig, images: tuple[RasterInfo, ...], reporter: Reporter) -> list[LabelSource]:
    """Open the labels of each image, in the order of the images.

    Raises:
        InputError: No labels or two kinds are given, their number is wrong, or they do not overlap the rasters.
    """
    if config.task == "unlabelled":
        return [NoLabels() for _ in images]
    if bool(config.labels) == bool(config.label_rasters):
        raise InputError(
            "Both features and label rasters are given." if config.labels else "No labels are given.",
            "Give either LABELS or LABEL_RASTERS, or set TASK to unlabelled.",
        )
    if config.labels:
        files = open_features(config, images)
        kind = FeatureTargets if config.task in NUMBER_TASKS else FeatureLabels
        return [kind(file) for file in files]
    rasters = _label_rasters(config, len(images), reporter)
    pairs = list(zip(rasters, images))
    if config.task in NUMBER_TASKS:
        return [RasterTargets(raster, info, config.label_nodata) for raster, info in pairs]
    if rasters[0].colored:
        return [ColorLabels(raster, info, config.label_nodata) for raster, info in pairs]
    mapping = _class_map(config)
    found = [RasterLabels(raster, info, config.label_nodata) for raster, info in pairs]
    return [MappedLabels(source, mapping) for source in found] if mapping else list(found)


def _label_rasters(config: ExportChipsConfig, count: int, reporter: Reporter) -> list[LabelRaster]:
    """Open the label raster of each of `count` images, and log which of their bands are not used.

    Raises:
        InputError: Their number is wrong, or some are colour images and others not.
    """
    given = zip_longest(config.label_rasters, config.label_crs[: len(config.label_rasters)], fillvalue="")
    rasters = [LabelRaster.of(path, crs) for path, crs in given]
    if config.combine == "mosaic" and len(rasters) > 1:
        rasters = [label_mosaic(rasters)]
    if len(rasters) not in (1, count):
        raise InputError(
            f"{len(rasters)} label rasters are given for {count} rasters.",
            "Give one per raster in the same order, or one for all.",
        )
    first = rasters[0]
    for raster in rasters:
        if config.task in NUMBER_TASKS and raster.colored:
            raise InputError(
                f"The label raster {raster.path} is a colour image, but TASK is {config.task}.",
                "Give a raster with one band of numbers.",
            )
        if raster.colored != first.colored:
            raise unlike_labels(first, raster)
    partial = next((raster for raster in rasters if raster.unused), None)
    if partial is not None:
        reporter.warning(
            f"The label raster {partial.path} has {partial.unused + 1} bands; only the first is used as labels. If the "
            "labels are in another one, save that as a separate raster."
        )
    return rasters * count if len(rasters) == 1 else rasters


def _class_map(config: ExportChipsConfig) -> dict[int, Optional[int]]:
    return {int(value): None if become is None else int(become) for value, become in config.class_map}


def open_features(config: ExportChipsConfig, images: tuple[RasterInfo, ...]) -> list[FeatureFile]:
    """Open the label features for each image.

    Raises:
        InputError: They overlap no image.
    """
    labels = not_none(config.labels)
    files = [FeatureFile(labels, LABEL_LAYER, info.grid, config.overlap_rule, config.all_touched) for info in images]
    if not any(overlap(file.extent, file.grid.bounds) for file in files):
        raise no_overlap(labels, files[0].extent, images[0])
    return files


def find_scheme(
    config: ExportChipsConfig, plan: Plan, sources: list[LabelSource], reporter: Reporter
) -> tuple[LabelScheme, list[LabelSource]]:
    """Find the classes, and decide whether unlabelled ground becomes a class.

    Returns:
        The scheme, and the label sources, in which colours are mapped to class values.

    Raises:
        InputError: There are no classes, only one, or too many.
    """
    if config.task not in CLASS_TASKS:
        return LabelScheme(ClassTable(()), None, None), sources
    given = {int(row[0]): (str(row[1] or ""), row[2] or None) for row in config.classes}
    own: dict[int, tuple[str, Optional[str]]] = {}
    nodata: Optional[int] = None
    if config.labels:
        values = np.array(feature_values(config.labels), np.int64)
    else:
        colored = isinstance(sources[0], ColorLabels)
        too_many = _too_many_colors(config) if colored else TOO_MANY_VALUES
        pixels, total = _raster_values(plan, sources, too_many, reporter)
        if colored:
            become = color_values(pixels, _class_map(config), given)
            own = {value: (color_text(color),) * 2 for color, value in reversed(become.items()) if value is not None}
            sources = [MappedLabels(source, become) for source in sources]
            values = np.array(sorted(own), np.int64)
            reporter.log(f"The labels are a colour image; each of its {len(become)} colours is a class.")
        else:
            own = _raster_names(config)
            values = np.array(list(pixels), np.int64)
            nodata = _common_nodata(sources)
            named = {value for table in (given, own) for value, (name, _) in table.items() if name}
            listed = {int(value) for pair in config.class_map for value in pair if value is not None}
            warning = filling_warning(pixels, total, named | listed, nodata)
            if warning:
                reporter.warning(warning)
    if len(values) == 0:
        raise InputError(
            "No pixel of the rasters is labelled.", "Check the labels' location, and which value means “no label”."
        )
    names = merge_classes(values, given, own).names
    background = _background_value(config, values)
    if background is not None:
        given.setdefault(background, (BACKGROUND_NAME, BACKGROUND_COLOR))
        if config.background == "auto":
            reporter.log(f'The labels hold one class, "{names[0]}"; unlabelled ground becomes the class "background".')
        values = np.sort(np.append(values, background))
    if len(values) < 2:
        raise InputError(
            f'The labels have only one class: {values[0]} ("{names[0]}").',
            "Choose another CLASS_FIELD, or set PLACEMENT to grid, so that other ground is a class."
            if _labelled_by_feature(config)
            else "Label a second class, or set BACKGROUND to class.",
        )
    classes = merge_classes(values, given, own)
    if nodata is None or nodata in values:
        nodata = classes.free_value()
    reporter.log("Classes: " + ", ".join(f"{info.value} {info.name}" for info in classes.classes) + ".")
    return LabelScheme(classes, nodata, background), sources


def _raster_values(
    plan: Plan, sources: list[LabelSource], too_many: InputError, reporter: Reporter
) -> tuple[dict[int, int], int]:
    """Apply `discover_classes` to everything that is exported."""
    windows = [list(tiles(area, DISCOVERY_TILE)) for area in plan.areas]
    stage = Stage(reporter, sum(map(len, windows)), "Looking for classes", 0, 0)
    return discover_classes([(source, _counted(parts, stage)) for source, parts in zip(sources, windows)], too_many)


def _raster_names(config: ExportChipsConfig) -> dict[int, tuple[str, Optional[str]]]:
    """Class names stored in the label rasters; values that are mapped to another class lose their names."""
    own: dict[int, tuple[str, Optional[str]]] = {}
    for path in reversed(config.label_rasters):
        own.update(raster_classes(path))
    for value, become in config.class_map:
        own.pop(int(value), None)
        own.pop(become, None)
    return own


def _too_many_colors(config: ExportChipsConfig) -> InputError:
    return InputError(
        f"The label raster {config.label_rasters[0]} is a colour image with more than {MAX_CLASSES - 1} colours, too "
        "many for classes.",
        "JPEG compression and smoothed edges add colours. Save it as a raster with one band of class values, or a PNG "
        "or TIFF with one colour per class. A photograph cannot be used.",
    )


def _labelled_by_feature(config: ExportChipsConfig) -> bool:
    """Return whether each chip has the class of the feature that it is cut for."""
    return config.task == "classification" and config.placement in ("features", "bounding_boxes")


def _background_value(config: ExportChipsConfig, values: np.ndarray) -> Optional[int]:
    """The class value of unlabelled ground; None to leave it unlabelled."""
    wanted = config.background == "class" or (config.background == "auto" and len(values) == 1)
    if not wanted or _labelled_by_feature(config):
        return None
    return next(value for value in (0, 255, int(values.max()) + 1) if value not in values)


def _common_nodata(sources: list[LabelSource]) -> Optional[int]:
    """An integer nodata value of the label rasters; None if there is none."""
    plain = [source.source if isinstance(source, MappedLabels) else source for source in sources]
    found = {source.nodata for source in plain if isinstance(source, RasterLabels)}
    whole = [value for value in found if value is not None and value.is_integer() and abs(value) < 2**31]
    return int(whole[0]) if whole else None


def _counted(windows: list[Window], stage: Stage) -> Iterator[Window]:
    for window in windows:
        stage.advance()
        yield window
