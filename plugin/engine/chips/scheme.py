"""What the labels of an export are: where they come from, and which classes they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..classes import ClassTable
from ..config import ExportChipsConfig
from ..errors import InputError
from ..events import Reporter, Stage
from ..windows import Window, overlap, tiles
from .dataset import CLASS_TASKS
from .features import LABEL_LAYER, FeatureFile, FeatureLabels, FeatureTargets, feature_values
from .label_filling import filling_warning
from .labels import (
    LabelSource,
    MappedLabels,
    NoLabels,
    RasterLabels,
    RasterTargets,
    discover_classes,
    label_mosaic,
    merge_classes,
    no_overlap,
    raster_classes,
)
from .plan import Plan

DISCOVERY_TILE = 2048  # pixels a side
BACKGROUND_NAME, BACKGROUND_COLOR = "background", "#d9d9d9"


@dataclass(frozen=True)
class LabelScheme:
    """What labels become in the chips."""

    classes: ClassTable
    nodata: Optional[int]  # of the masks of classes
    background: Optional[int]  # the class value of ground without a label; None leaves it unlabelled


def open_labels(config: ExportChipsConfig, plan: Plan) -> list[LabelSource]:
    """Open the labels of each raster, in the order of the rasters.

    Raises:
        InputError: None or two kinds are given, their number does not fit, or they do not overlap the rasters.
    """
    if config.task == "unlabelled":
        return [NoLabels() for _ in plan.rasters]
    if bool(config.labels) == bool(config.label_rasters):
        raise InputError(
            "Both features and label rasters are given." if config.labels else "No labels are given.",
            "Give either LABELS or LABEL_RASTERS, or set TASK to unlabelled.",
        )
    if config.labels:
        files = open_features(config, plan)
        kind = FeatureTargets if config.task == "regression" else FeatureLabels
        return [kind(file) for file in files]
    paths, count = config.label_rasters, len(plan.rasters)
    if config.combine == "mosaic" and len(paths) > 1:
        paths = (label_mosaic(paths),)
    if len(paths) not in (1, count):
        raise InputError(
            f"{len(paths)} label rasters are given for {count} rasters.",
            "Give one for each raster, in the same order, or one for all.",
        )
    if len(paths) == 1:
        paths = paths * count
    if config.task == "regression":
        return [RasterTargets(path, info, config.label_nodata) for path, info in zip(paths, plan.rasters)]
    mapping = {int(value): None if become is None else int(become) for value, become in config.class_map}
    found = [RasterLabels(path, info, config.label_nodata) for path, info in zip(paths, plan.rasters)]
    return [MappedLabels(source, mapping) for source in found] if mapping else list(found)


def open_features(config: ExportChipsConfig, plan: Plan) -> list[FeatureFile]:
    """Open the label features for each raster.

    Raises:
        InputError: They overlap no raster.
    """
    assert config.labels is not None
    files = [
        FeatureFile(config.labels, LABEL_LAYER, info.grid, config.overlap_rule, config.all_touched)
        for info in plan.rasters
    ]
    if not any(overlap(file.extent, file.grid.bounds) for file in files):
        raise no_overlap(config.labels, files[0].extent, plan.rasters[0])
    return files


def find_scheme(config: ExportChipsConfig, plan: Plan, sources: list[LabelSource], reporter: Reporter) -> LabelScheme:
    """Find the classes there are, and decide what ground without a label becomes."""
    if config.task not in CLASS_TASKS:
        return LabelScheme(ClassTable(()), None, None)
    given = {int(row[0]): (str(row[1] or ""), row[2] or None) for row in config.classes}
    own: dict[int, tuple[str, Optional[str]]] = {}
    nodata: Optional[int] = None
    if config.labels:
        values = np.array(feature_values(config.labels), np.int64)
    else:
        for path in reversed(config.label_rasters):
            own.update(raster_classes(path))
        for value, become in config.class_map:  # what a value was called is not what its new class is called
            own.pop(int(value), None)
            own.pop(become, None)
        windows = [list(tiles(area, DISCOVERY_TILE)) for area in plan.areas]
        stage = Stage(reporter, sum(map(len, windows)), "Looking for classes", 0, 0)
        counts = [(source, _counted(parts, stage)) for source, parts in zip(sources, windows)]
        pixels, total = discover_classes(counts)
        values = np.array(list(pixels), np.int64)
        nodata = _common_nodata(sources)
        named = {value for table in (given, own) for value, (name, _) in table.items() if name}
        listed = {int(value) for pair in config.class_map for value in pair if value is not None}
        warning = filling_warning(pixels, total, named | listed, nodata)
        if warning:
            reporter.warning(warning)
    if len(values) == 0:
        raise InputError(
            "No pixel of the rasters has a label.", "Check where the labels lie and which value means no label."
        )
    names = merge_classes(values, given, own).names
    background = _background_value(config, values)
    if background is not None:
        given.setdefault(background, (BACKGROUND_NAME, BACKGROUND_COLOR))
        if config.background == "auto":
            reporter.log(f'The labels hold one class, "{names[0]}": ground without a label is the class "background".')
        values = np.sort(np.append(values, background))
    if len(values) < 2:
        raise InputError(
            f'The labels hold one class only: {values[0]} ("{names[0]}").',
            "Choose another CLASS_FIELD, or PLACEMENT grid, where the ground between features is a class."
            if _labelled_by_feature(config)
            else "Label a second class, or set BACKGROUND to class.",
        )
    classes = merge_classes(values, given, own)
    if nodata is None or nodata in values:
        nodata = classes.free_value()
    reporter.log("Classes: " + ", ".join(f"{info.value} {info.name}" for info in classes.classes) + ".")
    return LabelScheme(classes, nodata, background)


def _labelled_by_feature(config: ExportChipsConfig) -> bool:
    """Whether each chip has the class of the feature that it is cut for."""
    return config.task == "classification" and config.placement in ("features", "bounding_boxes")


def _background_value(config: ExportChipsConfig, values: np.ndarray) -> Optional[int]:
    """The class value of ground without a label; None leaves it unlabelled."""
    wanted = config.background == "class" or (config.background == "auto" and len(values) == 1)
    if not wanted or _labelled_by_feature(config):
        return None
    return next(value for value in (0, 255, int(values.max()) + 1) if value not in values)


def _common_nodata(sources: list[LabelSource]) -> Optional[int]:
    """A whole number that the label rasters have for "no label"; None where there is none."""
    plain = [source.source if isinstance(source, MappedLabels) else source for source in sources]
    found = {source.nodata for source in plain if isinstance(source, RasterLabels)}
    whole = [value for value in found if value is not None and value.is_integer() and abs(value) < 2**31]
    return int(whole[0]) if whole else None


def _counted(windows: list[Window], stage: Stage) -> Iterator[Window]:
    for window in windows:
        stage.advance()
        yield window
