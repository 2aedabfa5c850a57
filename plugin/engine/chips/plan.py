"""The plan of an export: rasters are divided into spatial blocks, and a layout places chips in each block.

Grid and random chips do not cross block edges, so splits made of whole blocks share no ground, whatever the stride. The
pixels of a block are read once, and its labels rasterised once, for all its chips; large blocks are processed in parts.
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
from .labels import place_text
from .placement import (
    Spots,
    bounding_side,
    box_spots,
    feature_spots,
    grid_spots,
    moved_inside,
    random_spots,
)

# The maximum image size of a unit of reading; a single chip may be larger.
UNIT_BYTES = 48_000_000
# The target number of blocks: enough to balance the splits, with blocks as large as that allows.
AUTOMATIC_BLOCKS = 60
LARGEST_AUTOMATIC_BLOCK = 8  # chips per side


@dataclass(frozen=True)
class Unit:
    """Chips of one block of one raster that are read together."""

    source: int  # index of the raster
    block: int
    window: Window  # all pixels that the chips need, clipped to the raster
    spots: Spots


class Layout(Protocol):
    """Places the chips of a block."""

    def spots(self, source: int, inside: Window, area: Window, block: int) -> Spots:
        """Place the chips of a block.

        Args:
            source: The index of the raster.
            inside: The block, clipped to the exported area.
            area: The exported area of the raster.
            block: The number of the block.
        """

    def limit(self, inside: Window, area: Window) -> Window:
        """The window from which the chips of a block may take pixels."""


@dataclass(frozen=True)
class GridLayout:
    """Chips on a regular grid in every block."""

    size: int
    stride: int
    edges: str
    angles: tuple[float, ...]

    def spots(self, source: int, inside: Window, area: Window, block: int) -> Spots:
        """Place chips on the block's grid."""
        return grid_spots(inside, self.size, self.stride, self.edges, self.angles)

    def limit(self, inside: Window, area: Window) -> Window:
        """The block; chips that extend beyond it are padded."""
        return inside


@dataclass(frozen=True)
class RandomLayout:
    """Chips at random positions in every block."""

    size: int
    density: float  # chips per pixel
    distance: float
    angles: tuple[float, ...]
    seed: int

    def spots(self, source: int, inside: Window, area: Window, block: int) -> Spots:
        """Place chips at random; their number is proportional to the block's area."""
        rng = np.random.default_rng([self.seed, source, block])
        count = int(self.density * inside.width * inside.height + rng.random())
        # Chips do not cross block edges, so those of neighbouring blocks are at least a chip size apart.
        margin = max(0, math.ceil((self.distance - self.size) / 2))
        return random_spots(inside.expanded(-margin), count, self.size, self.distance, self.angles, rng)

    def limit(self, inside: Window, area: Window) -> Window:
        """The block."""
        return inside


@dataclass(frozen=True)
class FeatureLayout:
    """Chips around the features whose centre is in the block; they may cross its edges."""

    files: tuple[FeatureFile, ...]  # one per raster
    size: int
    each: int
    jitter: int
    boxes: bool  # use the features' bounding squares instead of a fixed size
    edges: str
    angles: tuple[float, ...]
    seed: int

    def spots(self, source: int, inside: Window, area: Window, block: int) -> Spots:
        """Place chips around the block's features."""
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
        """The exported area of the raster."""
        return area


@dataclass(frozen=True)
class Plan:
    """All chips that an export may write, grouped by blocks."""

    rasters: tuple[RasterInfo, ...]
    areas: tuple[Window, ...]  # the exported part of each raster
    chip_size: int
    stride: int
    block_size: Optional[int]  # in pixels of the first raster; None for one block per cluster
    layout: Layout
    clusters: tuple[tuple[int, ...], ...]  # groups of rasters that share ground

    def units(self) -> Iterator[Unit]:
        """The units of reading; blocks are numbered from 0 across all rasters."""
        first = 0
        for cluster in self.clusters:
            columns, rows = self._block_edges(cluster)
            for source in cluster:
                yield from self._units_of(source, columns, rows, first)
            first += (len(columns) - 1) * (len(rows) - 1)

    def count_chips(self) -> int:
        """The number of chips in `units`."""
        return sum(len(unit.spots) for unit in self.units())

    @property
    def unit_rows(self) -> int:
        """The maximum height of a unit of reading in pixels, except for single larger chips."""
        side = max(_unit_side(info) for info in self.rasters)
        return min(self.block_size, side) if self.block_size else side

    def cluster_of(self, source: int) -> int:
        """The number of a raster's cluster."""
        return next((number for number, cluster in enumerate(self.clusters) if source in cluster), -1)

    def _block_edges(self, cluster: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Block edges along x and y in CRS coordinates, in the order of the first raster's columns and rows."""
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
    """Group chips into windows at most `side` pixels wide, or with a single chip.

    Sparse chips are read one by one.
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
    """Block edges from 0 to `length` in pixels; a remainder too small for a chip is added to the last block."""
    if block is None:
        return [0.0, length]
    cuts = [float(cut) for cut in range(0, max(1, math.ceil(length - TOLERANCE)), block)]
    if len(cuts) > 1 and length - cuts[-1] < chip - TOLERANCE:
        cuts.pop()
    return [*cuts, length]


def _pixel_ranges(edges: np.ndarray, origin: float, step: float, low: int, high: int) -> list[tuple[int, int]]:
    """The [start, end) pixels that lie completely inside each block, clipped to [low, high); may be empty."""
    at = (edges - origin) / step
    if len(at) > 1 and at[0] > at[-1]:  # the raster's axis is opposite to the first one's
        starts, ends = at[1:], at[:-1]
    else:
        starts, ends = at[:-1], at[1:]
    first = np.maximum(np.ceil(starts - TOLERANCE).astype(np.int64), low)
    last = np.minimum(np.floor(ends + TOLERANCE).astype(np.int64), high)
    return [(int(start), int(max(start, end))) for start, end in zip(first, last)]


def exported_areas(config: ExportChipsConfig, rasters: tuple[RasterInfo, ...]) -> tuple[Window, ...]:
    """The window of each raster that is exported.

    Raises:
        InputError: The rasters differ in CRS, number of bands or pixel size, or do not overlap the extent.
    """
    _check_alike(rasters)
    areas = tuple(_area(info, config.extent) for info in rasters)
    if config.extent is not None and all(area.empty for area in areas):
        first, others = rasters[0], f" or any of the {len(rasters) - 1} others" if len(rasters) > 1 else ""
        raise InputError(
            f"EXTENT ({place_text(config.extent)}) does not overlap the raster {first.path} "
            f"({place_text(first.grid.bounds)}){others}.",
            "Check EXTENT and its CRS.",
        )
    return areas


def needed_side(config: ExportChipsConfig, size: int) -> int:
    """The side in pixels of the upright square that contains a chip at any of its rotations."""
    angles = np.array(config.rotations or (0.0,))
    return math.ceil(float(bounding_side(np.array(size), angles).max()) - 1e-6)


def least_block(config: ExportChipsConfig, size: int) -> int:
    """The side in pixels of the smallest automatic block, a multiple of the chip size.

    Overlapping and random chips need larger blocks than a plain grid.
    """
    need = needed_side(config, size)
    one_place = config.placement == "grid" and (config.stride or size) >= size
    return size * math.ceil((need if one_place else 2 * need) / size)


def make_plan(config: ExportChipsConfig, rasters: tuple[RasterInfo, ...], areas: tuple[Window, ...], size: int) -> Plan:
    """Divide the rasters into blocks and choose the layout.

    Args:
        config: The export's settings.
        rasters: The rasters to cut.
        areas: From `exported_areas`.
        size: The chip size in pixels.

    Raises:
        InputError: No chip fits, or PLACEMENT needs features that are not given.
    """
    need = needed_side(config, size)
    _check_size(config, areas, size, need)
    block = config.block_size
    if config.split_method != "blocks":
        block = None
    elif block is None:
        block = _automatic_block(_expected_chips(config, rasters, areas, size), size, least_block(config, size))
    elif block < need:
        turned = f", or {need} pixels when rotated" if need > size else ""
        raise InputError(
            f"BLOCK_SIZE is {block} pixels, smaller than a chip ({size}{turned}).",
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
            f"PLACEMENT is {config.placement}, but no features are given.",
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
            f"A chip of {size} × {size} pixels is larger than the raster, or the part to export "
            f"({largest.width} × {largest.height} pixels).",
            f"Set CHIP_SIZE to {max(8, _power_of_two(least))} or less, or set EDGES to pad.",
        )


def _check_alike(rasters: tuple[RasterInfo, ...]) -> None:
    first = rasters[0]
    for info in rasters[1:]:
        if not same_crs(first.crs, info.crs):
            raise InputError(
                f"{first.path} is in {crs_text(first.crs)}, but {info.path} is in {crs_text(info.crs)}.",
                "Reproject one of them, or export them to two datasets.",
            )
        if len(info.bands) != len(first.bands):
            raise InputError(
                f"{first.path} has {len(first.bands)} bands, but {info.path} has {len(info.bands)}.",
                "Choose bands that both have with BANDS.",
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
    """A block size that is a multiple of the chip size and not less than `least`."""
    return max(least, size * min(LARGEST_AUTOMATIC_BLOCK, max(1, math.isqrt(int(chips / AUTOMATIC_BLOCKS)))))


def _expected_chips(
    config: ExportChipsConfig, rasters: tuple[RasterInfo, ...], areas: tuple[Window, ...], size: int
) -> float:
    """Estimate how many chips will be kept, without overlap: with few features, blocks must be small."""
    every = sum(area.width * area.height for area in areas) / size**2
    if not config.labels or config.background == "class" or config.task == "unlabelled":
        return every
    count, ground = features_size(config.labels)
    chip_ground = (size * rasters[0].pixel_size) ** 2
    # A feature is in more chips than its area alone would fill.
    return min(every, 2 * count + 2 * ground / chip_ground)


def _power_of_two(number: int) -> int:
    return 1 << max(0, number.bit_length() - 1)


def _clusters(grids: list[Grid], areas: tuple[Window, ...]) -> tuple[tuple[int, ...], ...]:
    """Group rasters that overlap, directly or through others; each group shares one grid of blocks."""
    clusters: list[tuple[set[int], tuple[float, float, float, float]]] = []
    for place, (grid, area) in enumerate(zip(grids, areas)):
        if area.empty:
            continue
        members, bounds = {place}, grid.bounds_of(area)
        merged = True
        while merged:  # the merged bounds may overlap a further cluster
            merged = False
            for other in list(clusters):
                if overlap(bounds, other[1]):
                    clusters.remove(other)
                    members, bounds, merged = members | other[0], union(bounds, other[1]), True
        clusters.append((members, bounds))
    return tuple(tuple(sorted(members)) for members, _ in sorted(clusters, key=lambda cluster: min(cluster[0])))
