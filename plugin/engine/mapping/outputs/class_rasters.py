"""Rasters of the class of each pixel, or of all classes that a place has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from osgeo import gdal

from ...classes import IGNORE_INDEX, ClassTable
from ...rasters.raster_io import RasterInfo
from ...windows import Window
from ..pipeline.finished import Finished
from . import style
from .ground import ground_of
from .map_raster import BAND_BY_BAND, COMPACT, MODE, Form, MapRaster, Take
from .phases import Phase
from .refining import NOT_REFINED, Refinement, remove_small, strips, take_majority


class ClassRaster(MapRaster):
    """A raster of class values, with colours and names for GDAL and QGIS.

    Takes (N, rows, cols) uint8 class indices, `IGNORE_INDEX` for nodata; or (N, 2, rows, cols), also with 1 where the
    class is too uncertain to be kept.

    Args:
        path, like, window, tile_size, take, form: As for `MapRaster`.
        classes: The classes.
        refinement: What is done to the classes when all are there.
    """

    RESAMPLING, LEVEL = MODE, COMPACT

    def __init__(
        self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int, take: Take,
        form: Form | None = None, refinement: Refinement = NOT_REFINED,
    ) -> None:  # fmt: skip
        nodata = classes.free_value()
        self.classes, self.refinement = classes, refinement
        self._rewritten = refinement.steps > 0
        form = form or Form()
        form.phases.plan(refinement.steps + self._rewritten)  # each step, and the count afterwards
        super().__init__(path, like, window, classes.mask_dtype(nodata), nodata, ["class"], tile_size, take, form=form)
        self.counts = np.zeros(len(classes), np.int64)  # pixels of each class
        self.ground = ground_of(like, window)
        self.square_metres = np.zeros(len(classes))  # of each class, if the ground is known
        self.unanswered = 0  # wanted pixels for which the network gives no valid numbers
        self.unsure = 0  # wanted pixels whose class is too uncertain

    def _create(self, temporary: bool) -> gdal.Dataset:
        dataset = super()._create(temporary)
        band = dataset.GetRasterBand(1)
        if self._dtype in (np.uint8, np.uint16):  # data types that support a palette in GeoTIFF
            band.SetColorTable(style.color_table(self.classes, int(self.nodata)))
        names = style.category_names(self.classes)
        if names is not None:
            band.SetCategoryNames(names)
        return dataset

    @property
    def hectares(self) -> list[float] | None:
        """The area of each class on the ground; None if it is not known."""
        return None if self.ground is None else (self.square_metres / 1e4).tolist()

    @property
    def mapped(self) -> int:
        """The number of pixels with a class."""
        return int(self.counts.sum())

    @property
    def finished(self) -> Finished:
        """What its file says."""
        return Finished(self.facts or {}, self.counts.tolist(), self.size - self.mapped, self.hectares)

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`, of class indices as the raster takes them."""
        if values.ndim == 3:
            values, unsure = values[0], values[1].astype(bool)
            left_out = np.count_nonzero(unsure if wanted is None else unsure & wanted)
            self.unsure += left_out
            self.unanswered -= left_out
            values[unsure] = IGNORE_INDEX
        if wanted is not None:
            values[~wanted] = IGNORE_INDEX
        unknown = self._count(self._own(window), values)
        self.unanswered += unknown - (0 if wanted is None else np.count_nonzero(~wanted))
        super().write_tile(window, None, self.classes.to_values(values, int(self.nodata))[None])

    def _count(self, window: Window, indices: np.ndarray) -> int:
        """Count the pixels and the ground of each class in a window of this raster; returns those without a class."""
        total, known = np.zeros(256, np.int64), len(self.counts)
        parts = [(window, 0.0)] if self.ground is None else self.ground.windows(window)
        for part, area in parts:
            # NumPy's makes a whole number of 8 bytes of each pixel first, which takes four times as long.
            counts = torch.bincount(torch.from_numpy(indices[part.slices_in(window)]).ravel(), minlength=256).numpy()
            total += counts
            self.square_metres += area * counts[:known]
        self.counts += total[:known]
        return int(total[IGNORE_INDEX])

    def _complete(self) -> None:
        """Refine the classes, and write the pixel count of each class to the attribute table."""
        if self._rewritten:
            self._refine()
        band = self.dataset.GetRasterBand(1)
        band.SetDefaultRAT(style.attribute_table(self.classes, self.counts))
        if self.mapped:
            values, share = self.classes.values, self.counts / self.mapped
            there, mean = values[self.counts > 0], float(values @ share)
            spread = float(np.sqrt((values - mean) ** 2 @ share))
            band.SetStatistics(float(there.min()), float(there.max()), mean, spread)
        super()._complete()

    def _refine(self) -> None:
        side, left = self.refinement.majority, self.refinement.steps
        if side is not None:
            left -= 1
            with self._next("Majority filter", left > 0) as (target, phase):
                take_majority(self.dataset, target, self.classes, side, phase)
        if left:
            with self._next("Removing small regions", False) as (target, phase):
                remove_small(self.dataset, target, self.refinement, phase)
        self.counts[:], self.square_metres[:] = 0, 0
        with self.form.phases.one("Counting the classes") as phase:
            for strip in strips(self.dataset):
                self._count(strip, self.classes.to_indices(self.dataset.GetRasterBand(1).ReadAsArray(*strip)))
                phase.reach(strip.row_end / self.window.height)

    @contextmanager
    def _next(self, text: str, more: bool) -> Iterator[tuple[gdal.Dataset, Phase]]:
        """Give the raster to write in a pass over this one, and continue with it."""
        target = self._create(more or self.form.cog)
        with self.form.phases.one(text) as phase:
            yield target, phase
        target.FlushCache()
        self.dataset = target

    def _style(self, path: Path) -> None:
        style.write_qml(path, self.classes)


class MembersRaster(MapRaster):
    """A raster with one band per class: 1 where it is present, 0 where not."""

    NODATA = 255

    RESAMPLING, LEVEL = MODE, COMPACT

    def __init__(
        self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int, take: Take,
        form: Form | None = None,
    ) -> None:  # fmt: skip
        dtype = np.dtype(np.uint8)
        super().__init__(path, like, window, dtype, self.NODATA, classes.names, tile_size, take, BAND_BY_BAND, form)
        self.classes = classes
        for band in self.bands:
            band.SetCategoryNames(["absent", "present"])

    def _style(self, path: Path) -> None:
        """Write the style of the first band."""
        style.write_member_qml(path, self.classes.classes[0])
