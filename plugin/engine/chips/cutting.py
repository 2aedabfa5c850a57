"""Cut units of reading into chips, label them, and decide which are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from osgeo import gdal

from ..config import ExportChipsConfig
from ..rasters.raster_io import RasterInfo, RasterReader, beside, can_hold
from ..tasks import NUMBER_TASKS
from ..windows import Window
from .features import LABEL_LAYER, Area, FeatureFile
from .labelling import Label, labelling_for
from .labels import LabelSource
from .placement import NO_FEATURE
from .plan import Plan, Unit
from .sampling import is_slice, positions, sample_image, sample_nearest
from .scheme import LabelScheme

# How many features' sizes are cached.
KNOWN_FEATURES = 100_000


@dataclass
class Tally:
    """Counts the chips that were left out, by reason."""

    without_data: int = 0
    without_labels: int = 0
    background_only: int = 0


@dataclass(frozen=True)
class Pixels:
    """The pixels of one unit: (H, W) arrays, and (C, H, W) for the image and its missing values."""

    image: np.ndarray
    missing: Optional[np.ndarray]
    valid: Optional[np.ndarray]  # None for all pixels
    mask: np.ndarray  # from `Labelling.mask`
    ids: Optional[np.ndarray]  # of the topmost features; only if MIN_FEATURE_SHARE is set


@dataclass(frozen=True)
class Chip:
    """A chip to be written; its image is made by `Cutter.image_of`, which may run on another thread."""

    unit: Unit
    place: int  # index into the unit's spots
    pixels: Pixels
    window: Window  # its bounding window in the raster; may extend beyond the block
    part: Window  # the part of `window` inside the block
    mask: Optional[np.ndarray]  # (size, size) as stored; None for tasks without masks
    own: Optional[np.ndarray]  # (h, w) of `part`, true on its own feature; None for all pixels
    label: Label
    valid_share: float


class Cutter:
    """Reads the units of a plan and cuts them into chips.

    `read` may run on another thread than `cut`.

    Args:
        config: The export's settings.
        plan: The plan.
        readers, sources: Images and labels of each raster.
        scheme: The classes.
    """

    def __init__(
        self,
        config: ExportChipsConfig,
        plan: Plan,
        readers: list[RasterReader],
        sources: list[LabelSource],
        scheme: LabelScheme,
    ) -> None:
        self.config, self.plan, self.readers, self.sources, self.scheme = config, plan, readers, sources, scheme
        self.labelling = labelling_for(config, scheme)
        self.dtype: np.dtype[Any] = np.result_type(*[info.dtype for info in plan.rasters])
        self.nodata = common_nodata(plan.rasters, self.dtype)
        if config.blacken and self.nodata is None:
            self.nodata = 0.0
        grids = [info.grid for info in plan.rasters]
        self.areas = [Area(config.area, grid) if config.area else None for grid in grids]
        self.tally = Tally()
        # Separate files for `read` and `cut`, since two threads must not share one.
        self._ids: list[Optional[FeatureFile]] = [None] * len(grids)
        self._shares: list[Optional[FeatureShares]] = [None] * len(grids)
        if config.labels and config.min_feature_share > 0:
            rules = config.overlap_rule, config.all_touched
            self._ids = [FeatureFile(config.labels, LABEL_LAYER, grid, *rules) for grid in grids]
            files = [FeatureFile(config.labels, LABEL_LAYER, grid) for grid in grids]
            self._shares = [FeatureShares(file, config.min_feature_share) for file in files]
        self._own: list[Optional[FeatureFile]] = [None] * len(grids)
        if config.labels and config.blacken:
            self._own = [FeatureFile(config.labels, LABEL_LAYER, grid) for grid in grids]

    def read(self, unit: Unit) -> Optional[Pixels]:
        """Read the pixels of a unit; None if nothing in it is labelled."""
        found, labelled = self.sources[unit.source].read(unit.window)
        if self.scheme.background is not None:
            found = np.where(labelled, found, self.scheme.background)
            labelled = np.ones_like(labelled)
        area = self.areas[unit.source]
        if area is not None:
            labelled &= area.read(unit.window)
        if not labelled.any():
            return None
        reader = self.readers[unit.source]
        image, missing = reader.read_marked(unit.window)
        valid = reader.valid(unit.window, missing)
        image = image.astype(self.dtype, copy=False)
        self._keep_apart(image, missing)
        if missing is not None and (self.nodata is not None or self.dtype.kind == "f"):
            image[missing] = np.nan if self.nodata is None else self.nodata
        if valid is not None:
            labelled &= valid
            hidden = np.broadcast_to(~valid, image.shape)
            missing = hidden if missing is None else missing | hidden
        file = self._ids[unit.source]
        ids = file.burn(unit.window, NO_FEATURE, "id", gdal.GDT_Float64) if file is not None else None
        return Pixels(image, missing, valid, self.labelling.mask(found, labelled), ids)

    def _keep_apart(self, image: np.ndarray, missing: Optional[np.ndarray]) -> None:
        """Change valid values that equal the chips' nodata value to the next value."""
        if self.nodata is None or not can_hold(self.dtype, self.nodata):
            return
        equal = image == self.nodata
        if missing is not None:
            equal &= ~missing
        image[equal] = beside(self.nodata, self.dtype)

    def cut(self, unit: Unit, pixels: Optional[Pixels]) -> Iterator[Optional[Chip]]:
        """Yield each chip of a unit, or None for a chip that is not kept."""
        if pixels is None:
            self.tally.without_labels += len(unit.spots)
            yield from (None for _ in range(len(unit.spots)))
            return
        windows = unit.spots.windows().tolist()
        for place in range(len(unit.spots)):
            yield self._chip(unit, place, Window(*windows[place]), pixels)

    def _chip(self, unit: Unit, place: int, window: Window, pixels: Pixels) -> Optional[Chip]:
        size, spots = self.plan.chip_size, unit.spots
        whole = size * size
        part = window.intersection(unit.window)
        plain = is_slice(spots, place, size)
        rows, cols = part.slices_in(unit.window)
        own = self._own_ground(unit, place, part)
        mask = self._counted_mask(unit, pixels, rows, cols, own)
        valid = None if pixels.valid is None else pixels.valid[rows, cols]
        if not plain:
            at = positions(spots, place, part, size)
            mask = sample_nearest(mask, *at, self.no_label)
            shown = np.ones((part.height, part.width), bool) if valid is None else valid
            valid = sample_nearest(shown, *at, 0)
        valid_share = (part.width * part.height if valid is None else float(np.count_nonzero(valid))) / whole
        if valid_share == 0:
            self.tally.without_data += 1
            return None
        label = self.labelling.judge(mask, whole, float(spots.values[place]))
        if label is None:
            self.tally.without_labels += 1
            return None
        if self._is_spare_background(unit, place, label):
            self.tally.background_only += 1
            return None
        stored = (
            self._padded(mask[None], window, part, plain, self.no_label)[0] if self.labelling.writes_masks else None
        )
        return Chip(unit, place, pixels, window, part, stored, own, label, valid_share)

    @property
    def no_label(self) -> float:
        """The value of unlabelled pixels in stored masks."""
        if self.scheme.nodata is not None:
            return self.scheme.nodata
        return float("nan") if self.config.task in NUMBER_TASKS else 0

    def image_of(self, chip: Chip) -> tuple[np.ndarray, np.ndarray, Optional[np.ndarray]]:
        """Make the image of a chip.

        Returns:
            The image as stored, (C, size, size); the pixels for its statistics, (C, h, w); and a mask of the same shape
            that is true for pixels to leave out, or None.
        """
        spots, size = chip.unit.spots, self.plan.chip_size
        rows, cols = chip.part.slices_in(chip.unit.window)
        image = chip.pixels.image[:, rows, cols]
        excluded = None if chip.pixels.missing is None else chip.pixels.missing[:, rows, cols]
        if chip.own is not None:
            hidden = np.broadcast_to(~chip.own, image.shape)
            excluded = hidden if excluded is None else excluded | hidden
            image = np.where(hidden, np.asarray(self.nodata or 0).astype(image.dtype), image)
        if is_slice(spots, chip.place, size):
            return self._padded(image, chip.window, chip.part, True, self.nodata or 0), image, excluded
        sampled, missing = sample_image(image, excluded, spots, chip.place, chip.part, size)
        self._keep_apart(sampled, missing)  # interpolated values
        sampled[missing] = self.nodata or 0
        return sampled, sampled, missing

    def _padded(self, data: np.ndarray, window: Window, part: Window, plain: bool, fill: float) -> np.ndarray:
        """(C, h, w): `part` padded to the whole window; resampled chips need no padding."""
        if not plain or (part.width == window.width and part.height == window.height):
            return data
        above, left = part.row_off - window.row_off, part.col_off - window.col_off
        below, right = window.row_end - part.row_end, window.col_end - part.col_end
        return np.pad(data, ((0, 0), (above, below), (left, right)), constant_values=fill)

    def _own_ground(self, unit: Unit, place: int, part: Window) -> Optional[np.ndarray]:
        """(h, w) bool, true on the chip's own feature; None unless surroundings are set to black."""
        file, number = self._own[unit.source], int(unit.spots.features[place])
        if file is None or number == NO_FEATURE:
            return None
        return file.burn(part, 0, only=number) == 1

    def _counted_mask(
        self, unit: Unit, pixels: Pixels, rows: slice, cols: slice, own: Optional[np.ndarray]
    ) -> np.ndarray:
        """The chip's part of the mask, without features that are too small in it."""
        mask = np.ascontiguousarray(pixels.mask[rows, cols])
        if own is not None:
            mask = np.where(own, mask, np.asarray(self.no_label, mask.dtype))
        shares = self._shares[unit.source]
        if shares is not None and pixels.ids is not None:
            small = shares.small(pixels.ids, rows, cols)
            if small is not None:
                absent = self.scheme.background if self.scheme.background is not None else self.no_label
                mask = np.where(small, np.asarray(absent, mask.dtype), mask)
        return mask

    def _is_spare_background(self, unit: Unit, place: int, label: Label) -> bool:
        """Return whether a chip shows only background and is among those to leave out; depends on the seed."""
        if self.config.background_share >= 1 or label.classes != str(self.scheme.background):
            return False
        at = int(unit.spots.x[place]) & 0xFFFFFFFF, int(unit.spots.y[place]) & 0xFFFFFFFF
        draw = np.random.default_rng([self.config.seed, unit.source, *at]).random()
        return bool(draw >= self.config.background_share)


@dataclass
class FeatureShares:
    """Finds features of which a chip shows too small a part.

    Args:
        file: The features.
        least: The minimum share of a feature's area inside the chip, 0 to 1.
    """

    file: FeatureFile
    least: float
    known: dict[int, float] = field(default_factory=dict)  # feature id → area in pixels

    def small(self, ids: np.ndarray, rows: slice, cols: slice) -> Optional[np.ndarray]:
        """(h, w) bool, true on features of which less than `least` is in the chip; None if there are none."""
        here = ids[rows, cols]
        present, counts = np.unique(here, return_counts=True)
        present, counts = present[present >= 0], counts[present >= 0]
        pixels = self._pixels(present.astype(np.int64))
        few = present[counts < self.least * pixels]
        return np.isin(here, few) if len(few) else None

    def _pixels(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) the areas of features in pixels, at least 1."""
        unknown = np.array([number for number in numbers.tolist() if number not in self.known], np.int64)
        if len(self.known) > KNOWN_FEATURES:
            self.known.clear()
            unknown = numbers
        if len(unknown):
            pixel = abs(self.file.grid.step_x * self.file.grid.step_y)
            self.known.update(zip(unknown.tolist(), np.maximum(1, self.file.areas(unknown) / pixel).tolist()))
        return np.array([self.known[number] for number in numbers.tolist()])


def common_nodata(rasters: tuple[RasterInfo, ...], dtype: np.dtype[Any]) -> Optional[float]:
    """Choose one nodata value for all bands of all chips; None if there is none, or if NaN is used.

    If bands have different nodata values, one may be a valid value in another band: float chips then use NaN, and
    integer chips the first value.
    """
    values = [None if value is None or value != value else value for info in rasters for value in info.nodata]
    given = [value for value in values if value is not None]
    if not given or (dtype.kind == "f" and len(set(values)) > 1):
        return None
    return given[0]
