"""Does the raster suit the model? Band choice, and warnings in plain words before hours of work."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from ..errors import InputError, not_none
from ..events import Reporter
from ..models.header import ModelHeader
from ..rasters.images import in_units, open_image
from ..rasters.raster_io import (
    AS_MEASURED,
    RasterInfo,
    RasterReader,
    Scale,
    missing_values,
    scale_text,
    spatial_reference,
)
from ..windows import Window
from .reading import explain_reading

PIXEL_SIZE_TOLERANCE = 1.2  # the larger over the smaller
# How far the mean of a band may be from training's, in training's standard deviations, and its spread, as a factor.
FAR_MEAN = 4.0
FAR_SPREAD = 20.0
METRES_A_DEGREE = 111_320.0  # of latitude, on the sphere of WGS 84's equator
SAMPLES_A_SIDE, SAMPLE_SIZE = 5, 64
# The bands of a colour table; a model of one other band knows the places in such a table.
TABLE_BANDS = ("red", "green", "blue")


def match_bands(
    model: Sequence[str], raster: RasterInfo, chosen: tuple[int, ...], reporter: Reporter
) -> tuple[int, ...]:
    """Find the raster's band for each band of the model: as chosen, by name, or in order.

    Args:
        model: The names of the model's bands.
        raster: The raster with all of its bands.
        chosen: Band numbers from 1; empty to search.

    Raises:
        InputError: Too few bands, or another number chosen than the model has.
    """
    there = ", ".join(f"{number} {name}" for number, name in zip(raster.bands, raster.band_names))
    wanted = ", ".join(model)
    if chosen:
        if len(chosen) != len(model):
            raise InputError(
                f"BANDS names {bands_text(len(chosen))}, and the model has {len(model)}: {wanted}.",
                "Name one band of the raster for each of the model's, in that order.",
            )
        return chosen
    names = [name.casefold() for name in raster.band_names]
    searched = [name.casefold() for name in model]
    if len(set(searched)) == len(searched) and all(names.count(name) == 1 for name in searched):
        return tuple(raster.bands[names.index(name)] for name in searched)
    if len(names) < len(model):
        raise InputError(
            f"The model needs {bands_text(len(model))} ({wanted}), and {raster.path} has {len(names)} ({there}).",
            "Choose a raster with the bands that the model was trained on.",
        )
    taken = tuple(raster.bands[: len(model)])
    if len(names) > len(model):
        reporter.warning(
            f"The raster has {bands_text(len(names))} ({there}), of which the first {len(model)} are taken for the "
            f"model's ({wanted}). Name them in BANDS if that is not right."
        )
    elif any(name != other and not (_generic(name) or _generic(other)) for name, other in zip(names, searched)):
        reporter.warning(
            f"The raster's bands are called {there}, the model's {wanted}; they are taken in this order. Name them in "
            "BANDS if that is not right."
        )
    return taken


def open_for(header: ModelHeader, path: str, crs: str, chosen: tuple[int, ...], reporter: Reporter) -> RasterReader:
    """The raster to map, with its bands in the order of the model's and its values in the units of training.

    Args:
        crs: The CRS that it has for people; "" = its own.
        chosen: Band numbers from 1; empty to search.

    Raises:
        InputError: It cannot be opened, or its bands are not the model's.
    """
    one = len(header.band_names) == 1 and header.band_names[0] not in TABLE_BANDS
    image = open_image(path, crs, keep_numbers=one)  # as such a model has learned them
    for text in (image.note and f"{path}: {image.note}.", image.warning):
        if text:
            reporter.log(text)
    bands = match_bands(header.band_names, RasterReader(image.source, name=path).info, chosen, reporter)
    reader = RasterReader(image.source, bands, path, crs=crs)
    scales = _scales_to_training(reader.info, header, reporter)
    if not scales:
        return reader
    converted = in_units(image, dict(zip(bands, scales)), header.nodata)
    reader = RasterReader(converted.source, bands, path, crs=crs)
    reader.info = dataclasses.replace(reader.info, scales=header.scales)
    return reader


def _scales_to_training(info: RasterInfo, header: ModelHeader, reporter: Reporter) -> list[Scale]:
    """What brings each band's values to the units of training; empty where they are in these, or nothing tells."""
    if not header.scales or info.scales == header.scales:
        return []
    if not info.scales:
        if info.dtype.kind in "iu" and (header.dtype != info.dtype.name or AS_MEASURED in header.scales):
            reporter.warning(
                f"{info.path} declares no scale, and the model was trained on rasters with "
                f"{scale_text(header.scales)}: its values are taken as they are. Set its scale and offset if they "
                "are in other units."
            )
        return []
    reporter.log(
        f"{info.path} declares {scale_text(info.scales)}, and the model was trained on rasters with "
        f"{scale_text(header.scales)}: its values are brought to the units of training."
    )
    return [
        (own / theirs, (offset - their_offset) / theirs)
        for (own, offset), (theirs, their_offset) in zip(info.scales, header.scales)
    ]


def bands_text(count: int) -> str:
    """A number of bands in words."""
    return f"{count} band" if count == 1 else f"{count} bands"


def _generic(name: str) -> bool:
    return re.fullmatch(r"band[ _]?\d+", name) is not None


def compare_with_training(reader: RasterReader, area: Window, header: ModelHeader, reporter: Reporter) -> None:
    """Warn where data type, pixel size or values are not what the model was trained on.

    Args:
        reader: The raster, with its bands in the order of the model's.
        area: What will be mapped.
    """
    info = reader.info
    if info.dtype.name != header.dtype and not (info.scales and info.scales == header.scales):
        reporter.warning(
            f"The raster holds {info.dtype.name} values, and the model was trained on {header.dtype}; the map is right "
            "only if both use the same units."
        )
    sizes = pixel_sizes(info, header)
    if sizes is not None and max(sizes) > PIXEL_SIZE_TOLERANCE * min(sizes):
        here, there, unit = *sizes, "m" if info.crs else "units"
        reporter.warning(
            f"The pixels are {here:.3g} {unit} wide, and the model was trained on {there:.3g} {unit}; things look "
            f"{there / here:.2g} times as large to it. Resample the raster to {there:.3g} {unit} for a better map."
        )
    mean, std = sample_statistics(reader, area, nodata_values(info, header))
    for number, name in enumerate(header.band_names):
        if math.isnan(mean[number]):
            continue
        if far_off(mean[number], std[number], header.mean[number], header.std[number]):
            reporter.warning(
                f"Band {info.bands[number]} ({info.band_names[number]}) has values of {mean[number]:.4g} ± "
                f"{std[number]:.3g}, and the model knows its band {name} as {header.mean[number]:.4g} ± "
                f"{header.std[number]:.3g}. Check that the bands are in the right order and in the units of "
                "training."
            )


def far_off(mean: float, std: float, usual_mean: float, usual_std: float) -> bool:
    """Whether a band's values can hardly be what the network knows: elsewhere, or in other units.

    A small spread alone says nothing: a lake is smooth. In other units the mean shrinks with it.
    """
    if abs(mean - usual_mean) > FAR_MEAN * (usual_std or 1.0):
        return True
    if usual_std == 0:
        return False
    shrunk = std * FAR_SPREAD < usual_std and abs(mean) * FAR_SPREAD < abs(usual_mean)
    return shrunk or std > FAR_SPREAD * usual_std


def nodata_values(info: RasterInfo, header: ModelHeader) -> tuple[float | None, ...]:
    """What means "no data" in each band: the raster's own value, else that of the training rasters."""
    return tuple(header.nodata if value is None else value for value in info.nodata)


def pixel_sizes(info: RasterInfo, header: ModelHeader) -> tuple[float, float] | None:
    """The pixel sizes of raster and training in metres, in CRS units if neither has a CRS; None if not comparable."""
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
    """How long a unit of a CRS is; for degrees the mean of both directions at a latitude."""
    reference = not_none(spatial_reference(crs))
    if reference.IsGeographic():
        return METRES_A_DEGREE * (1 + math.cos(math.radians(latitude))) / 2
    return float(reference.GetLinearUnits())


def _latitude(info: RasterInfo) -> float:
    """The latitude of the raster's centre, in degrees; 0 for a CRS that is not of this Earth."""
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
    except RuntimeError:  # a centre beyond the projection's reach; only a rough size is asked for
        return 0.0


def sample_statistics(
    reader: RasterReader, area: Window, nodata: tuple[float | None, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(B,) means and standard deviations of each band over a few windows of the area; NaN without data."""
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
                data = reader.read(window)
            missing = missing_values(data, nodata)
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
