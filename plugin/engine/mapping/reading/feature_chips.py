"""Cuts chips around features with the code of the export, so that the network sees what it was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...chips.features import FeatureFile
from ...chips.placement import Spots
from ...chips.sampling import ENOUGH, is_slice, sample_image
from ...rasters.raster_io import RasterReader
from ...windows import Window
from .tile_reader import COMPACT_TYPES, Images, explain_reading

# Wider chips are first averaged to about this size, so that memory does not grow with the polygon.
LARGEST_SIDE = 2048


@dataclass(frozen=True)
class FeatureChips(Images):
    """Chips of some features."""

    ids: np.ndarray  # (N,)


class FeatureChipReader:
    """Reads chips around features; to be used by one thread.

    Args:
        raster: The raster, with its bands in the order of the model's.
        file: The features, to blacken their surroundings; None to keep these.
        size: S, the chip size in pixels.
    """

    def __init__(self, raster: RasterReader, file: FeatureFile | None, size: int) -> None:
        self.raster, self.file, self.size = raster, file, size
        self.empty = 0  # features whose chips contain no data

    def read(self, spots: Spots) -> FeatureChips | None:
        """Read the chips at some spots, without those that contain no data; None if none is left.

        Raises:
            InputError: The raster cannot be read.
        """
        ids, images, gaps = [], [], []
        for place, window in enumerate(spots.windows().tolist()):
            data, missing = self._chip(spots, place, Window(*window))
            if missing.all():
                continue
            ids.append(int(spots.features[place]))
            images.append(data)
            gaps.append(missing)
        self.empty += len(spots) - len(ids)
        return FeatureChips(np.stack(images), np.stack(gaps), np.array(ids)) if ids else None

    def _chip(self, spots: Spots, place: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(B, S, S) values, and bool where they are missing."""
        number = int(spots.features[place])
        part = window.intersection(self.raster.info.grid.window)
        bands = len(self.raster.info.bands)
        if part.empty:
            return np.zeros((bands, self.size, self.size), np.float32), np.ones((bands, self.size, self.size), bool)
        factor = math.ceil(window.width / LARGEST_SIDE)
        if is_slice(spots, place, self.size):
            data, missing = self._pixels(part, self._own(part, number))
            around = [(0, 0), (part.row_off - window.row_off, window.row_end - part.row_end),
                      (part.col_off - window.col_off, window.col_end - part.col_end)]  # fmt: skip
            return np.pad(data, around), np.pad(missing, around, constant_values=True)
        if factor == 1:
            data, missing = self._pixels(part, self._own(part, number))
            return sample_image(data, missing, spots, place, part, self.size)
        data, missing = self._averaged(part, number, factor)
        return sample_image(data, missing, *_scaled(spots, place, part, factor), self.size)

    def _own(self, part: Window, number: int) -> np.ndarray | None:
        """Return (h, w) bool, true on the feature; None if everything counts, as for points, of which nothing would be
        left.
        """
        if self.file is None:
            return None
        own = _burnt(self.file, part, number)
        return own if np.count_nonzero(own) > 1 else None

    def _pixels(self, part: Window, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return (B, h, w) values of a window on the raster, and bool where they are missing."""
        with explain_reading(self.raster.info.path):
            data, missing = self.raster.read_marked(part)
            shown = self.raster.shown(part)
        if missing is None:
            missing = np.zeros(data.shape, bool)
        for counts in (shown, own):
            if counts is not None:
                missing |= ~counts
        return (data if data.dtype in COMPACT_TYPES else data.astype(np.float32)), missing

    def _averaged(self, part: Window, number: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (B, h / factor, w / factor) float32 means of squares of pixels, read and rasterised in strips."""
        width, height = -(-part.width // factor), -(-part.height // factor)
        bands = len(self.raster.info.bands)
        data = np.zeros((bands, height, width), np.float32)
        missing = np.ones((bands, height, width), bool)
        begins = np.arange(0, part.width, factor)
        owned = self._owned(part, number, factor)
        for row, strip in enumerate(_strips(part, factor)):
            values, gaps = self._pixels(strip, None if owned is None else next(owned))
            known = np.add.reduceat((~gaps).sum(axis=1), begins, axis=1)  # (B, width)
            total = np.add.reduceat(np.where(gaps, 0, values).sum(axis=1, dtype=np.float64), begins, axis=1)
            missing[:, row] = known < ENOUGH * strip.height * factor
            data[:, row] = total / np.maximum(1, known)
        return data, missing

    def _owned(self, part: Window, number: int, factor: int) -> Iterator[np.ndarray] | None:
        """As `_own`, but strip by strip of `factor` rows."""
        file = self.file
        if file is None:
            return None
        # Several strips at a time, because the feature is fetched and drawn each time.
        strips = list(_strips(part, factor * max(1, LARGEST_SIDE**2 // (part.width * factor))))
        count = 0
        for strip in strips:
            count += np.count_nonzero(_burnt(file, strip, number))
            if count > 1:
                break
        else:
            return None
        return (
            own[begin : begin + factor]
            for own in (_burnt(file, strip, number) for strip in strips)
            for begin in range(0, len(own), factor)
        )


def _burnt(file: FeatureFile, window: Window, number: int) -> np.ndarray:
    """Return (h, w) bool, true on a feature."""
    own: np.ndarray = file.burn(window, 0, only=number) == 1
    return own


def _strips(window: Window, height: int) -> Iterator[Window]:
    """Cut a window into strips of `height` rows; the last one may be lower."""
    for row in range(window.row_off, window.row_end, height):
        yield Window(window.col_off, row, window.width, min(height, window.row_end - row))


def _scaled(spots: Spots, place: int, part: Window, factor: int) -> tuple[Spots, int, Window]:
    """Return a spot, its index and its window on pixels `factor` times as wide, counted from the window's corner."""
    one = spots.select(np.array([place]))
    shrunk = Spots(
        (one.x - part.col_off) / factor, (one.y - part.row_off) / factor, one.sides / factor, one.angles,
        one.features, one.values,
    )  # fmt: skip
    return shrunk, 0, Window(0, 0, -(-part.width // factor), -(-part.height // factor))
