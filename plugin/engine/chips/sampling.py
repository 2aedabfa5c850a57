"""Resampling of chips that are rotated or scaled against their raster."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np

from ..windows import Window
from .placement import Spots, cosines, sines

# An interpolated pixel is valid if at least this share of its weight is from pixels with data.
ENOUGH = 0.5


def is_slice(spots: Spots, place: int, size: int) -> bool:
    """Return whether a chip needs no resampling."""
    return bool(spots.angles[place] % 360 == 0 and spots.sides[place] == size)


def positions(spots: Spots, place: int, window: Window, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, size) float64 each: rows and columns of the chip's pixel centres in an array of `window`."""
    side, angle = float(spots.sides[place]), np.array([spots.angles[place]])
    cosine, sine = float(cosines(angle)[0]), float(sines(angle)[0])
    steps = (np.arange(size) + 0.5) * (side / size) - side / 2
    across, down = steps[None, :], steps[:, None]
    cols = spots.x[place] - window.col_off + across * cosine - down * sine
    rows = spots.y[place] - window.row_off + across * sine + down * cosine
    return rows, cols


def sample_nearest(data: np.ndarray, rows: np.ndarray, cols: np.ndarray, outside: float) -> np.ndarray:
    """Sample (H, W) data by nearest neighbour: (h, w), with `outside` beyond the array."""
    # Positions on an edge belong to the next pixel, also if they are slightly off by rounding.
    row, col = (np.floor(axis + 1e-6).astype(np.int64) for axis in (rows, cols))
    inside = (row >= 0) & (row < data.shape[0]) & (col >= 0) & (col < data.shape[1])
    found = data[np.clip(row, 0, data.shape[0] - 1), np.clip(col, 0, data.shape[1] - 1)]
    return np.where(inside, found, np.asarray(outside, data.dtype))


def sample_image(
    image: np.ndarray, excluded: Optional[np.ndarray], spots: Spots, place: int, window: Window, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sample a chip: bilinear, or averaged if it is coarser than its raster.

    Args:
        image: (C, H, W) pixels of `window`.
        excluded: (C, H, W) bool, true where there is no data; None if all pixels have data.
        spots: The chips.
        place: The index of the chip.
        window: The window of `image` in the raster.
        size: The chip size in pixels.

    Returns:
        (C, size, size) in the image's type, and (C, size, size) bool, true where there is no data.
    """
    finer = max(1, math.ceil(float(spots.sides[place]) / size - 1e-9))
    rows, cols = positions(spots, place, window, size * finer)
    rows, cols = rows - 0.5, cols - 0.5  # relative to pixel centres
    first_row, first_col = np.floor(rows + 1e-6), np.floor(cols + 1e-6)
    share_row, share_col = np.clip(rows - first_row, 0, 1), np.clip(cols - first_col, 0, 1)
    total = np.zeros((len(image), size, size))
    weight = np.zeros((len(image), size, size))
    for down in (0, 1):
        for right in (0, 1):
            part = (share_row if down else 1 - share_row) * (share_col if right else 1 - share_col)
            row, col = (first_row + down).astype(np.int64), (first_col + right).astype(np.int64)
            inside = (row >= 0) & (row < image.shape[1]) & (col >= 0) & (col < image.shape[2])
            row, col = np.clip(row, 0, image.shape[1] - 1), np.clip(col, 0, image.shape[2] - 1)
            for channel, band in enumerate(image):
                use = part * inside
                if excluded is not None:
                    use = np.where(excluded[channel][row, col], 0.0, use)
                values = np.where(use > 0, band[row, col], 0).astype(np.float64)
                total[channel] += _pooled(use * values, finer)
                weight[channel] += _pooled(use, finer)
    missing = weight < ENOUGH
    found = np.divide(total, weight, out=np.zeros_like(total), where=~missing)
    if image.dtype.kind in "iu":
        found = np.rint(found)
    return found.astype(image.dtype), missing


def _pooled(values: np.ndarray, factor: int) -> np.ndarray:
    """Average over squares of `factor` × `factor` samples."""
    if factor == 1:
        return values
    height, width = values.shape
    found: np.ndarray = values.reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
    return found
