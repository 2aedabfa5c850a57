"""Arrays as pictures: bands stretched to colours, class indices in the colours of their classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib import image as pictures

from ..classes import ClassTable

UNLABELLED = (255, 255, 255)
STRETCH = (2, 98)  # percentiles


def visible_bands(names: Sequence[str]) -> list[int]:
    """Which channels to show as red, green and blue: those of these names, else the first three, else the first."""
    lower = [name.strip().lower() for name in names]
    if {"red", "green", "blue"} <= set(lower):
        return [lower.index(color) for color in ("red", "green", "blue")]
    return [0, 1, 2] if len(names) >= 3 else [0, 0, 0]


def stretch(image: np.ndarray, names: Sequence[str], nodata: float | None = None) -> np.ndarray:
    """(B, H, W) of any type → (H, W, 3) uint8, each band stretched from its 2nd to its 98th percentile."""
    shown = image[visible_bands(names)].astype(np.float64)  # (3, H, W)
    missing = ~np.isfinite(shown) if nodata is None else ~np.isfinite(shown) | (shown == nodata)
    result = np.full((*image.shape[1:], 3), 255, np.uint8)
    for channel, (band, gap) in enumerate(zip(shown, missing)):
        if gap.all():
            continue
        low, high = np.percentile(band[~gap], STRETCH)
        scaled = np.clip((band[~gap] - low) / max(high - low, 1e-12), 0, 1)
        result[..., channel][~gap] = np.round(scaled * 255)
    return result


def colored(indices: np.ndarray, classes: ClassTable) -> np.ndarray:
    """(H, W) class indices → (H, W, 3) uint8; what is no index of a class becomes white."""
    palette = np.full((256, 3), UNLABELLED, np.uint8)
    palette[: len(classes)] = [info.rgb for info in classes.classes]
    found: np.ndarray = palette[indices]
    return found


def png(picture: np.ndarray) -> str:
    """(H, W, 3) uint8 → a PNG as a data address, to stand in an HTML page."""
    buffer = io.BytesIO()
    pictures.imsave(buffer, np.ascontiguousarray(picture), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
