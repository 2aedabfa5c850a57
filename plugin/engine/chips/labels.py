"""Labels from label rasters on the image's grid, window by window; what labels of any kind have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional, Protocol

import numpy as np
from osgeo import gdal, osr

from ..classes import MAX_CLASSES, ClassTable
from ..errors import InputError
from ..raster_io import RasterInfo, crs_text, open_raster, same_crs, spatial_reference
from ..windows import TOLERANCE, Bounds, Grid, Window, overlap


class LabelSource(Protocol):
    """Gives the label of every pixel of a window."""

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) class values of any integer type, or float32; and (H, W) bool, true where there is a label."""


class NoLabels:
    """Ground that nobody has labelled, all of which counts."""

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) zeros, and (H, W) true."""
        shape = (window.height, window.width)
        return np.zeros(shape, np.uint8), np.ones(shape, bool)


class MappedLabels:
    """Labels of another source with some class values made others, or dropped.

    Args:
        source: Gives the labels.
        mapping: Value → class value, or None for no label; other values stay.
    """

    def __init__(self, source: LabelSource, mapping: dict[int, Optional[int]]) -> None:
        self.source = source
        self.known = np.array(sorted(mapping), np.int64)
        self.become = np.array([mapping[value] or 0 for value in sorted(mapping)], np.int64)
        self.dropped = np.array([mapping[value] is None for value in sorted(mapping)])

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) int32 class values, and (H, W) bool, true where there is a label."""
        values, labelled = self.source.read(window)
        place = np.minimum(np.searchsorted(self.known, values), len(self.known) - 1)
        listed = self.known[place] == values
        return (
            np.where(listed, self.become[place], values).astype(np.int32),
            labelled & ~(listed & self.dropped[place]),
        )


class RasterLabels:
    """Labels from a class raster, resampled by nearest neighbour where its grid is not the image's.

    Args:
        path: The class raster.
        image: The raster whose grid the labels come on.
        nodata: The value that means "no label"; None takes the raster's own.

    Raises:
        InputError: It does not overlap the image, or its CRS is unknown while the image's is known.
    """

    RESAMPLING = "near"

    def __init__(self, path: str, image: RasterInfo, nodata: Optional[float]) -> None:
        self.path = path
        self.dataset = open_raster(path)
        self.nodata = nodata if nodata is not None else self.dataset.GetRasterBand(1).GetNoDataValue()
        own = self.dataset.GetSpatialRef()
        crs = own.ExportToWkt(["FORMAT=WKT2_2019"]) if own is not None else ""
        left, step_x, _, top, _, step_y = self.dataset.GetGeoTransform()
        grid = Grid(left, top, step_x, step_y, self.dataset.RasterXSize, self.dataset.RasterYSize)
        shift = (left - image.grid.left) / image.grid.step_x, (top - image.grid.top) / image.grid.step_y
        aligned = (
            same_crs(crs, image.crs)
            and abs(step_x / image.grid.step_x - 1) * grid.width < 0.1
            and abs(step_y / image.grid.step_y - 1) * grid.height < 0.1
            and all(abs(value - round(value)) < 10 * TOLERANCE for value in shift)
        )
        if aligned:
            self.shift = round(shift[0]), round(shift[1])
            self.alpha = 0
        else:
            self.dataset = _on_grid(self.dataset, crs, image, self.RESAMPLING, self.nodata)
            self.shift, self.alpha = (0, 0), self.dataset.RasterCount
        self.window = Window(*self.shift, self.dataset.RasterXSize, self.dataset.RasterYSize)
        here = _in_crs(grid.bounds, crs, image.crs)
        if not overlap(here, image.grid.bounds):
            raise no_overlap(path, here, image)

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) labels, and (H, W) bool, true where there is one."""
        labelled = np.zeros((window.height, window.width), bool)
        inside = self.window.intersection(window)
        if inside.empty:
            return np.zeros(labelled.shape, np.uint8), labelled
        place = inside.slices_in(window)
        own = (inside.col_off - self.shift[0], inside.row_off - self.shift[1], inside.width, inside.height)
        found = self.dataset.GetRasterBand(1).ReadAsArray(*own)
        known = np.ones(found.shape, bool)
        if found.dtype.kind == "f":
            known &= np.isfinite(found)
        if self.nodata is not None:
            known &= found != self.nodata
        if self.alpha:
            known &= self.dataset.GetRasterBand(self.alpha).ReadAsArray(*own) != 0
        found = self._values(found, known)
        if inside == window:
            return found, known
        values = np.zeros(labelled.shape, found.dtype)
        values[place], labelled[place] = found, known
        return values, labelled

    def _values(self, found: np.ndarray, known: np.ndarray) -> np.ndarray:
        if found.dtype.kind in "iu" and found.dtype.itemsize <= 2:
            return found
        if found.dtype.kind == "f":
            found = np.where(known, found, 0)
            fractional = found != np.rint(found)
            if fractional.any():
                raise InputError(
                    f"The label raster {self.path} holds {found[fractional][0]:g}, and class values are whole numbers.",
                    "Classify it first; continuous values cannot be learned as classes.",
                )
        beyond = known & ((found < -(2**31) + 1) | (found > 2**31 - 1))
        if beyond.any():
            raise InputError(
                f"The label raster {self.path} holds the class value {found[beyond][0]:g}.", "Use values of 32 bits."
            )
        return np.where(known, found, 0).astype(np.int32)


class RasterTargets(RasterLabels):
    """Continuous labels from a raster, resampled linearly where its grid is not the image's."""

    RESAMPLING = "bilinear"

    def _values(self, found: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.where(known, found, np.nan).astype(np.float32)


def _on_grid(
    dataset: gdal.Dataset, crs: str, image: RasterInfo, resampling: str, nodata: Optional[float]
) -> gdal.Dataset:
    """A virtual raster of the labels on the image's grid; its last band tells where labels are."""
    grid = image.grid
    if grid.step_y > 0 or grid.step_x < 0:  # GDAL's warp writes north-up only
        raise InputError(
            f"{image.path} does not run north-up (pixel steps {grid.step_x:g}, {grid.step_y:g}), and its label raster "
            "lies on another grid.",
            "Warp the image to a north-up raster first.",
        )
    return gdal.Warp(
        "", dataset, format="VRT", srcSRS=crs or image.crs or None, dstSRS=image.crs or None, resampleAlg=resampling,
        outputBounds=grid.bounds, width=grid.width, height=grid.height, dstAlpha=True, srcNodata=nodata,
        overviewLevel="NONE",  # overviews may be averaged, and an average is no class
    )  # fmt: skip


def discover_classes(sources: Iterable[tuple[LabelSource, Iterable[Window]]]) -> np.ndarray:
    """(C,) int64, ascending: all class values in some windows.

    Raises:
        InputError: There are more values than classes can be.
    """
    found: set[int] = set()
    for source, windows in sources:
        for window in windows:
            values, labelled = source.read(window)
            found.update(np.unique(values[labelled]).tolist())
            if len(found) > MAX_CLASSES - 1:
                raise InputError(
                    f"The labels hold more than {MAX_CLASSES - 1} different values.",
                    "Choose a layer of classes; continuous values cannot be learned as classes.",
                )
    return np.array(sorted(found), np.int64)


def raster_classes(path: str) -> dict[int, tuple[str, Optional[str]]]:
    """Class names and colours that a class raster carries: value → (name, "#rrggbb" or None).

    Read from its category names, colour table and raster attribute table; a later one adds what an earlier one lacks.
    """
    dataset = open_raster(path)  # a band does not keep its dataset alive
    band = dataset.GetRasterBand(1)
    names: dict[int, str] = {value: name for value, name in enumerate(band.GetCategoryNames() or []) if name}
    colors: dict[int, str] = {}
    table = band.GetColorTable()
    for value in range(table.GetCount() if table is not None else 0):
        colors[value] = "#{:02x}{:02x}{:02x}".format(*table.GetColorEntry(value)[:3])
    attributes = band.GetDefaultRAT()
    if attributes is not None:
        columns = {attributes.GetUsageOfCol(column): column for column in range(attributes.GetColumnCount())}
        value_column = columns.get(gdal.GFU_MinMax)
        rgb = [columns.get(usage) for usage in (gdal.GFU_Red, gdal.GFU_Green, gdal.GFU_Blue)]
        for row in range(attributes.GetRowCount() if value_column is not None else 0):
            value = attributes.GetValueAsInt(row, value_column)
            if gdal.GFU_Name in columns:
                names.setdefault(value, attributes.GetValueAsString(row, columns[gdal.GFU_Name]))
            if None not in rgb:
                colors.setdefault(value, "#{:02x}{:02x}{:02x}".format(*(attributes.GetValueAsInt(row, c) for c in rgb)))
    return {value: (names.get(value, ""), colors.get(value)) for value in {*names, *colors}}


def merge_classes(values: np.ndarray, *tables: dict[int, tuple[str, Optional[str]]]) -> ClassTable:
    """A table of `values`; names and colours come from the first of `tables` that has them."""
    rows = []
    for value in map(int, values):
        named = [table[value] for table in tables if value in table]
        name = next((entry[0] for entry in named if entry[0]), "")
        rows.append((value, name, next((entry[1] for entry in named if entry[1]), None)))
    return ClassTable.from_rows(rows)


def no_overlap(path: str, here: Bounds, image: RasterInfo) -> InputError:
    """The error for labels that lie elsewhere than the image; both bounds in the image's CRS."""
    return InputError(
        f"The labels {path} lie at {_place(here)}, and the raster {image.path} at {_place(image.grid.bounds)} "
        f"in {crs_text(image.crs)}: they do not overlap.",
        "Check that both belong together and have the right CRS.",
    )


def _place(bounds: Bounds) -> str:
    left, bottom, right, top = bounds
    return f"x {left:.10g} to {right:.10g}, y {bottom:.10g} to {top:.10g}"


def _in_crs(bounds: Bounds, crs: str, target: str) -> Bounds:
    if same_crs(crs, target):
        return bounds
    transform = osr.CoordinateTransformation(spatial_reference(crs), spatial_reference(target))
    return tuple(transform.TransformBounds(*bounds, 21))
