"""Classes, and headers of model files, of segmentation networks that are made for a test."""

from __future__ import annotations

from typing import Any

from plugin.engine.classes import ClassTable
from plugin.engine.models.header import ModelHeader

CLASSES = ClassTable.from_rows([(2, "water", "#3366cc"), (5, "field", "#cccc33"), (9, "forest", "#116622")])


def header(**values: Any) -> ModelHeader:
    usual: dict[str, Any] = {
        "task": "segmentation", "architecture": "unet", "encoder": "resnet18", "dtype": "uint8", "nodata": None,
        "band_names": ("band 1",), "mean": (100.0,), "std": (50.0,), "classes": CLASSES, "chip_size": 64,
        "pixel_size": 1.0, "crs": "",
    }  # fmt: skip
    return ModelHeader(**{**usual, **values})
