"""A raster as it is stored, however its pixels lie."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Optional

from osgeo import gdal

from ..errors import InputError
from ..windows import TOLERANCE, Grid
from .opening import is_upright, open_any_raster, virtual_text
from .raster_io import RasterInfo, describe, grid_from, is_signed_byte, mask_name


@dataclass(frozen=True)
class Stored:
    """What is to be known of a raster to show it on another grid.

    `info` tells of the wanted bands. Its grid is the raster's own, or the north-up grid around the raster where it is
    not upright.
    """

    source: str
    info: RasterInfo
    upright: bool
    by_points: bool  # placed by ground control points
    mask: str  # as `raster_io.mask_name` has it
    categorical: bool  # numbers without order, as those of a colour table
    signed: bool  # signed bytes of GDAL before 3.7
    whole: bool  # the wanted bands are all there is
    types: tuple[str, ...]  # GDAL's name of each band's data type
    block: tuple[int, int]  # (width, height)

    def same_grid(self, grid: Grid) -> bool:
        """Whether the raster's pixels are those of a grid."""
        return grid.window == self.info.grid.window and self.shift_on(grid) == (0, 0)

    def shift_on(self, grid: Grid, slack: float = 10 * TOLERANCE) -> Optional[tuple[int, int]]:
        """The column and row of a grid on which the raster's first pixel falls; None where its pixels do not fit.

        Args:
            slack: How much of a pixel they may be off.
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
    """Whether two pixel sizes lead to the same place, to a tenth of a pixel, after so many pixels."""
    return abs(one / other - 1) * pixels < 0.1


def look_at(source: str, bands: tuple[int, ...] = (), name: str = "", crs: str = "") -> Stored:
    """Open a raster and tell how it is stored.

    Args:
        source: A path, or the text of a virtual raster.
        bands: The wanted ones, from 1; empty = all but alpha.
        name: What the raster is called for people; empty = the path.
        crs: The CRS that it has for people; empty = its own.

    Raises:
        InputError: As `open_any_raster` and `describe`.
    """
    dataset = open_any_raster(source, name)
    info = describe(dataset, bands, name or source, crs)
    upright = is_upright(dataset)
    if not upright:
        info = dataclasses.replace(info, grid=_north_up_grid(dataset, info.path))
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
        types=tuple(gdal.GetDataTypeName(band.DataType) for band in opened),
        block=tuple(opened[0].GetBlockSize()),
    )


def open_stored(stored: Stored) -> gdal.Dataset:
    """Open the raster again."""
    return open_any_raster(stored.source, stored.info.path)


def plain_text(stored: Stored) -> str:
    """The wanted bands and a mask that GDAL knows as such, but no alpha band, which GDAL does not always take for one.

    Raises:
        InputError: The bands are signed bytes as GDAL before 3.7 had them; virtual rasters would forget the signs.
    """
    if stored.signed:
        raise InputError(
            f"{stored.info.path} holds signed bytes, which cannot be resampled.", "Save it as Int16 first."
        )
    if stored.whole and not stored.mask.isdigit():
        return stored.source
    options = [text for band in stored.info.bands for text in ("-b", str(band))]
    return _translated(stored, [*options, "-mask", stored.mask or "none"])


def mask_text(stored: Stored, place: int) -> str:
    """A raster of one band: 0 where another raster's wanted band at `place` has no data."""
    band = stored.mask if stored.mask.isdigit() else f"mask,{stored.info.bands[place]}"
    return _translated(stored, ["-b", band, "-mask", "none", "-a_nodata", "none", "-colorinterp", "undefined"])


def _translated(stored: Stored, options: list[str]) -> str:
    return virtual_text(gdal.Translate("", open_stored(stored), options=["-of", "VRT", "-q", *options]))


def _north_up_grid(dataset: gdal.Dataset, name: str) -> Grid:
    """The north-up grid around a raster whose pixels are rotated or placed by ground control points."""
    transform = dataset.GetGeoTransform(can_return_null=True)
    if transform is None:
        try:
            placed = gdal.AutoCreateWarpedVRT(dataset)
        except RuntimeError as error:
            raise InputError(
                f"The {dataset.GetGCPCount()} ground control points of {name} do not place it ({error}).",
                "Warp it to a north-up raster first.",
            ) from error
        return grid_from(placed.GetGeoTransform(), placed.RasterXSize, placed.RasterYSize)
    width, height = dataset.RasterXSize, dataset.RasterYSize
    corners = [gdal.ApplyGeoTransform(transform, col, row) for col in (0, width) for row in (0, height)]
    along_row, along_col = math.hypot(transform[1], transform[4]), math.hypot(transform[2], transform[5])
    turned = abs(transform[4]) > abs(transform[1])  # by more than 45 degrees: rows run rather along y
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
