"""Chip datasets for classification, written by hand: chips of one class, or of several."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np

from plugin.engine.chips.dataset import DatasetInfo
from plugin.engine.chips.index import ChipIndex
from plugin.engine.chips.writer import ChipFiles
from plugin.engine.classes import ClassTable

CLASSES = [(10, "water", "#3366cc"), (20, "field", "#cccc33"), (30, "forest", "#116622")]


def write_scene_folder(
    folder: Path,
    splits: dict[str, int],
    task: str = "classification",
    classes: Optional[list[tuple[int, str, str]]] = None,
    size: int = 32,
    bands: int = 3,
    dtype: str = "uint8",
    nodata: Optional[float] = None,
    band_names: Optional[tuple[str, ...]] = None,
    shown: Optional[list[str]] = None,
    folds: int = 0,
    seed: int = 0,
) -> str:
    """Write chips in which each class that is shown is a bright square of its own place and brightness, on noise.

    Args:
        splits: How many chips each split has.
        shown: What stands in the field `classes` of each chip; None takes turns, or, with several, throws coins.
        folds: Chips that are not for the test are dealt out to so many.
    """
    rng = np.random.default_rng(seed)
    table = ClassTable.from_rows(CLASSES if classes is None else classes)
    values = table.values.tolist()
    names = band_names or tuple(f"band {number}" for number in range(1, bands + 1))
    folder.mkdir(parents=True)
    files = ChipFiles(folder, "", names, nodata, table, None)
    rows = [split for split, count in splits.items() for _ in range(count)]
    if shown is None and task == "multilabel":
        coins = rng.random((len(rows), len(values))) < 0.5
        shown = [",".join(str(value) for value, coin in zip(values, row) if coin) for row in coins]
    elif shown is None:
        shown = [str(values[number % len(values)]) for number in range(len(rows))]
    class_chips = {split: [0] * len(values) for split in ("training", "validation", "test")}
    with ChipIndex(folder / "chips.gpkg", table, crs="") as index:
        for number, (split, text) in enumerate(zip(rows, shown)):
            image = rng.normal(60, 8, (bands, size, size))
            for place, value in enumerate(values):
                if str(value) in text.split(","):
                    class_chips[split][place] += 1
                    edge = size // len(values)
                    image[:, place * edge : (place + 1) * edge, : size // 2] += 40 + 40 * place
            if nodata is not None:
                image[:, -2:] = nodata
            path = files.write_image(str(number), image.astype(dtype), (number * size, 1, 0, size, 0, -1))
            corners = [(number * size + x, y) for x, y in ((0, size), (size, size), (size, 0), (0, 0))]
            fold = None if not folds else 0 if split == "test" else number % folds + 1
            row = {"image": path, "label": "", "split": split, "classes": text, "block": number, "fold": fold}
            index.add(corners, row, np.zeros(len(values), np.int64))
    info = DatasetInfo(
        task=task,
        band_names=names,
        bands=tuple(range(1, bands + 1)),
        dtype=dtype,
        nodata=nodata,
        chip_size=size,
        stride=size,
        crs="",
        pixel_size=0.5,
        classes=table,
        label_nodata=None,
        sources=({"raster": "made up", "labels": "made up"},),
        split={"method": "random", "seed": 0},
        mean=(80.0,) * bands,
        std=(40.0,) * bands,
        minimum=(0.0,) * bands,
        maximum=(255.0,) * bands,
        chip_counts={split: splits.get(split, 0) for split in class_chips},
        pixel_counts={split: [0] * len(values) for split in class_chips},
        class_chips=class_chips,
        placement={"method": "grid"},
    )
    (folder / "dataset.json").write_text(info.to_json())
    return str(folder)
