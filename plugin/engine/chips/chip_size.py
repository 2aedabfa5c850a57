"""Choice of the chip size: as large as suits a network, while enough places remain for the splits.

Training, validation and test each need several places of each class. Places are counted in cells of the size of the
smallest blocks, from the bounds of features, or from label rasters if these are small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from ..config import ExportChipsConfig
from ..errors import not_none
from ..events import Reporter
from ..rasters.raster_io import RasterInfo
from ..tasks import CLASS_TASKS
from ..windows import Bounds, Window, union
from .features import AREA_LAYER, LABEL_LAYER, VALUE_FIELD, FeatureFile
from .labels import LabelSource
from .plan import least_block, needed_side

SIZES = (256, 128, 64, 32, 16, 8)
# An encoder that downsamples 32 times sees no context in smaller chips; these are only for rasters that are small
# themselves.
LEAST = 64
# Rasters smaller than a chip are lost; the others must have at least this share of the ground.
FITTING = 0.9
# The number of labelled places, and of places of each class, that is enough for the splits. Smaller chips are chosen
# below that only if they have at least GAIN times as many places.
ENOUGH, ENOUGH_OF_CLASS = 40, 12
GAIN = 1.5
# The maximum number of label raster pixels to examine; larger rasters are assumed to be labelled everywhere.
PIXELS_LOOKED_AT = 4_200_000

ANY = None  # the key of `Places` for any label; the others are class values
Places = Mapping[Optional[int], float]


def choose_size(
    config: ExportChipsConfig,
    rasters: Sequence[RasterInfo],
    areas: Sequence[Window],
    labels: Sequence[LabelSource],
    earlier: Optional[int],
    reporter: Reporter,
) -> int:
    """Choose the chip size: the user's, or one that suits rasters and labels, with the reason in the log.

    Args:
        config: The export's settings.
        rasters: The rasters to cut.
        areas: The exported part of each raster.
        labels: The labels of each raster.
        earlier: The chip size of the dataset to append to; None for a new dataset.
        reporter: Logs an automatic size.
    """
    if config.chip_size is not None:
        return config.chip_size
    if earlier is not None:
        size, why = earlier, "as in the dataset"
    elif config.placement in ("features", "bounding_boxes") and config.labels:
        size, why = _by_features(config, rasters, areas)
    else:
        size, why = _by_places(config, areas, _Places(config, rasters, areas, labels))
    reporter.log(f"Chip size: {size} × {size} pixels, {why}.")
    return size


def _sizes(config: ExportChipsConfig, areas: Sequence[Window]) -> tuple[int, ...]:
    """The possible sizes, in descending order."""
    ground = sum(area.width * area.height for area in areas)
    fitting = tuple(
        size
        for size in SIZES
        if needed_side(config, size) <= (config.block_size or SIZES[0])
        and sum(area.width * area.height for area in _fitting(config, areas, size)) >= FITTING * max(1, ground)
    )
    return tuple(size for size in fitting if size >= LEAST) or fitting[:1] or SIZES[-1:]


def _fitting(config: ExportChipsConfig, areas: Sequence[Window], size: int) -> list[Window]:
    need = needed_side(config, size)
    return [area for area in areas if min(area.width, area.height) >= need]


def _largest(size: int) -> str:
    return "since images and labels suffice for it" if size == SIZES[0] else "the largest that fits the images"


def _by_features(config: ExportChipsConfig, rasters: Sequence[RasterInfo], areas: Sequence[Window]) -> tuple[int, str]:
    """Choose the size for chips around features: the feature size, or twice that if the surroundings are shown."""
    sizes = _sizes(config, areas)
    side = FeatureFile(not_none(config.labels), LABEL_LAYER, rasters[0].grid).typical_side(_bounds(rasters, areas))
    wanted = side if config.placement == "bounding_boxes" else 2 * side
    size = next((size for size in reversed(sizes) if size >= wanted), sizes[0])
    return size, f"since half of the label features are no wider than {max(1, round(side))} pixels"


def _by_places(config: ExportChipsConfig, areas: Sequence[Window], places: _Places) -> tuple[int, str]:
    """Choose the size for grid and random chips: the largest that leaves enough places for the splits."""
    sizes = _sizes(config, areas)
    why = _largest(sizes[0])
    for size in sizes[:-1]:
        lack = _lack(places.count(size), places.count(sizes[-1]), config)
        if not lack:
            return size, why
        why = f"since chips of {size} pixels would show {lack}"
    return sizes[-1], why


def _lack(here: Places, smaller: Places, config: ExportChipsConfig) -> str:
    """Describe what has too few places here and clearly more with smaller chips; "" if nothing has."""
    for key, more in smaller.items():
        found = here.get(key, 0)
        if found < (ENOUGH if key is ANY else ENOUGH_OF_CLASS) and GAIN * found <= more:
            names = {int(row[0]): str(row[1]) for row in config.classes if row[1]}
            shown = "labels" if key is ANY else f'"{names[key]}"' if key in names else "one of the classes"
            number = max(1, round(found))
            return f"{shown} in only {number} place{'' if number == 1 else 's'}"
    return ""


def _bounds(rasters: Sequence[RasterInfo], areas: Sequence[Window]) -> Bounds:
    """The bounds of everything that is exported."""
    found: Optional[Bounds] = None
    for info, area in zip(rasters, areas):
        if not area.empty:
            found = union(found, info.grid.bounds_of(area))
    return found or (0.0, 0.0, 0.0, 0.0)


class _Places:
    """Counts the places on the ground that have labels."""

    def __init__(
        self,
        config: ExportChipsConfig,
        rasters: Sequence[RasterInfo],
        areas: Sequence[Window],
        labels: Sequence[LabelSource],
    ) -> None:
        self.config, self.rasters, self.areas = config, rasters, areas
        self.bounds = _bounds(rasters, areas)
        self.by_class = config.task in CLASS_TASKS
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []
        small = sum(area.width * area.height for area in areas) <= PIXELS_LOOKED_AT
        if config.label_rasters and small:
            self.seen = [source.read(area) for source, area in zip(labels, areas) if not area.empty]
        self.counted: dict[int, Places] = {}

    def count(self, size: int) -> Places:
        """The number of blocks with each class, and with any label, for a chip size."""
        if size not in self.counted:
            self.counted[size] = self._count(size)
        return self.counted[size]

    def _count(self, size: int) -> Places:
        config = self.config
        side = max(least_block(config, size), config.block_size or 0) if config.split_method == "blocks" else size
        all_ground = sum(area.width * area.height for area in _fitting(config, self.areas, size)) / side**2
        found: dict[Optional[int], float] = {ANY: all_ground}
        if config.labels:
            found = self._of_features(FeatureFile(config.labels, LABEL_LAYER, self.rasters[0].grid), side)
        elif self.seen:
            found = self._of_pixels(side)
        one_class = self.by_class and len(found) == 2
        if config.background == "class" or (config.background == "auto" and one_class):
            found[ANY] = all_ground  # unlabelled ground is a class too
        if config.area:
            inside = FeatureFile(config.area, AREA_LAYER, self.rasters[0].grid).spread(self.bounds, side)[ANY]
            found = {key: min(number, inside) for key, number in found.items()}
        return found

    def _of_features(self, file: FeatureFile, side: int) -> dict[Optional[int], float]:
        found = file.spread(self.bounds, side)
        return {**found, **file.spread(self.bounds, side, VALUE_FIELD)} if self.by_class else found

    def _of_pixels(self, side: int) -> dict[Optional[int], float]:
        found: Counter[Optional[int]] = Counter({ANY: 0})
        for values, labelled in self.seen:
            rows, cols = np.nonzero(labelled)
            across, down = values.shape[1] // side + 1, values.shape[0] // side + 1
            cells = rows // side * across + cols // side
            found[ANY] += len(np.unique(cells))
            if self.by_class:
                keys = np.unique(values[labelled].astype(np.int64) * (across * down) + cells)
                for value, number in zip(*np.unique(keys // (across * down), return_counts=True)):
                    found[int(value)] += int(number)
        return dict(found)
