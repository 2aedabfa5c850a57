"""What the images of a folder have in common, and where they lie."""

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

# Chips without a place lie side by side with this share of a chip between them.
GAP = 1 / 8
MOST_PIXELS = 2**31  # from one end of all chips to the other


@dataclass(frozen=True)
class Ground:
    """Where chips lie: where their files say, or in made-up rows and columns."""

    crs: str  # WKT2; "" for made-up places, and where the files name none
    pixel_size: float
    left: float  # of all chips
    top: float
    columns: int  # of made-up places; 0 where places are real
    chip_size: int
    block_size: Optional[int]  # pixels

    @property
    def real(self) -> bool:
        """Whether the places are those of the files."""
        return self.columns == 0

    def transform(self, number: int, facts: ImageFacts) -> tuple[float, ...]:
        """GDAL's six numbers for the chip that an image becomes."""
        if facts.transform is not None and self.real:
            return square_transform(facts.transform, facts.height, facts.width, self.chip_size)
        row, column = divmod(number, self.columns)
        step = self.chip_size * (1 + GAP)
        return column * step, 1.0, 0.0, -row * step, 0.0, -1.0

    def offset(self, transform: Sequence[float]) -> tuple[int, int]:
        """(column, row) of a chip's first pixel, counted from the corner of all chips."""
        column = (transform[0] - self.left) / self.pixel_size
        return round(column), round((self.top - transform[3]) / self.pixel_size)

    def block(self, number: int, transform: Sequence[float]) -> int:
        """The block of a chip: that of its middle, or its own where places are made up."""
        if self.block_size is None:
            return number
        x, y = np.mean(corners(transform, self.chip_size), axis=0)
        side = self.block_size * self.pixel_size
        column, row = math.floor((x - self.left) / side), math.floor((self.top - y) / side)
        return row * 100_000 + column


@dataclass(frozen=True)
class Shape:
    """What all chips of the dataset will be."""

    chip_size: int
    band_names: tuple[str, ...]
    dtype: np.dtype[Any]
    nodata: Optional[float]
    ground: Ground

    @property
    def bands(self) -> int:
        """How many bands there are."""
        return len(self.band_names)

    def keeps(self, facts: ImageFacts) -> bool:
        """Whether an image has this shape already, but perhaps for its file's format."""
        return (
            facts.plain
            and facts.orientation == UPRIGHT
            and facts.width == facts.height == self.chip_size
            and facts.bands == self.bands
            and facts.dtype == self.dtype
            and facts.nodata == self.nodata
        )


def survey(folder: ForeignFolder, reporter: Reporter) -> tuple[list[tuple[ForeignChip, ImageFacts]], Shape]:
    """Look at every image and decide what they become.

    Returns:
        The chips whose image can be read, with what it is; and the shape of all.

    Raises:
        InputError: No image can be read, or they do not go together.
    """
    found: list[tuple[ForeignChip, ImageFacts]] = []
    damaged: list[str] = []
    stage = Stage(reporter, len(folder.chips), "Looking at the images", 0.1, 0.2)
    for chip, facts in work_ahead(_look, folder.chips, stage):
        if facts is None:
            damaged.append(chip.image.name)
        else:
            found.append((chip, facts))
    if not found:
        text = first_of(damaged) if damaged else "the folder has none with a label"
        raise InputError(f"No image can be read: {text}.", "Check that the images are there and whole.")
    if damaged:
        reporter.warning(f"Images that cannot be read are left out: {first_of(damaged)}.")
    images = [facts for _, facts in found]
    size = median_low([facts.side for facts in images])
    bands = Counter(facts.bands for facts in images).most_common(1)[0][0]
    _tell_sizes(images, size, reporter)
    odd = [facts for facts in images if facts.bands not in (bands, 1)]
    if odd:
        raise InputError(
            f"The image {odd[0].path} has {odd[0].bands} bands, and most images of the folder have {bands}.",
            "Keep images with the same bands in one folder.",
        )
    grey = sum(facts.bands != bands for facts in images)
    if grey:
        reporter.log(f"{counted(grey, 'image')} of one band: it is repeated in each of {bands} bands.")
    names = next(facts.names for facts in images if facts.bands == bands)
    nodatas = {facts.nodata for facts in images}
    nodata = nodatas.pop() if len(nodatas) == 1 else None
    if nodatas:
        reporter.warning("The images have different nodata values, or some have none: none is kept.")
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
        raise InputError(f"Most images are not even {8} pixels wide: {size}.", "Choose another folder.")
    if set(sizes) == {(size, size)}:
        reporter.log(f"{counted(len(images), 'image')} of {size} × {size} pixels.")
        return
    most = first_of([f"{count} of {width} × {height}" for (width, height), count in sizes.most_common()])
    changed = sum(count for shape, count in sizes.items() if shape != (size, size))
    reporter.log(
        f"The images have {len(sizes)} sizes ({most}). Chips are {size} × {size} pixels, the median of their shorter "
        f"sides: {counted(changed, 'image')} cut to the square in the middle and resampled to that."
    )


def _ground(images: Sequence[ImageFacts], size: int, reporter: Reporter) -> Ground:
    """Real places, if the files of all chips have one in the same CRS; else made-up ones."""
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
            f"The chips get made-up places, because {reason}: rows of {columns}, side by side without a CRS, a pixel a "
            "unit."
        )
        return Ground("", 1.0, 0.0, 0.0, columns, size, None)
    block = size * min(LARGEST_AUTOMATIC_BLOCK, max(1, math.isqrt(len(images) // AUTOMATIC_BLOCKS)))
    reporter.log(f"The chips lie where their files say, in {crs_text(crs)}.")
    return Ground(crs, pixel, float(places[..., 0].min()), float(places[..., 1].max()), 0, size, block)


def _no_ground(images: Sequence[ImageFacts], places: np.ndarray, pixel: float) -> str:
    """Why the files' own places will not do; "" where they will."""
    crs = images[0].crs
    if len(places) < len(images):
        return "not all images say where they lie"
    if any(facts.crs != crs and not same_crs(facts.crs, crs) for facts in images):
        other = next(facts.crs for facts in images if not same_crs(facts.crs, crs))
        return f"the images lie in several CRSs ({crs_text(crs)}, {crs_text(other)})"
    if len(images) > 1 and len({facts.transform for facts in images}) == 1:
        return "all images say that they lie in the same place"
    with np.errstate(all="ignore"):
        sides = np.linalg.norm(places[:, 1] - places[:, 0], axis=1)
        spans = (places.max(axis=(0, 1)) - places.min(axis=(0, 1))) / pixel
    if not (np.isfinite(spans).all() and (spans < MOST_PIXELS).all() and (sides > 0).all()):
        return "the places that the images give make no sense"
    return ""
