"""Where the chips lie: rasters are cut into spatial blocks, and blocks into chips.

The block is the unit of everything: no chip crosses a block's edge, so that splits made of whole blocks share no
ground, whatever the stride; a block's pixels are read and its labels rasterised once for all its chips.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..config import ExportChipsConfig
from ..errors import InputError
from ..raster_io import RasterInfo, crs_text, same_crs
from ..windows import TOLERANCE, Grid, Window, offsets, overlap, union

# A unit of reading takes at most this much memory for its image, unless a single chip is larger.
UNIT_BYTES = 48_000_000
# Enough blocks that the splits can be balanced, and blocks as large as that allows.
AUTOMATIC_BLOCKS = 60
LARGEST_AUTOMATIC_BLOCK = 8  # chips a side


@dataclass(frozen=True)
class Unit:
    """What is read at once: some chips of one block of one raster."""

    source: int  # place among the rasters
    block: int
    window: Window  # all pixels that its chips need, inside the raster
    cols: np.ndarray  # (n,) first column of each chip
    rows: np.ndarray  # (n,) first row


@dataclass(frozen=True)
class Plan:
    """All chips that an export may write, block by block."""

    rasters: tuple[RasterInfo, ...]
    areas: tuple[Window, ...]  # the part of each raster that is exported
    chip_size: int
    stride: int
    block_size: int  # pixels of the first raster
    edges: str
    clusters: tuple[tuple[int, ...], ...]  # rasters that share ground, or single ones

    def units(self) -> Iterator[Unit]:
        """The units of reading; blocks are numbered from 0 over all rasters."""
        first = 0
        for cluster in self.clusters:
            columns, rows = self._block_edges(cluster)
            for source in cluster:
                yield from self._units_of(source, columns, rows, first)
            first += (len(columns) - 1) * (len(rows) - 1)

    def count_chips(self) -> int:
        """How many chips `units` holds."""
        return sum(len(unit.cols) for unit in self.units())

    def _block_edges(self, cluster: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """CRS coordinates of the block edges: columns along x, rows in the direction of the first raster's rows."""
        grid = self.rasters[cluster[0]].grid
        bounds: Optional[tuple[float, float, float, float]] = None
        for source in cluster:
            bounds = union(bounds, self.rasters[source].grid.bounds_of(self.areas[source]))
        assert bounds is not None
        left, bottom, right, top = bounds
        width, height = (right - left) / abs(grid.step_x), (top - bottom) / abs(grid.step_y)
        columns = np.asarray(_cuts(width, self.block_size, self.chip_size)) * abs(grid.step_x)
        rows = np.asarray(_cuts(height, self.block_size, self.chip_size)) * abs(grid.step_y)
        x = left + columns if grid.step_x > 0 else right - columns
        y = top - rows if grid.step_y < 0 else bottom + rows
        return x, y

    def _units_of(self, source: int, x: np.ndarray, y: np.ndarray, first: int) -> Iterator[Unit]:
        grid, area = self.rasters[source].grid, self.areas[source]
        columns = _pixel_ranges(x, grid.left, grid.step_x, area.col_off, area.col_end)
        rows = _pixel_ranges(y, grid.top, grid.step_y, area.row_off, area.row_end)
        info = self.rasters[source]
        side = max(self.chip_size, math.isqrt(UNIT_BYTES // (len(info.bands) * info.dtype.itemsize)))
        for place_y, (row, row_end) in enumerate(rows):
            row_offs = offsets(row, row_end, self.chip_size, self.stride, self.edges)
            for place_x, (col, col_end) in enumerate(columns):
                col_offs = offsets(col, col_end, self.chip_size, self.stride, self.edges)
                block = first + place_y * len(columns) + place_x
                for some_rows in _groups(row_offs, self.chip_size, side):
                    for some_cols in _groups(col_offs, self.chip_size, side):
                        end_col = min(int(some_cols[-1]) + self.chip_size, col_end)
                        end_row = min(int(some_rows[-1]) + self.chip_size, row_end)
                        window = Window(
                            int(some_cols[0]),
                            int(some_rows[0]),
                            end_col - int(some_cols[0]),
                            end_row - int(some_rows[0]),
                        )
                        chips = np.meshgrid(some_cols, some_rows)
                        yield Unit(source, block, window, chips[0].ravel(), chips[1].ravel())


def _cuts(length: float, block: int, chip: int) -> list[float]:
    """Block edges from 0 to `length`, all in pixels; a rest too short for a chip joins the block before it."""
    cuts = [float(cut) for cut in range(0, max(1, math.ceil(length - TOLERANCE)), block)]
    if len(cuts) > 1 and length - cuts[-1] < chip - TOLERANCE:
        cuts.pop()
    return [*cuts, length]


def _pixel_ranges(edges: np.ndarray, origin: float, step: float, low: int, high: int) -> list[tuple[int, int]]:
    """[start, end) pixels wholly inside each block, clipped to [low, high); empty where a block holds none."""
    at = (edges - origin) / step
    if len(at) > 1 and at[0] > at[-1]:  # a raster whose axis runs against the first one's
        starts, ends = at[1:], at[:-1]
    else:
        starts, ends = at[:-1], at[1:]
    first = np.maximum(np.ceil(starts - TOLERANCE).astype(np.int64), low)
    last = np.minimum(np.floor(ends + TOLERANCE).astype(np.int64), high)
    return [(int(start), int(max(start, end))) for start, end in zip(first, last)]


def _groups(offs: np.ndarray, size: int, side: int) -> Iterator[np.ndarray]:
    """Cut ascending chip offsets into runs that span at most `side` pixels."""
    begin = 0
    for place in range(1, len(offs) + 1):
        if place == len(offs) or offs[place] + size - offs[begin] > side:
            yield offs[begin:place]
            begin = place


def make_plan(config: ExportChipsConfig, rasters: tuple[RasterInfo, ...]) -> Plan:
    """Check that the rasters go together and lay out blocks and chips.

    Raises:
        InputError: Rasters differ in CRS, number of bands or pixel size, the extent misses one, or no chip fits.
    """
    _check_alike(rasters)
    areas = tuple(_area(info, config.extent) for info in rasters)
    size = config.chip_size
    largest = max(areas, key=lambda area: min(area.width, area.height))
    if config.edges == "shift" and min(largest.width, largest.height) < size:
        raise InputError(
            f"A chip of {size} × {size} pixels is larger than the raster, or the part of it to export "
            f"({largest.width} × {largest.height} pixels).",
            f"Set CHIP_SIZE to {max(8, _power_of_two(min(largest.width, largest.height)))} or less, or EDGES to pad.",
        )
    stride = config.stride or size
    if config.test_share + config.validation_share >= 1:
        raise InputError(
            f"VALIDATION_SHARE {config.validation_share:g} and TEST_SHARE {config.test_share:g} leave "
            "nothing for training.",
            "Let them sum to less than 1.",
        )
    block = config.block_size or _automatic_block(areas, size)
    if block < size:
        raise InputError(
            f"BLOCK_SIZE is {block} pixels, less than a chip ({size}).", f"Set it to {size} or more, or leave it empty."
        )
    grids = [info.grid for info in rasters]
    return Plan(rasters, areas, size, stride, block, config.edges, _clusters(grids, areas))


def _check_alike(rasters: tuple[RasterInfo, ...]) -> None:
    first = rasters[0]
    for info in rasters[1:]:
        if not same_crs(first.crs, info.crs):
            raise InputError(
                f"{first.path} is in {crs_text(first.crs)}, and {info.path} in {crs_text(info.crs)}.",
                "Reproject one of them, or export them to two datasets.",
            )
        if len(info.bands) != len(first.bands):
            raise InputError(
                f"{first.path} has {len(first.bands)} bands, and {info.path} has {len(info.bands)}.",
                "Choose with BANDS those that both have.",
            )
        if abs(info.pixel_size - first.pixel_size) > 0.01 * first.pixel_size:
            raise InputError(
                f"The pixels of {first.path} are {first.pixel_size:g} units wide, those of {info.path} "
                f"{info.pixel_size:g}.",
                "Resample one of them, or export them to two datasets.",
            )


def _area(info: RasterInfo, extent: Optional[tuple[float, ...]]) -> Window:
    if extent is None:
        return info.grid.window
    left, bottom, right, top = extent
    return info.grid.window_of((left, bottom, right, top))


def _automatic_block(areas: tuple[Window, ...], size: int) -> int:
    chips = sum(area.width * area.height for area in areas) / size**2
    return size * min(LARGEST_AUTOMATIC_BLOCK, max(1, math.isqrt(int(chips / AUTOMATIC_BLOCKS))))


def _power_of_two(number: int) -> int:
    return 1 << max(0, number.bit_length() - 1)


def _clusters(grids: list[Grid], areas: tuple[Window, ...]) -> tuple[tuple[int, ...], ...]:
    """Group rasters that share ground, directly or through others: they get one grid of blocks."""
    clusters: list[tuple[set[int], tuple[float, float, float, float]]] = []
    for place, (grid, area) in enumerate(zip(grids, areas)):
        if area.empty:
            continue
        members, bounds = {place}, grid.bounds_of(area)
        merged = True
        while merged:  # a union can reach a cluster that none of its parts reached
            merged = False
            for other in list(clusters):
                if overlap(bounds, other[1]):
                    clusters.remove(other)
                    members, bounds, merged = members | other[0], union(bounds, other[1]), True
        clusters.append((members, bounds))
    return tuple(tuple(sorted(members)) for members, _ in sorted(clusters, key=lambda cluster: min(cluster[0])))
