"""Classes, and headers of model files, of networks that are made for a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plugin.engine.classes import ClassTable
from plugin.engine.models.header import ModelHeader

CLASSES = ClassTable.from_rows([(2, "water", "#3366cc"), (5, "field", "#cccc33"), (9, "forest", "#116622")])


def header(bands: int | Sequence[str] = 1, **values: Any) -> ModelHeader:
    """The header of a U-Net for segmentation.

    Args:
        bands: How many, or their names.
        values: Fields that differ.
    """
    names = tuple(f"band {number + 1}" for number in range(bands)) if isinstance(bands, int) else tuple(bands)
    usual: dict[str, Any] = {
        "task": "segmentation", "architecture": "unet", "encoder": "resnet18", "dtype": "uint8", "nodata": None,
        "band_names": names, "mean": (100.0,) * len(names), "std": (50.0,) * len(names), "classes": CLASSES,
        "chip_size": 64, "pixel_size": 1.0, "crs": "",
    }  # fmt: skip
    return ModelHeader(**{**usual, **values})
