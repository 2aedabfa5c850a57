"""Several rasters read as one: a mosaic on the grid of the first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..errors import InputError
from ..windows import TOLERANCE, Grid, Window
from .mosaic_reader import MosaicReader
from .raster_io import RasterReader, same_crs
from .regridded import Notes, note_crs, pixels_text, read_as_stored, read_on, with_pixel_size
from .resampled import ResampledReader
from .stored import Stored
from .virtual import best_resampling, grid_in

# Rasters of a mosaic that are off the first one's grid by no more than this share of a pixel are moved, not resampled.
MOSAIC_SLACK = 0.5


def read_mosaic(rasters: Sequence[Stored], pixel_size: Optional[float], notes: Notes) -> tuple[RasterReader, float]:
    """Open several rasters as a mosaic on the grid of the first; later rasters are on top.

    Args:
        rasters: The rasters, with the bands to read.
        pixel_size: Pixel size of the mosaic, in units of the first raster's CRS; None for the first raster's own.
        notes: Receives notes.

    Returns:
        The reader, and the share of the mosaic that the rasters cover, counting overlaps twice.

    Raises:
        InputError: They have different numbers of bands, or cannot be transformed to the CRS of the first.
    """
    first = rasters[0].info
    for stored in rasters[1:]:
        if len(stored.info.bands) != len(first.bands):
            raise InputError(
                f"{first.path} has {len(first.bands)} bands, but {stored.info.path} has {len(stored.info.bands)}.",
                "Choose bands that both have with BANDS.",
            )
    name = joined_name([stored.info.path for stored in rasters])
    placed = [(stored, *_place(stored, first.grid, first.crs)) for stored in rasters]
    col, row = min(window.col_off for _, window, _ in placed), min(window.row_off for _, window, _ in placed)
    end_col, end_row = max(window.col_end for _, window, _ in placed), max(window.row_end for _, window, _ in placed)
    grid = first.grid.part(Window(col, row, end_col - col, end_row - row))
    pieces = []
    for stored, window, fits in placed:
        inside = window._replace(col_off=window.col_off - col, row_off=window.row_off - row)
        pieces.append((inside, _read_piece(stored, grid.part(inside), fits, first.crs, notes)))
    reader: RasterReader = MosaicReader(pieces, dataclasses.replace(first, path=name, grid=grid))
    notes.add(name, f"a mosaic of {len(rasters)} rasters, {grid.width} × {grid.height} pixels")
    share = sum(window.width * window.height for _, window, _ in placed) / (grid.width * grid.height)
    wanted = with_pixel_size(reader.info, pixel_size)
    if wanted != grid:
        resampling = best_resampling(any(stored.categorical for stored in rasters), grid, wanted)
        notes.add(name, f"resampled to {pixels_text(wanted, resampling)}")
        reader = ResampledReader(reader, wanted, resampling)
    return reader, share


def _read_piece(stored: Stored, grid: Grid, fits: bool, crs: str, notes: Notes) -> RasterReader:
    """Open a raster of a mosaic on its part of the grid; if it fits, its own pixels are those of the mosaic."""
    if not fits:
        return read_on(stored, grid, crs, notes)
    note_crs(stored, crs, notes)
    if stored.shift_on(grid) is None:
        notes.add(stored.info.path, "shifted by less than half a pixel to the grid of the first")
    return read_as_stored(stored, crs)


def _place(stored: Stored, lattice: Grid, crs: str) -> tuple[Window, bool]:
    """The window of a raster on a lattice, and whether its pixels match without resampling."""
    shift = stored.shift_on(lattice, MOSAIC_SLACK) if same_crs(stored.info.crs, crs) else None
    if shift is not None:
        return Window(*shift, stored.info.grid.width, stored.info.grid.height), True
    grid = snapped(grid_in(stored, crs), lattice)
    col, row = round((grid.left - lattice.left) / lattice.step_x), round((grid.top - lattice.top) / lattice.step_y)
    return Window(col, row, grid.width, grid.height), False


def snapped(grid: Grid, lattice: Grid) -> Grid:
    """The pixels of an unlimited lattice that a grid touches."""
    left, bottom, right, top = grid.bounds
    cols = sorted(((left - lattice.left) / lattice.step_x, (right - lattice.left) / lattice.step_x))
    rows = sorted(((bottom - lattice.top) / lattice.step_y, (top - lattice.top) / lattice.step_y))
    col, end_col = math.floor(cols[0] + TOLERANCE), math.ceil(cols[1] - TOLERANCE)
    row, end_row = math.floor(rows[0] + TOLERANCE), math.ceil(rows[1] - TOLERANCE)
    return lattice.part(Window(col, row, max(1, end_col - col), max(1, end_row - row)))


def joined_name(paths: list[str]) -> str:
    """A name for several rasters together."""
    if len(paths) == 1:
        return paths[0]
    names = [Path(path).name or path for path in paths]
    if len(names) <= 4:
        return " + ".join(names)
    return f"{names[0]} + {len(names) - 1} more"
