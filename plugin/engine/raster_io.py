"""Windowed reading and writing of rasters with GDAL; nothing here reads a whole raster."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from osgeo import gdal, gdal_array, osr

from .errors import InputError
from .windows import Grid, Window

gdal.UseExceptions()

# Layers from a web map service hold pictures at one zoom level, no measured values.
WEB_DRIVERS = ("WMS", "WMTS", "WCS")


@dataclass(frozen=True)
class RasterInfo:
    """What a raster is, without its pixels. `nodata` has one entry a band, in the order of `bands`."""

    path: str
    grid: Grid
    bands: tuple[int, ...]  # from 1
    band_names: tuple[str, ...]
    dtype: np.dtype[Any]
    nodata: tuple[Optional[float], ...]
    crs: str  # WKT2, "" where the raster has none

    @property
    def pixel_size(self) -> float:
        """The side of a pixel in CRS units (the mean of both axes)."""
        return (abs(self.grid.step_x) + abs(self.grid.step_y)) / 2

    @property
    def size_text(self) -> str:
        """Width × height, as people write it."""
        return f"{self.grid.width} × {self.grid.height} pixels"


def open_raster(path: str) -> gdal.Dataset:
    """Open a raster for reading.

    Raises:
        InputError: GDAL cannot open it, it has no bands, is complex, rotated, or comes from a map service.
    """
    try:
        dataset = gdal.OpenEx(path, gdal.OF_RASTER | gdal.OF_VERBOSE_ERROR)
    except RuntimeError as error:
        raise InputError(
            f"The raster {path} cannot be opened ({error}).", "Check that the file is there and whole."
        ) from error
    if dataset.RasterCount == 0:
        raise InputError(f"{path} holds no raster bands.", "Choose one of its subdatasets.")
    driver = dataset.GetDriver().ShortName
    if driver in WEB_DRIVERS:
        raise InputError(
            f"{path} is a web map ({driver}), whose pictures change with the zoom level.",
            "Save it as a GeoTIFF at the pixel size that you want, and use that.",
        )
    if gdal.DataTypeIsComplex(dataset.GetRasterBand(1).DataType):
        raise InputError(f"{path} holds complex numbers.", "Derive amplitude or phase bands first.")
    transform = dataset.GetGeoTransform()
    if abs(transform[2]) > 1e-9 * abs(transform[1]) or abs(transform[4]) > 1e-9 * abs(transform[5]):
        raise InputError(f"The pixels of {path} are rotated against its CRS.", "Warp it to a north-up raster first.")
    return dataset


def describe(dataset: gdal.Dataset, bands: tuple[int, ...] = ()) -> RasterInfo:
    """Describe an open raster, or some of its bands; without `bands`, all but an alpha band.

    Raises:
        InputError: A band that the raster does not have.
    """
    count = dataset.RasterCount
    if not bands:
        kept = [band for band in range(1, count + 1) if not is_alpha(dataset, band)]
        bands = tuple(kept) or tuple(range(1, count + 1))
    wrong = [band for band in bands if not 1 <= band <= count]
    if wrong:
        raise InputError(
            f"Band {wrong[0]} is asked for, but {dataset.GetDescription()} has {count}.",
            f"Choose bands from 1 to {count}.",
        )
    opened = [dataset.GetRasterBand(band) for band in bands]
    codes = {band.DataType for band in opened}
    dtype = np.result_type(*[gdal_array.GDALTypeCodeToNumericTypeCode(code) for code in codes])
    left, step_x, _, top, _, step_y = dataset.GetGeoTransform()
    crs = dataset.GetSpatialRef()
    return RasterInfo(
        path=dataset.GetDescription(),
        grid=Grid(left, top, step_x, step_y, dataset.RasterXSize, dataset.RasterYSize),
        bands=tuple(bands),
        band_names=tuple(band_name(band, number) for band, number in zip(opened, bands)),
        dtype=np.dtype(dtype),
        nodata=tuple(_nodata(band) for band in opened),
        crs=crs.ExportToWkt(["FORMAT=WKT2_2019"]) if crs is not None else "",
    )


def is_alpha(dataset: gdal.Dataset, band: int) -> bool:
    """Whether a band (from 1) says how opaque the others are instead of holding values."""
    return dataset.GetRasterBand(band).GetColorInterpretation() == gdal.GCI_AlphaBand


def band_name(band: gdal.Band, number: int) -> str:
    """The band's description, else its colour in lower case, else "band N"."""
    if band.GetDescription():
        return band.GetDescription()
    color = band.GetColorInterpretation()
    if color in (gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand):
        return gdal.GetColorInterpretationName(color).lower()
    return f"band {number}"


def _nodata(band: gdal.Band) -> Optional[float]:
    value = band.GetNoDataValue()
    return None if value is None else float(value)


class RasterReader:
    """Reads windows of some bands of one raster, and tells which pixels hold data.

    Not to be shared between threads: GDAL datasets are not.

    Args:
        path: Anything GDAL opens.
        bands: Band numbers from 1; empty = all but alpha.
    """

    def __init__(self, path: str, bands: tuple[int, ...] = ()) -> None:
        self.dataset = open_raster(path)
        self.info = describe(self.dataset, bands)
        first = self.dataset.GetRasterBand(self.info.bands[0])
        self._mask = first.GetMaskBand() if first.GetMaskFlags() & gdal.GMF_PER_DATASET else None

    def read(self, window: Window) -> np.ndarray:
        """(C, H, W): the values of a window that lies inside the raster, in the raster's data type."""
        col_off, row_off, width, height = window
        data = self.dataset.ReadAsArray(col_off, row_off, width, height, band_list=list(self.info.bands))
        data = data if data.ndim == 3 else data[None]
        return data.astype(self.info.dtype, copy=False)

    def missing(self, data: np.ndarray) -> Optional[np.ndarray]:
        """(C, H, W) bool, true where a band has nodata or NaN; None where nothing is missing."""
        return missing_values(data, self.info.nodata)

    def valid(self, window: Window, missing: Optional[np.ndarray]) -> Optional[np.ndarray]:
        """(H, W) bool, true where a band has data and the raster's mask, if any, shows it; None = everywhere."""
        valid: Optional[np.ndarray] = None if missing is None else np.logical_not(missing.all(axis=0))
        if self._mask is not None:
            shown: np.ndarray = self._mask.ReadAsArray(*window) != 0
            return shown if valid is None else np.logical_and(valid, shown)
        return valid


def missing_values(data: np.ndarray, nodata: tuple[Optional[float], ...]) -> Optional[np.ndarray]:
    """(C, H, W) bool, true where a band holds its nodata value or NaN; None where no value is missing."""
    missing = np.isnan(data) if data.dtype.kind == "f" else None
    for channel, value in enumerate(nodata):
        if value is None or math.isnan(value) or not _can_hold(data.dtype, value):
            continue
        here = data[channel] == np.asarray(value).astype(data.dtype)
        if not here.any():
            continue
        if missing is None:
            missing = np.zeros(data.shape, bool)
        missing[channel] |= here
    return missing if missing is not None and missing.any() else None


def _can_hold(dtype: np.dtype[Any], value: float) -> bool:
    """Whether pixels of a data type can be `value`: −9999 marks nothing in a raster of bytes."""
    if dtype.kind == "f":
        return True
    return value == math.floor(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def spatial_reference(crs: str) -> Optional[osr.SpatialReference]:
    """The CRS of a WKT string with x before y, as rasters have it; None for an empty one."""
    if not crs:
        return None
    reference = osr.SpatialReference()
    reference.SetFromUserInput(crs)
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return reference


def crs_text(crs: str) -> str:
    """A CRS in a few words, for messages: "EPSG:32640 (WGS 84 / UTM zone 40N)"."""
    reference = spatial_reference(crs)
    if reference is None:
        return "no CRS"
    code = reference.GetAuthorityCode(None)
    name = reference.GetName() or "unnamed"
    return f"{reference.GetAuthorityName(None)}:{code} ({name})" if code else name


def same_crs(first: str, second: str) -> bool:
    """Whether two WKT strings mean the same CRS; an absent CRS agrees with any."""
    one, other = spatial_reference(first), spatial_reference(second)
    return one is None or other is None or bool(one.IsSame(other))


def gdal_type(dtype: np.dtype[Any]) -> int:
    """GDAL's code for a numpy data type."""
    return int(gdal_array.NumericTypeCodeToGDALTypeCode(np.dtype(dtype).type))
