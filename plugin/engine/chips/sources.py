"""Open the rasters of an export: separately, as a mosaic, or as a stack of their bands."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from osgeo import gdal

from ..config import ExportChipsConfig
from ..errors import InputError
from ..events import Reporter
from ..rasters.images import Image, in_units, open_image
from ..rasters.mosaics import joined_name, read_mosaic, snapped
from ..rasters.raster_io import AS_MEASURED, RasterInfo, RasterReader, same_crs, scale_text, spatial_reference
from ..rasters.regridded import read_on, with_pixel_size
from ..rasters.stack import StackReader, stack_names
from ..rasters.stored import Stored
from ..rasters.virtual import grid_in
from ..strangers.elsewhere import check_here
from ..windows import Grid, overlap

# Warn of a mosaic if its rasters cover less than this share of it.
SPARSE_MOSAIC = 0.1


def open_sources(config: ExportChipsConfig, reporter: Reporter) -> list[RasterReader]:
    """Open the rasters of an export; chips are placed on the grids of the readers.

    Rasters that are rotated, in another CRS than the first or of another pixel size than wanted are resampled while
    they are read, and the log says so.

    Raises:
        InputError: A raster cannot be opened, or the rasters cannot form a mosaic or stack.
    """
    notes = _Notes()
    images = [open_image(path, crs, nodata=config.nodata) for path, crs in _given(config)]
    if config.combine == "stack":
        readers = [_open_stack(images, config, notes)]
    else:
        rasters = _alike(images, config.bands, notes)
        mosaic_wanted = config.combine == "mosaic"
        readers = [_open_mosaic(rasters, config, notes)] if mosaic_wanted else _open_separate(rasters, config, notes)
    for image in images:
        if image.note:
            notes.add(image.path, image.note)
        if image.warning:
            notes.warnings.append(image.warning)
    first = readers[0].info
    if not first.crs:
        notes.add(first.path, "it has no CRS, so coordinates are used as they are")
    notes.tell(reporter)
    return readers


def _given(config: ExportChipsConfig) -> Iterator[tuple[str, str]]:
    """Each raster with the CRS that the user set for it."""
    for source, crs in zip_longest(config.input, config.input_crs[: len(config.input)], fillvalue=""):
        for path in rasters_in(source):
            yield path, crs


class _Notes:
    """Collects notes on the rasters for the log, grouped by text since a folder may hold thousands."""

    SHOWN = 3

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.warnings: list[str] = []

    def add(self, name: str, text: str) -> None:
        self.names.setdefault(text, []).append(name)

    def tell(self, reporter: Reporter) -> None:
        for text, names in self.names.items():
            shown = ", ".join(names[: self.SHOWN])
            more = f" and {len(names) - self.SHOWN} more" if len(names) > self.SHOWN else ""
            reporter.log(f"{shown}{more}: {text}.")
        for text in self.warnings:
            reporter.warning(text)


def rasters_in(source: str) -> list[str]:
    """The rasters of a folder, sorted by name; or the source itself if GDAL opens it as one raster."""
    if not Path(source).is_dir() or gdal.IdentifyDriverEx(source, gdal.OF_RASTER) is not None:
        return [source]
    found = [str(path) for path in sorted(Path(source).iterdir()) if path.is_file() and _is_raster(path)]
    if not found:
        raise InputError(f"The folder {source} holds no rasters.", "Choose another folder, or rasters.")
    return found


def _is_raster(path: Path) -> bool:
    if path.suffix.lower() in (".msk", ".ovr", ".xml"):  # sidecar files of a raster
        return False
    driver = gdal.IdentifyDriverEx(str(path), gdal.OF_RASTER)
    if driver is None or not driver.GetMetadataItem("DCAP_VECTOR"):
        return driver is not None
    check_here(str(path))
    try:  # a GeoPackage may hold rasters or vectors
        return gdal.OpenEx(str(path), gdal.OF_RASTER).RasterCount > 0
    except RuntimeError:
        return False


def _alike(images: list[Image], bands: tuple[int, ...], notes: _Notes) -> list[Stored]:
    """Make values comparable: as stored if all rasters declare the same scale, else as physical values."""
    rasters = [image.look_at(bands) for image in images]
    if len({stored.info.scales for stored in rasters}) == 1:
        return rasters
    declared = next(stored.info for stored in rasters if stored.info.scales)
    bare = next((stored.info for stored in rasters if not stored.info.scales and stored.info.dtype.kind in "iu"), None)
    if bare is not None:
        notes.warnings.append(
            f"{declared.path} declares {scale_text(declared.scales)}, but {bare.path} ({bare.dtype.name}) declares no "
            "scale, so its values are used as they are. If they are scaled too, set its scale and offset."
        )
    return [_as_measured(image, stored, notes) for image, stored in zip(images, rasters)]


def _as_measured(image: Image, stored: Stored, notes: _Notes) -> Stored:
    info = stored.info
    if info.scales:
        how = f"by {scale_text(info.scales)}, since the rasters differ in scale"
        notes.add(image.path, f"values are converted to physical values {how}")
        stored = in_units(image, dict(zip(info.bands, info.scales))).look_at(info.bands)
    measured = (AS_MEASURED,) * len(info.bands)
    return dataclasses.replace(stored, info=dataclasses.replace(stored.info, scales=measured))


# --- each on its own


def _open_separate(rasters: list[Stored], config: ExportChipsConfig, notes: _Notes) -> list[RasterReader]:
    readers: list[RasterReader] = []
    crs, lattice = "", None
    for stored in rasters:
        if lattice is None:
            crs, lattice = stored.info.crs, with_pixel_size(stored.info, config.pixel_size)
        if same_crs(stored.info.crs, crs):
            grid = with_pixel_size(stored.info, config.pixel_size)
        else:
            grid = snapped(grid_in(stored, crs), lattice)
        readers.append(read_on(stored, grid, crs, notes))
    return readers


# --- a mosaic


def _open_mosaic(rasters: list[Stored], config: ExportChipsConfig, notes: _Notes) -> RasterReader:
    """Open all rasters as a mosaic on the grid of the first; later rasters are on top."""
    reader, share = read_mosaic(rasters, config.pixel_size, notes)
    if share < SPARSE_MOSAIC:
        notes.warnings.append(
            f"The rasters of the mosaic cover only {share:.2g} of its {reader.info.size_text}; with "
            'COMBINE "separate" the gaps are not searched for chips.'
        )
    return reader


# --- a stack


def _open_stack(images: list[Image], config: ExportChipsConfig, notes: _Notes) -> RasterReader:
    """Open the bands of all rasters as a stack on the grid of the first; `config.bands` are numbers of the stack."""
    every = [image.look_at() for image in images]
    places = [(raster, band) for raster, stored in enumerate(every) for band in stored.info.bands]
    bands = config.bands or tuple(range(1, len(places) + 1))
    wrong = [band for band in bands if not 1 <= band <= len(places)]
    name = joined_name([image.path for image in images])
    if wrong:
        raise InputError(
            f"Band {wrong[0]} does not exist: {name} has {len(places)} bands.",
            f"Choose bands from 1 to {len(places)}.",
        )
    names = stack_names([stored.info for stored in every])
    crs, grid = every[0].info.crs, with_pixel_size(every[0].info, config.pixel_size)
    # The mask of the first raster applies even if none of its bands is used, since the stack has its grid.
    base = read_on(every[0], grid, crs, _Notes())
    runs: list[RasterReader] = []
    for raster, chosen in _runs([places[band - 1] for band in bands]):
        stored = images[raster].look_at(chosen)
        _check_ground(stored, grid, crs, every[0].info.path, notes)
        runs.append(read_on(stored, grid, crs, notes))
    notes.add(name, f"a stack of {len(bands)} bands: " + ", ".join(names[band - 1] for band in bands))
    return StackReader(base, runs, name, bands, tuple(names[band - 1] for band in bands))


def _runs(places: list[tuple[int, int]]) -> list[tuple[int, tuple[int, ...]]]:
    """Group consecutive bands of one raster, as (raster, bands), so that they are read together."""
    runs: list[tuple[int, tuple[int, ...]]] = []
    for raster, band in places:
        if runs and runs[-1][0] == raster:
            runs[-1] = (raster, (*runs[-1][1], band))
        else:
            runs.append((raster, (band,)))
    return runs


def _check_ground(stored: Stored, grid: Grid, crs: str, first: str, notes: _Notes) -> None:
    here, there = grid.bounds, grid_in(stored, crs).bounds
    if not overlap(here, there):
        raise InputError(
            f"{stored.info.path} does not overlap {first}, which defines the grid of the stack.",
            "Check that both show the same area and have the right CRS.",
        )
    width = min(here[2], there[2]) - max(here[0], there[0])
    height = min(here[3], there[3]) - max(here[1], there[1])
    share = width * height / ((here[2] - here[0]) * (here[3] - here[1]))
    if share < 0.99:
        notes.add(stored.info.path, f"covers {share:.0%} of {first}; the rest has no data")


# --- degrees


def degrees_warning(info: RasterInfo, chip_size: int) -> str:
    """A warning about chips with pixels in degrees; "" for other CRSs."""
    reference = spatial_reference(info.crs)
    if reference is None or not reference.IsGeographic():
        return ""
    latitude = info.grid.top + info.grid.step_y * info.grid.height / 2
    unit = reference.GetAngularUnits() * reference.GetSemiMajor()  # metres per unit of latitude
    width = abs(info.grid.step_x) * unit * math.cos(math.radians(latitude))
    height = abs(info.grid.step_y) * unit
    return (
        f"The pixels of {info.path} are {abs(info.grid.step_x):.3g} degrees wide, at latitude {latitude:.3g} about "
        f"{_length(width)} × {_length(height)}. A chip covers about {_length(width * chip_size)} × "
        f"{_length(height * chip_size)}, and its shape changes with latitude. Reproject the raster to a metric CRS if "
        "distances or areas matter, or if the model is to be used in other regions."
    )


def _length(metres: float) -> str:
    return f"{metres:.3g} m" if metres < 999.5 else f"{metres / 1000:.3g} km"
