"""Checks that a raster fits a model: chooses bands, and warns of differences from training before the job starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InputError, not_none
from ...events import Reporter
from ...files import check_kept
from ...models.header import ModelHeader
from ...rasters.images import in_units, open_image
from ...rasters.likeness import far_off, named_otherwise, sizes_differ
from ...rasters.mosaics import read_mosaic
from ...rasters.opening import files_behind
from ...rasters.raster_io import AS_MEASURED, RasterInfo, RasterReader, Scale, scale_text, spatial_reference
from ...rasters.regridded import read_on, with_pixel_size
from ...rasters.stored import Stored
from ...windows import Window
from .tile_reader import explain_reading

METRES_A_DEGREE = 111_320.0  # of latitude, on a sphere with the equatorial radius of WGS 84
SAMPLES_A_SIDE, SAMPLE_SIZE = 5, 64
# Band names of colour tables. A model with a single band of another name was trained on the values behind such a table.
TABLE_BANDS = ("red", "green", "blue")


def match_bands(
    model: Sequence[str], raster: RasterInfo, chosen: tuple[int, ...], reporter: Reporter
) -> tuple[int, ...]:
    """Find the raster's band for each band of the model: as chosen, by name, or in order.

    Args:
        model: Names of the model's bands.
        raster: The raster with all of its bands.
        chosen: Band numbers from 1; empty to search.
        reporter: Receives warnings.

    Returns:
        The raster's band numbers, in the order of the model's bands.

    Raises:
        InputError: The raster has too few bands, or the number of chosen bands differs from the model's.
    """
    there = ", ".join(f"{number} {name}" for number, name in zip(raster.bands, raster.band_names))
    wanted = ", ".join(model)
    if chosen:
        if len(chosen) != len(model):
            raise InputError(
                f"BANDS has {bands_text(len(chosen))}, but the model needs {len(model)}: {wanted}.",
                "Give one band of the raster for each band of the model, in that order.",
            )
        return chosen
    names = [name.casefold() for name in raster.band_names]
    searched = [name.casefold() for name in model]
    if len(set(searched)) == len(searched) and all(names.count(name) == 1 for name in searched):
        return tuple(raster.bands[names.index(name)] for name in searched)
    if len(names) < len(model):
        raise InputError(
            f"The model needs {bands_text(len(model))} ({wanted}), but {raster.path} has {len(names)} ({there}).",
            "Choose a raster with the bands that the model was trained on.",
        )
    taken = tuple(raster.bands[: len(model)])
    if len(names) > len(model):
        reporter.warning(
            f"The raster has {bands_text(len(names))} ({there}), of which the first {len(model)} are used for those "
            f"of the model ({wanted}). If that is wrong, set BANDS."
        )
    elif named_otherwise(names, searched):
        reporter.warning(
            f"The bands of the raster are named {there}, but those of the model {wanted}; they are used in this "
            "order. If that is wrong, set BANDS."
        )
    return taken


class _Notes:
    """Writes notes on the raster to the log."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter

    def add(self, name: str, text: str) -> None:
        self.reporter.log(f"{name}: {text}.")


def open_for(
    header: ModelHeader, path: str, crs: str, chosen: tuple[int, ...], reporter: Reporter,
    pixel_size: float | None = None, more: Sequence[tuple[str, str]] = (),
) -> RasterReader:  # fmt: skip
    """Open the raster to map, with its bands in the order of the model's and its values in the units of training.

    A raster that is rotated, or whose pixels have another size than wanted, is resampled while it is read.

    Args:
        header: Header of the model file.
        path: The raster.
        crs: CRS that the user set in QGIS, as WKT; "" for the raster's own.
        chosen: Band numbers from 1; empty to search.
        reporter: Receives log lines and warnings.
        pixel_size: Pixel size to map at, in CRS units; 0 for the model's, None for the raster's own.
        more: Rasters, and the CRS that the user set for each, that form a mosaic with the first one.

    Raises:
        InputError: One cannot be opened, or does not have the bands of the model.
    """
    notes = _Notes(reporter)
    rasters = [_as_in_training(header, *raster, chosen, reporter) for raster in ((path, crs), *more)]
    first = rasters[0]
    size = size_of_model(first.info, header) if pixel_size == 0 else pixel_size
    if more:
        return read_mosaic(rasters, size, notes)[0]
    return read_on(first, with_pixel_size(first.info, size), "", notes)


def _as_in_training(header: ModelHeader, path: str, crs: str, chosen: tuple[int, ...], reporter: Reporter) -> Stored:
    """Return a raster with its bands in the order of the model's and its values in the units of training.

    A band that declares no nodata value has that of the training rasters.
    """
    one = len(header.band_names) == 1 and header.band_names[0] not in TABLE_BANDS
    image = open_image(path, crs, keep_numbers=one)  # such a model was trained on these values
    for text in (image.note and f"{image.path}: {image.note}.", image.warning):
        if text:
            reporter.log(text)
    bands = match_bands(header.band_names, image.look_at().info, chosen, reporter)
    stored = image.look_at(bands, header.nodata)
    scales = _scales_to_training(stored.info, header, reporter)
    if scales:
        stored = in_units(image, dict(zip(bands, scales)), header.nodata).look_at(bands)
        stored = dataclasses.replace(stored, info=dataclasses.replace(stored.info, scales=header.scales))
    return stored


def size_of_model(info: RasterInfo, header: ModelHeader) -> float:
    """Return the pixel size of training in units of the raster's CRS.

    Raises:
        InputError: It cannot be compared, because only one of them has a CRS.
    """
    sizes = pixel_sizes(info, header)
    if sizes is None:
        raise InputError(
            f"The pixel size of the model has no meaning for {info.path}, because only one of them has a CRS.",
            "Give PIXEL_SIZE in units of the raster's coordinates.",
        )
    here, there = sizes
    return info.pixel_size * there / here


def _scales_to_training(info: RasterInfo, header: ModelHeader, reporter: Reporter) -> list[Scale]:
    """Return the scales that convert each band to the units of training; empty if they agree, or are unknown."""
    if not header.scales or info.scales == header.scales:
        return []
    if not info.scales:
        if info.dtype.kind in "iu" and (header.dtype != info.dtype.name or AS_MEASURED in header.scales):
            reporter.warning(
                f"{info.path} declares no scale, but the model was trained on rasters with "
                f"{scale_text(header.scales)}: its values are used unchanged. Set its scale and offset if "
                "they are in other units."
            )
        return []
    reporter.log(
        f"{info.path} declares {scale_text(info.scales)}, but the model was trained on rasters with "
        f"{scale_text(header.scales)}: its values are converted to the units of training."
    )
    return [
        (own / theirs, (offset - their_offset) / theirs)
        for (own, offset), (theirs, their_offset) in zip(info.scales, header.scales)
    ]


def bands_text(count: int) -> str:
    """Format a number of bands: "1 band", "3 bands"."""
    return f"{count} band" if count == 1 else f"{count} bands"


def compare_with_training(reader: RasterReader, area: Window, header: ModelHeader, reporter: Reporter) -> None:
    """Warn if data type, pixel size or values differ from those that the model was trained on.

    Args:
        reader: The raster, with its bands in the order of the model's.
        area: The window that will be mapped.
        header: Header of the model file.
        reporter: Receives the warnings.
    """
    info = reader.info
    if info.dtype.name != header.dtype and not (info.scales and info.scales == header.scales):
        reporter.warning(
            f"The raster holds {info.dtype.name} values, but the model was trained on {header.dtype}; the map is "
            "correct only if both use the same units."
        )
    sizes = pixel_sizes(info, header)
    if sizes is not None and sizes_differ(*sizes):
        here, there, unit = *sizes, "m" if info.crs else "units"
        reporter.warning(
            f"The pixels are {here:.3g} {unit} wide, but the model was trained on {there:.3g} {unit}, so objects look "
            f"{there / here:.2g} times as large to it. For a better map, set PIXEL_SIZE to 0: the raster is then read "
            "at the pixel size of the model."
        )
    mean, std = sample_statistics(reader, area)
    for number, name in enumerate(header.band_names):
        if math.isnan(mean[number]):
            continue
        if far_off(mean[number], std[number], header.mean[number], header.std[number]):
            reporter.warning(
                f"Band {info.bands[number]} ({info.band_names[number]}) has values of {mean[number]:.4g} ± "
                f"{std[number]:.3g}, but the model was trained on {header.mean[number]:.4g} ± "
                f"{header.std[number]:.3g} for its band {name}. Check that the bands are in the right order and in "
                "the units of training."
            )


def pixel_sizes(info: RasterInfo, header: ModelHeader) -> tuple[float, float] | None:
    """Return pixel sizes of raster and training in metres, or in CRS units without CRSs; None if not comparable."""
    if bool(info.crs) != bool(header.crs):
        return None
    if not info.crs:
        return info.pixel_size, header.pixel_size
    latitude = _latitude(info)
    here = info.pixel_size * metres_a_unit(info.crs, latitude)
    try:
        return here, header.pixel_size * metres_a_unit(header.crs, latitude)
    except (RuntimeError, InputError) as error:
        raise InputError(
            f"The CRS in the model file cannot be read ({error}).", "Choose another model file, or train again."
        ) from error


def metres_a_unit(crs: str, latitude: float) -> float:
    """Return the length of a CRS unit in metres; for degrees, the mean of both directions at a latitude."""
    reference = not_none(spatial_reference(crs))
    if reference.IsGeographic():
        return METRES_A_DEGREE * (1 + math.cos(math.radians(latitude))) / 2
    return float(reference.GetLinearUnits())


def _latitude(info: RasterInfo) -> float:
    """Return the latitude of the raster's centre in degrees; 0 for a CRS without geographic coordinates."""
    from osgeo import osr

    reference = not_none(spatial_reference(info.crs))
    left, bottom, right, top = info.grid.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    if reference.IsGeographic():
        return y
    if not reference.IsProjected():
        return 0.0
    degrees = reference.CloneGeogCS()
    degrees.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    try:
        return float(osr.CoordinateTransformation(reference, degrees).TransformPoint(x, y)[1])
    except RuntimeError:  # the centre is outside the projection's area; a rough pixel size is enough
        return 0.0


def sample_statistics(reader: RasterReader, area: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return (B,) means and standard deviations of the bands over a few windows of the area; NaN without data."""
    count, total, squares = (np.zeros(len(reader.info.bands)) for _ in range(3))
    for row in range(SAMPLES_A_SIDE):
        for col in range(SAMPLES_A_SIDE):
            width, height = min(SAMPLE_SIZE, area.width), min(SAMPLE_SIZE, area.height)
            window = Window(
                area.col_off + (area.width - width) * col // (SAMPLES_A_SIDE - 1),
                area.row_off + (area.height - height) * row // (SAMPLES_A_SIDE - 1),
                width,
                height,
            )
            with explain_reading(reader.info.path):
                data, missing = reader.read_marked(window)
            valid = reader.valid(window, missing)
            used = np.ones(data.shape, bool) if missing is None else ~missing
            if valid is not None:
                used &= valid
            values = np.where(used, data, 0).astype(np.float64)
            count += used.sum(axis=(1, 2))
            total += values.sum(axis=(1, 2))
            squares += (values**2).sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))


def check_not_input(
    outputs: Mapping[str, str | None], raster: RasterReader, models: Sequence[str], more: Sequence[str] = ()
) -> None:
    """Refuse to overwrite the raster, a file that it consists of, more rasters of a mosaic, or a model."""
    # A virtual raster that is made for a job may list only the one below, or a text that is not a file.
    files = files_behind([*more, raster.info.path, *raster.files()])
    check_kept(outputs, {"the raster to be mapped": files, "the model file": models})
