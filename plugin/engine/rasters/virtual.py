"""Virtual rasters: a raster on another grid or in another CRS, as VRT text that GDAL opens like a path.

No file is written. Pixels are computed when they are read, always from the full resolution and never from overviews.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from osgeo import gdal

from ..errors import InputError
from ..strangers.texts import parse_xml
from ..windows import TOLERANCE, Grid
from ..xml_elements import SubElement, tostring
from .opening import virtual_text
from .raster_io import can_hold, crs_text, gdal_type, grid_from, same_crs
from .resampled import AVERAGE, BILINEAR, NEAREST
from .stored import Stored, mask_text, open_stored, plain_text

# Tolerance of GDAL's approximate coordinate transformation, in pixels.
PLACE_ERROR = 0.02
# Pixels larger than the source's by more than this factor are averaged.
COARSER = 1.01


@dataclass(frozen=True)
class View:
    """A raster on a given grid: the source to open, its bands, and a separate mask, if any."""

    source: str
    bands: tuple[int, ...]
    mask: str = ""


def warped(stored: Stored, grid: Grid, crs: str, resampling: str) -> View:
    """Warp a raster to a grid in a CRS. Pixels without data are nodata or masked.

    Raises:
        InputError: The raster cannot be transformed to the CRS.
    """
    dtype, nodata = stored.info.dtype, own_nodata(stored)
    bands = tuple(range(1, len(nodata) + 1))
    source = _warp(plain_text(stored), stored, grid, crs, resampling, dtype, nodata)
    lacking = [place for place, value in enumerate(nodata) if value is None]
    covered = same_crs(stored.info.crs, crs) and stored.upright and _inside(grid, stored.info.grid)
    if not stored.mask and (covered or not lacking):
        return View(source, bands)
    place = lacking[0] if lacking else 0
    # Interpolation would extend a mask by half a pixel.
    shown = NEAREST if resampling == BILINEAR else resampling
    mask = _warp(mask_text(stored, place), stored, grid, crs, shown, np.dtype(np.uint8), (None,))
    return View(source, bands, mask)


def best_resampling(categorical: bool, native: Grid, grid: Grid) -> str:
    """Choose the resampling method for another grid.

    Class values use the nearest neighbour. Measurements are averaged if pixels become larger, else interpolated
    bilinearly.

    Args:
        categorical: Whether the raster holds class values.
        native: The raster's grid in the CRS of `grid`.
        grid: The target grid.
    """
    if categorical:
        return NEAREST
    if abs(grid.step_x * grid.step_y) > COARSER * abs(native.step_x * native.step_y):
        return AVERAGE
    return BILINEAR


def grid_in(stored: Stored, crs: str) -> Grid:
    """The grid around a raster in another CRS, with about the same pixel size.

    Raises:
        InputError: The raster cannot be transformed to the CRS.
    """
    if same_crs(stored.info.crs, crs):
        return stored.info.grid
    dataset = open_stored(stored)
    try:
        found = gdal.AutoCreateWarpedVRT(dataset, stored.info.crs, crs)
    except RuntimeError as error:
        raise _no_way(stored, crs, error) from error
    return grid_from(found.GetGeoTransform(), found.RasterXSize, found.RasterYSize)


def own_nodata(stored: Stored) -> tuple[Optional[float], ...]:
    """The nodata value of each band if its data type can hold it; NaN for float bands without one."""
    dtype = stored.info.dtype
    default = math.nan if dtype.kind == "f" else None
    return tuple(value if value is not None and can_hold(dtype, value) else default for value in stored.info.nodata)


def _inside(grid: Grid, other: Grid) -> bool:
    slack_x, slack_y = TOLERANCE * abs(grid.step_x), TOLERANCE * abs(grid.step_y)
    (left, bottom, right, top), around = grid.bounds, other.bounds
    return (
        left >= around[0] - slack_x
        and bottom >= around[1] - slack_y
        and right <= around[2] + slack_x
        and top <= around[3] + slack_y
    )


def _warp(
    source: str,
    stored: Stored,
    grid: Grid,
    crs: str,
    resampling: str,
    dtype: np.dtype[Any],
    nodata: Sequence[Optional[float]],
) -> str:
    """The VRT text of a warped raster with the given data type and nodata values."""
    left, bottom, right, top = grid.bounds
    known = [value for value in nodata if value is not None]
    options: dict[str, Any] = {}
    if not known:
        options = {"srcNodata": "None", "dstNodata": "None"}
    elif len(known) == len(nodata):
        options["dstNodata"] = " ".join(map(repr, known))
        own = own_nodata(stored)
        # GDAL ignores the mask if srcNodata is set.
        if None not in own and not stored.mask:
            options["srcNodata"] = " ".join(map(repr, own))
    try:
        made = gdal.Warp(
            "", gdal.Open(source), format="VRT", srcSRS=stored.info.crs or crs or None,
            dstSRS=crs or stored.info.crs or None,
            outputBounds=(left, bottom, right, top), width=grid.width, height=grid.height,
            outputType=gdal_type(dtype), workingType=gdal.GDT_Unknown, resampleAlg=resampling,
            errorThreshold=PLACE_ERROR, overviewLevel="NONE", options=["-nosrcalpha"],
            warpOptions=_warp_options(resampling, nodata),
            **options,
        )  # fmt: skip
    except RuntimeError as error:
        raise _no_way(stored, crs, error) from error
    return _finished(virtual_text(made), grid, nodata, stored.info.band_names)


def _warp_options(resampling: str, nodata: Sequence[Optional[float]]) -> list[str]:
    options = ["UNIFIED_SRC_NODATA=NO"]  # treat the nodata values of each band separately
    if resampling == BILINEAR:  # else GDAL estimates the scale for each block
        options += ["XSCALE=1", "YSCALE=1"]
    if None in nodata:  # the default is a band's nodata value, which GDAL 3.12 requires
        options.append("INIT_DEST=" + ",".join(repr(0 if value is None else value) for value in nodata))
    return options


def _finished(text: str, grid: Grid, nodata: Sequence[Optional[float]], names: Sequence[str]) -> str:
    """Set the exact grid, which may be south-up, and the band properties that GDAL's warp drops."""
    root = parse_xml(text.encode())
    for tag, numbers in (
        ("GeoTransform", grid.geotransform(grid.window)),
        ("DstGeoTransform", grid.geotransform(grid.window)),
        ("DstInvGeoTransform", gdal.InvGeoTransform(grid.geotransform(grid.window))),
    ):
        for element in root.iter(tag):
            element.text = ", ".join(map(repr, numbers))
    for place, band in enumerate(root.findall("VRTRasterBand")):
        for old in band.findall("NoDataValue") + band.findall("Description"):
            band.remove(old)
        value = nodata[place]
        if value is not None:
            SubElement(band, "NoDataValue").text = repr(value)
        if len(names) == len(nodata):
            SubElement(band, "Description").text = names[place]
    return tostring(root, encoding="unicode")


def _no_way(stored: Stored, crs: str, error: RuntimeError) -> InputError:
    return InputError(
        f"{stored.info.path} cannot be reprojected from {crs_text(stored.info.crs)} to {crs_text(crs)} ({error}).",
        "Check its CRS, or reproject it first.",
    )
