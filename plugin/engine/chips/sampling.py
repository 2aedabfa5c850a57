"""Pixels of chips that are turned or of another scale than their raster: sampled from the pixels around them."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np

from ..windows import Window
from .placement import Spots, cosines, sines

# What is mixed from several pixels is known where at least this much of its weight lies on pixels with data.
ENOUGH = 0.5


def is_slice(spots: Spots, place: int, size: int) -> bool:
    """Whether a chip is a plain slice of its raster's pixels."""
    return bool(spots.angles[place] % 360 == 0 and spots.sides[place] == size)


def positions(spots: Spots, place: int, window: Window, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, size) float64 each: where the chip's pixel centres lie, in rows and columns of an array of `window`."""
    side, angle = float(spots.sides[place]), np.array([spots.angles[place]])
    cosine, sine = float(cosines(angle)[0]), float(sines(angle)[0])
    steps = (np.arange(size) + 0.5) * (side / size) - side / 2
    across, down = steps[None, :], steps[:, None]
    cols = spots.x[place] - window.col_off + across * cosine - down * sine
    rows = spots.y[place] - window.row_off + across * sine + down * cosine
    return rows, cols


def sample_nearest(data: np.ndarray, rows: np.ndarray, cols: np.ndarray, outside: float) -> np.ndarray:
    """(h, w) of (H, W) data: the value of the pixel that holds each position; `outside` beyond the array."""
    # A position on a pixel's edge up to rounding belongs to the pixel after it.
    row, col = (np.floor(axis + 1e-6).astype(np.int64) for axis in (rows, cols))
    inside = (row >= 0) & (row < data.shape[0]) & (col >= 0) & (col < data.shape[1])
    found = data[np.clip(row, 0, data.shape[0] - 1), np.clip(col, 0, data.shape[1] - 1)]
    return np.where(inside, found, np.asarray(outside, data.dtype))


def sample_image(
    image: np.ndarray, excluded: Optional[np.ndarray], spots: Spots, place: int, window: Window, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """A chip from the pixels around it: bilinear, and averaged where it is coarser than its raster.

    Args:
        image: (C, H, W) the pixels of `window`.
        excluded: (C, H, W) bool, true where there is no data; None where all is data.

    Returns:
        (C, size, size) in the image's type, and (C, size, size) bool, true where there is no data.
    """
    finer = max(1, math.ceil(float(spots.sides[place]) / size - 1e-9))
    rows, cols = positions(spots, place, window, size * finer)
    rows, cols = rows - 0.5, cols - 0.5  # from pixel centres
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
    """Means over squares of `factor` samples."""
    if factor == 1:
        return values
    height, width = values.shape
    found: np.ndarray = values.reshape(height // factor, factor, width // factor, factor).mean(axis=(1, 3))
    return found
