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

from ...drafts import claim
from ...errors import ResourceError
from ...events import Reporter
from ...files import why_not_written
from ...rasters.raster_io import RasterInfo, gdal_type, spatial_reference
from ...windows import Window
from ..pipeline.finished import Finished
from ..pipeline.pieces import Piece
from ..reading.tile_reader import Batch
from ..reading.tiling import block_size
from ..settings import FormSettings
from .overviews import Halves, write_modes, write_modes_again
from .phases import Phases

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` from Python 3.11 on

    from ...device import Later

# Turns the result for a batch into (N, bands, rows, cols).
Take = Callable[[Any], "Later | np.ndarray"]
# Maximum share of its uncompressed size that a raster's pixels need on the disk, from experience with DEFLATE.
CLASS_SHARE, PROBABILITY_SHARE = 0.1, 0.9
# Minimum block size of GeoTIFFs of steps, however few steps are computed at a time.
SMALLEST_BLOCK = 128
# Creation options for rasters with many bands, and for rasters of floats.
BAND_BY_BAND, NUMBERS = ("INTERLEAVE=BAND",), ("INTERLEAVE=BAND", "PREDICTOR=3")
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


def class_share(settings: FormSettings, passes: int = 0) -> float:
    """Return the maximum share of its uncompressed size that a raster of classes needs on the disk while it is made.

    Args:
        settings: How it is stored.
        passes: How many more rasters its refinement writes.
    """
    return CLASS_SHARE * (settings.copies() + passes) + settings.overviews / 4  # `Halves` are not compressed


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
        self._halves: Halves | None = None
        if self.RESAMPLING == MODE and self._levels() and not self._rewritten:
            halves = self.draft.folder / f"{WORK}.halves"
            self._halves = Halves(halves, (window.height, window.width), dtype, int(nodata), self._levels())
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
        own = self._own(window)
        self._squares[_squares(own)] = True
        try:
            for band, one in zip(self.bands, values):
                band.WriteArray(one, own.col_off, own.row_off)
            if self._halves is not None:
                self._halves.add(own, values)
        except (RuntimeError, OSError) as error:
            raise self._failure(error) from error

    def _own(self, window: Window) -> Window:
        """The window of this raster for one of the other raster's grid."""
        return window._replace(
            col_off=window.col_off - self.window.col_off, row_off=window.row_off - self.window.row_off
        )

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
        except (RuntimeError, OSError) as error:
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
        halves = self._halves if self._halves is not None and self._halves.complete else None
        threads = "1" if halves is None else "ALL_CPUS"
        options = {"ZLEVEL_OVERVIEW": str(self.LEVEL), "GDAL_NUM_THREADS": threads}
        with self.form.phases.one("Writing overviews") as phase, gdal_options(options):
            if halves is not None:
                write_modes(self.dataset, self._levels(), phase, halves)
            elif self.RESAMPLING == MODE:
                write_modes_again(self.dataset, self._levels(), phase, self._touched)
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

    def _failure(self, error: RuntimeError | OSError) -> ResourceError:
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
