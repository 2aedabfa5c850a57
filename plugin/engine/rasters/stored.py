"""How a raster is stored: its grid, mask, data types and blocks."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Optional

from osgeo import gdal

from ..errors import InputError
from ..windows import TOLERANCE, Grid
from .opening import is_upright, open_any_raster, virtual_text
from .raster_io import RasterInfo, can_hold, describe, grid_from, is_signed_byte, mask_name


@dataclass(frozen=True)
class Stored:
    """What is needed to show a raster on another grid.

    `info` describes the requested bands. Its grid is the raster's own, or the north-up grid around a rotated one.
    """

    source: str
    info: RasterInfo
    upright: bool
    by_points: bool  # placed by ground control points
    mask: str  # see `raster_io.mask_name`
    categorical: bool  # class values, such as the indices of a colour table
    signed: bool  # signed bytes as stored by GDAL before 3.7
    whole: bool  # the requested bands are all bands
    assumed: Optional[float] = None  # nodata value of the bands that declare none

    def same_grid(self, grid: Grid) -> bool:
        """Return whether the raster has exactly the pixels of a grid."""
        return grid.window == self.info.grid.window and self.shift_on(grid) == (0, 0)

    def shift_on(self, grid: Grid, slack: float = 10 * TOLERANCE) -> Optional[tuple[int, int]]:
        """The column and row of a grid that the raster's first pixel falls on; None if the pixels do not match.

        Args:
            slack: The tolerance in pixels.
        """
        own = self.info.grid
        if not self.upright or not same_step(own.step_x, grid.step_x, own.width):
            return None
        if not same_step(own.step_y, grid.step_y, own.height):
            return None
        col, row = (own.left - grid.left) / grid.step_x, (own.top - grid.top) / grid.step_y
        if abs(col - round(col)) > slack or abs(row - round(row)) > slack:
            return None
        return round(col), round(row)


def same_step(one: float, other: float, pixels: int) -> bool:
    """Return whether two pixel sizes differ by less than a tenth of a pixel over `pixels` pixels."""
    return abs(one / other - 1) * pixels < 0.1


def look_at(
    source: str, bands: tuple[int, ...] = (), name: str = "", crs: str = "", filling: Optional[float] = None
) -> Stored:
    """Open a raster and describe how it is stored.

    Args:
        source: A path, or the text of a virtual raster.
        bands: The requested bands, from 1; empty for all but an alpha band.
        name: The name of the raster in messages; empty for the path.
        crs: The CRS that overrides the raster's own; empty for none.
        filling: The nodata value of bands that declare none; None for no such value.

    Raises:
        InputError: As `open_any_raster` and `describe`.
    """
    dataset = open_any_raster(source, name)
    info = describe(dataset, bands, name or source, crs)
    upright = is_upright(dataset)
    if not upright:
        info = dataclasses.replace(info, grid=_north_up_grid(dataset, info.path))
    assumed = filling if None in info.nodata and filling is not None and can_hold(info.dtype, filling) else None
    info = dataclasses.replace(info, nodata=tuple(assumed if value is None else value for value in info.nodata))
    opened = [dataset.GetRasterBand(band) for band in info.bands]
    return Stored(
        source=source,
        info=info,
        upright=upright,
        by_points=dataset.GetGeoTransform(can_return_null=True) is None,
        mask=mask_name(dataset, info.bands[0]),
        categorical=any(_is_categorical(band) for band in opened),
        signed=any(is_signed_byte(band) for band in opened),
        whole=info.bands == tuple(range(1, dataset.RasterCount + 1)),
        assumed=assumed,
    )


def open_stored(stored: Stored) -> gdal.Dataset:
    """Open the raster again."""
    return open_any_raster(stored.source, stored.info.path)


def plain_text(stored: Stored) -> str:
    """The VRT text of the requested bands, with a mask made of an alpha band, which GDAL does not always use as one,
    and with the nodata value that is assumed.

    Raises:
        InputError: The bands are signed bytes as stored by GDAL before 3.7, whose sign virtual rasters lose.
    """
    if stored.signed:
        raise InputError(
            f"{stored.info.path} holds signed bytes, which cannot be resampled.", "Save it as Int16 first."
        )
    if stored.whole and not stored.mask.isdigit() and stored.assumed is None:
        return stored.source
    options = [text for band in stored.info.bands for text in ("-b", str(band))]
    made = _translated(stored, [*options, "-mask", stored.mask or "none"])
    for place, value in enumerate(stored.info.nodata):
        if stored.assumed is not None and value == stored.assumed:
            made.GetRasterBand(place + 1).SetNoDataValue(value)
    return virtual_text(made)


def mask_text(stored: Stored, place: int) -> str:
    """The VRT text of a mask: one band that is 0 where the requested band at `place` has no data."""
    band = stored.mask if stored.mask.isdigit() else f"mask,{stored.info.bands[place]}"
    options = ["-b", band, "-mask", "none", "-a_nodata", "none", "-colorinterp", "undefined"]
    return virtual_text(_translated(stored, options))


def _translated(stored: Stored, options: list[str]) -> gdal.Dataset:
    return gdal.Translate("", open_stored(stored), options=["-of", "VRT", "-q", *options])


def _north_up_grid(dataset: gdal.Dataset, name: str) -> Grid:
    """The north-up grid around a raster that is rotated or placed by ground control points."""
    transform = dataset.GetGeoTransform(can_return_null=True)
    if transform is None:
        try:
            placed = gdal.AutoCreateWarpedVRT(dataset)
        except RuntimeError as error:
            raise InputError(
                f"The {dataset.GetGCPCount()} ground control points of {name} cannot georeference it ({error}).",
                "Warp it to a north-up raster first.",
            ) from error
        return grid_from(placed.GetGeoTransform(), placed.RasterXSize, placed.RasterYSize)
    width, height = dataset.RasterXSize, dataset.RasterYSize
    corners = [gdal.ApplyGeoTransform(transform, col, row) for col in (0, width) for row in (0, height)]
    along_row, along_col = math.hypot(transform[1], transform[4]), math.hypot(transform[2], transform[5])
    turned = abs(transform[4]) > abs(transform[1])  # by more than 45 degrees, so rows are closer to the y axis
    step_x, step_y = (along_col, along_row) if turned else (along_row, along_col)
    left, right = min(x for x, _ in corners), max(x for x, _ in corners)
    bottom, top = min(y for _, y in corners), max(y for _, y in corners)
    cols = max(1, math.ceil((right - left) / step_x - TOLERANCE))
    rows = max(1, math.ceil((top - bottom) / step_y - TOLERANCE))
    return Grid(left, top, step_x, -step_y, cols, rows)


def _is_categorical(band: gdal.Band) -> bool:
    return (
        band.GetColorTable() is not None
        or band.GetColorInterpretation() == gdal.GCI_PaletteIndex
        or bool(band.GetCategoryNames())
    )
