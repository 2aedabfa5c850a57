"""The chip dataset: a folder with an index, a description, images and labels. This file is its format.

- `dataset.json`: a `DatasetInfo`. It is written last, so a folder without it is no dataset.
- `chips.gpkg`, layer `chips`: one footprint polygon a chip with the fields of `CHIP_FIELDS` and, for each class
  value v, `pixels_v`.
- `images/`: a file a chip. `labels/`, for segmentation and regression: a mask a chip. Masks of classes hold class
  values, and `DatasetInfo.label_nodata` marks pixels without one; masks of regression hold float32, NaN where no
  value is known.

Format 2 added tasks beside segmentation, folds, turned chips and statistics of each chip; format 1 is read as well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal, ogr

from ..classes import ClassTable
from ..drafts import recover
from ..errors import InputError

ogr.UseExceptions()

FORMAT_VERSION = 2
SPLITS = ("training", "validation", "test")
# The split of chips that belong to none, because they share ground with another split's.
NO_SPLIT = "none"
# Tasks whose labels are a mask a chip, and those whose labels are classes of the whole chip.
MASK_TASKS = ("segmentation", "regression")
CLASS_TASKS = ("segmentation", "classification", "multilabel")
# name → OGR type; pixels_<value> follow
CHIP_FIELDS = {
    "image": ogr.OFTString,  # path inside the dataset, with "/"
    "label": ogr.OFTString,  # the same; empty where the task has no masks
    "source": ogr.OFTInteger,  # place in DatasetInfo.sources, from 0
    "col_off": ogr.OFTInteger,  # the chip's bounding window in its source; padding may reach out of it
    "row_off": ogr.OFTInteger,
    "side": ogr.OFTInteger,  # pixels of the source that a side of the chip shows
    "angle": ogr.OFTReal,  # degrees clockwise that the chip's rows are turned against the source's
    "feature": ogr.OFTInteger64,  # the feature that it was cut for, or -1
    "block": ogr.OFTInteger,  # the spatial block that the chip lies in
    "split": ogr.OFTString,  # one of SPLITS or NO_SPLIT
    "fold": ogr.OFTInteger,  # from 1; 0 for test chips; empty without folds
    "classes": ogr.OFTString,  # class values that the chip shows or, for classification, its class: "1,4"
    "valid_share": ogr.OFTReal,  # pixels with image data, 0 to 1
    "labelled_share": ogr.OFTReal,
    "statistics": ogr.OFTString,  # BandStatistics of the image, as JSON
    "target": ogr.OFTString,  # BandStatistics of a regression mask, as JSON
    "extremes": ogr.OFTString,  # what the former leave out, see extremes.py: [[band, value, pixels], …] as JSON
}


@dataclass(frozen=True)
class DatasetInfo:
    """The description of a chip dataset (`dataset.json`)."""

    task: str  # config.TASKS
    band_names: tuple[str, ...]
    bands: tuple[int, ...]  # band numbers in the sources, from 1
    dtype: str  # numpy's name
    nodata: Optional[float]
    chip_size: int
    stride: int
    crs: str  # WKT2
    pixel_size: float
    classes: ClassTable  # empty for regression and unlabelled chips
    label_nodata: Optional[int]  # None where masks hold no class values
    # {"raster": path, "labels": path or description, "cluster": rasters that share ground have the same}
    sources: tuple[dict[str, Any], ...]
    split: dict[str, Any]  # {"method", "seed", "block_size", "validation_share", "test_share", "folds", "agreement"}
    mean: tuple[float, ...]  # per band, over valid pixels of the training chips
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    chip_counts: dict[str, int]  # by split
    pixel_counts: dict[str, list[int]]  # by split, in the order of the classes
    class_chips: dict[str, list[int]] = field(default_factory=dict)  # by split: how many chips show each class
    placement: dict[str, Any] = field(default_factory=dict)  # {"method", …}: how the chips were laid out
    target: Optional[dict[str, float]] = None  # regression: mean, std, minimum, maximum over the training chips
    # (scale, offset) of each band where the rasters declare such: measured = value × scale + offset. (1, 0) where
    # values were brought to measured ones, since the rasters differed.
    scales: tuple[tuple[float, float], ...] = ()
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
    labels: np.ndarray  # (n,) the same; "" without a mask
    splits: np.ndarray  # (n,) str
    folds: np.ndarray  # (n,) int64, from 1; 0 = in no fold
    pixels: np.ndarray  # (n, C) int64, pixels per class
    shown: np.ndarray  # (n, C) bool, the classes that a chip shows, or its class

    def indices(self, split: str, fold: Optional[int] = None) -> np.ndarray:
        """(m,) the places of the chips of one split; with `fold`, that fold validates and the others train.

        Raises:
            InputError: The dataset has no such fold.
        """
        if fold is None or split == "test":
            return np.flatnonzero(self.splits == split)
        check_fold(fold, int(self.folds.max()) if len(self.folds) else 0, self.folder)
        chosen = self.folds == fold if split == "validation" else (self.folds > 0) & (self.folds != fold)
        return np.flatnonzero(chosen & np.isin(self.splits, ("training", "validation")))

    def fingerprint(self) -> str:
        """A short hash of the description: two models with the same one were trained on the same export."""
        return hashlib.sha256(self.info.to_json().encode()).hexdigest()[:16]


def own_files(folder: str | Path) -> list[Path]:
    """What a chip dataset consists of: files, and folders of files."""
    return [Path(folder) / name for name in ("dataset.json", "chips.gpkg", "images", "labels")]


def check_fold(fold: int, count: int, folder: str | Path) -> None:
    """Refuse a fold that a dataset of so many folds does not have.

    Raises:
        InputError: It does not.
    """
    if not 1 <= fold <= count:
        raise InputError(
            f"FOLD is {fold}, and the chip dataset {folder} has {count or 'no'} folds.",
            "Choose one of its folds." if count else "Divide it with “Split training chips anew” and FOLDS first.",
        )


def read_info(folder: str | Path) -> DatasetInfo:
    """Read `dataset.json`, of the dataset as it is once an interrupted change to it is finished.

    Raises:
        InputError: The folder is no chip dataset, or one of a later format.
    """
    recover(os.path.realpath(folder))
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
        values["scales"] = tuple((float(scale), float(offset)) for scale, offset in values.get("scales", ()))
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
    values = info.classes.values.tolist()
    columns = [f"pixels_{value}" for value in values]
    try:
        source = gdal.OpenEx(str(index), gdal.OF_VECTOR)
        layer = source.GetLayerByName("chips")
        definition = layer.GetLayerDefn()
        there = {definition.GetFieldDefn(place).GetName() for place in range(definition.GetFieldCount())}
        added = [name for name in ("fold", "classes") if name in there]  # format 1 has none of these
        wanted = ["image", "label", "split", *columns, *added]
        missing = [name for name in wanted if name not in there]
        if missing:
            raise RuntimeError(f"no field {missing[0]}")
        layer.SetIgnoredFields(["OGR_GEOMETRY", *sorted(there - set(wanted))])
        places = [definition.GetFieldIndex(name) for name in wanted]
        rows = [[feature.GetField(place) for place in places] for feature in layer]
    except (RuntimeError, AttributeError) as error:
        raise InputError(f"The index {index} cannot be read ({error}).", "Export the chips again.") from error
    if not rows:
        raise InputError(f"The chip dataset {folder} holds no chips.", "Export the chips again.")
    images, labels, splits = (np.array([row[place] or "" for row in rows], dtype=str) for place in range(3))
    for path in (*images, *labels):
        # A dataset from a stranger must not make us read elsewhere.
        if Path(path).is_absolute() or ".." in Path(path).parts or path.startswith("/vsi"):
            raise InputError(f'The index {index} names "{path}", which lies outside of its folder.', "Do not use it.")
    end = 3 + len(columns)
    pixels = np.array([[count or 0 for count in row[3:end]] for row in rows], np.int64).reshape(len(rows), len(values))
    extra = {name: [row[end + place] for row in rows] for place, name in enumerate(added)}
    folds = np.array([fold or 0 for fold in extra.get("fold", [0] * len(rows))], np.int64)
    shown = pixels > 0
    if info.task in ("classification", "multilabel"):
        shown = classes_shown(extra.get("classes", [""] * len(rows)), values)
    return ChipDataset(folder, info, images, labels, splits, folds, pixels, shown)


def classes_shown(texts: list[Optional[str]], values: list[int]) -> np.ndarray:
    """(n, C) bool from the field `classes`, "1,4", in the order of the class values; unknown values do not count."""
    place = {str(value): index for index, value in enumerate(values)}
    shown = np.zeros((len(texts), len(values)), bool)
    for row, text in enumerate(texts):
        for word in (text or "").split(","):
            if word in place:
                shown[row, place[word]] = True
    return shown
