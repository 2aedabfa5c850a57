"""Chip datasets of every task, and folders of other programs, created for tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from heard import Heard
from osgeo import gdal
from synthetic import LEFT, TOP, UTM, reference

from plugin.engine.chips.dataset import ChipDataset, DatasetInfo, open_dataset
from plugin.engine.chips.divide import SplitRule, divide
from plugin.engine.chips.formats.convert import convert_chips
from plugin.engine.chips.formats.importing import import_chips
from plugin.engine.chips.index import ChipIndex
from plugin.engine.chips.statistics import BandStatistics
from plugin.engine.chips.writer import ChipFiles
from plugin.engine.classes import ClassTable
from plugin.engine.config import ConvertChipsConfig, ImportChipsConfig

gdal.UseExceptions()

SIZE = 24
CLASSES = [(2, "water", "#3366cc"), (5, "field: wet & dry", "#cccc33"), (9, "forest", "#116622")]
SPLITS = ("training", "training", "validation", "test", "training", "test")


def random_mask(rng: np.random.Generator, values: Sequence[int], nodata: int) -> np.ndarray:
    """(SIZE, SIZE) int32: patches with holes, corners that touch, single pixels, and pixels without a label."""
    coarse = rng.choice([*values, nodata], (SIZE // 4, SIZE // 4)).repeat(4, 0).repeat(4, 1)
    fine = rng.choice([*values, nodata], (SIZE, SIZE))
    return np.where(rng.random((SIZE, SIZE)) < 0.25, fine, coarse).astype(np.int32)


def make_dataset(
    folder: Path,
    task: str = "segmentation",
    classes: Sequence[tuple[int, str, str]] = CLASSES,
    label_nodata: int = 0,
    splits: Sequence[str] = SPLITS,
    shown: Sequence[Sequence[int]] = (),
    seed: int = 0,
    chip_format: str = "GTiff",
    georeferenced: bool = True,
    bands: int = 3,
) -> ChipDataset:
    """A dataset of random chips; `shown` are the class values of each chip of classification and multilabel."""
    rng = np.random.default_rng(seed)
    table = ClassTable.from_rows(classes)
    nodata = label_nodata if task == "segmentation" else None
    crs = reference(UTM).ExportToWkt(["FORMAT=WKT2_2019"]) if georeferenced else ""
    names = ("red", "green", "blue", "nir")[:bands]
    folder.mkdir(parents=True)
    files = ChipFiles(folder, crs, names, None, table, nodata, chip_format)
    outline = DatasetInfo(
        task, names, tuple(range(1, bands + 1)), "uint8", None, SIZE, SIZE, crs, 0.5, table, nodata,
        ({"raster": "made up", "labels": "made up"},), {"block_size": SIZE}, (), (), (), (), {}, {},
    )  # fmt: skip
    with ChipIndex(folder / "chips.gpkg", table, crs) as index:
        for number, split in enumerate(splits):
            image = rng.integers(0, 255, (bands, SIZE, SIZE), dtype=np.uint8)
            left = LEFT + number * SIZE
            transform = (left, 0.5, 0.0, TOP, 0.0, -0.5)
            values: dict[str, Any] = {
                "image": files.write_image(f"{number:07d}", image, transform),
                "split": split,
                "statistics": BandStatistics.of(image, None).to_json(),
            }
            pixels = np.zeros(len(table), np.int64)
            if task == "segmentation":
                mask = random_mask(rng, table.values.tolist(), label_nodata)
                values["label"] = files.write_label(f"{number:07d}", mask.astype(table.mask_dtype(nodata)), transform)
                pixels = (mask[..., None] == table.values).sum(axis=(0, 1))
            if shown:
                values["classes"] = ",".join(map(str, shown[number]))
            side = SIZE / 2
            ring = [(left, TOP), (left + side, TOP), (left + side, TOP - side), (left, TOP - side)]
            index.add(ring, values, pixels)
        info = divide(index, outline, SplitRule("imported", 0.2, 0.2, None, 0), Heard())
    (folder / "dataset.json").write_text(info.to_json(), encoding="utf-8")
    return open_dataset(folder)


def convert(dataset: ChipDataset, folder_format: str, name: str = "", **settings: Any) -> Path:
    """Convert a dataset; gives the folder."""
    output = dataset.folder.parent / (name or folder_format)
    config = ConvertChipsConfig(chips=str(dataset.folder), output=str(output), folder_format=folder_format, **settings)
    convert_chips(config, Heard())
    return output


def bring_in(folder: Path, heard: Optional[Heard] = None, **settings: Any) -> ChipDataset:
    """Import a folder; gives the opened dataset."""
    output = folder.parent / f"{folder.name}_imported"
    config = ImportChipsConfig(**{"input": str(folder), "output": str(output), **settings})
    import_chips(config, heard or Heard())
    return open_dataset(config.output)


def pixels(path: Path) -> np.ndarray:
    """What a raster holds."""
    return gdal.Open(str(path)).ReadAsArray()


def contents(dataset: ChipDataset) -> dict[str, tuple[Any, ...]]:
    """What a dataset says of each image, which is known by its bytes: its mask, classes and split."""
    found = {}
    for place, image in enumerate(dataset.images):
        mask = pixels(dataset.folder / dataset.labels[place]).tolist() if dataset.labels[place] else None
        key = hashlib.sha1((dataset.folder / image).read_bytes()).hexdigest()
        found[key] = (mask, dataset.info.classes.values[dataset.shown[place]].tolist(), str(dataset.splits[place]))
    assert len(found) == len(dataset.images)
    return found


def footprints(dataset: ChipDataset, *names: str) -> list[tuple[Any, ...]]:
    """The footprint of each chip, and some of its fields."""
    source = gdal.OpenEx(str(dataset.folder / "chips.gpkg"), gdal.OF_VECTOR)
    return [(feature.geometry().Clone(), *(feature[name] for name in names)) for feature in source.GetLayer(0)]


def write_image(
    path: Path,
    data: np.ndarray,
    driver: str = "GTiff",
    transform: Optional[Sequence[float]] = None,
    epsg: Optional[int] = None,
    colors: Sequence[tuple[int, int, int]] = (),
    options: Sequence[str] = (),
) -> Path:
    """Write (C, H, W) or (H, W) pixels in any format."""
    data = data if data.ndim == 3 else data[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    codes = {"uint8": "Byte", "int16": "Int16", "uint16": "UInt16", "int32": "Int32", "float32": "Float32"}
    code = gdal.GetDataTypeByName(codes[data.dtype.name])
    made = gdal.GetDriverByName("MEM").Create("", data.shape[2], data.shape[1], len(data), code)
    if transform is not None:
        made.SetGeoTransform(list(transform))
    if epsg is not None:
        made.SetSpatialRef(reference(epsg))
    if colors:
        table = gdal.ColorTable()
        for value, color in enumerate(colors):
            table.SetColorEntry(value, (*color, 255))
        made.GetRasterBand(1).SetColorTable(table)
    made.WriteArray(data)
    gdal.GetDriverByName(driver).CreateCopy(str(path), made, options=list(options)).FlushCache()
    return path


def place(number: int) -> tuple[float, ...]:
    """The place of a chip in a row of chips."""
    return (LEFT + number * SIZE / 2, 0.5, 0.0, TOP, 0.0, -0.5)


def photo(seed: int, height: int = SIZE, width: int = SIZE, bands: int = 3) -> np.ndarray:
    """(bands, height, width) random bytes."""
    return np.random.default_rng(seed).integers(0, 255, (bands, height, width), dtype=np.uint8)


def write_arcgis(
    folder: Path, mode: str, lines: Sequence[str], classes: Sequence[tuple[int, str]] = ((1, "roof"), (2, "road"))
) -> Path:
    """The files beside the chips, as a version of some years ago wrote them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "map.txt").write_bytes("".join(lines).encode())
    (folder / "stats.txt").write_text("images = 2 *3*24*24\n")
    statistics = {
        "Version": 1, "NumBands": 3, "TileSizeX": SIZE, "TileSizeY": SIZE, "NumClasses": len(classes), "NumTiles": 2,
        "OutputFeatures": True, "MetaDataMode": mode,
        "Classes": [{"ClassValue": value, "ClassName": name} for value, name in classes],
    }  # fmt: skip
    definition = {
        "Framework": "e.g. any", "ImageHeight": "e.g. 256", "ImageWidth": "e.g. 256", "ExtractBands": "e.g. [0, 1, 2]",
        "Classes": [{"Value": value, "Name": name, "Color": [-1, -1, -1]} for value, name in classes],
    }  # fmt: skip
    (folder / "esri_accumulated_stats.json").write_text(json.dumps(statistics))
    (folder / "esri_model_definition.emd").write_text(json.dumps(definition))
    return folder
