"""Sinks that write rasters: GeoTIFFs that appear under their final names when they are complete."""

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

# Turns the result for a batch into (N, bands, rows, cols).
Take = Callable[[Any], np.ndarray]
# Maximum share of its uncompressed size that a raster needs on the disk, from experience with DEFLATE.
CLASS_SHARE, PROBABILITY_SHARE = 0.1, 0.5
# Minimum block size of GeoTIFFs of steps, however few steps are computed at a time.
SMALLEST_BLOCK = 128
# Creation options for rasters with many bands, and for rasters of floats.
BAND_BY_BAND, NUMBERS = ("INTERLEAVE=BAND",), ("INTERLEAVE=BAND", "PREDICTOR=3")


class MapRaster:
    """A `Sink` that writes a GeoTIFF on the grid of another raster; pixels that are never written are nodata.

    To be used by one thread at a time and in a `with` block, at whose end only a published file remains.

    Args:
        path: Final name of the file.
        like: Raster with the same grid and CRS.
        window: Part of that grid to cover.
        dtype: Data type.
        nodata: Nodata value.
        names: Description of each band.
        tile_size: Size of the tiles that will be written.
        take: Turns the result for a batch into pixels.
        options: More creation options of GDAL's GeoTIFF driver.

    Raises:
        ResourceError: It cannot be created.
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
            ResourceError: The disk is full or no longer available.
        """
        for tile, wanted, values in zip(batch.tiles, batch.wanted, taken):
            self.write_tile(tile.core, wanted, values)

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """Write (bands, rows, cols) values to a window of the other raster's grid; unwanted pixels become nodata."""
        if wanted is not None:
            values[:, ~wanted] = self.nodata
        col_off, row_off = window.col_off - self.window.col_off, window.row_off - self.window.row_off
        try:
            for band, one in zip(self.bands, values):
                band.WriteArray(one, col_off, row_off)
        except RuntimeError as error:
            raise self._failure(error) from error

    def finish(self) -> None:
        """Close the file, and write the QGIS style beside it, if it has one.

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
        self.dataset = None  # an open file would still write its sidecar
        self.draft.close()

    def _failure(self, error: RuntimeError) -> ResourceError:
        return ResourceError(
            f"The raster {self.path} could not be written ({error}).", "Free some disk space, or choose another folder."
        )


class ClassRaster(MapRaster):
    """A raster of class values, with colours and names for GDAL and QGIS.

    Takes (N, rows, cols) uint8 class indices, `IGNORE_INDEX` for nodata.
    """

    def __init__(
        self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int, take: Take
    ) -> None:
        nodata = classes.free_value()
        dtype = classes.mask_dtype(nodata)
        super().__init__(path, like, window, dtype, nodata, ["class"], tile_size, take)
        self.classes = classes
        self.counts = np.zeros(len(classes), np.int64)  # pixels of each class
        self.unanswered = 0  # wanted pixels without a class
        if dtype in (np.uint8, np.uint16):  # data types that support a palette in GeoTIFF
            self.bands[0].SetColorTable(style.color_table(classes, nodata))
        names = style.category_names(classes)
        if names is not None:
            self.bands[0].SetCategoryNames(names)

    @property
    def mapped(self) -> int:
        """The number of pixels with a class."""
        return int(self.counts.sum())

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`, of (rows, cols) class indices."""
        if wanted is not None:
            values[~wanted] = IGNORE_INDEX
        counts = np.bincount(values.ravel(), minlength=256)
        self.counts += counts[: len(self.counts)]
        self.unanswered += int(counts[IGNORE_INDEX]) - (0 if wanted is None else np.count_nonzero(~wanted))
        super().write_tile(window, None, self.classes.to_values(values, int(self.nodata))[None])

    def finish(self) -> None:
        """As `MapRaster.finish`; also writes the pixel count of each class to the attribute table."""
        self.bands[0].SetDefaultRAT(style.attribute_table(self.classes, self.counts))
        super().finish()

    def _style(self, path: Path) -> None:
        style.write_qml(path, self.classes)


class ProbabilityRaster(MapRaster):
    """A raster of probabilities with one band per class; nodata is NaN."""

    def __init__(
        self, path: str, like: RasterInfo, window: Window, classes: ClassTable, tile_size: int, take: Take
    ) -> None:
        dtype = np.dtype(np.float32)
        super().__init__(path, like, window, dtype, np.nan, classes.names, tile_size, take, NUMBERS)


class NumberRaster(MapRaster):
    """A raster of numbers, NaN for nodata, with its statistics, and styled with a colour ramp.

    The values taken are (N, 1, rows, cols) float32; where they are not finite, the network gives no answer.
    """

    RAMP = ((0.0, "#440154"), (0.25, "#3b528b"), (0.5, "#21918c"), (0.75, "#5ec962"), (1.0, "#fde725"))  # viridis

    def __init__(self, path: str, like: RasterInfo, window: Window, tile_size: int, take: Take) -> None:
        super().__init__(path, like, window, np.dtype(np.float32), np.nan, ["prediction"], tile_size, take, NUMBERS)
        self.mapped = self.unanswered = 0  # wanted pixels with and without a number
        self.sum = self.squares = 0.0
        self.lowest, self.highest = np.inf, -np.inf

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`; adds up the statistics."""
        known = np.isfinite(values[0]) if wanted is None else np.isfinite(values[0]) & wanted
        values[0][~known] = np.nan
        self.unanswered += (known.size if wanted is None else np.count_nonzero(wanted)) - np.count_nonzero(known)
        found = values[0][known].astype(np.float64)
        if found.size:
            self.mapped += found.size
            self.sum += found.sum()
            self.squares += np.einsum("i,i", found, found)
            self.lowest, self.highest = min(self.lowest, found.min()), max(self.highest, found.max())
        super().write_tile(window, None, values)

    @property
    def statistics(self) -> dict[str, float]:
        """Minimum, maximum, mean and standard deviation; of at least one pixel."""
        mean = self.sum / self.mapped
        std = float(np.sqrt(max(self.squares / self.mapped - mean**2, 0.0)))
        return {"minimum": float(self.lowest), "maximum": float(self.highest), "mean": float(mean), "std": std}

    def finish(self) -> None:
        """As `MapRaster.finish`, with the statistics in the file."""
        self.bands[0].SetStatistics(*self.statistics.values())
        super().finish()

    def _style(self, path: Path) -> None:
        """A ramp over what lies within two standard deviations of the mean."""
        found = self.statistics
        low = max(found["minimum"], found["mean"] - 2 * found["std"])
        high = min(found["maximum"], found["mean"] + 2 * found["std"])
        style.write_ramp_qml(path, low, high, [(share, color, 255) for share, color in self.RAMP])


class MembersRaster(MapRaster):
    """A raster with one band per class: 1 where it is present, 0 where not."""

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
        """Write the style of the first band."""
        style.write_member_qml(path, self.classes.classes[0])
