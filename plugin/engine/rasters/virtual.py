"""Virtual rasters: a raster on another grid or in another CRS, as text that GDAL opens like a path.

Nothing is written anywhere; every pixel is computed when it is read, and always from the raster's own pixels, never
from its overviews.
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
from ..windows import TOLERANCE, Grid, Window
from ..xml_elements import SubElement, tostring
from .opening import virtual_text
from .raster_io import can_hold, crs_text, gdal_type, grid_from, same_crs
from .resampled import AVERAGE, BILINEAR, NEAREST
from .stored import Stored, mask_text, open_stored, plain_text
from .virtual_mosaic import Piece, mosaic

# Places found by interpolation may be off by this share of a pixel where the CRS changes.
PLACE_ERROR = 0.02
# Pixels that cover this many times the ground of the raster's own are averages of those.
COARSER = 1.01
# (width, height) in which GDAL warps.
WARP_BLOCK = (512, 128)
# A wider data type, and a value in it that no pixel can have: where there is no nodata value, this is one.
ROOM = {"uint8": ("int16", -1.0), "uint16": ("int32", -1.0), "int16": ("int32", -(2.0**31))}


@dataclass(frozen=True)
class View:
    """A raster on some grid: what to open for its pixels, which bands, and its mask where that lies apart."""

    source: str
    bands: tuple[int, ...]
    mask: str = ""


def on_grid(stored: Stored, grid: Grid, crs: str, resampling: str) -> View:
    """A raster on a grid in a CRS; itself where its pixels are those of the grid.

    Where the raster has no data for a pixel, the view has nodata or its mask says so. Only where pixels do not fit
    is anything resampled.

    Raises:
        InputError: The raster cannot be brought into the CRS.
    """
    if same_crs(stored.info.crs, crs):
        if stored.same_grid(grid):
            return View(stored.source, stored.info.bands)
        shift = stored.shift_on(grid)
        if shift is not None and not stored.signed:
            return View(mosaic([Piece.of(stored, shift)], grid, crs, stored.info), _count(stored))
    dtype, nodata = stored.info.dtype, own_nodata(stored)
    source = _warp(plain_text(stored), stored, grid, crs, resampling, dtype, nodata)
    lacking = [place for place, value in enumerate(nodata) if value is None]
    covered = same_crs(stored.info.crs, crs) and stored.upright and _inside(grid, stored.info.grid)
    if not stored.mask and (covered or not lacking):
        return View(source, _count(stored))
    place = lacking[0] if lacking else 0
    # Interpolated, a mask would reach out by half a pixel.
    shown = NEAREST if resampling == BILINEAR else resampling
    mask = _warp(mask_text(stored, place), stored, grid, crs, shown, np.dtype(np.uint8), (None,))
    return View(source, _count(stored), mask)


def piece_on_grid(stored: Stored, window: Window, grid: Grid, crs: str, resampling: str) -> Piece:
    """A part of a mosaic from a raster that does not fit the mosaic's grid: each of its bands gets a nodata value.

    Args:
        window: The part of the mosaic's grid that the raster is warped to.
        grid: The mosaic's grid.
    """
    dtype, nodata = stored.info.dtype, own_nodata(stored)
    if None in nodata:
        name, value = ROOM.get(dtype.name, ("float64", math.nan))
        dtype, nodata = np.dtype(name), (value,) * len(nodata)
    part = grid_from(grid.geotransform(window), window.width, window.height)
    source = _warp(plain_text(stored), stored, part, crs, resampling, dtype, nodata)
    types = (gdal.GetDataTypeName(gdal_type(dtype)),) * len(nodata)
    return Piece(source, window, _count(stored), dtype, types, nodata, masked=False, block=WARP_BLOCK)


def best_resampling(stored: Stored, native: Grid, grid: Grid) -> str:
    """How values are to be found on another grid.

    Class numbers keep their values; where pixels become coarser, each is the average of what it covers, and else
    values are interpolated between the nearest four.

    Args:
        native: The raster's grid in the CRS of the other.
    """
    if stored.categorical:
        return NEAREST
    if abs(grid.step_x * grid.step_y) > COARSER * abs(native.step_x * native.step_y):
        return AVERAGE
    return BILINEAR


def grid_in(stored: Stored, crs: str) -> Grid:
    """The grid around a raster in a CRS, with pixels of about the raster's own size there.

    Raises:
        InputError: The raster cannot be brought into the CRS.
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
    """The nodata value of each band as far as its pixels can have it; NaN where a band of floats has none."""
    dtype = stored.info.dtype
    default = math.nan if dtype.kind == "f" else None
    return tuple(value if value is not None and can_hold(dtype, value) else default for value in stored.info.nodata)


def _count(stored: Stored) -> tuple[int, ...]:
    return tuple(range(1, len(stored.info.bands) + 1))


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
    """The text of a warped raster whose bands have the data type and the nodata values that are given."""
    left, bottom, right, top = grid.bounds
    known = [value for value in nodata if value is not None]
    options: dict[str, Any] = {}
    if not known:
        options = {"srcNodata": "None", "dstNodata": "None"}
    elif len(known) == len(nodata):
        options["dstNodata"] = " ".join(map(repr, known))
        own = own_nodata(stored)
        # With a nodata value of its own GDAL would not look at the mask.
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
    options = ["UNIFIED_SRC_NODATA=NO"]  # each band has missing values of its own
    if resampling == BILINEAR:  # else GDAL guesses another scale for each block it warps
        options += ["XSCALE=1", "YSCALE=1"]
    if None in nodata:  # by default GDAL begins with a band's nodata value, and since 3.12 insists on one
        options.append("INIT_DEST=" + ",".join(repr(0 if value is None else value) for value in nodata))
    return options


def _finished(text: str, grid: Grid, nodata: Sequence[Optional[float]], names: Sequence[str]) -> str:
    """The text with the exact grid, which may run south-up, and with what GDAL's warp forgets about bands."""
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
        f"{stored.info.path} cannot be brought from {crs_text(stored.info.crs)} into {crs_text(crs)} ({error}).",
        "Check its CRS, or reproject it first.",
    )
