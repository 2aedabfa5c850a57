"""Examine the images of a folder: their common properties and their georeference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, median_low
from typing import Any, Optional

import numpy as np

from ...errors import InputError
from ...events import Reporter, Stage
from ...rasters.raster_io import crs_text, same_crs
from ...strangers.images import Unreadable
from ...threads import work_ahead
from ..plan import AUTOMATIC_BLOCKS, LARGEST_AUTOMATIC_BLOCK
from .foreign import ForeignChip, ForeignFolder
from .images import ImageFacts, corners, look_at
from .orientation import UPRIGHT
from .squares import square_transform
from .words import counted, first_of

# The gap between chips without georeference, in chip sizes.
GAP = 1 / 8
MOST_PIXELS = 2**31  # across all chips


@dataclass(frozen=True)
class Ground:
    """The positions of chips: from their files, or rows and columns of an artificial grid."""

    crs: str  # WKT2; "" for an artificial grid or files without a CRS
    pixel_size: float
    left: float  # of all chips
    top: float
    columns: int  # of the artificial grid; 0 for real positions
    chip_size: int
    block_size: Optional[int]  # pixels

    @property
    def real(self) -> bool:
        """Whether the positions are from the files."""
        return self.columns == 0

    def transform(self, number: int, facts: ImageFacts) -> tuple[float, ...]:
        """The geotransform of the chip made from an image."""
        if facts.transform is not None and self.real:
            return square_transform(facts.transform, facts.height, facts.width, self.chip_size)
        row, column = divmod(number, self.columns)
        step = self.chip_size * (1 + GAP)
        return column * step, 1.0, 0.0, -row * step, 0.0, -1.0

    def offset(self, transform: Sequence[float]) -> tuple[int, int]:
        """(column, row) of a chip's first pixel, from the corner of all chips."""
        column = (transform[0] - self.left) / self.pixel_size
        return round(column), round((self.top - transform[3]) / self.pixel_size)

    def block(self, number: int, transform: Sequence[float]) -> int:
        """The block that contains a chip's centre; in an artificial grid every chip is its own block."""
        if self.block_size is None:
            return number
        x, y = np.mean(corners(transform, self.chip_size), axis=0)
        side = self.block_size * self.pixel_size
        column, row = math.floor((x - self.left) / side), math.floor((self.top - y) / side)
        return row * 100_000 + column


@dataclass(frozen=True)
class Shape:
    """The common shape of all chips of the dataset."""

    chip_size: int
    band_names: tuple[str, ...]
    dtype: np.dtype[Any]
    nodata: Optional[float]
    ground: Ground

    @property
    def bands(self) -> int:
        """The number of bands."""
        return len(self.band_names)

    def keeps(self, facts: ImageFacts) -> bool:
        """Return whether an image already has this shape; its file format may differ."""
        return (
            facts.plain
            and facts.orientation == UPRIGHT
            and facts.width == facts.height == self.chip_size
            and facts.bands == self.bands
            and facts.dtype == self.dtype
            and facts.nodata == self.nodata
        )


def survey(folder: ForeignFolder, reporter: Reporter) -> tuple[list[tuple[ForeignChip, ImageFacts]], Shape]:
    """Examine all images and choose the shape of the chips.

    Returns:
        The chips with readable images and their properties, and the common shape.

    Raises:
        InputError: No image can be read, or the images do not match.
    """
    found: list[tuple[ForeignChip, ImageFacts]] = []
    damaged: list[str] = []
    stage = Stage(reporter, len(folder.chips), "Reading the images", 0.1, 0.2)
    for chip, facts in work_ahead(_look, folder.chips, stage):
        if facts is None:
            damaged.append(chip.image.name)
        else:
            found.append((chip, facts))
    if not found:
        text = first_of(damaged) if damaged else "the folder has no labelled images"
        raise InputError(f"No image can be read: {text}.", "Check that the images exist and are intact.")
    if damaged:
        reporter.warning(f"Images that cannot be read are left out: {first_of(damaged)}.")
    images = [facts for _, facts in found]
    size = median_low([facts.side for facts in images])
    bands = Counter(facts.bands for facts in images).most_common(1)[0][0]
    _tell_sizes(images, size, reporter)
    odd = [facts for facts in images if facts.bands not in (bands, 1)]
    if odd:
        raise InputError(
            f"The image {odd[0].path} has {odd[0].bands} bands, but most images of the folder have {bands}.",
            "Put only images with the same bands into a folder.",
        )
    grey = sum(facts.bands != bands for facts in images)
    if grey:
        reporter.log(f"{counted(grey, 'image')} with one band, which is repeated to {bands} bands.")
    names = next(facts.names for facts in images if facts.bands == bands)
    nodatas = {facts.nodata for facts in images}
    nodata = nodatas.pop() if len(nodatas) == 1 else None
    if nodatas:
        reporter.warning("The images have different nodata values, or some have none, so none is used.")
    dtype = np.result_type(*{facts.dtype for facts in images})
    return found, Shape(size, names, dtype, nodata, _ground(images, size, reporter))


def _look(chip: ForeignChip) -> Optional[ImageFacts]:
    try:
        return look_at(chip.image)
    except Unreadable:
        return None


def _tell_sizes(images: Sequence[ImageFacts], size: int, reporter: Reporter) -> None:
    sizes = Counter((facts.width, facts.height) for facts in images)
    if size < 8:
        raise InputError(f"Most images are only {size} pixels wide; at least 8 are needed.", "Choose another folder.")
    if set(sizes) == {(size, size)}:
        reporter.log(f"{counted(len(images), 'image')} of {size} × {size} pixels.")
        return
    most = first_of([f"{count} of {width} × {height}" for (width, height), count in sizes.most_common()])
    changed = sum(count for shape, count in sizes.items() if shape != (size, size))
    reporter.log(
        f"The images have {len(sizes)} sizes ({most}). Chips are {size} × {size} pixels, the median of their shorter "
        f"sides; {counted(changed, 'image')} cropped to the central square and resampled."
    )


def _ground(images: Sequence[ImageFacts], size: int, reporter: Reporter) -> Ground:
    """Use the positions of the files if all have one in the same CRS, or else an artificial grid."""
    crs = images[0].crs
    transforms = [
        square_transform(facts.transform, facts.height, facts.width, size) for facts in images if facts.transform
    ]
    places = np.array([corners(transform, size) for transform in transforms]).reshape(-1, 4, 2)
    pixel = median(math.sqrt(abs(step[1] * step[5] - step[2] * step[4])) for step in transforms) if transforms else 0.0
    reason = _no_ground(images, places, pixel)
    if reason:
        columns = math.ceil(math.sqrt(len(images)))
        reporter.log(
            f"The chips get artificial positions, since {reason}: rows of {columns} chips without a CRS, one unit per "
            "pixel."
        )
        return Ground("", 1.0, 0.0, 0.0, columns, size, None)
    block = size * min(LARGEST_AUTOMATIC_BLOCK, max(1, math.isqrt(len(images) // AUTOMATIC_BLOCKS)))
    reporter.log(f"The chips are georeferenced by their files, in {crs_text(crs)}.")
    return Ground(crs, pixel, float(places[..., 0].min()), float(places[..., 1].max()), 0, size, block)


def _no_ground(images: Sequence[ImageFacts], places: np.ndarray, pixel: float) -> str:
    """Describe why the files' positions cannot be used; "" if they can."""
    crs = images[0].crs
    if len(places) < len(images):
        return "not all images are georeferenced"
    if any(facts.crs != crs and not same_crs(facts.crs, crs) for facts in images):
        other = next(facts.crs for facts in images if not same_crs(facts.crs, crs))
        return f"the images have different CRSs ({crs_text(crs)}, {crs_text(other)})"
    if len(images) > 1 and len({facts.transform for facts in images}) == 1:
        return "all images have the same position"
    with np.errstate(all="ignore"):
        sides = np.linalg.norm(places[:, 1] - places[:, 0], axis=1)
        spans = (places.max(axis=(0, 1)) - places.min(axis=(0, 1))) / pixel
    if not (np.isfinite(spans).all() and (spans < MOST_PIXELS).all() and (sides > 0).all()):
        return "the positions of the images are not plausible"
    return ""
