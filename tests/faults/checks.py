"""Describes a result as one text, which is the same for equal results, whenever they were made."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from osgeo import gdal
from safetensors.torch import load as load_tensors

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.models.header import read_header

ABSENT = "absent"
VECTORS = (".gpkg", ".geojson", ".csv")
RASTERS = (".tif", ".png")
SIDECARS = (".aux.xml", ".ovr", ".msk")
# What says when something was made, and how long that took.
TIMES = ("created", "seconds", "info")


def known_as(path: Path) -> str:
    """The text of a result; `ABSENT` without one.

    Raises:
        Exception: It is half a result.
    """
    if not path.exists():
        return ABSENT
    if path.is_dir():
        return _digest(_dataset(path) if (path / "chips.gpkg").exists() else _files(path))
    kind = path.suffix.lower()
    if kind == ".safetensors":
        return _digest(_model(path))
    if kind == ".html":
        text = path.read_text(encoding="utf-8")
        assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>"), f"{path.name} is cut off"
        return "a whole page"
    if kind in VECTORS:
        return _digest([_rows(path), _beside(path)])
    assert kind in RASTERS, path
    return _digest([_pixels(path), _beside(path)])


def names_in(folder: Path) -> set[str]:
    """Everything in a folder, also what is hidden, by its path."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _dataset(folder: Path) -> list[Any]:
    """Description and index of a dataset, and what is in its chips; opened as every job opens it."""
    dataset = open_dataset(folder)
    described = _timeless(json.loads((folder / "dataset.json").read_text(encoding="utf-8")))
    counts = {split: int((dataset.splits == split).sum()) for split in described["chip_counts"]}
    assert counts == described["chip_counts"], f"the index has {counts}, the description {described['chip_counts']}"
    rows = [
        [label, split, shown, *(_pixels(folder / name) for name in (image, label) if name)]
        for image, label, split, shown in zip(
            dataset.images.tolist(), dataset.labels.tolist(), dataset.splits.tolist(), dataset.shown.tolist()
        )
    ]
    return [described, rows]


def _files(folder: Path) -> list[Any]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            found.append([path.name, _timeless(json.loads(path.read_text(encoding="utf-8")))])
        elif path.is_file():
            found.append([path.relative_to(folder).as_posix(), _hash(path.read_bytes())])
    return found


def _timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in TIMES}


def _model(path: Path) -> list[Any]:
    header = read_header(str(path))
    tensors = load_tensors(path.read_bytes())
    return [
        sorted((name, _hash(value.numpy().tobytes())) for name, value in tensors.items()),
        header.architecture, header.classes.to_json(), header.finished, header.recipe.get("seed"),
    ]  # fmt: skip


def _rows(path: Path) -> list[Any]:
    """The rows of each layer of a vector file."""
    source = gdal.OpenEx(str(path), gdal.OF_VECTOR)
    found = []
    for number in range(source.GetLayerCount()):
        layer = source.GetLayer(number)
        if layer.GetName() != "layer_styles":  # which says when it was made
            found.append([layer.GetName(), [json.loads(feature.ExportToJson()) for feature in layer]])
    return found


def _pixels(path: Path) -> list[Any]:
    raster = gdal.Open(str(path))
    band = raster.GetRasterBand(1)
    return [raster.GetGeoTransform(), band.GetNoDataValue(), _hash(raster.ReadAsArray().tobytes())]


def _beside(path: Path) -> list[Any]:
    """What is kept beside a file and belongs to it."""
    sidecars = [Path(f"{path}{ending}") for ending in SIDECARS]
    texts = [[side.name, _hash(side.read_bytes())] for side in (*sidecars, path.with_suffix(".qml")) if side.exists()]
    return [re.sub(r"\d+ s\b", "", json.dumps(texts))]
