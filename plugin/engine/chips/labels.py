"""Labels read from rasters, and functions shared by all kinds of labels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Optional, Protocol

import numpy as np
from osgeo import osr

from ..classes import MAX_CLASSES, ClassTable
from ..errors import InputError
from ..rasters.mosaic_reader import MosaicReader
from ..rasters.opening import with_nodata
from ..rasters.raster_io import RasterInfo, crs_text, same_crs, spatial_reference, value_text
from ..rasters.regridded import read_with
from ..rasters.resampled import NEAREST
from ..rasters.stored import Stored, look_at
from ..rasters.virtual import best_resampling
from ..windows import Bounds, Window, overlap
from .label_rasters import LabelRaster


class LabelSource(Protocol):
    """Provides the labels of all pixels in a window."""

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read labels: (H, W) class values of any integer type, or float32; and (H, W) bool, true where labelled."""


class NoLabels:
    """Labels of an export without labels: all pixels count."""

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return (H, W) zeros, and (H, W) true."""
        shape = (window.height, window.width)
        return np.zeros(shape, np.uint8), np.ones(shape, bool)


class MappedLabels:
    """Replaces or removes class values of another source.

    Args:
        source: The source of labels.
        mapping: Value → class value, or None for no label; other values are kept.
    """

    def __init__(self, source: LabelSource, mapping: dict[int, Optional[int]]) -> None:
        self.source = source
        self.known = np.array(sorted(mapping), np.int64)
        self.become = np.array([mapping[value] or 0 for value in sorted(mapping)], np.int64)
        self.dropped = np.array([mapping[value] is None for value in sorted(mapping)])

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read (H, W) int32 class values, and (H, W) bool, true where labelled."""
        values, labelled = self.source.read(window)
        place = np.minimum(np.searchsorted(self.known, values), len(self.known) - 1)
        listed = self.known[place] == values
        return (
            np.where(listed, self.become[place], values).astype(np.int32),
            labelled & ~(listed & self.dropped[place]),
        )


class RasterLabels:
    """Labels from a class raster, or a mosaic of them; nearest neighbour is used if a grid differs from the image's.

    Args:
        raster: The class raster.
        image: The raster that defines the output grid.
        nodata: The value for "no label"; None for the raster's own.

    Raises:
        InputError: The raster does not overlap the image, or only one of them has a CRS.
    """

    def __init__(self, raster: LabelRaster, image: RasterInfo, nodata: Optional[float]) -> None:
        self.path = raster.name
        found = [self._look_at(one, nodata) for one in (raster, *raster.more)]
        self.nodata = next((value for value in (stored.info.nodata[0] for stored in found) if value is not None), None)
        places = [_in_crs(stored.info.grid.bounds, stored.info.crs, image.crs) for stored in found]
        there = [(stored, place) for stored, place in zip(found, places) if overlap(place, image.grid.bounds)]
        if not there:
            raise no_overlap(self.path, places[0], image)
        pieces = []
        for stored, place in there:
            # Not all of a large image, of which one label raster of many shows little.
            window = image.grid.window_of(place).expanded(1).intersection(image.grid.window)
            part = image.grid.part(window)
            pieces.append((window, read_with(stored, part, image.crs, self._resampling(stored, image))))
        like = dataclasses.replace(found[0].info, path=self.path, grid=image.grid, crs=image.crs)
        self.reader = MosaicReader(pieces, like)

    def _look_at(self, raster: LabelRaster, nodata: Optional[float]) -> Stored:
        return look_at(self._source(raster, nodata), self._bands(raster), raster.path, raster.crs)

    def _bands(self, raster: LabelRaster) -> tuple[int, ...]:
        return raster.bands

    def _source(self, raster: LabelRaster, nodata: Optional[float]) -> str:
        """The source to open: if `nodata` is given, a virtual raster of the label band with that value."""
        if nodata is None:
            return raster.source
        return with_nodata(raster.source, nodata, raster.path, (1,))

    def _resampling(self, stored: Stored, image: RasterInfo) -> str:
        return NEAREST

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read (H, W) labels, and (H, W) bool, true where labelled."""
        data, missing = self.reader.read_marked(window)
        valid = self.reader.valid(window, missing)
        known = np.ones(data.shape[1:], bool) if valid is None else valid
        return self._values(data[0], known), known

    def _values(self, found: np.ndarray, known: np.ndarray) -> np.ndarray:
        if found.dtype.kind in "iu" and found.dtype.itemsize <= 2:
            return found
        if found.dtype.kind == "f":
            found = np.where(known, found, 0)
            fractional = found != np.rint(found)
            if fractional.any():
                raise InputError(
                    f"The label raster {self.path} holds {value_text(found[fractional][0])}, but class values are "
                    "whole numbers.",
                    "If the value means “no label”, set it as LABEL_NODATA. Otherwise classify the raster first, since "
                    "continuous values cannot be used as classes.",
                )
        beyond = known & ((found <= -(2**31)) | (found >= 2**31))  # the limits as floats
        if beyond.any():
            raise InputError(
                f"The label raster {self.path} holds {value_text(found[beyond][0])}, but class values have 32 bits.",
                "If the value means “no label”, set it as LABEL_NODATA. Otherwise use smaller class values.",
            )
        return np.where(known, found, 0).astype(np.int32)


class ColorLabels(RasterLabels):
    """Labels from a colour image, where each colour is a class; values are 0xRRGGBB until they are mapped."""

    def __init__(self, raster: LabelRaster, image: RasterInfo, nodata: Optional[float]) -> None:
        super().__init__(raster, image, None)
        self.nodata, self.dropped = None, nodata

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read (H, W) int32 colours, and (H, W) bool, true where labelled."""
        data, missing = self.reader.read_marked(window)
        valid = self.reader.valid(window, missing)
        red, green, blue = data.astype(np.int32)
        colors = (red << 16) + (green << 8) + blue
        known = np.ones(colors.shape, bool) if valid is None else valid
        return colors, known if self.dropped is None else known & (colors != self.dropped)


class RasterTargets(RasterLabels):
    """Continuous labels from the first band of a raster, resampled if its grid differs from the image's."""

    def _bands(self, raster: LabelRaster) -> tuple[int, ...]:
        return (1,)

    def _resampling(self, stored: Stored, image: RasterInfo) -> str:
        # Pixel sizes can only be compared in the same CRS.
        native = stored.info.grid if same_crs(stored.info.crs, image.crs) else image.grid
        return best_resampling(stored.categorical, native, image.grid)

    def _values(self, found: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.where(known, found, np.nan).astype(np.float32)


def discover_classes(
    sources: Iterable[tuple[LabelSource, Iterable[Window]]], too_many: InputError
) -> tuple[dict[int, int], int]:
    """Count the class values in some windows.

    Returns:
        Class value → pixels, by ascending value; and the number of pixels of all windows.

    Raises:
        InputError: `too_many`, if there are more values than classes are allowed.
    """
    found: Counter[int] = Counter()
    total = 0
    for source, windows in sources:
        for window in windows:
            values, labelled = source.read(window)
            total += labelled.size
            for value, pixels in zip(*np.unique(values[labelled], return_counts=True)):
                found[int(value)] += int(pixels)
            if len(found) > MAX_CLASSES - 1:
                raise too_many
    return dict(sorted(found.items())), total


def merge_classes(values: np.ndarray, *tables: dict[int, tuple[str, Optional[str]]]) -> ClassTable:
    """Make a class table of `values`; names and colours come from the first of `tables` that has them."""
    rows = []
    for value in map(int, values):
        named = [table[value] for table in tables if value in table]
        name = next((entry[0] for entry in named if entry[0]), "")
        rows.append((value, name, next((entry[1] for entry in named if entry[1]), None)))
    return ClassTable.from_rows(rows)


def no_overlap(path: str, here: Bounds, image: RasterInfo) -> InputError:
    """The error for labels that do not overlap the image; both bounds are in the image's CRS."""
    return InputError(
        f"The labels {path} ({place_text(here)}) do not overlap the raster {image.path} "
        f"({place_text(image.grid.bounds)}) in {crs_text(image.crs)}.",
        "Check that both show the same area and have the right CRS.",
    )


def place_text(bounds: Bounds) -> str:
    """Write bounds as a text."""
    if not np.isfinite(bounds).all():
        return "outside of the area where the raster's CRS is valid"
    left, bottom, right, top = bounds
    return f"x {left:.10g} to {right:.10g}, y {bottom:.10g} to {top:.10g}"


def _in_crs(bounds: Bounds, crs: str, target: str) -> Bounds:
    if same_crs(crs, target):
        return bounds
    transform = osr.CoordinateTransformation(spatial_reference(crs), spatial_reference(target))
    return tuple(transform.TransformBounds(*bounds, 21))
