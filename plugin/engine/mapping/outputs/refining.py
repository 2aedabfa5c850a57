"""What is done to a finished raster of classes: a majority filter, and the removal of small regions.

Both work on the whole raster, so that no border of a tile shows, and read and write it in strips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from osgeo import gdal

from ...classes import IGNORE_INDEX, ClassTable
from ...errors import InputError
from ...events import Reporter
from ...windows import Window
from ..settings import RefiningSettings
from .ground import Ground
from .phases import Phase

# Pixels of a strip.
STRIP = 2**22
MOST_PIXELS = 2**31 - 1  # GDAL's largest limit of a region
SQUARE_METRES = {"square_metres": 1.0, "hectares": 1e4}


@dataclass(frozen=True)
class Refinement:
    """What is done to the classes, in this order.

    Attributes:
        majority: Side of the square in which the most frequent class is taken; None leaves it out.
        smallest: Regions of fewer pixels join a neighbour; 1 leaves all.
        connectedness: 4 or 8.
    """

    majority: int | None = None
    smallest: int = 1
    connectedness: int = 4

    @property
    def steps(self) -> int:
        """The number of passes over the raster."""
        return (self.majority is not None) + (self.smallest > 1)

    def tell(self, reporter: Reporter) -> None:
        """Report what the minimum mapping unit is in pixels."""
        if self.smallest > 1:
            reporter.log(f"Regions of fewer than {self.smallest:,} pixels will join their largest neighbour.")


NOT_REFINED = Refinement()


def plan_refinement(settings: RefiningSettings, ground: Ground | None, window: Window) -> Refinement:
    """Turn settings into a refinement.

    Args:
        settings: The settings.
        ground: The ground of the raster; None if it is not known.
        window: The part of it that is mapped; its middle tells how large a pixel is.

    Raises:
        InputError: A setting cannot be used.
    """
    unit = settings.min_mapping_unit or 0.0
    smallest = max(1, math.ceil(unit / pixel_unit(settings.area_unit, ground, window) - 1e-9)) if unit else 1
    return Refinement(settings.majority_filter, min(smallest, MOST_PIXELS), int(settings.connectedness))


def pixel_unit(unit: str, ground: Ground | None, window: Window) -> float:
    """Return the area of a pixel in the middle of a window, in one of `AREA_UNITS`.

    Raises:
        InputError: The ground is not known.
    """
    if unit == "pixels":
        return 1.0
    if ground is None:
        raise InputError(
            f"AREA_UNIT is {unit}, but the raster's CRS does not tell how large its pixels are.",
            "Give areas in pixels, or assign a CRS to the raster.",
        )
    size = ground.pixel(window.col_off + window.width / 2, window.row_off + window.height / 2)
    return size / SQUARE_METRES[unit]


def strips(dataset: gdal.Dataset) -> Iterator[Window]:
    """Divide a raster into strips of whole blocks."""
    width, height = dataset.RasterXSize, dataset.RasterYSize
    block = dataset.GetRasterBand(1).GetBlockSize()[1]
    rows = max(1, STRIP // width // block) * block
    for top in range(0, height, rows):
        yield Window(0, top, width, min(rows, height - top))


def take_majority(source: gdal.Dataset, target: gdal.Dataset, classes: ClassTable, side: int, phase: Phase) -> None:
    """Give each pixel the most frequent class of the square around it; pixels without a class keep none.

    Only pixels with a class count. If several classes are as frequent, a pixel keeps its own class if that is one of
    them, and otherwise takes the one with the smallest value.

    Args:
        source: The raster of class values.
        target: The raster to write.
        classes: The classes.
        side: Side of the square in pixels, an odd number.
        phase: Receives progress.
    """
    nodata, margin = int(source.GetRasterBand(1).GetNoDataValue()), side // 2
    whole = Window(0, 0, source.RasterXSize, source.RasterYSize)
    for strip in strips(source):
        outer = strip.expanded(margin).intersection(whole)
        indices = classes.to_indices(source.GetRasterBand(1).ReadAsArray(*outer))
        found = _majority(indices, strip.slices_in(outer), margin)
        target.GetRasterBand(1).WriteArray(classes.to_values(found, nodata), 0, strip.row_off)
        phase.reach(strip.row_end / whole.height)


def _majority(indices: np.ndarray, inner: tuple[slice, slice], margin: int) -> np.ndarray:
    own = indices[inner]
    best = np.full(own.shape, IGNORE_INDEX, np.uint8)
    highest = np.zeros(own.shape, np.uint16)
    for index in np.flatnonzero(np.bincount(indices.ravel(), minlength=256)[:IGNORE_INDEX]):
        # Twice the count, and one more for the pixel's own class.
        score = 2 * _counts(indices == index, inner, margin).astype(np.uint16) + (own == index)
        better = score > highest
        best[better], highest[better] = index, score[better]
    best[own == IGNORE_INDEX] = IGNORE_INDEX
    return best


def _counts(there: np.ndarray, inner: tuple[slice, slice], margin: int) -> np.ndarray:
    """Return how many pixels of the square around each inner pixel are true; squares end at the array's edge."""
    rows, cols = inner
    height, width = there.shape
    found = np.pad(
        there.astype(np.uint8),  # a square has at most 225 pixels
        ((margin - rows.start, margin + rows.stop - height), (margin - cols.start, margin + cols.stop - width)),
    )
    for _ in range(2):  # along the columns, then along the rows
        length = len(found) - 2 * margin
        total = found[:length].copy()
        for shift in range(1, 2 * margin + 1):
            total += found[shift : shift + length]
        found = total.T
    return found


def remove_small(source: gdal.Dataset, target: gdal.Dataset, refinement: Refinement, phase: Phase) -> None:
    """Let each region of fewer than `smallest` pixels join its largest neighbour; regions without one stay."""
    band = source.GetRasterBand(1)
    gdal.SieveFilter(
        band, band.GetMaskBand(), target.GetRasterBand(1), refinement.smallest, refinement.connectedness,
        callback=phase.callback,
    )  # fmt: skip
