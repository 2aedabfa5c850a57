"""Crop images to their central square, and resample it to the chip size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
from osgeo import gdal

from ...rasters.raster_io import gdal_type, missing_values
from ..sampling import ENOUGH


def square_chip(data: np.ndarray, nodata: Optional[float], size: int) -> tuple[np.ndarray, Optional[np.ndarray]]:
    """The largest square in the middle of an image, as a chip.

    Args:
        data: (C, H, W).
        nodata: The value that marks missing pixels in all bands, beside those that are not finite.
        size: The chip size.

    Returns:
        (C, size, size) in the type of the data, and bool, true where pixels are missing; None where none are.
    """
    missing = missing_values(data, (nodata,) * len(data))
    if missing is None:
        return square(data, size), None
    return square_with_gaps(data, missing, size, np.nan if nodata is None else nodata)


def square(data: np.ndarray, size: int) -> np.ndarray:
    """Crop (C, H, W) to the central square, resampled to (C, size, size)."""
    rows, columns = middle(data.shape[1:])
    return _resampled(data[:, rows, columns], size)


def square_with_gaps(data: np.ndarray, missing: np.ndarray, size: int, fill: float) -> tuple[np.ndarray, np.ndarray]:
    """Apply `square` to data with missing pixels, which get no weight.

    Args:
        data: (C, H, W).
        missing: (C, H, W) bool.
        size: The chip size in pixels.
        fill: The value of missing pixels after resampling.

    Returns:
        (C, size, size) in the type of the data, and bool, true where pixels are missing.
    """
    rows, columns = middle(data.shape[1:])
    data, missing = data[:, rows, columns], missing[:, rows, columns]
    if data.shape[1] == size:
        return np.ascontiguousarray(data), np.ascontiguousarray(missing)
    # float64 for integers that float32 cannot hold.
    exact = np.float64 if data.dtype.itemsize > 2 and data.dtype != np.float32 else np.float32
    found, gaps = [], []
    for band, lost in zip(data, missing):  # one by one, to save memory
        weight = _resampled((~lost)[None].astype(exact), size)[0]
        total = _resampled(np.where(lost, 0, band)[None].astype(exact), size)[0]
        gap = weight < ENOUGH
        values = np.divide(total, weight, out=np.zeros_like(total), where=~gap)
        if data.dtype.kind in "iu":
            values = np.rint(values)
        values = values.astype(data.dtype)
        with np.errstate(over="ignore"):  # a nodata value may be infinite in float32
            values[gap] = np.asarray(fill).astype(data.dtype)
        found.append(values)
        gaps.append(gap)
    return np.stack(found), np.stack(gaps)


def _resampled(part: np.ndarray, size: int) -> np.ndarray:
    """Resample (C, side, side) to (C, size, size): bilinear, or averaged if it becomes smaller."""
    part = np.ascontiguousarray(part)
    if part.shape[1] == size:
        return part
    source = gdal.GetDriverByName("MEM").Create("", part.shape[2], part.shape[1], len(part), gdal_type(part.dtype))
    source.WriteArray(part)
    found: np.ndarray = source.ReadAsArray(buf_xsize=size, buf_ysize=size, resample_alg=gdal.GRIORA_Bilinear)
    return found if found.ndim == 3 else found[None]


def middle(shape: Sequence[int]) -> tuple[slice, slice]:
    """(rows, columns) of the central square of (H, W) pixels."""
    height, width = shape
    side = min(height, width)
    row, column = (height - side) // 2, (width - side) // 2
    return slice(row, row + side), slice(column, column + side)


def square_transform(transform: Sequence[float], height: int, width: int, size: int) -> tuple[float, ...]:
    """The geotransform of the result of `square` for an image with `transform`."""
    side = min(height, width)
    row, column, scale = (height - side) // 2, (width - side) // 2, side / size
    left, right, across, top, down, below = transform
    return (
        left + column * right + row * across, right * scale, across * scale,
        top + column * down + row * below, down * scale, below * scale,
    )  # fmt: skip
