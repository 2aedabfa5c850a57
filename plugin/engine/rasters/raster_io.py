"""Windowed reading of rasters with GDAL; nothing here reads a whole raster.

A source is what GDAL opens: a path, or the text of a virtual raster (see virtual.py).
"""

from __future__ import annotations

import dataclasses
import math
import threading
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

# A folder may hold more rasters than a process may open files (macOS: 256): the others wait closed.
MOST_OPEN = 64
# Of a text that is no CRS.
SHOWN_LETTERS = 100
# What does not matter to where a raster's pixels lie.
SAME_GROUND = (
    "CRITERION=EQUIVALENT_EXCEPT_AXIS_ORDER_GEOGCRS",
    "IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES",
    "IGNORE_COORDINATE_EPOCH=YES",
)
# What GDAL should keep of a virtual raster, whose own rasters may be in strips.
VIRTUAL_CACHE = 256 * 2**20
LARGEST = float(np.finfo(np.float32).max)


Scale = tuple[float, float]
AS_MEASURED: Scale = (1.0, 0.0)


@dataclass(frozen=True)
class RasterInfo:
    """What a raster is, without its pixels. `nodata` has one entry a band, in the order of `bands`."""

    path: str  # what the raster is called for people: a path, or "a.tif + b.tif"
    grid: Grid
    bands: tuple[int, ...]  # from 1
    band_names: tuple[str, ...]
    dtype: np.dtype[Any]
    nodata: tuple[Optional[float], ...]
    crs: str  # WKT2, "" where the raster has none
    # What the raster declares of each band: measured = value × scale + offset; empty where it declares nothing.
    scales: tuple[Scale, ...] = ()

    @property
    def pixel_size(self) -> float:
        """The side of a pixel in CRS units (the mean of both axes)."""
        return (abs(self.grid.step_x) + abs(self.grid.step_y)) / 2

    @property
    def size_text(self) -> str:
        """Width × height, as people write it."""
        return f"{self.grid.width} × {self.grid.height} pixels"


def grid_of(dataset: gdal.Dataset) -> Grid:
    """The grid of an upright raster."""
    return grid_from(dataset.GetGeoTransform(), dataset.RasterXSize, dataset.RasterYSize)


def grid_from(transform: Sequence[float], width: int, height: int) -> Grid:
    """The grid of GDAL's six numbers, of which those for rotation do not count."""
    left, step_x, _, top, _, step_y = transform
    return Grid(left, top, step_x, step_y, width, height)


def crs_of(dataset: gdal.Dataset) -> str:
    """The CRS of a raster, or of its ground control points, as WKT2 without heights; "" where there is none."""
    crs = dataset.GetSpatialRef() or (dataset.GetGCPSpatialRef() if dataset.GetGCPCount() else None)
    return _ground(crs).ExportToWkt(["FORMAT=WKT2_2019"]) if crs is not None else ""


def describe(dataset: gdal.Dataset, bands: tuple[int, ...] = (), name: str = "", crs: str = "") -> RasterInfo:
    """Describe an open raster, or some of its bands; without `bands`, all but an alpha band.

    The grid is right for upright rasters only. A `crs` given counts instead of the raster's own.

    Raises:
        InputError: A band that the raster does not have, or of complex numbers.
    """
    name = name or dataset.GetDescription()
    count = dataset.RasterCount
    if not bands:
        kept = [band for band in range(1, count + 1) if not is_alpha(dataset, band)]
        bands = tuple(kept) or tuple(range(1, count + 1))
    wrong = [band for band in bands if not 1 <= band <= count]
    if wrong:
        raise InputError(f"Band {wrong[0]} is asked for, but {name} has {count}.", f"Choose bands from 1 to {count}.")
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
    """Whether a band (from 1) says how opaque the others are instead of holding values."""
    return dataset.GetRasterBand(band).GetColorInterpretation() == gdal.GCI_AlphaBand


def mask_name(dataset: gdal.Dataset, band: int) -> str:
    """What says which pixels of a band to show: "mask" for GDAL's own, the number of an alpha band, or "".

    GDAL takes an alpha band for a mask only as the second or fourth of as many bands of 8 or 16 bits.
    """
    if dataset.GetRasterBand(band).GetMaskFlags() & gdal.GMF_PER_DATASET:
        return "mask"
    return next((str(number) for number in range(dataset.RasterCount, 0, -1) if is_alpha(dataset, number)), "")


def band_name(band: gdal.Band, number: int) -> str:
    """The band's description, else its colour in lower case, else "band N"."""
    if band.GetDescription():
        return band.GetDescription()
    color = band.GetColorInterpretation()
    if color in (gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand):
        return gdal.GetColorInterpretationName(color).lower()
    return f"band {number}"


def band_dtype(band: gdal.Band) -> np.dtype[Any]:
    """The data type that a band is read as: its own, but 16 bits for signed bytes and 32 for floats of 16.

    Older GDAL and other programs know neither, and chips are to be read by others.
    """
    if is_signed_byte(band):
        return np.dtype(np.int16)
    name = np.dtype(gdal_array.GDALTypeCodeToNumericTypeCode(band.DataType)).name
    return np.dtype({"int8": "int16", "float16": "float32"}.get(name, name))


def is_signed_byte(band: gdal.Band) -> bool:
    """Whether a band of bytes means signed ones, as GDAL before 3.7 said it; a later one warns of the question."""
    if int(gdal.VersionInfo()) >= 3070000:
        return False
    return band.DataType == gdal.GDT_Byte and band.GetMetadataItem("PIXELTYPE", "IMAGE_STRUCTURE") == "SIGNEDBYTE"


def _nodata(band: gdal.Band) -> Optional[float]:
    value = band.GetNoDataValue()
    if value is None or isinstance(value, int):  # of 64 bits: a float would not hold it
        return value
    return float(value)


def _scales(bands: Sequence[gdal.Band]) -> tuple[Scale, ...]:
    found = [(band.GetScale(), band.GetOffset()) for band in bands]
    known = tuple((1.0 if scale is None else scale, offset or 0.0) for scale, offset in found)
    return known if any(scale != AS_MEASURED for scale in known) else ()


def scale_text(scales: Sequence[Scale]) -> str:
    """Scales in words, of the first band that has one: "a scale of 0.0001 and an offset of -0.1"."""
    scale, offset = next((found for found in scales if found != AS_MEASURED), AS_MEASURED)
    return f"a scale of {scale:g} and an offset of {offset:g}"


class _OpenRasters:
    """The readers whose rasters are open; the one used longest ago is closed when there are too many."""

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
    """Reads windows of some bands of one raster, and tells which pixels hold data.

    To be used by one thread at a time, whichever that is. The raster is opened when it is needed.

    Args:
        source: A path, or the text of a virtual raster.
        bands: Band numbers from 1; empty = all but alpha.
        name: What the raster is called for people; empty = the path.
        numbers: Which bands those are for people, where a virtual raster has its own order.
        mask: A raster of the same size that is 0 where there is no data; empty = the raster's own mask.
        crs: The CRS that the raster has for people; empty = its own.

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
        """The open raster; keep it no longer than needed."""
        dataset = self._dataset
        if dataset is None:
            dataset = self._dataset = open_raster(self.source, self.name)
        _open_rasters.use(self)
        return dataset

    def close(self) -> None:
        """Let the file go; the next use opens it again. A read under way in another thread ends in peace."""
        self._dataset = None

    def read(self, window: Window, out: Optional[np.ndarray] = None) -> np.ndarray:
        """(C, H, W): the values of a window that lies inside the raster, in the raster's data type, or in `out`."""
        col_off, row_off, width, height = window
        if out is None:
            out = np.empty((len(self._bands), height, width), self.info.dtype)
        self.dataset.ReadAsArray(col_off, row_off, width, height, buf_obj=out, band_list=self._bands)
        for place in self._signed:
            out[place][out[place] > 127] -= 256
        return out

    def missing(self, data: np.ndarray) -> Optional[np.ndarray]:
        """(C, H, W) bool, as `missing_values` has it; None where nothing is missing."""
        return missing_values(data, self.info.nodata)

    def valid(self, window: Window, missing: Optional[np.ndarray]) -> Optional[np.ndarray]:
        """(H, W) bool, true where a band has data and the raster's mask, if any, shows it; None = everywhere."""
        shown = self.shown(window)
        if missing is None:
            return shown
        valid: np.ndarray = np.logical_not(missing.all(axis=0))
        return valid if shown is None else np.logical_and(valid, shown, out=valid)

    def shown(self, window: Window) -> Optional[np.ndarray]:
        """(H, W) bool, true where the raster's mask shows it; None = everywhere."""
        if self._mask is not None:
            return _unless_all(self._mask.read(window)[0] != 0)
        if not self._mask_name:
            return None
        dataset = self.dataset  # a band does not keep its dataset alive
        own = self._mask_name == "mask"
        band = dataset.GetRasterBand(self._bands[0] if own else int(self._mask_name))
        return _unless_all((band.GetMaskBand() if own else band).ReadAsArray(*window) != 0)

    def cache_bytes(self, rows: int) -> int:
        """What GDAL should keep of the raster so that windows of so many rows, side by side, read each block once."""
        if self.source.startswith("<"):  # who knows what is below
            return VIRTUAL_CACHE
        if self.dataset.GetRasterBand(self._bands[0]).GetBlockSize()[0] < self.info.grid.width:
            return 0
        # Where pixels hold all bands together, GDAL keeps those that are not asked for as well.
        return int(1.5 * self.info.grid.width * rows * self.dataset.RasterCount * self.info.dtype.itemsize)


def _unless_all(shown: np.ndarray) -> Optional[np.ndarray]:
    return None if shown.all() else shown


def missing_values(data: np.ndarray, nodata: tuple[Optional[float], ...]) -> Optional[np.ndarray]:
    """Which values say nothing: a band's nodata value, and what is not finite. The one rule, wherever numpy reads.

    Networks calculate in 32 bits: what is infinite there is so here.

    `models.normalisation.missing_values` is the same for torch.

    Args:
        data: (C, ...), of any data type.
        nodata: One value a band, or None.

    Returns:
        Bool of the data's shape, true where a value is missing; None where none is.
    """
    missing: Optional[np.ndarray] = None
    if data.dtype.kind == "f" and not all_finite(data):
        with np.errstate(invalid="ignore"):
            missing = ~(np.abs(data) <= LARGEST)
    for channel, value in enumerate(nodata):
        if value is None or not math.isfinite(value) or not can_hold(data.dtype, value):
            continue
        with np.errstate(over="ignore"):  # beyond float32 is infinite there
            here = data[channel] == np.asarray(value).astype(data.dtype)
            rounded = float(np.float32(value)) if data.dtype == np.float64 else value
        if rounded != value:  # pixels that were float32 before
            here |= data[channel] == rounded
        if not here.any():
            continue
        if missing is None:
            missing = np.zeros(data.shape, bool)
        missing[channel] |= here
    return missing


def all_finite(data: np.ndarray) -> bool:
    """Whether no value is NaN or infinite in 32 bits; far cheaper than to mark those where there are none."""
    return not data.size or bool(data.min() >= -LARGEST and data.max() <= LARGEST)


def value_text(value: Any) -> str:
    """A pixel's value as people write it, with all digits that its type has: typed again it is the same value."""
    # NumPy's versions write large whole numbers in different ways.
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    return str(value).removesuffix(".0")


def beside(value: float, dtype: np.dtype[Any]) -> float:
    """The next value that pixels can have: for a measurement that happens to be what marks missing ones."""
    if dtype.kind == "f":
        return float(np.nextafter(np.asarray(value, dtype), np.asarray(0 if value else 1, dtype)))
    return value + 1 if can_hold(dtype, value + 1) else value - 1


def can_hold(dtype: np.dtype[Any], value: float) -> bool:
    """Whether pixels of a data type can be `value`: −9999 marks nothing in a raster of bytes."""
    if dtype.kind == "f":
        return True
    if not math.isfinite(value):
        return False
    return value == math.floor(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def spatial_reference(crs: str) -> Optional[osr.SpatialReference]:
    """The CRS of a WKT string with x before y, as rasters have it, and without heights; None for "".

    WKT only: among all else that GDAL takes for a CRS are names of files and addresses, which it would read.

    Raises:
        InputError: The text is no WKT.
    """
    if not crs:
        return None
    reference = osr.SpatialReference()
    try:
        fine = reference.ImportFromWkt(crs) == 0
    except RuntimeError:  # where somebody has switched osr's exceptions on
        fine = False
    if not fine:
        raise InputError(f'The text "{crs[:SHOWN_LETTERS]}" is no CRS in WKT.', "Set another CRS, and save it again.")
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return _ground(reference)


def ground_crs(crs: str) -> str:
    """The part of a CRS that places things on the ground, as WKT2; "" for an empty one."""
    reference = spatial_reference(crs)
    return reference.ExportToWkt(["FORMAT=WKT2_2019"]) if reference is not None else ""


def _ground(reference: osr.SpatialReference) -> osr.SpatialReference:
    """Where a CRS places things on the ground; with its heights, GDAL's warp would shift the values of rasters."""
    ground: osr.SpatialReference = reference.Clone()
    if ground.IsCompound():
        ground.StripVertical()
    if ground.GetAxesCount() > 2:
        ground.DemoteTo2D(None)
    return ground


def crs_text(crs: str) -> str:
    """A CRS in a few words, for messages: "EPSG:32640 (WGS 84 / UTM zone 40N)"."""
    reference = spatial_reference(crs)
    if reference is None:
        return "no CRS"
    code = reference.GetAuthorityCode(None)
    name = reference.GetName() or "unnamed"
    return f"{reference.GetAuthorityName(None)}:{code} ({name})" if code else name


def same_crs(first: str, second: str) -> bool:
    """Whether two WKT strings place things alike on the ground; an absent CRS agrees with any.

    Neither heights nor names matter, nor the order of axes and the epoch; those of different datums are never the same.
    """
    one, other = spatial_reference(first), spatial_reference(second)
    if one is None or other is None or first == second:
        return True
    if one.IsLocal() and other.IsLocal():  # whose datum is but a name, to which GDAL pays no heed
        return bool(one.IsSame(other)) and one.GetName() == other.GetName()
    if one.IsSame(other, SAME_GROUND):
        return True
    if not (one.IsProjected() and other.IsProjected()) or one.HasTOWGS84() or other.HasTOWGS84():
        return False
    # GDAL tells "north, east" from "east, north", which is all one in rasters; PROJ's words have no such order.
    words = _projection(one)
    return bool(words) and words == _projection(other) and bool(one.CloneGeogCS().IsSame(other.CloneGeogCS()))


def _projection(reference: osr.SpatialReference) -> list[str]:
    """How PROJ calculates a projection; empty where it has no words for it. Of the datum no more than its ellipsoid."""
    return [word for word in reference.ExportToProj4().split() if not word.startswith("+towgs84")]


def gdal_type(dtype: np.dtype[Any]) -> int:
    """GDAL's code for a numpy data type."""
    return int(gdal_array.NumericTypeCodeToGDALTypeCode(np.dtype(dtype).type))
