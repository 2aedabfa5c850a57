"""Reading of a raster on another grid: with other pixels, in another CRS, or upright where it is rotated."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional, Protocol

from ..errors import InputError
from ..windows import TOLERANCE, Grid
from .raster_io import RasterInfo, RasterReader, crs_text, same_crs
from .resampled import NEAREST, ResampledReader
from .stored import Stored, same_step
from .virtual import best_resampling, grid_in, warped

RESAMPLED = {"near": "the nearest pixel", "bilinear": "interpolation", "average": "averaging"}


class Notes(Protocol):
    """Receives notes on rasters for the log."""

    def add(self, name: str, text: str) -> None:
        """Add a note on the raster of a name."""


def read_as_stored(stored: Stored, crs: str = "") -> RasterReader:
    """Open a raster that is not rotated on its own grid; `crs` as for `read_on`."""
    reader = RasterReader(stored.source, stored.info.bands, stored.info.path, crs=crs)
    reader.info = dataclasses.replace(reader.info, scales=stored.info.scales, nodata=stored.info.nodata)
    return reader


def read_with(stored: Stored, grid: Grid, crs: str, resampling: str) -> RasterReader:
    """Open a raster on a grid; resampling is used only if the pixels do not match.

    Args:
        stored: The raster.
        grid: The grid to read it on.
        crs: The CRS of the grid, as WKT; "" for the raster's own.
        resampling: "near", "bilinear" or "average".

    Raises:
        InputError: The raster cannot be opened, or not be transformed to the CRS.
    """
    own, crs = stored.info.grid, crs or stored.info.crs
    if stored.upright and same_crs(stored.info.crs, crs):
        if stored.same_grid(grid):
            return read_as_stored(stored, crs)
        if own.step_x * grid.step_x > 0 and own.step_y * grid.step_y > 0:
            method = resampling if stored.shift_on(grid) is None else NEAREST
            return ResampledReader(read_as_stored(stored, crs), grid, method)
    view = warped(stored, grid, crs, resampling)
    reader = RasterReader(view.source, view.bands, stored.info.path, stored.info.bands, view.mask, crs)
    reader.info = dataclasses.replace(reader.info, scales=stored.info.scales)
    return reader


def read_on(stored: Stored, grid: Grid, crs: str, notes: Notes) -> RasterReader:
    """Open a raster on a grid, and note what is done to it.

    Args:
        stored: The raster.
        grid: The grid to read it on.
        crs: The CRS of the grid, as WKT; "" for the raster's own.
        notes: Receives notes.

    Raises:
        InputError: The raster cannot be opened, or not be transformed to the CRS.
    """
    note_crs(stored, crs, notes)
    return read_with(stored, grid, crs, _noted_resampling(stored, grid, crs, notes))


def _noted_resampling(stored: Stored, grid: Grid, crs: str, notes: Notes) -> str:
    """Choose the resampling for a grid, and note why it is needed."""
    name, resampling = stored.info.path, best_resampling(stored.categorical, grid_in(stored, crs), grid)
    how = pixels_text(grid, resampling)
    if stored.by_points:
        notes.add(name, f"georeferenced by ground control points, and warped to north-up {how}")
    elif not stored.upright:
        notes.add(name, f"rotated against its CRS, and warped to north-up {how}")
    elif not same_crs(stored.info.crs, crs):
        notes.add(name, f"warped from {crs_text(stored.info.crs)} to {crs_text(crs)}, {how}")
    elif stored.shift_on(grid) is None:
        notes.add(name, f"resampled to {how}")
    return resampling


def note_crs(stored: Stored, crs: str, notes: Notes) -> None:
    """Note that a raster without a CRS is assumed to be in the given one."""
    if crs and not stored.info.crs:
        notes.add(stored.info.path, f"it has no CRS, and is assumed to be in {crs_text(crs)}")


def pixels_text(grid: Grid, resampling: str) -> str:
    """What a raster is resampled to: "pixels of 0.5 by averaging"."""
    step_x, step_y = abs(grid.step_x), abs(grid.step_y)
    size = f"{step_x:.6g}" if math.isclose(step_x, step_y, rel_tol=1e-6) else f"{step_x:.6g} × {step_y:.6g}"
    return f"pixels of {size} by {RESAMPLED[resampling]}"


def with_pixel_size(info: RasterInfo, pixel_size: Optional[float]) -> Grid:
    """The grid with another pixel size and the same origin, without pixels that extend beyond the raster.

    Args:
        info: The raster.
        pixel_size: The pixel size in CRS units; None for the raster's own.

    Raises:
        InputError: The raster is smaller than a pixel.
    """
    grid = info.grid
    if pixel_size is None:
        return grid
    if same_step(grid.step_x, math.copysign(pixel_size, grid.step_x), grid.width) and same_step(
        grid.step_y, math.copysign(pixel_size, grid.step_y), grid.height
    ):
        return grid
    width = math.floor(grid.width * abs(grid.step_x) / pixel_size + TOLERANCE)
    height = math.floor(grid.height * abs(grid.step_y) / pixel_size + TOLERANCE)
    if min(width, height) < 1:
        raise InputError(
            f"PIXEL_SIZE is {pixel_size:g}, but {info.path} covers only {grid.width * abs(grid.step_x):.6g} × "
            f"{grid.height * abs(grid.step_y):.6g} units.",
            "Give the pixel size in units of the raster's CRS.",
        )
    steps = math.copysign(pixel_size, grid.step_x), math.copysign(pixel_size, grid.step_y)
    return Grid(grid.left, grid.top, *steps, width, height)
