"""Fingerprints of chips that do not change when a chip is rotated, mirrored, brightened or compressed.

A fingerprint has the signs of the lowest frequencies of a small grey picture, like perceptual hashes of photographs
(Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"). Mirroring changes the signs of odd
frequencies and rotation swaps the axes, so every picture is first brought into a canonical one of its eight positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

SIDE = 32  # side of the small grey picture in pixels
FREQUENCIES = 8
# Side of pictures that are compared pixel by pixel; small enough to hide compression and noise.
COMPARED_SIDE = 64
# The correlation of fine detail is below 0.35 for unrelated aerial chips, even with similar fingerprints, and above 0.7
# for copies, even after strong noise or compression to a tenth.
SAME_DETAIL = 0.6

_WAVES = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE))
_ALTERNATE = np.where(np.arange(FREQUENCIES) % 2, -1.0, 1.0)
_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def grey(image: np.ndarray, missing: np.ndarray | None, mean: np.ndarray, std: np.ndarray, side: int) -> np.ndarray:
    """Average all bands, standardised, into a small grey picture.

    Args:
        image: (B, H, W) of any type.
        missing: (B, H, W) bool or None; missing pixels are replaced by the mean of the others.
        mean, std: (B,) statistics of the bands.
        side: The side of the result in pixels; less if the chip is smaller.

    Returns:
        (side, side) float64.
    """
    rows, cols, areas = _cells(*image.shape[1:], side)
    if missing is None:
        means = _pooled(image, rows, cols) / areas
    else:
        sums, counts = _pooled(np.where(missing, 0, image), rows, cols), _pooled(~missing, rows, cols)
        seen = counts > 0
        means = np.divide(sums, counts, out=np.zeros_like(sums), where=seen)
        total = counts.sum(axis=(1, 2))
        own = np.divide(sums.sum(axis=(1, 2)), total, out=np.array(mean, np.float64), where=total > 0)
        means = np.where(seen, means, own[:, None, None])
    found: np.ndarray = ((means - mean[:, None, None]) / std[:, None, None]).mean(axis=0)
    return found


@lru_cache(maxsize=16)
def _cells(height: int, width: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first rows and columns of cells of nearly equal size, and (side, side) number of pixels in each."""
    side = min(side, height, width)
    rows, cols = (np.round(np.linspace(0, size, side + 1)).astype(int) for size in (height, width))
    return rows[:-1], cols[:-1], np.outer(np.diff(rows), np.diff(cols))


def _pooled(image: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(B, side, side) sums over cells."""
    high = np.add.reduceat(image, rows, axis=1, dtype=np.float64)
    return np.add.reduceat(high, cols, axis=2)


def fingerprint(picture: np.ndarray) -> int:
    """Compute the 63-bit fingerprint of a (SIDE, SIDE) grey picture; smaller pictures have fewer bits."""
    waves = _WAVES
    if len(picture) != SIDE:
        size = len(picture)
        waves = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * (2 * np.arange(size) + 1) / (2 * size))
    found = waves @ picture @ waves.T
    if found[0, 1] < 0:
        found = found * _ALTERNATE[None]
    if found[1, 0] < 0:
        found = found * _ALTERNATE[:, None]
    if abs(found[1, 0]) > abs(found[0, 1]):
        found = found.T
    bits = found.ravel() > 0
    bits[0] = False  # the mean, since brightness is ignored
    return int((_POWERS * bits).sum())


def same_picture(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two (S, S) grey pictures show the same in any of the eight positions.

    Fine detail is compared, since coarse shapes such as a shore may match by chance.
    """
    if one.shape != other.shape:
        return False
    turned = max(_positions(other), key=lambda position: agreement(one, position))
    return agreement(_detail(one), _detail(turned)) >= SAME_DETAIL


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; 0 if a picture is constant."""
    one, other = one - one.mean(), other - other.mean()
    scale = np.sqrt((one * one).sum() * (other * other).sum())
    return float((one * other).sum() / scale) if scale > 1e-12 else 0.0


def _positions(picture: np.ndarray) -> Iterator[np.ndarray]:
    for across in (picture, picture.T):
        for mirrored in (across, across[::-1]):
            yield mirrored
            yield mirrored[:, ::-1]


def _detail(picture: np.ndarray) -> np.ndarray:
    """Subtract the mean of the 3 × 3 neighbourhood from each pixel."""
    size = len(picture)
    padded = np.pad(picture, 1, mode="edge")
    around = sum(padded[row : row + size, col : col + size] for row in range(3) for col in range(3))
    left: np.ndarray = picture - around / 9
    return left
