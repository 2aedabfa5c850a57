"""Sinks that write a raster: GeoTIFFs that appear under their names when they are whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from osgeo import gdal

from ..classes import IGNORE_INDEX, ClassTable
from ..drafts import claim
from ..errors import ResourceError
from ..rasters.raster_io import RasterInfo, gdal_type, spatial_reference
from ..windows import Window
from . import style
from .reading import Batch
from .tiling import block_size

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` from Python 3.11 on

# What was found of a batch → (N, bands, rows, cols).
Take = Callable[[Any], np.ndarray]
# The share of its size that a written raster needs at most on the disk, by experience with DEFLATE.
CLASS_SHARE, PROBABILITY_SHARE = 0.1, 0.5
# GeoTIFF blocks of maps of steps are at least this large, however few are calculated at once.
SMALLEST_BLOCK = 128
# Creation options that suit rasters of so many bands, and of numbers.
BAND_BY_BAND, NUMBERS = ("INTERLEAVE=BAND",), ("INTERLEAVE=BAND", "PREDICTOR=3")


class MapRaster:
    """A `Sink` into a GeoTIFF on the grid of another raster; what is never written is nodata.

    To be used by one thread at a time, and in a `with` block, at whose end nothing is left but what was published.

    Args:
        path: Its final name.
        like: The raster whose grid and CRS it shares.
        window: The part of that grid that it covers.
        dtype: Its data type.
        nodata: Its nodata value.
        names: One description a band.
        tile_size: The size of the tiles that will be written.
        take: What it shows.
        options: More creation options of GDAL's GeoTIFF driver.

    Raises:
        ResourceError: It cannot be made.
    """

    def __init__(
        self,
        path: str,
        like: RasterInfo,
        window: Window,
        dtype: np.dtype[Any],
        nodata: float,
        names: Sequence[str],
        tile_size: int,
        take: Take,
        options: Sequence[str] = (),
    ) -> None:
        self.path, self.window, self.nodata, self.take = path, window, nodata, take
        self.draft = claim(path)
        side = block_size(tile_size)
        layout = [
            "TILED=YES", f"BLOCKXSIZE={side}", f"BLOCKYSIZE={side}", "COMPRESS=DEFLATE", "BIGTIFF=IF_SAFER",
            "NUM_THREADS=ALL_CPUS", *options,
        ]  # fmt: skip
        size = window.width, window.height
        try:
            self.dataset = gdal.GetDriverByName("GTiff").Create(
                str(self.draft.fresh()), *size, len(names), gdal_type(dtype), layout
            )
        except RuntimeError as error:
            self.draft.close()
            raise self._failure(error) from error
        self.dataset.SetGeoTransform(like.grid.geotransform(window))
        reference = spatial_reference(like.crs)
        if reference is not None:
            self.dataset.SetSpatialRef(reference)
        self.bands = [self.dataset.GetRasterBand(number) for number in range(1, len(names) + 1)]
        for band, name in zip(self.bands, names):
            band.SetNoDataValue(nodata)
            band.SetDescription(name)

    def write(self, batch: Batch, taken: np.ndarray) -> None:
        """As `Sink.write`.

        Raises:
            ResourceError: The disk is full, or gone.
        """
        for tile, wanted, values in zip(batch.tiles, batch.wanted, taken):
            self.write_tile(tile.core, wanted, values)

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """Write (bands, rows, cols) values to a window of the other raster's grid; those not wanted become nodata."""
        if wanted is not None:
            values[:, ~wanted] = self.nodata
        col_off, row_off = window.col_off - self.window.col_off, window.row_off - self.window.row_off
        try:
            for band, one in zip(self.bands, values):
                band.WriteArray(one, col_off, row_off)
        except RuntimeError as error:
            raise self._failure(error) from error

    def finish(self) -> None:
        """Close the file, and put the QGIS style beside it, where it has one.

        Raises:
            ResourceError: As `write`.
        """
        try:
            self.dataset.FlushCache()
        except RuntimeError as error:
            raise self._failure(error) from error
        finally:
            self.bands = []
            self.dataset = None
        self._style(self.draft.path.with_suffix(".qml"))

    def _style(self, path: Path) -> None:
        """Write a QGIS style."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.bands = []
        self.dataset = None  # an open file would write its sidecar after all
        self.draft.close()

    def _failure(self, error: RuntimeError) -> ResourceError:
        return ResourceError(
            f"The raster {self.path} could not be written ({error}).", "Free some space, or choose another folder."
        )


class ClassRaster(MapRaster):
    """A raster of class values in the user's own, styled by all means that GDAL and QGIS know.

    What it takes are (N, rows, cols) uint8 class indices, `IGNORE_INDEX` for nodata.
    """

    def __init__(
        self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int, take: Take
    ) -> None:
        nodata = classes.free_value()
        dtype = classes.mask_dtype(nodata)
        super().__init__(path, like, window, dtype, nodata, ["class"], tile_size, take)
        self.classes = classes
        self.counts = np.zeros(len(classes), np.int64)  # pixels of each class
        self.unanswered = 0  # wanted pixels without one
        if dtype in (np.uint8, np.uint16):  # what a GeoTIFF's palette is made for
            self.bands[0].SetColorTable(style.color_table(classes, nodata))
        names = style.category_names(classes)
        if names is not None:
            self.bands[0].SetCategoryNames(names)

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`, of (rows, cols) class indices."""
        if wanted is not None:
            values[~wanted] = IGNORE_INDEX
        counts = np.bincount(values.ravel(), minlength=256)
        self.counts += counts[: len(self.counts)]
        self.unanswered += int(counts[IGNORE_INDEX]) - (0 if wanted is None else np.count_nonzero(~wanted))
        super().write_tile(window, None, self.classes.to_values(values, int(self.nodata))[None])

    def finish(self) -> None:
        """As `MapRaster.finish`, with the pixels of each class in the file's table."""
        self.bands[0].SetDefaultRAT(style.attribute_table(self.classes, self.counts))
        super().finish()

    def _style(self, path: Path) -> None:
        style.write_qml(path, self.classes)


class ProbabilityRaster(MapRaster):
    """A raster with one band a class: its probability, NaN for nodata."""

    def __init__(
        self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int, take: Take
    ) -> None:
        dtype = np.dtype(np.float32)
        super().__init__(path, like, window, dtype, np.nan, classes.names, tile_size, take, NUMBERS)


class MembersRaster(MapRaster):
    """A raster with one band a class: 1 where it is, 0 where it is not."""

    NODATA = 255

    def __init__(
        self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int, take: Take
    ) -> None:
        dtype = np.dtype(np.uint8)
        super().__init__(path, like, window, dtype, self.NODATA, classes.names, tile_size, take, BAND_BY_BAND)
        self.classes = classes
        for band in self.bands:
            band.SetCategoryNames(["absent", "present"])

    def _style(self, path: Path) -> None:
        """That of its first band."""
        style.write_member_qml(path, self.classes.classes[0])
