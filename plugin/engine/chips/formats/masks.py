"""Masks from strangers, as (H, W) int32 of class values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...rasters.raster_io import value_text
from ...strangers.images import open_image, read_pixels
from .foreign import NO_CLASS
from .squares import middle

NARROW = 1 << 16  # values whose counts fit a small table


def read_mask(path: Path, unlabelled: Iterable[int], values: dict[int, int]) -> np.ndarray:
    """(H, W) int32 of class values from a label raster, `NO_CLASS` where it is `unlabelled`; `values` translates some.

    Raises:
        InputError: It has several bands, or values that are no whole numbers of 32 bits.
    """
    data = read_pixels(open_image(path))
    if len(data) != 1:
        raise InputError(f"The label {path} has {len(data)} bands.", "Label rasters have one band of class values.")
    return class_values(data[0], path, unlabelled, values)


def class_values(data: np.ndarray, path: Path, unlabelled: Iterable[int], values: dict[int, int]) -> np.ndarray:
    """(H, W) int32 of class values from the values in a label file; as `read_mask`.

    Raises:
        InputError: Values that are no whole numbers.
    """
    if data.dtype.kind == "f":
        data = np.where(np.isfinite(data), data, np.float64(NO_CLASS))
        broken = data[data != np.floor(data)]
        if broken.size:
            raise InputError(
                f"The label {path} holds {value_text(broken[0])}.", "Labels are whole numbers, one for each class."
            )
    beyond = data[(data > np.iinfo(np.int32).max) | (data < NO_CLASS)]
    if beyond.size:
        raise InputError(
            f"The label {path} holds {value_text(beyond[0])}, a value beyond 32 bits.",
            "Give the classes smaller values; declare filling as the file's nodata value.",
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
    """(n,) the values in an (H, W) int32 mask, ascending, `NO_CLASS` included."""
    known = mask[mask != NO_CLASS]
    some = [NO_CLASS] if known.size < mask.size else []
    if known.size and known.min() >= 0 and known.max() < NARROW:
        found = np.flatnonzero(np.bincount(known))  # much faster than sorting
    else:
        found = np.unique(known)
    return np.concatenate((np.array(some, np.int64), found.astype(np.int64)))


def square_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """What `squares.square` does, for an (H, W) mask, by nearest neighbour."""
    part = mask[middle(mask.shape)]
    if part.shape[0] == size:
        return np.ascontiguousarray(part)
    nearest = ((np.arange(size) + 0.5) * part.shape[0] / size).astype(np.int64)
    return part[np.ix_(nearest, nearest)]
