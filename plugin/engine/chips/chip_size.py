"""How large chips are where nobody says: as large as suits a network, unless too little ground is left to divide.

Training, validation and test each need several places that show each class. How many there are is counted in cells of
the size of the smallest blocks, from the bounds of features, or from label rasters where these are small.
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
from ..windows import Bounds, Window, union
from .dataset import CLASS_TASKS
from .features import AREA_LAYER, LABEL_LAYER, VALUE_FIELD, FeatureFile
from .labels import LabelSource
from .plan import least_block, needed_side

SIZES = (256, 128, 64, 32, 16, 8)
# In less than this, an encoder that reduces its image 32 times has no surroundings left to look at: such chips are for
# rasters that are smaller themselves.
LEAST = 64
# Rasters smaller than a chip give none. Those that do shall have at least this share of the ground.
FITTING = 0.9
# Places of any label, and of each class, that are enough to be divided; fewer only where smaller chips would have at
# least `GAIN` times as many.
ENOUGH, ENOUGH_OF_CLASS = 40, 12
GAIN = 1.5
# Label rasters are looked at up to so many pixels together; larger ones are taken to be full of labels.
PIXELS_LOOKED_AT = 4_200_000

ANY = None  # of the keys of `Places`, which are class values
Places = Mapping[Optional[int], float]


def choose_size(
    config: ExportChipsConfig,
    rasters: Sequence[RasterInfo],
    areas: Sequence[Window],
    labels: Sequence[LabelSource],
    earlier: Optional[int],
    reporter: Reporter,
) -> int:
    """The size of the chips: the user's, else one that suits rasters and labels, which the log gives reasons for.

    Args:
        config: Of the export.
        rasters: What chips are cut from.
        areas: The part of each raster that is exported.
        labels: Of each raster.
        earlier: The size of the chips in the dataset that new ones join; None where there is none.
        reporter: Is told of an automatic size.
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
    """The sizes to choose from, descending."""
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
    return "for which images and labels are ample" if size == SIZES[0] else "the largest that fits the images"


def _by_features(config: ExportChipsConfig, rasters: Sequence[RasterInfo], areas: Sequence[Window]) -> tuple[int, str]:
    """For chips that show one feature each: as wide as the features, or twice that where they show surroundings."""
    sizes = _sizes(config, areas)
    side = FeatureFile(not_none(config.labels), LABEL_LAYER, rasters[0].grid).typical_side(_bounds(rasters, areas))
    wanted = side if config.placement == "bounding_boxes" else 2 * side
    size = next((size for size in reversed(sizes) if size >= wanted), sizes[0])
    return size, f"since half of the label features are at most {max(1, round(side))} pixels wide"


def _by_places(config: ExportChipsConfig, areas: Sequence[Window], places: _Places) -> tuple[int, str]:
    """For chips that lie anywhere: the largest that leave enough places to be divided."""
    sizes = _sizes(config, areas)
    why = _largest(sizes[0])
    for size in sizes[:-1]:
        lack = _lack(places.count(size), places.count(sizes[-1]), config)
        if not lack:
            return size, why
        why = f"because chips of {size} would show {lack}"
    return sizes[-1], why


def _lack(here: Places, smaller: Places, config: ExportChipsConfig) -> str:
    """What there are too few places of, and smaller chips have more; "" where there are enough."""
    for key, more in smaller.items():
        found = here.get(key, 0)
        if found < (ENOUGH if key is ANY else ENOUGH_OF_CLASS) and GAIN * found <= more:
            names = {int(row[0]): str(row[1]) for row in config.classes if row[1]}
            shown = "labels" if key is ANY else f'"{names[key]}"' if key in names else "one of the classes"
            number = max(1, round(found))
            return f"{shown} in {number} place{'' if number == 1 else 's'} only"
    return ""


def _bounds(rasters: Sequence[RasterInfo], areas: Sequence[Window]) -> Bounds:
    """The bounds of all that is exported."""
    found: Optional[Bounds] = None
    for info, area in zip(rasters, areas):
        if not area.empty:
            found = union(found, info.grid.bounds_of(area))
    return found or (0.0, 0.0, 0.0, 0.0)


class _Places:
    """Counts the places on the ground that show labels."""

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
        """How many blocks of ground can show each class, and labels at all, where chips are so large."""
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
            found[ANY] = all_ground  # all that is no label is one as well
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
