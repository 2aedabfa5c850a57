"""Where the chips lie: rasters are cut into spatial blocks, and a layout places chips in each.

The block is the unit of everything: chips of a grid and random ones cross no block's edge, so that splits made of
whole blocks share no ground, whatever the stride; a block's pixels are read and its labels burnt once for all its
chips, in pieces where it is large.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional, Protocol

import numpy as np

from ..config import ExportChipsConfig
from ..errors import InputError
from ..rasters.raster_io import RasterInfo, crs_text, same_crs
from ..windows import TOLERANCE, Grid, Window, overlap, union
from .features import LABEL_LAYER, FeatureFile, features_size
from .placement import (
    Spots,
    bounding_side,
    box_spots,
    feature_spots,
    grid_spots,
    moved_inside,
    random_spots,
)

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
    spots: Spots


class Layout(Protocol):
    """Places chips in a block of a raster."""

    def spots(self, source: int, inside: Window, area: Window, block: int) -> Spots:
        """The chips of a block that is `inside`, part of the raster's `area`."""

    def limit(self, inside: Window, area: Window) -> Window:
        """Where the block's chips may take pixels from."""


@dataclass(frozen=True)
class GridLayout:
    """Chips on a grid in every block."""

    size: int
    stride: int
    edges: str
    angles: tuple[float, ...]

    def spots(self, source: int, inside: Window, area: Window, block: int) -> Spots:
        """The chips of a block."""
        return grid_spots(inside, self.size, self.stride, self.edges, self.angles)

    def limit(self, inside: Window, area: Window) -> Window:
        """The block: what chips miss beyond its edge is filled up."""
        return inside


@dataclass(frozen=True)
class RandomLayout:
    """Chips at random places in every block."""

    size: int
    density: float  # chips a pixel
    distance: float
    angles: tuple[float, ...]
    seed: int

    def spots(self, source: int, inside: Window, area: Window, block: int) -> Spots:
        """The chips of a block, by its area."""
        rng = np.random.default_rng([self.seed, source, block])
        count = int(self.density * inside.width * inside.height + rng.random())
        # Two chips in neighbouring blocks are a chip apart anyhow.
        margin = max(0, math.ceil((self.distance - self.size) / 2))
        return random_spots(inside.expanded(-margin), count, self.size, self.distance, self.angles, rng)

    def limit(self, inside: Window, area: Window) -> Window:
        """The block."""
        return inside


@dataclass(frozen=True)
class FeatureLayout:
    """Chips around the features whose middle is in the block; they may reach into the next one."""

    files: tuple[FeatureFile, ...]  # one for each raster
    size: int
    each: int
    jitter: int
    boxes: bool  # squares around the features' bounds instead of chips of one size
    edges: str
    angles: tuple[float, ...]
    seed: int

    def spots(self, source: int, inside: Window, area: Window, block: int) -> Spots:
        """The chips of a block."""
        file = self.files[source]
        features = file.features(inside)
        if self.boxes:
            found = box_spots(features, file.grid, self.size, self.angles)
            middle = np.arange(len(features.ids)).repeat(len(self.angles))
        else:
            rng = np.random.default_rng([self.seed, source, block])
            found = feature_spots(features, file.grid, self.size, self.each, self.jitter, self.angles, rng)
            middle = np.arange(len(features.ids)).repeat(len(self.angles) * self.each)
        x = ((features.left + features.right) / 2 - file.grid.left) / file.grid.step_x
        y = ((features.bottom + features.top) / 2 - file.grid.top) / file.grid.step_y
        here = (x >= inside.col_off) & (x < inside.col_end) & (y >= inside.row_off) & (y < inside.row_end)
        found = found.select(here[middle])
        return moved_inside(found, area) if self.edges == "shift" else found

    def limit(self, inside: Window, area: Window) -> Window:
        """All of the raster that is exported."""
        return area


@dataclass(frozen=True)
class Plan:
    """All chips that an export may write, block by block."""

    rasters: tuple[RasterInfo, ...]
    areas: tuple[Window, ...]  # the part of each raster that is exported
    chip_size: int
    stride: int
    block_size: Optional[int]  # pixels of the first raster; None = one block for all that shares ground
    layout: Layout
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
        return sum(len(unit.spots) for unit in self.units())

    @property
    def unit_rows(self) -> int:
        """How many rows a unit of reading has at most, a single large chip apart."""
        side = max(_unit_side(info) for info in self.rasters)
        return min(self.block_size, side) if self.block_size else side

    def cluster_of(self, source: int) -> int:
        """The number of the cluster that a raster is in."""
        return next((number for number, cluster in enumerate(self.clusters) if source in cluster), -1)

    def _block_edges(self, cluster: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """CRS coordinates of the block edges: columns along x, rows in the direction of the first raster's rows."""
        grid = self.rasters[cluster[0]].grid
        extents = [self.rasters[source].grid.bounds_of(self.areas[source]) for source in cluster]
        left, bottom, right, top = functools.reduce(union, extents)
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
        side = _unit_side(info)
        for place_y, (row, row_end) in enumerate(rows):
            for place_x, (col, col_end) in enumerate(columns):
                block = first + place_y * len(columns) + place_x
                inside = Window(col, row, col_end - col, row_end - row)
                if inside.empty:
                    continue
                spots = self.layout.spots(source, inside, area, block)
                limit = self.layout.limit(inside, area)
                for group, window in _pieces(spots, side):
                    window = window.intersection(limit)
                    if not window.empty:
                        yield Unit(source, block, window, group)


def _unit_side(info: RasterInfo) -> int:
    return math.isqrt(UNIT_BYTES // (len(info.bands) * info.dtype.itemsize))


def _pieces(spots: Spots, side: int) -> Iterator[tuple[Spots, Window]]:
    """Groups of chips with the window around each: at most `side` pixels wide, or a single chip.

    Chips that are few and far between are read one by one.
    """
    if not len(spots):
        return
    windows = spots.windows()
    cell = max(1, side - int(windows[:, 2:].max()) + 1)
    cells = (windows[:, :2] - windows[:, :2].min(axis=0)) // cell
    order = np.lexsort((windows[:, 0], windows[:, 1], cells[:, 0], cells[:, 1]))
    keys = cells[order, 1] * (int(cells[:, 0].max()) + 1) + cells[order, 0]
    for group in np.split(order, np.flatnonzero(np.diff(keys)) + 1):
        some = windows[group]
        low, high = some[:, :2].min(axis=0), (some[:, :2] + some[:, 2:]).max(axis=0)
        whole = Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
        if 2 * int((some[:, 2] * some[:, 3]).sum()) < whole.width * whole.height:
            for place, window in zip(group, some.tolist()):
                yield spots.select(np.array([place])), Window(*window)
        else:
            yield spots.select(group), whole


def _cuts(length: float, block: Optional[int], chip: int) -> list[float]:
    """Block edges from 0 to `length`, all in pixels; a rest too short for a chip joins the block before it."""
    if block is None:
        return [0.0, length]
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


def exported_areas(config: ExportChipsConfig, rasters: tuple[RasterInfo, ...]) -> tuple[Window, ...]:
    """The part of each raster that is exported.

    Raises:
        InputError: Rasters differ in CRS, number of bands or pixel size, or the extent misses one.
    """
    _check_alike(rasters)
    return tuple(_area(info, config.extent) for info in rasters)


def needed_side(config: ExportChipsConfig, size: int) -> int:
    """The side of the upright square that holds a chip of some size, however it is turned; pixels."""
    angles = np.array(config.rotations or (0.0,))
    return math.ceil(float(bounding_side(np.array(size), angles).max()) - 1e-6)


def least_block(config: ExportChipsConfig, size: int) -> int:
    """The side of the smallest automatic block for chips of some size, in pixels: a multiple of it.

    Chips that overlap, or lie anywhere, need room to do so.
    """
    need = needed_side(config, size)
    one_place = config.placement == "grid" and (config.stride or size) >= size
    return size * math.ceil((need if one_place else 2 * need) / size)


def make_plan(config: ExportChipsConfig, rasters: tuple[RasterInfo, ...], areas: tuple[Window, ...], size: int) -> Plan:
    """Lay out blocks and chips.

    Args:
        config: Of the export.
        rasters: What chips are cut from.
        areas: `exported_areas`.
        size: Of the chips.

    Raises:
        InputError: No chip fits, or the placement lacks what it needs.
    """
    need = needed_side(config, size)
    _check_size(config, areas, size, need)
    block = config.block_size
    if config.split_method != "blocks":
        block = None
    elif block is None:
        block = _automatic_block(_expected_chips(config, rasters, areas, size), size, least_block(config, size))
    elif block < need:
        turned = f", which the rotations make {need} pixels wide" if need > size else ""
        raise InputError(
            f"BLOCK_SIZE is {block} pixels, less than a chip ({size}{turned}).",
            f"Set it to {need} or more, or leave it empty.",
        )
    clusters = _clusters([info.grid for info in rasters], areas)
    stride = config.stride or size
    return Plan(rasters, areas, size, stride, block, _layout(config, rasters, areas, size), clusters)


def _layout(config: ExportChipsConfig, rasters: tuple[RasterInfo, ...], areas: tuple[Window, ...], size: int) -> Layout:
    angles = config.rotations or (0.0,)
    if config.placement == "grid":
        return GridLayout(size, config.stride or size, config.edges, angles)
    if config.placement == "random":
        distance = size / 2 if config.min_distance is None else config.min_distance
        density = config.random_chips / max(1, sum(area.width * area.height for area in areas))
        return RandomLayout(size, density, distance, angles, config.seed)
    if not config.labels:
        raise InputError(
            f"PLACEMENT is {config.placement}, and no features are given to place chips at.",
            "Give a vector layer as LABELS, or set PLACEMENT to grid or random.",
        )
    files = tuple(FeatureFile(config.labels, LABEL_LAYER, info.grid) for info in rasters)
    return FeatureLayout(
        files, size, config.chips_per_feature, config.position_jitter,
        config.placement == "bounding_boxes", config.edges, angles, config.seed,
    )  # fmt: skip


def _check_size(config: ExportChipsConfig, areas: tuple[Window, ...], size: int, need: int) -> None:
    if config.edges == "pad" and config.placement == "grid":
        return
    largest = max(areas, key=lambda area: min(area.width, area.height))
    least = min(largest.width, largest.height)
    if config.placement != "bounding_boxes" and least < need:
        raise InputError(
            f"A chip of {size} × {size} pixels is larger than the raster, or the part of it "
            f"to export ({largest.width} × {largest.height} pixels).",
            f"Set CHIP_SIZE to {max(8, _power_of_two(least))} or less, or EDGES to pad.",
        )


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


def _automatic_block(chips: float, size: int, least: int) -> int:
    """A multiple of the chip size, at least `least`."""
    return max(least, size * min(LARGEST_AUTOMATIC_BLOCK, max(1, math.isqrt(int(chips / AUTOMATIC_BLOCKS)))))


def _expected_chips(
    config: ExportChipsConfig, rasters: tuple[RasterInfo, ...], areas: tuple[Window, ...], size: int
) -> float:
    """About how many chips side by side will be kept: where features are few, blocks must be small."""
    every = sum(area.width * area.height for area in areas) / size**2
    if not config.labels or config.background == "class" or config.task == "unlabelled":
        return every
    count, ground = features_size(config.labels)
    chip_ground = (size * rasters[0].pixel_size) ** 2
    # Each feature lies in some chips more than its area fills.
    return min(every, 2 * count + 2 * ground / chip_ground)


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
