"""Chip datasets made from arrays chip by chip, valid or invalid as a test needs them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import synthetic

from plugin.engine.chips.dataset import DatasetInfo
from plugin.engine.chips.index import ChipIndex
from plugin.engine.chips.statistics import BandStatistics
from plugin.engine.chips.writer import ChipFiles
from plugin.engine.classes import ClassTable

CLASSES = [(1, "water", "#3366cc"), (2, "field", "#cccc33"), (3, "forest", "#116622")]
NO_LABEL = 0
SIZE = 64


@dataclass
class Chip:
    """A chip to write.

    Attributes:
        image: (B, H, W) uint8.
        label: (H, W) class values or float32, or the class values of the whole chip.
        place: Column and row on the ground, in chips; None = beside the last one.
        index: What the index says otherwise than it should.
    """

    image: np.ndarray
    label: Any = None
    split: str = "training"
    place: Optional[tuple[float, float]] = None
    index: dict[str, Any] = field(default_factory=dict)


def textured(seed: int, bands: int = 3, size: int = SIZE) -> np.ndarray:
    """(B, H, W) uint8: a picture with coarse shapes and fine grain that no other seed gives."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.normal(0, 40, (bands, 8, 8)), np.ones((size // 8, size // 8)))
    return np.clip(120 + coarse + rng.normal(0, 14, (bands, size, size)), 1, 255).astype(np.uint8)


def halves(left: int = 2, right: int = 3, size: int = SIZE) -> np.ndarray:
    """(H, W) uint8: a mask of two classes."""
    mask = np.full((size, size), left, np.uint8)
    mask[:, size // 2 :] = right
    return mask


def write_chips(folder: Path, chips: list[Chip], task: str = "segmentation", **info: Any) -> str:
    """Write a dataset of these chips; gives its folder.

    Args:
        info: Fields of `DatasetInfo` that are to be otherwise.
    """
    folder.mkdir(parents=True)
    size, bands = chips[0].image.shape[-1], len(chips[0].image)
    table = ClassTable.from_rows(CLASSES if task in ("segmentation", "classification", "multilabel") else [])
    crs = synthetic.reference(synthetic.UTM).ExportToWkt(["FORMAT=WKT2_2019"])
    label_nodata = NO_LABEL if task == "segmentation" else None
    names = tuple(f"band {number}" for number in range(1, bands + 1))
    nodata = info.get("nodata")
    files = ChipFiles(folder, crs, names, nodata, table, label_nodata)
    statistics = BandStatistics.empty(bands)
    with ChipIndex(folder / "chips.gpkg", table, crs) as index:
        for number, chip in enumerate(chips):
            col, row = chip.place or (number % 10, number // 10)
            left, top = synthetic.LEFT + col * size, synthetic.TOP - row * size
            transform = (left, 1, 0, top, 0, -1)
            missing = None if nodata is None else chip.image == nodata
            own = BandStatistics.of(chip.image, missing)
            if chip.split == "training":
                statistics.add(own)
            values = {
                "image": files.write_image(f"{number:04d}", chip.image, transform),
                "split": chip.split,
                "source": 0,
                "angle": 0.0,
                "valid_share": 1.0 if missing is None else 1 - float(missing.all(axis=0).mean()),
                "labelled_share": 1.0,
                "statistics": own.to_json(),
                "label": "",
            }
            pixels = np.zeros(len(table), np.int64)
            if task == "segmentation":
                values["label"] = files.write_label(f"{number:04d}", chip.label, transform)
                pixels = (chip.label[..., None] == table.values).sum(axis=(0, 1))
                values["labelled_share"] = float(pixels.sum()) / size**2
            elif task == "regression":
                mask = chip.label.astype(np.float32)
                values["label"] = files.write_label(f"{number:04d}", mask, transform)
                values["target"] = BandStatistics.of(mask[None], np.isnan(mask)[None]).to_json()
            elif task != "unlabelled":
                values["classes"] = ",".join(str(value) for value in chip.label)
            corners = [(left, top), (left + size, top), (left + size, top - size), (left, top - size)]
            index.add(corners, {**values, **chip.index}, pixels)
    counts = {split: sum(chip.split == split for chip in chips) for split in ("training", "validation", "test")}
    described = DatasetInfo(
        task=task,
        band_names=names,
        bands=tuple(range(1, bands + 1)),
        dtype=chips[0].image.dtype.name,
        nodata=None,
        chip_size=size,
        stride=size,
        crs=crs,
        pixel_size=1.0,
        classes=table,
        label_nodata=label_nodata,
        sources=({"raster": "made up", "labels": "made up"},),
        split={"method": "blocks", "seed": 0},
        mean=tuple(statistics.mean.tolist()),
        std=tuple(statistics.std.tolist()),
        minimum=tuple(np.nan_to_num(statistics.minimum).tolist()),
        maximum=tuple(np.nan_to_num(statistics.maximum).tolist()),
        chip_counts=counts,
        pixel_counts={split: [0] * len(table) for split in counts},
    )
    (folder / "dataset.json").write_text(dataclasses.replace(described, **info).to_json(), encoding="utf-8")
    return str(folder)
