"""Positions of chips in a raster: on a grid, at random, or around features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..windows import Grid, Window, offsets
from .features import Features

NO_FEATURE = -1
# How many random positions are drawn at once.
TRIES = 4096


@dataclass(frozen=True)
class Spots:
    """Positions of n chips in pixels of a raster, and the features they belong to.

    A chip is a square of `sides` pixels around its centre, rotated clockwise by `angles` degrees.
    """

    x: np.ndarray  # (n,) float64, centre in pixels from the raster's first column
    y: np.ndarray  # (n,) float64, centre in pixels from the raster's first row
    sides: np.ndarray  # (n,) int64
    angles: np.ndarray  # (n,) float64
    features: np.ndarray  # (n,) int64 feature ids, or NO_FEATURE
    values: np.ndarray  # (n,) float64 values of the features, or NaN

    def __len__(self) -> int:
        return len(self.x)

    def select(self, chosen: np.ndarray) -> Spots:
        """Select chips by indices or a mask."""
        return Spots(*(getattr(self, name)[chosen] for name in SPOT_FIELDS))

    @property
    def reach(self) -> np.ndarray:
        """(n,) half the side of the upright bounding square of each chip."""
        return bounding_side(self.sides, self.angles) / 2

    def windows(self) -> np.ndarray:
        """(n, 4) int64: col_off, row_off, width, height of each chip's bounding window."""
        low = np.floor(np.stack([self.x - self.reach, self.y - self.reach], axis=1) + 1e-6)
        high = np.ceil(np.stack([self.x + self.reach, self.y + self.reach], axis=1) - 1e-6)
        return np.concatenate([low, high - low], axis=1).astype(np.int64)

    def corners(self, grid: Grid) -> np.ndarray:
        """(n, 4, 2) corners in CRS units, clockwise from the chip's first pixel."""
        half = self.sides[:, None] / 2
        across = half * np.array([-1, 1, 1, -1])  # (n, 4), along the chip's rows
        down = half * np.array([-1, -1, 1, 1])
        cosine, sine = (function(self.angles)[:, None] for function in (cosines, sines))
        cols = self.x[:, None] + across * cosine - down * sine
        rows = self.y[:, None] + across * sine + down * cosine
        return np.stack([grid.left + cols * grid.step_x, grid.top + rows * grid.step_y], axis=2)


SPOT_FIELDS = ("x", "y", "sides", "angles", "features", "values")


def cosines(degrees: np.ndarray) -> np.ndarray:
    """Cosines of angles in degrees, exact for multiples of 90."""
    return sines(np.asarray(degrees) + 90)


def sines(degrees: np.ndarray) -> np.ndarray:
    """Sines of angles in degrees, exact for multiples of 90."""
    turned = np.mod(degrees, 360.0)
    found = np.sin(np.radians(turned))
    for angle, value in ((0.0, 0.0), (90.0, 1.0), (180.0, 0.0), (270.0, -1.0)):
        found = np.where(turned == angle, value, found)
    return found


def bounding_side(sides: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """(n,) float64: the sides of the upright bounding squares of rotated squares."""
    return np.asarray(sides) * (np.abs(cosines(angles)) + np.abs(sines(angles)))


def spots_at(cols: np.ndarray, rows: np.ndarray, side: int, angle: float = 0.0) -> Spots:
    """Chips whose bounding squares start at the given columns and rows."""
    half = math.ceil(float(bounding_side(np.array(side), np.array(angle))) - 1e-6) / 2
    count = len(cols)
    return Spots(
        cols + half, rows + half, np.full(count, side, np.int64), np.full(count, float(angle)),
        np.full(count, NO_FEATURE, np.int64), np.full(count, np.nan),
    )  # fmt: skip


def join(parts: Sequence[Spots]) -> Spots:
    """Concatenate sets of spots."""
    return Spots(*(np.concatenate([getattr(part, name) for part in parts]) for name in SPOT_FIELDS))


def grid_spots(inside: Window, size: int, stride: int, edges: str, angles: Sequence[float]) -> Spots:
    """Place chips on a grid inside a window, once per angle; rotated chips need larger cells."""
    found = []
    for angle in angles:
        need = math.ceil(float(bounding_side(np.array(size), np.array(angle))) - 1e-6)
        # Only upright chips can be padded beyond the raster's edge.
        rule = edges if angle % 360 == 0 else "shift"
        cols = offsets(inside.col_off, inside.col_end, need, stride, rule)
        rows = offsets(inside.row_off, inside.row_end, need, stride, rule)
        across, down = np.meshgrid(cols, rows)
        found.append(spots_at(across.ravel(), down.ravel(), size, angle))
    return join(found)


def random_spots(
    inside: Window, count: int, size: int, distance: float, angles: Sequence[float], rng: np.random.Generator
) -> Spots:
    """Place chips at random in a window, with centres at least `distance` pixels apart.

    Uses dart throwing (Cook 1986, "Stochastic sampling in computer graphics"): uniform positions are kept if no other
    is near, so there may be fewer than `count`.
    """
    kept: list[tuple[float, float, float]] = []
    cells: dict[tuple[int, int], list[tuple[float, float]]] = {}
    step = max(distance, 1e-9)
    misses = 0
    while len(kept) < count and misses < 20 * count + TRIES:
        some = rng.integers(0, len(angles), TRIES)
        turned = np.asarray(angles, np.float64)[some]
        need = np.ceil(bounding_side(np.full(TRIES, size), turned) - 1e-6)
        x = inside.col_off + np.floor(rng.random(TRIES) * (inside.width - need + 1)) + need / 2
        y = inside.row_off + np.floor(rng.random(TRIES) * (inside.height - need + 1)) + need / 2
        fits = (need <= inside.width) & (need <= inside.height)
        if not fits.any():
            break
        for at_x, at_y, angle in zip(x[fits].tolist(), y[fits].tolist(), turned[fits].tolist()):
            cell = (int(at_x // step), int(at_y // step)) if distance else (len(kept), 0)
            near = distance and any(
                (at_x - other_x) ** 2 + (at_y - other_y) ** 2 < distance**2
                for col in (-1, 0, 1)
                for row in (-1, 0, 1)
                for other_x, other_y in cells.get((cell[0] + col, cell[1] + row), ())
            )
            if near:
                misses += 1
                continue
            cells.setdefault(cell, []).append((at_x, at_y))
            kept.append((at_x, at_y, angle))
            if len(kept) == count:
                break
    table = np.array(kept, np.float64).reshape(-1, 3)
    number = len(table)
    return Spots(
        table[:, 0], table[:, 1], np.full(number, size, np.int64), table[:, 2],
        np.full(number, NO_FEATURE, np.int64), np.full(number, np.nan),
    )  # fmt: skip


def feature_spots(
    features: Features, grid: Grid, size: int, each: int, jitter: int, angles: Sequence[float], rng: np.random.Generator
) -> Spots:
    """Place `each` chips per angle around each feature, shifted by up to `jitter` pixels along each axis."""
    x, y, _ = _in_pixels(features, grid)
    repeat = each * len(angles)
    turned = np.tile(np.repeat(np.asarray(angles, np.float64), each), len(x))
    # Whole pixels, so that upright chips need no resampling.
    half = np.ceil(bounding_side(np.full(len(turned), size), turned) - 1e-6) / 2
    moved = rng.integers(-jitter, jitter + 1, (2, len(turned)))
    return Spots(
        np.floor(np.repeat(x, repeat) + moved[0] - half + 0.5) + half,
        np.floor(np.repeat(y, repeat) + moved[1] - half + 0.5) + half,
        np.full(len(turned), size, np.int64), turned,
        np.repeat(features.ids, repeat), np.repeat(features.values, repeat),
    )  # fmt: skip


def box_spots(features: Features, grid: Grid, size: int, angles: Sequence[float]) -> Spots:
    """Place one chip per feature and angle: its bounding square, but at least a quarter of the chip size."""
    x, y, widths = _in_pixels(features, grid)
    sides = np.maximum(np.ceil(widths), max(1, size // 4)).astype(np.int64)
    repeat = len(angles)
    half = np.repeat(sides, repeat) / 2
    return Spots(
        np.floor(np.repeat(x, repeat) - half + 0.5) + half,
        np.floor(np.repeat(y, repeat) - half + 0.5) + half,
        np.repeat(sides, repeat), np.tile(np.asarray(angles, np.float64), len(x)),
        np.repeat(features.ids, repeat), np.repeat(features.values, repeat),
    )  # fmt: skip


def _in_pixels(features: Features, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) each: the centres of the features' bounds in columns and rows, and their longer sides in pixels."""
    x = ((features.left + features.right) / 2 - grid.left) / grid.step_x
    y = ((features.bottom + features.top) / 2 - grid.top) / grid.step_y
    widths = np.maximum(
        (features.right - features.left) / abs(grid.step_x), (features.top - features.bottom) / abs(grid.step_y)
    )
    return x, y, widths


def moved_inside(spots: Spots, area: Window) -> Spots:
    """Shift chips that extend beyond an area into it; chips larger than the area are dropped."""
    windows = spots.windows()
    fits = (windows[:, 2] <= area.width) & (windows[:, 3] <= area.height)
    shift_x = np.clip(windows[:, 0], area.col_off, np.maximum(area.col_off, area.col_end - windows[:, 2]))
    shift_y = np.clip(windows[:, 1], area.row_off, np.maximum(area.row_off, area.row_end - windows[:, 3]))
    moved = Spots(
        spots.x + shift_x - windows[:, 0], spots.y + shift_y - windows[:, 1], spots.sides, spots.angles,
        spots.features, spots.values,
    )  # fmt: skip
    return moved.select(fits)


def corners_of(grid: Grid, window: Window) -> np.ndarray:
    """(4, 2) corners of a window in CRS units, in the order of `Spots.corners`."""
    cols = np.array([window.col_off, window.col_end, window.col_end, window.col_off])
    rows = np.array([window.row_off, window.row_off, window.row_end, window.row_end])
    return np.stack([grid.left + cols * grid.step_x, grid.top + rows * grid.step_y], axis=1)
