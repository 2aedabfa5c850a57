"""The chip dataset: a folder with an index, a description, images and labels. This file is its format.

- `dataset.json`: a `DatasetInfo`. It is written last, so a folder without it is no dataset.
- `chips.gpkg`, layer `chips`: one footprint polygon a chip with the fields of `CHIP_FIELDS` and, for each class
  value v, `pixels_v`.
- `images/`, `labels/`: GeoTIFFs. Label chips hold class values; `DatasetInfo.label_nodata` marks pixels without one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal, ogr

from ..classes import ClassTable
from ..errors import InputError

ogr.UseExceptions()

FORMAT_VERSION = 1
SPLITS = ("training", "validation", "test")
# name → OGR type; pixels_<value> follow
CHIP_FIELDS = {
    "image": ogr.OFTString,  # path inside the dataset, with "/"
    "label": ogr.OFTString,
    "source": ogr.OFTInteger,  # place in DatasetInfo.sources, from 0
    "col_off": ogr.OFTInteger,  # the chip's window in its source; padding may reach out of it
    "row_off": ogr.OFTInteger,
    "block": ogr.OFTInteger,  # the spatial block that the chip lies in
    "split": ogr.OFTString,
    "valid_share": ogr.OFTReal,  # pixels with image data, 0 to 1
    "labelled_share": ogr.OFTReal,
}


@dataclass(frozen=True)
class DatasetInfo:
    """The description of a chip dataset (`dataset.json`)."""

    task: str  # "segmentation"
    band_names: tuple[str, ...]
    bands: tuple[int, ...]  # band numbers in the sources, from 1
    dtype: str  # numpy's name
    nodata: Optional[float]
    chip_size: int
    stride: int
    crs: str  # WKT2
    pixel_size: float
    classes: ClassTable
    label_nodata: int
    sources: tuple[dict[str, Any], ...]  # {"raster": path, "labels": path or description}
    split: dict[str, Any]  # {"method": "blocks", "seed", "block_size", "validation_share", "test_share"}
    mean: tuple[float, ...]  # per band, over valid pixels of the training chips
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    chip_counts: dict[str, int]  # by split
    pixel_counts: dict[str, list[int]]  # by split, in the order of the classes
    created: str = ""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The text of `dataset.json`."""
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        values["classes"] = self.classes.to_json()
        return json.dumps(values, indent=1, allow_nan=False)


@dataclass(frozen=True)
class ChipDataset:
    """An opened chip dataset: its description, and for each chip where it lies and which split it is in."""

    folder: Path
    info: DatasetInfo
    images: np.ndarray  # (n,) paths inside the folder, str
    labels: np.ndarray
    splits: np.ndarray  # (n,) str
    pixels: np.ndarray  # (n, C) int64, pixels per class

    def indices(self, split: str) -> np.ndarray:
        """(m,) the places of the chips of one split."""
        return np.flatnonzero(self.splits == split)

    def fingerprint(self) -> str:
        """A short hash of the description: two models with the same one were trained on the same export."""
        return hashlib.sha256(self.info.to_json().encode()).hexdigest()[:16]


def read_info(folder: str | Path) -> DatasetInfo:
    """Read `dataset.json`.

    Raises:
        InputError: The folder is no chip dataset, or one of a later format.
    """
    path = Path(folder) / "dataset.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["format_version"]
        if version > FORMAT_VERSION:
            raise InputError(
                f"The chip dataset {folder} has format {version}, and this Terrazzo reads up to {FORMAT_VERSION}.",
                "Update Terrazzo.",
            )
        known = {spec.name for spec in dataclasses.fields(DatasetInfo)}
        values = {name: value for name, value in values.items() if name in known}
        values["classes"] = ClassTable.from_json(values["classes"])
        for name in ("band_names", "bands", "sources", "mean", "std", "minimum", "maximum"):
            values[name] = tuple(values[name])
        return DatasetInfo(**values)
    except OSError as error:
        raise InputError(
            f"{folder} is no chip dataset: it has no readable dataset.json.", "Choose a folder that exportchips made."
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The file {path} is damaged ({error}).", "Export the chips again.") from error


def open_dataset(folder: str | Path) -> ChipDataset:
    """Open a chip dataset; reads its index, none of its chips.

    Raises:
        InputError: The folder is no chip dataset, its index is damaged, or a path leads out of the folder.
    """
    folder = Path(folder)
    info = read_info(folder)
    index = folder / "chips.gpkg"
    columns = [f"pixels_{value}" for value in info.classes.values.tolist()]
    try:
        source = gdal.OpenEx(str(index), gdal.OF_VECTOR)
        layer = source.GetLayerByName("chips")
        wanted = ["image", "label", "split", *columns]
        places = [layer.GetLayerDefn().GetFieldIndex(name) for name in wanted]
        if min(places) < 0:
            raise RuntimeError(f"no field {wanted[places.index(min(places))]}")
        rows = [[feature.GetField(place) for place in places] for feature in layer]
    except (RuntimeError, AttributeError) as error:
        raise InputError(f"The index {index} cannot be read ({error}).", "Export the chips again.") from error
    if not rows:
        raise InputError(f"The chip dataset {folder} holds no chips.", "Export the chips again.")
    images, labels, splits = (np.array([row[place] for row in rows], dtype=str) for place in range(3))
    for path in (*images, *labels):
        # A dataset from a stranger must not make us read elsewhere.
        if Path(path).is_absolute() or ".." in Path(path).parts or path.startswith("/vsi"):
            raise InputError(f'The index {index} names "{path}", which lies outside of its folder.', "Do not use it.")
    pixels = np.array([row[3:] for row in rows], dtype=np.int64)
    return ChipDataset(folder, info, images, labels, splits, pixels)
