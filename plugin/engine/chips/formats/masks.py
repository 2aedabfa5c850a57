"""Masks of foreign folders, as (H, W) int32 of class values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...rasters.raster_io import value_text
from ...strangers.images import open_image, read_pixels
from .foreign import NO_CLASS
from .squares import middle

NARROW = 1 << 16  # ranges up to this size are counted with a table


def read_mask(path: Path, unlabelled: Iterable[int], values: dict[int, int]) -> np.ndarray:
    """Read a label raster: (H, W) int32 class values, `NO_CLASS` for `unlabelled` values; `values` maps some values.

    Raises:
        InputError: It has several bands, or values that are not integers of 32 bits.
    """
    data = read_pixels(open_image(path))
    if len(data) != 1:
        raise InputError(f"The label {path} has {len(data)} bands.", "Label rasters must have one band.")
    return class_values(data[0], path, unlabelled, values)


def class_values(data: np.ndarray, path: Path, unlabelled: Iterable[int], values: dict[int, int]) -> np.ndarray:
    """Convert the values of a label file to (H, W) int32 class values; see `read_mask`.

    Raises:
        InputError: Some values are not integers of 32 bits.
    """
    if data.dtype.kind == "f":
        data = np.where(np.isfinite(data), data, np.float64(NO_CLASS))
        broken = data[data != np.floor(data)]
        if broken.size:
            raise InputError(f"The label {path} holds {value_text(broken[0])}.", "Class values must be integers.")
    beyond = data[(data > np.iinfo(np.int32).max) | (data < NO_CLASS)]
    if beyond.size:
        raise InputError(
            f"The label {path} holds {value_text(beyond[0])}, which does not fit 32 bits.",
            "Use smaller class values, or declare the value as nodata if it stands for no label.",
        )
    mask = data.astype(np.int32)
    found = mask.copy() if values else mask
    for written, value in values.items():
        if written != value:
            found[mask == written] = value
    for value in unlabelled:
        found[mask == value] = NO_CLASS
    return found


def values_in(mask: np.ndarray) -> np.ndarray:
    """(n,) distinct values of an (H, W) int32 mask in ascending order, including `NO_CLASS`."""
    known = mask[mask != NO_CLASS]
    some = [NO_CLASS] if known.size < mask.size else []
    if known.size and known.min() >= 0 and known.max() < NARROW:
        found = np.flatnonzero(np.bincount(known))  # much faster than sorting
    else:
        found = np.unique(known)
    return np.concatenate((np.array(some, np.int64), found.astype(np.int64)))


def square_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Apply `squares.square` to an (H, W) mask, by nearest neighbour."""
    part = mask[middle(mask.shape)]
    if part.shape[0] == size:
        return np.ascontiguousarray(part)
    nearest = ((np.arange(size) + 0.5) * part.shape[0] / size).astype(np.int64)
    return part[np.ix_(nearest, nearest)]
