"""Several rasters read as one: a mosaic on the grid of the first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from ..errors import InputError
from ..windows import TOLERANCE, Grid, Window
from .raster_io import RasterReader, same_crs
from .regridded import Notes, note_crs, noted_resampling, read_on, with_pixel_size
from .stored import Stored, look_at
from .virtual import grid_in, piece_on_grid
from .virtual_mosaic import Piece, mosaic

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
    first = rasters[0]
    for stored in rasters[1:]:
        if len(stored.info.bands) != len(first.info.bands):
            raise InputError(
                f"{first.info.path} has {len(first.info.bands)} bands, but {stored.info.path} has "
                f"{len(stored.info.bands)}.",
                "Choose bands that both have with BANDS.",
            )
    name = joined_name([stored.info.path for stored in rasters])
    crs, lattice = first.info.crs, first.info.grid
    placed = [(stored, *_place(stored, lattice, crs)) for stored in rasters]
    col, row = min(window.col_off for _, window, _ in placed), min(window.row_off for _, window, _ in placed)
    end_col, end_row = max(window.col_end for _, window, _ in placed), max(window.row_end for _, window, _ in placed)
    grid = lattice.part(Window(col, row, end_col - col, end_row - row))
    pieces = []
    for stored, window, fits in placed:
        note_crs(stored, crs, notes)
        if fits and stored.shift_on(lattice) is None:
            notes.add(stored.info.path, "shifted by less than half a pixel to the grid of the first")
        inside = window._replace(col_off=window.col_off - col, row_off=window.row_off - row)
        if fits and not stored.signed:
            pieces.append(Piece.of(stored, (inside.col_off, inside.row_off)))
            continue
        resampling = noted_resampling(stored, grid.part(inside), crs, notes)
        pieces.append(piece_on_grid(stored, inside, grid, crs, resampling))
    dtype = np.result_type(*{stored.info.dtype for stored in rasters})
    like = dataclasses.replace(first.info, dtype=dtype)
    whole = look_at(mosaic(pieces, grid, crs, like), (), name)
    whole = dataclasses.replace(whole, categorical=any(stored.categorical for stored in rasters))
    notes.add(name, f"a mosaic of {len(rasters)} rasters, {grid.width} × {grid.height} pixels")
    share = sum(window.width * window.height for _, window, _ in placed) / (grid.width * grid.height)
    reader = read_on(whole, with_pixel_size(whole.info, pixel_size), crs, notes)
    reader.info = dataclasses.replace(reader.info, bands=first.info.bands, scales=first.info.scales)
    return reader, share


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
