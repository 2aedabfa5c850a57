"""Sinks that write rasters: GeoTIFFs that appear under their final names when they are complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING, Any

import numpy as np
from osgeo import gdal

from ..classes import IGNORE_INDEX, ClassTable
from ..drafts import claim
from ..errors import ResourceError
from ..events import Reporter
from ..files import why_not_written
from ..rasters.raster_io import RasterInfo, gdal_type, spatial_reference
from ..windows import Window
from . import style
from .finished import Finished
from .ground import ground_of
from .numbers import RAMP, Moments
from .overviews import write_modes
from .phases import Phase, Phases
from .pieces import Piece
from .reading import Batch
from .refining import NOT_REFINED, Refinement, remove_small, strips, take_majority
from .result_settings import BYTE_NODATA, BYTE_STEPS, FormSettings
from .tiling import block_size

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` from Python 3.11 on

# Turns the result for a batch into (N, bands, rows, cols).
Take = Callable[[Any], np.ndarray]
# Maximum share of its uncompressed size that a raster's pixels need on the disk, from experience with DEFLATE.
CLASS_SHARE, PROBABILITY_SHARE = 0.1, 0.9
# Minimum block size of GeoTIFFs of steps, however few steps are computed at a time.
SMALLEST_BLOCK = 128
# Creation options for rasters with many bands, and for rasters of floats.
BAND_BY_BAND, NUMBERS = ("INTERLEAVE=BAND",), ("INTERLEAVE=BAND", "PREDICTOR=3")
BYTE_SHARES = ("INTERLEAVE=BAND", "PREDICTOR=2")
COG_PREDICTOR = ("PREDICTOR=FLOATING_POINT",)
# Levels of DEFLATE. Higher ones cost as much time as a small network: shares get 1 to 8 % smaller with level 6, in 2 to
# 5 times the time; classes 4 to 15 %, in 2 to 3 times the time of level 5, but 30 to 50 % larger with level 4.
FAST, COMPACT = 1, 5


# Begin of the names of temporary rasters.
WORK = "terrazzo.work"
MODE = "MODE"  # the most frequent value
# A raster of more pixels a side gets overviews, the smallest of which has fewer.
SCREEN = 512
# Side of the squares of which a raster knows whether anything was written to them.
SQUARE = 512


@dataclass(frozen=True)
class Form:
    """How rasters are stored, and how the work at their end is reported.

    Attributes:
        cog: As Cloud Optimized GeoTIFFs, otherwise as GeoTIFFs.
        overviews: Whether to write overviews.
        phases: Receives the progress.
    """

    cog: bool = False
    overviews: bool = False
    phases: Phases = field(default_factory=lambda: Phases(Reporter()))

    @classmethod
    def of(cls, settings: FormSettings, phases: Phases) -> Self:
        """Create from settings."""
        return cls(settings.raster_format == "COG", settings.overviews, phases)


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
        form: How it is stored.

    Raises:
        ResourceError: It cannot be created.
    """

    RESAMPLING = "AVERAGE"  # of overviews
    LEVEL = FAST  # of compression
    scale: float | None = None  # declared in the file
    facts: dict[str, Any] | None = None  # what it follows from, if the file is to say that
    _rewritten = False  # whether it is written again as another file

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
        form: Form | None = None,
    ) -> None:
        form = form or Form()
        self.path, self.window, self.nodata, self.take, self.form = path, window, nodata, take, form
        self.like, self._dtype, self._names = like, dtype, names
        self._side, self._options, self._works = block_size(tile_size), options, 0
        # The squares that are written to: a map of a few areas may be a hundred thousand pixels wide.
        self._squares = np.zeros((-(-window.height // SQUARE), -(-window.width // SQUARE)), bool)
        self.draft = claim(path)
        self.draft.fresh()
        form.phases.plan(form.cog + self._adds_overviews())
        try:
            self.dataset = self._create(form.cog or self._rewritten)
        except RuntimeError as error:
            self.draft.close()
            raise self._failure(error) from error
        self.bands = self._bands(self.dataset)

    def _create(self, temporary: bool) -> gdal.Dataset:
        """Create the draft, or a temporary raster beside it."""
        self._file = self.draft.path
        if temporary:
            self._works += 1
            self._file = self.draft.folder / f"{WORK}{self._works}.tif"
        layout = [
            "TILED=YES", f"BLOCKXSIZE={self._side}", f"BLOCKYSIZE={self._side}", "COMPRESS=DEFLATE",
            f"ZLEVEL={FAST if temporary else self.LEVEL}", "BIGTIFF=IF_SAFER", "NUM_THREADS=ALL_CPUS", *self._options,
        ]  # fmt: skip
        size = self.window.width, self.window.height
        dataset = gdal.GetDriverByName("GTiff").Create(
            str(self._file), *size, len(self._names), gdal_type(self._dtype), layout
        )
        dataset.SetGeoTransform(self.like.grid.geotransform(self.window))
        reference = spatial_reference(self.like.crs)
        if reference is not None:
            dataset.SetSpatialRef(reference)
        for band, name in zip(self._bands(dataset), self._names):
            band.SetNoDataValue(self.nodata)
            band.SetDescription(name)
            if self.scale is not None:
                band.SetScale(self.scale)
                band.SetOffset(0)
        return dataset

    @property
    def size(self) -> int:
        """The number of pixels."""
        return self.window.width * self.window.height

    @staticmethod
    def _bands(dataset: gdal.Dataset) -> list[gdal.Band]:
        return [dataset.GetRasterBand(number) for number in range(1, dataset.RasterCount + 1)]

    def _levels(self) -> list[int]:
        """The factors of the overviews."""
        largest = max(self.window.width, self.window.height)
        return (
            [2**power for power in range(1, 32) if largest > SCREEN * 2 ** (power - 1)] if self.form.overviews else []
        )

    def _adds_overviews(self) -> bool:
        """Whether overviews are written, and not left to GDAL's writer of COGs."""
        return bool(self._levels()) and (self.RESAMPLING == MODE or not self.form.cog)

    def write(self, batch: Batch | Piece, taken: np.ndarray) -> None:
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
        self._squares[_squares(Window(col_off, row_off, window.width, window.height))] = True
        try:
            for band, one in zip(self.bands, values):
                band.WriteArray(one, col_off, row_off)
        except RuntimeError as error:
            raise self._failure(error) from error

    def _touched(self, window: Window) -> bool:
        """Whether anything was written to a window of this raster, or near it."""
        return bool(self._squares[_squares(window)].any())

    def finish(self) -> None:
        """Complete and close the file, and write the QGIS style beside it, if it has one.

        Raises:
            ResourceError: As `write`.
            Cancelled: The user cancelled the job, or QGIS has ended.
        """
        try:
            self._complete()
            if self._adds_overviews():
                self._add_overviews()
            if self.form.cog:
                self._copy_to_cog()
            self.dataset.FlushCache()
        except RuntimeError as error:
            raise self._failure(error) from error
        finally:
            self._release()
        for work in self.draft.folder.glob(f"{WORK}*"):
            work.unlink()
        self._style(self.draft.path.with_suffix(".qml"))

    @property
    def finished(self) -> Finished:
        """What its file says."""
        return Finished(self.facts or {}, [], self.size)

    def _complete(self) -> None:
        """Write what is known of the whole raster only when all pixels are there."""
        if self.facts is not None:
            self.finished.write(self.dataset)

    def _add_overviews(self) -> None:
        """Write overviews, to the file as it was closed: GDAL 3.6 can wait for itself forever if blocks of the raster
        are still in its cache, and its threads need room there.
        """
        self._release()
        self.dataset = gdal.OpenEx(str(self._file), gdal.OF_RASTER | gdal.OF_UPDATE)
        options = {"ZLEVEL_OVERVIEW": str(self.LEVEL), "GDAL_NUM_THREADS": "1"}
        with self.form.phases.one("Writing overviews") as phase, gdal_options(options):
            if self.RESAMPLING == MODE:
                write_modes(self.dataset, self._levels(), phase, self._touched)
            else:
                self.dataset.BuildOverviews(self.RESAMPLING, self._levels(), callback=phase.callback)

    def _copy_to_cog(self) -> None:
        self.dataset.FlushCache()
        layout = [
            "COMPRESS=DEFLATE", f"LEVEL={self.LEVEL}", f"BLOCKSIZE={SCREEN}", "BIGTIFF=IF_SAFER",
            "NUM_THREADS=ALL_CPUS", f"OVERVIEW_RESAMPLING={self.RESAMPLING}",
            f"OVERVIEWS={'AUTO' if self.form.overviews else 'NONE'}",
            *(option for option in COG_PREDICTOR if self._dtype.kind == "f"),
        ]  # fmt: skip
        with self.form.phases.one("Writing the Cloud Optimized GeoTIFF") as phase:
            copy = gdal.GetDriverByName("COG").CreateCopy(
                str(self.draft.path), self.dataset, options=layout, callback=phase.callback
            )
            self._release()
            self.dataset = copy

    def _release(self) -> None:
        """Close the raster."""
        self.bands = []
        self.dataset = None

    def _style(self, path: Path) -> None:
        """Write a QGIS style."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        # A raster that is closed later would still write its sidecar, into a folder that is gone.
        self._release()
        while failure is not None:
            clear_frames(failure.__traceback__)  # of passes over the raster, which refer to the next one
            failure = failure.__context__
        self.draft.close()

    def _failure(self, error: RuntimeError) -> ResourceError:
        return ResourceError(
            f"The raster {self.path} could not be written ({why_not_written(self.path, error)}).",
            "Free some disk space, or choose another folder.",
        )


def _squares(window: Window) -> tuple[slice, slice]:
    """The rows and columns of squares that a window touches."""
    ends = (window.row_off, window.row_end), (window.col_off, window.col_end)
    rows, cols = (slice(begin // SQUARE, -(-end // SQUARE)) for begin, end in ends)
    return rows, cols


@contextmanager
def gdal_options(options: Mapping[str, str]) -> Iterator[None]:
    """Set options of GDAL for this thread."""
    for name, value in options.items():
        gdal.SetThreadLocalConfigOption(name, value)
    try:
        yield
    finally:
        for name in options:
            gdal.SetThreadLocalConfigOption(name, None)


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
        own = window._replace(
            col_off=window.col_off - self.window.col_off, row_off=window.row_off - self.window.row_off
        )
        unknown = self._count(own, values)
        self.unanswered += unknown - (0 if wanted is None else np.count_nonzero(~wanted))
        super().write_tile(window, None, self.classes.to_values(values, int(self.nodata))[None])

    def _count(self, window: Window, indices: np.ndarray) -> int:
        """Count the pixels and the ground of each class in a window of this raster; returns those without a class."""
        total, known = np.zeros(256, np.int64), len(self.counts)
        parts = [(window, 0.0)] if self.ground is None else self.ground.windows(window)
        for part, area in parts:
            counts = np.bincount(indices[part.slices_in(window)].ravel(), minlength=256)
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


class ShareRaster(MapRaster):
    """A raster of shares from 0 to 1, such as probabilities, with its statistics.

    Takes (N, bands, rows, cols) values as `measures.stored` returns them.

    Args:
        path, like, window, names, tile_size, take, form: As for `MapRaster`.
        kind: One of `SHARE_TYPES`.
        styled: Whether a style for its only band is written beside it.
    """

    def __init__(
        self, path: str, like: RasterInfo, window: Window, names: Sequence[str], tile_size: int, take: Take,
        kind: str = "float32", form: Form | None = None, styled: bool = False,
    ) -> None:  # fmt: skip
        self._styled, self._moments = styled, [Moments() for _ in names]
        self.scale = 1 / BYTE_STEPS if kind == "uint8" else None
        dtype: np.dtype[Any] = np.dtype(np.uint8 if kind == "uint8" else np.float32)
        nodata = BYTE_NODATA if kind == "uint8" else np.nan
        options: tuple[str, ...] = BYTE_SHARES if kind == "uint8" else NUMBERS
        # GDAL (3.6 at least) copies half floats to a COG only now and then, so there they stay floats of fewer digits.
        if kind == "float16" and not (form or Form()).cog:
            options = (*NUMBERS, "NBITS=16")
        super().__init__(path, like, window, dtype, nodata, names, tile_size, take, options, form)

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`."""
        if values.dtype == np.float16:
            values = values.astype(np.float32)  # GDAL cuts the surplus digits off, which are 0
        if wanted is not None:
            values[:, ~wanted] = self.nodata
        known = values != self.nodata if values.dtype == np.uint8 else np.isfinite(values)
        for moments, one, there in zip(self._moments, values, known):
            moments.add(one[there])
        super().write_tile(window, None, values)

    def _complete(self) -> None:
        for band, moments in zip(self.bands, self._moments):
            if moments.count:
                band.SetStatistics(*moments.figures.values())
        super()._complete()

    def _style(self, path: Path) -> None:
        if self._styled:
            style.write_ramp_qml(path, 0.0, 1.0, [(share, color, 255) for share, color in RAMP])


class NumberRaster(MapRaster):
    """A raster of numbers, NaN for nodata, with its statistics, and styled with a colour ramp.

    The values taken are (N, 1, rows, cols) float32; where they are not finite, the network gives no answer.
    """

    def __init__(
        self, path: str, like: RasterInfo, window: Window, tile_size: int, take: Take,
        form: Form | None = None,
    ) -> None:  # fmt: skip
        dtype = np.dtype(np.float32)
        super().__init__(path, like, window, dtype, np.nan, ["prediction"], tile_size, take, NUMBERS, form)
        self.unanswered = 0  # wanted pixels without a number
        self.moments = Moments()  # of these numbers

    @property
    def mapped(self) -> int:
        """The number of pixels with a number."""
        return self.moments.count

    @property
    def finished(self) -> Finished:
        """What its file says."""
        return Finished(self.facts or {}, [self.mapped], self.size - self.mapped, statistics=self.statistics)

    @property
    def statistics(self) -> dict[str, float]:
        """Minimum, maximum, mean and standard deviation; of at least one pixel."""
        return self.moments.figures

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`; adds up the statistics."""
        known = np.isfinite(values[0]) if wanted is None else np.isfinite(values[0]) & wanted
        values[0][~known] = np.nan
        self.unanswered += (known.size if wanted is None else np.count_nonzero(wanted)) - np.count_nonzero(known)
        self.moments.add(values[0][known])
        super().write_tile(window, None, values)

    def _complete(self) -> None:
        self.bands[0].SetStatistics(*self.statistics.values())
        super()._complete()

    def _style(self, path: Path) -> None:
        """A ramp over what lies within two standard deviations of the mean."""
        found = self.statistics
        low = max(found["minimum"], found["mean"] - 2 * found["std"])
        high = min(found["maximum"], found["mean"] + 2 * found["std"])
        style.write_ramp_qml(path, low, high, [(share, color, 255) for share, color in RAMP])


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
