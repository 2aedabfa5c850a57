"""Writes tiles into GeoTIFFs that appear under their names when they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from osgeo import gdal

from ..classes import ClassTable
from ..drafts import claim, publish
from ..errors import ResourceError
from ..raster_io import RasterInfo, gdal_type, spatial_reference
from ..windows import Window
from . import style
from .tiling import block_size

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` from Python 3.11 on


class TiledRaster:
    """A GeoTIFF on the grid of another raster, written window by window; what is never written is nodata.

    To be used by one thread at a time, and in a `with` block, at whose end nothing is left but what was published.

    Args:
        path: Its final name.
        like: The raster whose grid and CRS it shares.
        window: The part of that grid that it covers.
        dtype: Its data type.
        nodata: Its nodata value.
        names: One description a band.
        tile_size: The size of the windows that will be written.
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
        options: Sequence[str] = (),
    ) -> None:
        self.path, self.window = path, window
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

    def write(self, window: Window, data: np.ndarray) -> None:
        """Write (B, H, W) data to a window of the other raster's grid.

        Raises:
            ResourceError: The disk is full, or gone.
        """
        col_off, row_off = window.col_off - self.window.col_off, window.row_off - self.window.row_off
        try:
            for band, values in zip(self.bands, data):
                band.WriteArray(values, col_off, row_off)
        except RuntimeError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Write what is still in memory.

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

    def publish(self) -> None:
        """Give the closed file its final name; raises as `drafts.publish`."""
        publish(self.draft)

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


class ClassRaster(TiledRaster):
    """A raster of class values in the user's own, styled by all means that GDAL and QGIS know."""

    def __init__(self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int) -> None:
        self.classes, self.nodata = classes, classes.free_value()
        dtype = classes.mask_dtype(self.nodata)
        super().__init__(path, like, window, dtype, self.nodata, ["class"], tile_size)
        if dtype in (np.uint8, np.uint16):  # what a GeoTIFF's palette is made for
            self.bands[0].SetColorTable(style.color_table(classes, self.nodata))
        names = style.category_names(classes)
        if names is not None:
            self.bands[0].SetCategoryNames(names)

    def write_indices(self, window: Window, indices: np.ndarray) -> None:
        """Write (H, W) uint8 class indices, `IGNORE_INDEX` for nodata."""
        self.write(window, self.classes.to_values(indices, self.nodata)[None])

    def finish(self, pixels: np.ndarray) -> None:
        """Close the file with the (C,) pixels of each class in its table, and put the QGIS style beside it."""
        self.bands[0].SetDefaultRAT(style.attribute_table(self.classes, pixels))
        self.close()
        style.write_qml(self.draft.path.with_suffix(".qml"), self.classes)


class ProbabilityRaster(TiledRaster):
    """A raster with one band a class: its probability, NaN for nodata."""

    def __init__(self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int) -> None:
        options = ("INTERLEAVE=BAND", "PREDICTOR=3")
        super().__init__(path, like, window, np.dtype(np.float32), np.nan, classes.names, tile_size, options)


class MembersRaster(TiledRaster):
    """A raster with one band a class: 1 where it is, 0 where it is not."""

    NODATA = 255

    def __init__(self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int) -> None:
        self.classes = classes
        options = ("INTERLEAVE=BAND",)
        super().__init__(path, like, window, np.dtype(np.uint8), self.NODATA, classes.names, tile_size, options)
        for band in self.bands:
            band.SetCategoryNames(["absent", "present"])

    def finish(self) -> None:
        """Close the file, and put the QGIS style of its first band beside it."""
        self.close()
        first = self.classes.classes[0]
        style.write_member_qml(self.draft.path.with_suffix(".qml"), first)
