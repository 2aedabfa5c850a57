"""Cuts units of reading into chips: which are kept, what they hold, and what their block adds up to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from ..raster_io import RasterInfo, RasterReader
from ..windows import Window
from .labels import Area, LabelSource
from .plan import Plan, Unit
from .scheme import LabelScheme
from .statistics import BandStatistics


@dataclass(frozen=True)
class Chip:
    """One chip, cut and ready to be written.

    `window` is the full chip, which may reach out of its block; `part` is what of it lies inside. The arrays cover
    `part` only: `image` is (C, h, w), `mask` (h, w) class values, `excluded` (C, h, w) is true where the image holds
    no data, or None.
    """

    unit: Unit
    window: Window
    part: Window
    image: np.ndarray
    mask: np.ndarray
    excluded: Optional[np.ndarray]
    pixels: np.ndarray  # (classes,)
    valid_share: float
    labelled_share: float


@dataclass
class Tally:
    """How many chips were left out, and why."""

    without_data: int = 0
    without_labels: int = 0


@dataclass
class _Pixels:
    """The pixels of one unit; arrays of (H, W), the image of (C, H, W)."""

    image: np.ndarray
    missing: Optional[np.ndarray]  # (C, H, W)
    valid: Optional[np.ndarray]
    labelled: np.ndarray
    indices: np.ndarray
    mask: np.ndarray


@dataclass
class Cutter:
    """Reads units of one plan and cuts them.

    Args:
        nodata: What missing values become in the chips; None where nothing can be missing but NaN.
        min_labelled_share: Of a chip's pixels, 0 to 1; a chip without any label is never kept.
    """

    plan: Plan
    readers: list[RasterReader]
    sources: list[LabelSource]
    areas: list[Optional[Area]]
    scheme: LabelScheme
    min_labelled_share: float
    dtype: np.dtype[Any] = field(init=False)
    nodata: Optional[float] = field(init=False)
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.dtype = np.result_type(*[info.dtype for info in self.plan.rasters])
        self.nodata = common_nodata(self.plan.rasters)
        self.mask_dtype = self.scheme.classes.mask_dtype(self.scheme.nodata)

    def cut(self, unit: Unit) -> Iterator[Optional[Chip]]:
        """Yield each chip of a unit, or None for one that is not kept."""
        pixels = self._read(unit)
        if pixels is None:
            self.tally.without_labels += len(unit.cols)
            yield from (None for _ in unit.cols)
            return
        size = self.plan.chip_size
        for col, row in zip(map(int, unit.cols), map(int, unit.rows)):
            yield self._chip(unit, Window(col, row, size, size), pixels)

    def _read(self, unit: Unit) -> Optional[_Pixels]:
        """Read labels, and the image where there are any."""
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
        image = reader.read(unit.window)
        missing = reader.missing(image)
        valid = reader.valid(unit.window, missing)
        image = image.astype(self.dtype, copy=False)
        if missing is not None and self.nodata is not None:
            image[missing] = self.nodata
        if valid is not None:
            labelled &= valid
        indices = self.scheme.classes.to_indices(found)
        mask = np.where(labelled, found, self.scheme.nodata).astype(self.mask_dtype)
        return _Pixels(image, missing, valid, labelled, indices, mask)

    def _chip(self, unit: Unit, window: Window, pixels: _Pixels) -> Optional[Chip]:
        part = window.intersection(unit.window)
        here = part.slices_in(unit.window)
        whole = window.width * window.height
        valid_share = part.width * part.height / whole
        if pixels.valid is not None:
            valid_share = float(np.count_nonzero(pixels.valid[here])) / whole
        counts = np.bincount(pixels.indices[here][pixels.labelled[here]], minlength=256)[: len(self.scheme.classes)]
        labelled_share = float(counts.sum()) / whole
        if valid_share == 0:
            self.tally.without_data += 1
            return None
        if labelled_share == 0 or labelled_share < self.min_labelled_share:
            self.tally.without_labels += 1
            return None
        rows, cols = here
        image = pixels.image[:, rows, cols]
        excluded = None if pixels.missing is None else pixels.missing[:, rows, cols]
        if pixels.valid is not None:
            hidden = np.broadcast_to(~pixels.valid[here], image.shape)
            excluded = hidden if excluded is None else excluded | hidden
        return Chip(unit, window, part, image, pixels.mask[here], excluded, counts, valid_share, labelled_share)


@dataclass
class Block:
    """What is known of a spatial block; it decides about the block's split and the dataset's statistics."""

    pixels: np.ndarray  # (classes,)
    bands: BandStatistics
    chips: int = 0


def common_nodata(rasters: tuple[RasterInfo, ...]) -> Optional[float]:
    """One nodata value for all bands of all chips: the first there is. NaN needs none, since it is always missing."""
    for info in rasters:
        for value in info.nodata:
            if value is not None and value == value:
                return value
    return None
