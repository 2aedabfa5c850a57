"""Labels from label rasters on the image's grid, window by window; what labels of any kind have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Optional, Protocol

import numpy as np
from osgeo import gdal, osr

from ..classes import MAX_CLASSES, ClassTable
from ..errors import InputError
from ..opening import open_any_raster, virtual_text
from ..raster_io import RasterInfo, RasterReader, crs_of, crs_text, same_crs, spatial_reference, value_text
from ..resampled import NEAREST
from ..stored import Stored, look_at
from ..virtual import best_resampling, on_grid
from ..windows import Bounds, Window, overlap


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

    def __init__(self, path: str, image: RasterInfo, nodata: Optional[float]) -> None:
        self.path = path
        stored = look_at(path if nodata is None else _with_nodata(path, nodata), (1,), path)
        self.nodata = stored.info.nodata[0]
        here = _in_crs(stored.info.grid.bounds, stored.info.crs, image.crs)
        if not overlap(here, image.grid.bounds):
            raise no_overlap(path, here, image)
        view = on_grid(stored, image.grid, image.crs or stored.info.crs, self._resampling(stored, image))
        self.reader = RasterReader(view.source, view.bands, path, mask=view.mask)

    def _resampling(self, stored: Stored, image: RasterInfo) -> str:
        return NEAREST

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) labels, and (H, W) bool, true where there is one."""
        data = self.reader.read(window)
        valid = self.reader.valid(window, self.reader.missing(data))
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
                    f"The label raster {self.path} holds {value_text(found[fractional][0])}, and class values are "
                    "whole numbers.",
                    "Name the value as LABEL_NODATA if it means “no label”; else classify the raster first: continuous "
                    "values cannot be learned as classes.",
                )
        beyond = known & ((found <= -(2**31)) | (found >= 2**31))  # as floats have these numbers
        if beyond.any():
            raise InputError(
                f"The label raster {self.path} holds {value_text(found[beyond][0])}, and class values have 32 bits.",
                "Name the value as LABEL_NODATA if it means “no label”; else give the classes smaller values.",
            )
        return np.where(known, found, 0).astype(np.int32)


class RasterTargets(RasterLabels):
    """Continuous labels from a raster, averaged or interpolated where its grid is not the image's."""

    def _resampling(self, stored: Stored, image: RasterInfo) -> str:
        # Their pixels compare only in one CRS.
        native = stored.info.grid if same_crs(stored.info.crs, image.crs) else image.grid
        return best_resampling(stored, native, image.grid)

    def _values(self, found: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.where(known, found, np.nan).astype(np.float32)


def _with_nodata(path: str, nodata: float) -> str:
    """The text of a virtual raster: a raster's first band with another nodata value."""
    return virtual_text(gdal.Translate("", open_any_raster(path), format="VRT", bandList=[1], noData=nodata))


def label_mosaic(paths: Sequence[str]) -> str:
    """The text of a virtual raster in which several label rasters lie side by side, a later one on top.

    Raises:
        InputError: They are in different CRSs, or otherwise too unlike.
    """
    opened = [open_any_raster(path) for path in paths]
    for path, dataset in zip(paths, opened):
        if not same_crs(crs_of(opened[0]), crs_of(dataset)):
            raise InputError(
                f"The label raster {paths[0]} is in {crs_text(crs_of(opened[0]))}, and {path} in "
                f"{crs_text(crs_of(dataset))}.",
                "Reproject one of them to make a mosaic of the labels.",
            )
    try:
        return virtual_text(gdal.BuildVRT("", list(paths), resolution="highest", resampleAlg="near", bandList=[1]))
    except RuntimeError as error:
        raise InputError(
            f"The {len(paths)} label rasters make no mosaic ({error}).", "Merge them to one raster first."
        ) from error


def discover_classes(sources: Iterable[tuple[LabelSource, Iterable[Window]]]) -> tuple[dict[int, int], int]:
    """All class values in some windows, ascending, with the pixels of each; and the pixels of all windows.

    Raises:
        InputError: There are more values than classes can be.
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
                raise InputError(
                    f"The labels hold more than {MAX_CLASSES - 1} different values.",
                    "Choose a layer of classes; continuous values cannot be learned as classes.",
                )
    return dict(sorted(found.items())), total


def raster_classes(path: str) -> dict[int, tuple[str, Optional[str]]]:
    """Class names and colours that a class raster carries: value → (name, "#rrggbb" or None).

    Read from its category names, colour table and raster attribute table; a later one adds what an earlier one lacks.
    """
    dataset = open_any_raster(path)  # a band does not keep its dataset alive
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
