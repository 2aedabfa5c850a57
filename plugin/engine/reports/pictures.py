"""Arrays as pictures: stretched bands, and class indices in class colours."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import image as pictures

from ..classes import ClassTable
from ..rasters.raster_io import missing_values

UNLABELLED = (255, 255, 255)
STRETCH = (2, 98)  # percentiles
RAMP = "viridis"  # suitable for colour-blind readers, and perceptually uniform
JPEG_QUALITY = 82
GAP = 4  # pixels between the pictures of a strip


def visible_bands(names: Sequence[str]) -> list[int]:
    """The channels to show as red, green and blue: by name, or the first three, or the first."""
    lower = [name.strip().lower() for name in names]
    if {"red", "green", "blue"} <= set(lower):
        return [lower.index(color) for color in ("red", "green", "blue")]
    return [0, 1, 2] if len(names) >= 3 else [0, 0, 0]


def stretch(image: np.ndarray, names: Sequence[str], nodata: float | None = None) -> np.ndarray:
    """Convert (B, H, W) of any type to (H, W, 3) uint8, with each band stretched from its 2nd to 98th percentile."""
    shown = image[visible_bands(names)].astype(np.float64)  # (3, H, W)
    known = ~_missing(shown, nodata)
    limits = [np.percentile(band[here], STRETCH) if here.any() else (0, 1) for band, here in zip(shown, known)]
    return between(shown, np.array(limits), nodata)


def between(shown: np.ndarray, limits: np.ndarray, nodata: float | None = None) -> np.ndarray:
    """Stretch (3, H, W) to (H, W, 3) uint8; missing pixels are white.

    Args:
        shown: (3, H, W) the bands.
        limits: (3, 2) values of each band that become black and full brightness.
        nodata: The nodata value; None for none.
    """
    shown = shown.astype(np.float64)
    missing = _missing(shown, nodata)
    low, high = limits[:, :1, None], limits[:, 1:, None]
    scaled = np.clip((np.where(missing, low, shown) - low) / np.maximum(high - low, 1e-12), 0, 1)
    result: np.ndarray = np.where(missing, 255, np.round(scaled * 255)).astype(np.uint8).transpose(1, 2, 0)
    return result


def smaller(shown: np.ndarray, side: int, nodata: float | None = None) -> np.ndarray:
    """Downsample (3, S, S) to at most `side` pixels by averaging squares, ignoring missing pixels."""
    step = max(1, -(-shown.shape[1] // side))
    if step == 1:
        return shown
    size = shown.shape[1] // step
    missing = missing_values(shown, (nodata,) * len(shown))
    squares: Any = shown.astype(np.float64)
    if missing is not None:
        squares[missing] = np.nan
    squares = squares[:, : size * step, : size * step]
    squares = squares.reshape(len(shown), size, step, size, step)
    known = ~np.isnan(squares)
    sums, counts = np.where(known, squares, 0).sum(axis=(2, 4)), known.sum(axis=(2, 4))
    means: np.ndarray = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def sparser(mask: np.ndarray, side: int) -> np.ndarray:
    """Downsample (S, S) class indices to at most `side` by taking every n-th pixel, since classes have no mean."""
    step = max(1, -(-mask.shape[0] // side))
    return mask[step // 2 :: step, step // 2 :: step]


def strip(row: Sequence[np.ndarray]) -> np.ndarray:
    """Join pictures of one size, (H, W, 3) uint8 each, side by side."""
    gap = np.full((row[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in row for part in (picture, gap)][:-1], axis=1)


def _missing(shown: np.ndarray, nodata: float | None) -> np.ndarray:
    """Bool of the shape of `shown`, true for missing pixels."""
    missing = missing_values(shown, (nodata,) * len(shown))
    return np.zeros(shown.shape, bool) if missing is None else missing


def colored(indices: np.ndarray, classes: ClassTable) -> np.ndarray:
    """Convert (H, W) class indices to (H, W, 3) uint8; other indices become white."""
    palette = np.full((256, 3), UNLABELLED, np.uint8)
    palette[: len(classes)] = [info.rgb for info in classes.classes]
    found: np.ndarray = palette[indices]
    return found


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Convert (H, W) numbers to (H, W, 3) uint8 on a colour ramp from `low` to `high`; NaN and infinity are white."""
    known = np.isfinite(values)
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    colors: np.ndarray = matplotlib.colormaps[RAMP](np.where(known, scaled, 0), bytes=True)[..., :3].copy()
    colors[~known] = UNLABELLED
    return colors


def png(picture: np.ndarray) -> str:
    """Encode (H, W, 3) uint8 as a PNG data URL."""
    return _address(picture, "png", {})


def jpeg(picture: np.ndarray) -> str:
    """Encode (H, W, 3) uint8 as a JPEG data URL, about a fifth of the size of a PNG for photographs."""
    return _address(picture, "jpeg", {"pil_kwargs": {"quality": JPEG_QUALITY}})


def _address(picture: np.ndarray, kind: str, options: dict[str, Any]) -> str:
    buffer = io.BytesIO()
    pictures.imsave(buffer, np.ascontiguousarray(picture), format=kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
