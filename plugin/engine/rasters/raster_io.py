"""Windowed reading of rasters with GDAL; no function here reads a whole raster.

A source is a path, or the text of a virtual raster (see virtual.py).
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from osgeo import gdal, gdal_array, osr

from ..errors import InputError
from ..windows import Grid, Window
from .opening import complex_error
from .opening import open_raster as open_raster

gdal.UseExceptions()

# There may be more rasters than a process may open files (macOS: 256), so the least recently used ones are closed.
MOST_OPEN = 64
# How much of an invalid WKT an error message quotes.
SHOWN_LETTERS = 100
# Differences between CRSs that do not change where pixels are on the ground.
SAME_GROUND = (
    "CRITERION=EQUIVALENT_EXCEPT_AXIS_ORDER_GEOGCRS",
    "IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES",
    "IGNORE_COORDINATE_EPOCH=YES",
)
# Bytes of cache for a virtual raster, whose sources may be stored in strips.
VIRTUAL_CACHE = 256 * 2**20
# Rasters on servers, and seconds before a part that could not be read is asked for again.
REMOTE, WAITS = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsioss", "/vsiswift"), (1.0, 2.0, 4.0)
LARGEST = float(np.finfo(np.float32).max)
# With several threads, these versions of GDAL read other bands than those asked for, and write beyond the array, if a
# file is interleaved by band, unless the bands are its first ones (https://github.com/OSGeo/gdal/pull/7963).
MIXES_BANDS = 3060000 <= int(gdal.VersionInfo()) < 3070100


Scale = tuple[float, float]
AS_MEASURED: Scale = (1.0, 0.0)


@dataclass(frozen=True)
class RasterInfo:
    """The properties of a raster. `nodata` has one entry per band, in the order of `bands`.

    Whether a value is missing is said by `RasterReader.read_marked`: in a mosaic, valid values may equal `nodata`.
    """

    path: str  # the name shown to the user: a path, or "a.tif + b.tif"
    grid: Grid
    bands: tuple[int, ...]  # numbered from 1
    band_names: tuple[str, ...]
    dtype: np.dtype[Any]
    nodata: tuple[Optional[float], ...]
    crs: str  # WKT2, "" for none
    # Scale and offset of each band (physical value = stored × scale + offset); empty if none are declared.
    scales: tuple[Scale, ...] = ()

    @property
    def pixel_size(self) -> float:
        """The pixel size in CRS units, the mean of both axes."""
        return (abs(self.grid.step_x) + abs(self.grid.step_y)) / 2

    @property
    def size_text(self) -> str:
        """Width × height in pixels, for messages."""
        return f"{self.grid.width} × {self.grid.height} pixels"


def grid_of(dataset: gdal.Dataset) -> Grid:
    """The grid of a north-up or south-up raster."""
    return grid_from(dataset.GetGeoTransform(), dataset.RasterXSize, dataset.RasterYSize)


def grid_from(transform: Sequence[float], width: int, height: int) -> Grid:
    """The grid of a GDAL geotransform, whose rotation terms are ignored."""
    left, step_x, _, top, _, step_y = transform
    return Grid(left, top, step_x, step_y, width, height)


def crs_of(dataset: gdal.Dataset) -> str:
    """The horizontal CRS of a raster, or of its ground control points, as WKT2; "" for none."""
    crs = dataset.GetSpatialRef() or (dataset.GetGCPSpatialRef() if dataset.GetGCPCount() else None)
    return _ground(crs).ExportToWkt(["FORMAT=WKT2_2019"]) if crs is not None else ""


def describe(dataset: gdal.Dataset, bands: tuple[int, ...] = (), name: str = "", crs: str = "") -> RasterInfo:
    """Describe an open raster, or some of its bands; without `bands`, all but an alpha band.

    The grid is valid for rasters that are not rotated. If given, `crs` overrides the raster's own.

    Raises:
        InputError: A band does not exist or is complex.
    """
    name = name or dataset.GetDescription()
    count = dataset.RasterCount
    if not bands:
        kept = [band for band in range(1, count + 1) if not is_alpha(dataset, band)]
        bands = tuple(kept) or tuple(range(1, count + 1))
    wrong = [band for band in bands if not 1 <= band <= count]
    if wrong:
        raise InputError(f"Band {wrong[0]} does not exist: {name} has {count}.", f"Choose bands from 1 to {count}.")
    opened = [dataset.GetRasterBand(band) for band in bands]
    for band, number in zip(opened, bands):
        if gdal.DataTypeIsComplex(band.DataType):
            raise complex_error(name, dataset, number)
    return RasterInfo(
        path=name,
        grid=grid_of(dataset),
        bands=tuple(bands),
        band_names=tuple(band_name(band, number) for band, number in zip(opened, bands)),
        dtype=np.result_type(*{band_dtype(band) for band in opened}),
        nodata=tuple(_nodata(band) for band in opened),
        crs=ground_crs(crs) or crs_of(dataset),
        scales=_scales(opened),
    )


def is_alpha(dataset: gdal.Dataset, band: int) -> bool:
    """Return whether a band, numbered from 1, is an alpha band."""
    return dataset.GetRasterBand(band).GetColorInterpretation() == gdal.GCI_AlphaBand


def mask_name(dataset: gdal.Dataset, band: int) -> str:
    """The source of a band's mask: "mask" for GDAL's own, the number of an alpha band, or "" for none.

    GDAL uses an alpha band as a mask only if it is the second of two or the fourth of four bands of 8 or 16 bits.
    """
    if dataset.GetRasterBand(band).GetMaskFlags() & gdal.GMF_PER_DATASET:
        return "mask"
    return next((str(number) for number in range(dataset.RasterCount, 0, -1) if is_alpha(dataset, number)), "")


def band_name(band: gdal.Band, number: int) -> str:
    """The band's description, or its colour interpretation in lower case, or "band N"."""
    if band.GetDescription():
        return band.GetDescription()
    color = band.GetColorInterpretation()
    if color in (gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand):
        return gdal.GetColorInterpretationName(color).lower()
    return f"band {number}"


def band_dtype(band: gdal.Band) -> np.dtype[Any]:
    """The data type that a band is read as: its own, but int16 for signed bytes, and float32 for float16.

    Older versions of GDAL and other programs cannot read these types in chips.
    """
    if is_signed_byte(band):
        return np.dtype(np.int16)
    name = np.dtype(gdal_array.GDALTypeCodeToNumericTypeCode(band.DataType)).name
    return np.dtype({"int8": "int16", "float16": "float32"}.get(name, name))


def is_signed_byte(band: gdal.Band) -> bool:
    """Return whether a byte band is signed as in GDAL before 3.7; later versions warn when asked for it."""
    if int(gdal.VersionInfo()) >= 3070000:
        return False
    return band.DataType == gdal.GDT_Byte and band.GetMetadataItem("PIXELTYPE", "IMAGE_STRUCTURE") == "SIGNEDBYTE"


def _nodata(band: gdal.Band) -> Optional[float]:
    value = band.GetNoDataValue()
    if value is None or isinstance(value, int):  # None, or a 64-bit integer, which a float cannot hold
        return value
    return float(value)


def _scales(bands: Sequence[gdal.Band]) -> tuple[Scale, ...]:
    found = [(band.GetScale(), band.GetOffset()) for band in bands]
    known = tuple((1.0 if scale is None else scale, offset or 0.0) for scale, offset in found)
    return known if any(scale != AS_MEASURED for scale in known) else ()


def scale_text(scales: Sequence[Scale]) -> str:
    """The scale and offset of the first band that declares any: "a scale of 0.0001 and an offset of -0.1"."""
    scale, offset = next((found for found in scales if found != AS_MEASURED), AS_MEASURED)
    return f"a scale of {scale:g} and an offset of {offset:g}"


class _OpenRasters:
    """The readers whose files are open; the least recently used one is closed when there are too many."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.readers: OrderedDict[int, weakref.ref[RasterReader]] = OrderedDict()

    def use(self, reader: RasterReader) -> None:
        with self.lock:
            self.readers[id(reader)] = weakref.ref(reader)
            self.readers.move_to_end(id(reader))
            while len(self.readers) > MOST_OPEN:
                _, reference = self.readers.popitem(last=False)
                oldest = reference()
                if oldest is not None:
                    oldest.close()


_open_rasters = _OpenRasters()


class RasterReader:
    """Reads windows of some bands of a raster, and tells which pixels have data.

    Must be used by one thread at a time. The raster is opened on first use.

    Args:
        source: A path, or the text of a virtual raster.
        bands: Band numbers from 1; empty for all but an alpha band.
        name: The name of the raster in messages; empty for the path.
        numbers: The band numbers shown to the user, if a virtual raster has them in another order.
        mask: A raster of the same size that is 0 where there is no data; empty for the raster's own mask.
        crs: The CRS that overrides the raster's own; empty for none.

    Raises:
        InputError: As `open_raster` and `describe`.
    """

    def __init__(
        self,
        source: str,
        bands: tuple[int, ...] = (),
        name: str = "",
        numbers: tuple[int, ...] = (),
        mask: str = "",
        crs: str = "",
    ) -> None:
        self.source, self.name = source, name or source
        self._mask = RasterReader(mask, name=name) if mask else None
        self._dataset: Optional[gdal.Dataset] = None
        dataset = self.dataset
        info = describe(dataset, bands, self.name, crs)
        self._bands = list(info.bands)
        self._mask_name = mask_name(dataset, info.bands[0])
        self._signed = [place for place, band in enumerate(info.bands) if is_signed_byte(dataset.GetRasterBand(band))]
        self.info = dataclasses.replace(info, bands=numbers or info.bands)

    @property
    def dataset(self) -> gdal.Dataset:
        """The open raster; do not keep a reference to it, since the file may be closed."""
        dataset = self._dataset
        if dataset is None:
            dataset = self._dataset = open_raster(self.source, self.name)
        _open_rasters.use(self)
        return dataset

    def close(self) -> None:
        """Close the file; the next use opens it again. A read running in another thread is not interrupted."""
        self._dataset = None

    def buffer(self, window: Window) -> np.ndarray:
        """An array for the values of a window: (C, H, W) in the raster's data type."""
        return np.empty((len(self.info.bands), window.height, window.width), self.info.dtype)

    def read(self, window: Window, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Read a window that lies inside the raster: (C, H, W) in the raster's data type, or in `out`."""
        if out is None:
            out = self.buffer(window)
        # GDAL itself asks again for single parts of a file, but not where it needs several at once.
        for seconds in (*(WAITS if any(kind in self.source for kind in REMOTE) else ()), None):
            try:
                self._read(window, out)
                break
            except RuntimeError:
                if seconds is None:
                    raise
                self.close()  # GDAL would take what it failed to read for zeros
                time.sleep(seconds)
        for place in self._signed:
            out[place][out[place] > 127] -= 256
        return out

    def _read(self, window: Window, out: np.ndarray) -> None:
        dataset = self.dataset
        if MIXES_BANDS and self._bands != [*range(1, len(self._bands) + 1)]:
            for number, one in zip(self._bands, out):
                dataset.GetRasterBand(number).ReadAsArray(*window, buf_obj=one)
        else:
            dataset.ReadAsArray(*window, buf_obj=out, band_list=self._bands)

    def read_marked(self, window: Window, out: Optional[np.ndarray] = None) -> tuple[np.ndarray, Optional[np.ndarray]]:
        """Read a window as `read` does, and mark its missing values: bool of that shape, None if none is missing."""
        data = self.read(window, out)
        return data, missing_values(data, self.info.nodata)

    def valid(self, window: Window, missing: Optional[np.ndarray]) -> Optional[np.ndarray]:
        """(H, W) bool, true where any band has data and the mask, if any, is not 0; None for all pixels."""
        shown = self.shown(window)
        if missing is None:
            return shown
        valid: np.ndarray = np.logical_not(missing.all(axis=0))
        return valid if shown is None else np.logical_and(valid, shown, out=valid)

    def shown(self, window: Window) -> Optional[np.ndarray]:
        """(H, W) bool, true where the raster's mask is not 0; None for all pixels."""
        if self._mask is not None:
            return _unless_all(self._mask.read(window)[0] != 0)
        if not self._mask_name:
            return None
        dataset = self.dataset  # a band does not keep its dataset alive
        own = self._mask_name == "mask"
        band = dataset.GetRasterBand(self._bands[0] if own else int(self._mask_name))
        return _unless_all((band.GetMaskBand() if own else band).ReadAsArray(*window) != 0)

    def files(self) -> list[str]:
        """The files that the raster consists of, as far as GDAL knows them."""
        return list(self.dataset.GetFileList() or ())

    def cache_bytes(self, rows: int) -> int:
        """The bytes of cache with which neighbouring windows of `rows` rows read each block only once."""
        if self.source.startswith("<"):  # its sources are unknown
            return VIRTUAL_CACHE
        if self.dataset.GetRasterBand(self._bands[0]).GetBlockSize()[0] < self.info.grid.width:
            return 0
        # If bands are interleaved by pixel, GDAL caches the bands that are not read as well.
        return int(1.5 * self.info.grid.width * rows * self.dataset.RasterCount * self.info.dtype.itemsize)


def _unless_all(shown: np.ndarray) -> Optional[np.ndarray]:
    return None if shown.all() else shown


def missing_values(data: np.ndarray, nodata: tuple[Optional[float], ...]) -> Optional[np.ndarray]:
    """Mark missing values: a band's nodata value, and values that are NaN or infinite.

    Networks calculate in float32, so values beyond its range count as infinite. `models.normalisation.missing_values`
    is the same rule for tensors.

    Args:
        data: (C, ...) of any data type.
        nodata: One value per band, or None.

    Returns:
        Bool of the shape of `data`, true where a value is missing; None if none is.
    """
    missing: Optional[np.ndarray] = None
    if data.dtype.kind == "f" and not all_finite(data):
        with np.errstate(invalid="ignore"):
            missing = ~(np.abs(data) <= LARGEST)
    for channel, value in enumerate(nodata):
        if value is None or not math.isfinite(value) or not can_hold(data.dtype, value):
            continue
        with np.errstate(over="ignore"):  # values beyond float32 become infinite
            here = data[channel] == np.asarray(value).astype(data.dtype)
            rounded = float(np.float32(value)) if data.dtype == np.float64 else value
        if rounded != value:  # float64 pixels converted from float32
            here |= data[channel] == rounded
        if not here.any():
            continue
        if missing is None:
            missing = np.zeros(data.shape, bool)
        missing[channel] |= here
    return missing


def all_finite(data: np.ndarray) -> bool:
    """Return whether all values are finite in float32; much cheaper than marking those that are not."""
    return not data.size or bool(data.min() >= -LARGEST and data.max() <= LARGEST)


def value_text(value: Any) -> str:
    """A pixel value as text with all its digits, so that it can be typed back without loss."""
    # NumPy versions format large integers differently.
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    return str(value).removesuffix(".0")


def beside(value: float, dtype: np.dtype[Any]) -> float:
    """The neighbouring value of a data type, for a valid value that happens to equal the nodata value."""
    if dtype.kind == "f":
        return float(np.nextafter(np.asarray(value, dtype), np.asarray(0 if value else 1, dtype)))
    return value + 1 if can_hold(dtype, value + 1) else value - 1


def can_hold(dtype: np.dtype[Any], value: float) -> bool:
    """Return whether a data type can represent a value: bytes, for example, cannot be −9999."""
    if dtype.kind == "f":
        return True
    if not math.isfinite(value):
        return False
    return value == math.floor(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def spatial_reference(crs: str) -> Optional[osr.SpatialReference]:
    """Parse a WKT string into a horizontal CRS with x before y; None for "".

    Only WKT is accepted: GDAL takes other texts for file names and web addresses, which it would read.

    Raises:
        InputError: The text is not valid WKT.
    """
    if not crs:
        return None
    reference = osr.SpatialReference()
    try:
        fine = reference.ImportFromWkt(crs) == 0
    except RuntimeError:  # if osr's exceptions are enabled
        fine = False
    if not fine:
        raise InputError(f'The text "{crs[:SHOWN_LETTERS]}" is not a CRS in WKT.', "Set another CRS and save it again.")
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return _ground(reference)


def ground_crs(crs: str) -> str:
    """The horizontal part of a CRS as WKT2; "" for an empty one."""
    reference = spatial_reference(crs)
    return reference.ExportToWkt(["FORMAT=WKT2_2019"]) if reference is not None else ""


def _ground(reference: osr.SpatialReference) -> osr.SpatialReference:
    """The horizontal part of a CRS; with a vertical CRS, GDAL's warp would shift the pixel values."""
    ground: osr.SpatialReference = reference.Clone()
    if ground.IsCompound():
        ground.StripVertical()
    if ground.GetAxesCount() > 2:
        ground.DemoteTo2D(None)
    return ground


def crs_text(crs: str) -> str:
    """A short name of a CRS for messages: "EPSG:32640 (WGS 84 / UTM zone 40N)"."""
    reference = spatial_reference(crs)
    if reference is None:
        return "no CRS"
    code = reference.GetAuthorityCode(None)
    name = reference.GetName() or "unnamed"
    return f"{reference.GetAuthorityName(None)}:{code} ({name})" if code else name


def same_crs(first: str, second: str) -> bool:
    """Return whether two WKT strings place coordinates alike on the ground; an absent CRS matches any.

    Vertical CRSs, names, axis order and epochs are ignored. CRSs with different datums are never the same.
    """
    one, other = spatial_reference(first), spatial_reference(second)
    if one is None or other is None or first == second:
        return True
    if one.IsLocal() and other.IsLocal():  # GDAL ignores the datum of a local CRS, which is only a name
        return bool(one.IsSame(other)) and one.GetName() == other.GetName()
    if one.IsSame(other, SAME_GROUND):
        return True
    if not (one.IsProjected() and other.IsProjected()) or one.HasTOWGS84() or other.HasTOWGS84():
        return False
    # GDAL tells "north, east" from "east, north", which makes no difference here; PROJ strings have no axis order.
    words = _projection(one)
    return bool(words) and words == _projection(other) and bool(one.CloneGeogCS().IsSame(other.CloneGeogCS()))


def _projection(reference: osr.SpatialReference) -> list[str]:
    """The parameters of a projection as a PROJ string, without datum shifts; empty if PROJ cannot express it."""
    return [word for word in reference.ExportToProj4().split() if not word.startswith("+towgs84")]


def gdal_type(dtype: np.dtype[Any]) -> int:
    """GDAL's code of a numpy data type."""
    return int(gdal_array.NumericTypeCodeToGDALTypeCode(np.dtype(dtype).type))
