"""How a chip looks: a fingerprint that stays when it is turned, mirrored, brightened or compressed.

The fingerprint holds the signs of the lowest frequencies of a small grey picture, as perceptual hashes of photos do
(Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"). Mirroring changes the signs of odd
frequencies and turning swaps the axes, so every picture is first brought into one of its eight positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

SIDE = 32  # pixels of the small grey picture
FREQUENCIES = 8
# Pictures that are compared pixel by pixel; small enough that compression and noise no longer show.
COMPARED_SIDE = 64
# Of unrelated aerial chips, even of those with like fingerprints, the fine detail agrees below 0.35; after strong
# noise or compression to a tenth, that of copies agrees above 0.7.
SAME_DETAIL = 0.6

_WAVES = np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE))
_ALTERNATE = np.where(np.arange(FREQUENCIES) % 2, -1.0, 1.0)
_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def grey(image: np.ndarray, missing: np.ndarray | None, mean: np.ndarray, std: np.ndarray, side: int) -> np.ndarray:
    """A small picture of all bands together, each weighed alike.

    Args:
        image: (B, H, W), of any type.
        missing: (B, H, W) bool or None; these pixels take the mean of the others.
        mean, std: (B,) of the bands.
        side: Of the result in pixels; less where the chip is smaller.

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
    """Where cells of nearly equal size begin, down and across, and (side, side) how many pixels each holds."""
    side = min(side, height, width)
    rows, cols = (np.round(np.linspace(0, size, side + 1)).astype(int) for size in (height, width))
    return rows[:-1], cols[:-1], np.outer(np.diff(rows), np.diff(cols))


def _pooled(image: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(B, side, side): sums over cells."""
    high = np.add.reduceat(image, rows, axis=1, dtype=np.float64)
    return np.add.reduceat(high, cols, axis=2)


def fingerprint(picture: np.ndarray) -> int:
    """63 bits of a (SIDE, SIDE) grey picture; of a smaller one, those that it has."""
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
    bits[0] = False  # the mean: a brighter picture is the same picture
    return int((_POWERS * bits).sum())


def same_picture(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two (S, S) grey pictures show the same, in any of the eight positions.

    Coarse shapes such as a shore may agree by chance; fine detail does not.
    """
    if one.shape != other.shape:
        return False
    turned = max(_positions(other), key=lambda position: agreement(one, position))
    return agreement(_detail(one), _detail(turned)) >= SAME_DETAIL


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; 0 where a picture is constant."""
    one, other = one - one.mean(), other - other.mean()
    scale = np.sqrt((one * one).sum() * (other * other).sum())
    return float((one * other).sum() / scale) if scale > 1e-12 else 0.0


def _positions(picture: np.ndarray) -> Iterator[np.ndarray]:
    for across in (picture, picture.T):
        for mirrored in (across, across[::-1]):
            yield mirrored
            yield mirrored[:, ::-1]


def _detail(picture: np.ndarray) -> np.ndarray:
    """What is left of each pixel without the mean of the 3 × 3 around it."""
    size = len(picture)
    padded = np.pad(picture, 1, mode="edge")
    around = sum(padded[row : row + size, col : col + size] for row in range(3) for col in range(3))
    left: np.ndarray = picture - around / 9
    return left
