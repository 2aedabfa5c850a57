"""The format of a chip dataset: a folder with a description, an index, images and labels.

- `dataset.json`: a `DatasetInfo`. It is written last, so a folder without it is not a dataset.
- `chips.gpkg`, layer `chips`: one footprint polygon per chip with the fields of `CHIP_FIELDS`, and `pixels_v` for each
  class value v.
- `images/`: one file per chip. `labels/`, for segmentation and regression: one mask per chip; the labels of other tasks
  are in the index. Class masks hold class values, with `DatasetInfo.label_nodata` for unlabelled pixels; regression
  masks are float32, with NaN for unlabelled pixels.

Format 2 added tasks other than segmentation, folds, rotated chips and statistics per chip. Format 1 can be read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import ogr

from ..classes import ClassTable
from ..drafts import recover
from ..errors import InputError
from ..strangers.crs import fault_of_crs
from ..strangers.images import read_chip
from ..strangers.indexes import LAYER, check_fields, index_errors, open_index, rows_of
from ..strangers.paths import check_names, check_plain, inside, read_bytes
from ..strangers.rules import (
    DAMAGES,
    DTYPES,
    LARGEST_FLOAT,
    find_fault,
    is_name,
    of_type,
    or_none,
    read_classes,
    whole,
    within,
)
from ..strangers.texts import JSON_MEMORY, parse_json
from ..tasks import CLASS_TASKS, TASKS
from .statistics import BandStatistics

ogr.UseExceptions()

FORMAT_VERSION = 2
INDEX = "chips.gpkg"
LARGEST_CHIP, LARGEST_CHIP_BYTES = 16384, 2**30  # side in pixels; bytes of all bands of a chip
CHIP_ENDINGS = (".tif", ".png", ".jpg")
LONGEST_PATH = 128  # characters of a chip's path inside the folder
SPLITS = ("training", "validation", "test")
# The split of chips that belong to none, since they share ground with another split.
NO_SPLIT = "none"
DEVIATIONS = 2.5  # values farther from the mean, in standard deviations, are outside of a band's usual range
# Name → OGR type; pixels_<value> fields follow.
CHIP_FIELDS = {
    "image": ogr.OFTString,  # path inside the dataset, with "/"
    "label": ogr.OFTString,  # path of the mask; empty for tasks without masks
    "source": ogr.OFTInteger,  # index into DatasetInfo.sources, from 0
    "col_off": ogr.OFTInteger,  # the chip's bounding window in its source; may extend beyond it
    "row_off": ogr.OFTInteger,
    "side": ogr.OFTInteger,  # side of the chip in pixels of the source
    "angle": ogr.OFTReal,  # clockwise rotation against the source, in degrees
    "feature": ogr.OFTInteger64,  # id of the feature that the chip was cut for, or -1
    "block": ogr.OFTInteger,  # number of the spatial block
    "split": ogr.OFTString,  # one of SPLITS or NO_SPLIT
    "fold": ogr.OFTInteger,  # from 1; 0 for test chips; empty without folds
    "classes": ogr.OFTString,  # values of the classes in the chip, or of its class: "1,4"
    "valid_share": ogr.OFTReal,  # share of pixels with image data, 0 to 1
    "labelled_share": ogr.OFTReal,
    "statistics": ogr.OFTString,  # BandStatistics of the image, as JSON
    "target": ogr.OFTString,  # BandStatistics of a mask of numbers, or of the chip's one number, as JSON
    "extremes": ogr.OFTString,  # outliers left out of these: JSON [[band, value, pixels], …]
}


@dataclass(frozen=True)
class DatasetInfo:
    """The description of a chip dataset (`dataset.json`)."""

    task: str  # tasks.TASKS
    band_names: tuple[str, ...]
    bands: tuple[int, ...]  # band numbers in the sources, from 1
    dtype: str  # name of the numpy type
    nodata: Optional[float]
    chip_size: int
    stride: int
    crs: str  # WKT2
    pixel_size: float
    classes: ClassTable  # empty for numbers and unlabelled chips
    label_nodata: Optional[int]  # None if masks do not hold class values
    # {"raster": path, "labels": path or description, "cluster": number, equal for rasters that share ground}
    sources: tuple[dict[str, Any], ...]
    split: dict[str, Any]  # {"method", "seed", "block_size", "validation_share", "test_share", "folds", "agreement"}
    mean: tuple[float, ...]  # per band, over valid pixels of the training chips
    std: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    chip_counts: dict[str, int]  # by split
    pixel_counts: dict[str, list[int]]  # by split, in the order of the classes
    class_chips: dict[str, list[int]] = field(default_factory=dict)  # by split: number of chips with each class
    placement: dict[str, Any] = field(default_factory=dict)  # {"method", …}
    target: Optional[dict[str, float]] = None  # for numbers: mean, std, minimum, maximum of the training chips
    # (scale, offset) of each band if the rasters declare them: physical value = stored × scale + offset. (1, 0) if
    # values were converted to physical ones because the rasters differed.
    scales: tuple[tuple[float, float], ...] = ()
    created: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def outputs(self) -> int:
        """The number of values that a network gives for a pixel or chip."""
        return len(self.classes) if self.target is None else 1

    def usual_range(self) -> tuple[np.ndarray, np.ndarray]:
        """(B,) lowest and (B,) highest values of the training chips, but none beyond `DEVIATIONS` from the mean."""
        mean, std = np.array(self.mean), np.array(self.std)
        low, high = np.array(self.minimum), np.array(self.maximum)
        return np.maximum(low, mean - DEVIATIONS * std), np.minimum(high, mean + DEVIATIONS * std)

    def to_json(self) -> str:
        """The text of `dataset.json`."""
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        values["classes"] = self.classes.to_json()
        return json.dumps(values, indent=1, allow_nan=False)


@dataclass(frozen=True)
class ChipDataset:
    """An open chip dataset: its description, and the paths, splits and labels of all chips."""

    folder: Path
    info: DatasetInfo
    images: np.ndarray  # (n,) paths inside the folder, str
    labels: np.ndarray  # (n,) paths inside the folder; "" without a mask
    splits: np.ndarray  # (n,) str
    folds: np.ndarray  # (n,) int64, from 1; 0 for no fold
    pixels: np.ndarray  # (n, C) int64, pixels per class
    labelled_share: np.ndarray  # (n,) share of a chip's pixels with a label; NaN where the index does not say
    shown: np.ndarray  # (n, C) bool, the classes in a chip, or its class
    targets: np.ndarray  # (n,) float64, the number of a chip for chip_regression; NaN for none and other tasks

    def indices(self, split: str, fold: Optional[int] = None) -> np.ndarray:
        """(m,) indices of the chips of a split; with `fold`, that fold is the validation split and the others train.

        Raises:
            InputError: The dataset has no such fold.
        """
        if fold is None or split == "test":
            return np.flatnonzero(self.splits == split)
        check_fold(fold, int(self.folds.max()) if len(self.folds) else 0, self.folder)
        chosen = self.folds == fold if split == "validation" else (self.folds > 0) & (self.folds != fold)
        return np.flatnonzero(chosen & np.isin(self.splits, ("training", "validation")))

    def image_path(self, place: int) -> Path:
        """The path of a chip's image.

        Raises:
            InputError: A link leads out of the folder.
        """
        return inside(self.folder, str(self.images[place]), self.folder / INDEX)

    def label_path(self, place: int) -> Path:
        """The path of a chip's mask; raises as `image_path`, and also if the chip has none."""
        if not self.labels[place]:
            raise InputError(f"The chip {self.images[place]} has no mask.", "Export the chips again.")
        return inside(self.folder, str(self.labels[place]), self.folder / INDEX)

    def read_image(self, place: int) -> np.ndarray:
        """Read a chip's image as stored: (B, H, W).

        Raises:
            InputError: The file is missing, damaged, outside of the folder, or has another shape.
        """
        size = self.info.chip_size
        return read_chip(self.image_path(place), (len(self.info.band_names), size, size))

    def read_mask(self, place: int) -> np.ndarray:
        """Read a chip's mask as stored: (H, W); raises as `read_image`."""
        size = self.info.chip_size
        return read_chip(self.label_path(place), (1, size, size))[0]

    def fingerprint(self) -> str:
        """A short hash of the description, equal for models trained on the same export."""
        return hashlib.sha256(self.info.to_json().encode()).hexdigest()[:16]


# The description of `own_files` in messages about paths that must not be overwritten.
DATASET = "part of the chip dataset"


def own_files(folder: str | Path) -> list[Path]:
    """The files and folders that a chip dataset consists of."""
    return [Path(folder) / name for name in ("dataset.json", "chips.gpkg", "images", "labels")]


def check_fold(fold: int, count: int, folder: str | Path) -> None:
    """Check that a dataset with `count` folds has the given fold.

    Raises:
        InputError: It does not exist.
    """
    if not 1 <= fold <= count:
        raise InputError(
            f"FOLD is {fold}, but the chip dataset {folder} has {count or 'no'} folds.",
            "Choose one of its folds." if count else "Divide it with “Split training chips” and FOLDS first.",
        )


def read_info(folder: str | Path) -> DatasetInfo:
    """Read `dataset.json`, after completing an interrupted change of the dataset.

    Raises:
        InputError: The folder is not a chip dataset, has a later format, or its description is damaged.
    """
    recover(os.path.realpath(folder))
    path = inside(Path(folder), "dataset.json", Path(folder))
    try:
        data = read_bytes(path, JSON_MEMORY)
    except OSError as error:
        raise InputError(
            f"{folder} is not a chip dataset: it has no readable dataset.json.", "Choose a folder made by exportchips."
        ) from error
    except ValueError as error:
        raise _damaged(path, error) from error
    try:
        values = parse_json(data)
        version = values["format_version"]
        if version > FORMAT_VERSION:
            raise InputError(
                f"The chip dataset {folder} has format {reprlib.repr(version)}, but this version reads up to "
                f"{FORMAT_VERSION}.",
                "Update Terrazzo.",
            )
        known = {spec.name for spec in dataclasses.fields(DatasetInfo)}
        values = {name: value for name, value in values.items() if name in known}
        values["classes"] = read_classes(values["classes"])
        for name in ("band_names", "bands", "sources", "mean", "std", "minimum", "maximum"):
            values[name] = tuple(values[name])
        values["scales"] = tuple((scale, offset) for scale, offset in values.get("scales", ()))
        info = DatasetInfo(**values)
        fault = _find_fault(info)
        if fault is not None:
            raise ValueError(fault)
        return info
    except DAMAGES as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"The file {path} is damaged ({error}).", "Export the chips again.")


def _find_fault(info: DatasetInfo) -> Optional[str]:
    """Describe the first invalid value of a description; None if all are valid."""
    classes, bands = len(info.classes), len(info.band_names)
    if not 0 < bands == len(info.bands) == len(info.mean) == len(info.std) == len(info.minimum) == len(info.maximum):
        return "bands and their statistics differ in number"
    if len(info.scales) not in (0, bands):
        return "bands and their scales differ in number"
    count, finite = whole(0, 2**53), within(-LARGEST_FLOAT, LARGEST_FLOAT)
    tables: dict[str, dict[str, list[int]]] = {"pixel_counts": info.pixel_counts, "class_chips": info.class_chips}
    counts = {"chip_counts": info.chip_counts, **tables, "split": info.split, "placement": info.placement}
    fault = find_fault(
        [
            ("its task", [info.task], TASKS.__contains__),
            ("its format", [info.format_version], whole(1, FORMAT_VERSION)),
            ("a band name", info.band_names, is_name),
            ("a band", info.bands, whole(1, 2**31)),
            ("its data type", [info.dtype], DTYPES.__contains__),
            ("its nodata", [info.nodata], or_none(finite)),
            ("its chip size", [info.chip_size], whole(1, LARGEST_CHIP)),
            ("its stride", [info.stride], whole(0, 2**31)),
            ("its CRS", [info.crs], lambda value: fault_of_crs(value) is None),
            ("its pixel size", [info.pixel_size], within(1e-15, 1e15)),
            ("its value for no label", [info.label_nodata], or_none(whole(-(2**31), 2**31 - 1))),
            ("a source", info.sources, _is_source),
            ("a scale", [scale for scale, _ in info.scales], lambda value: finite(value) and value),
            ("an offset", [offset for _, offset in info.scales], finite),
            ("a mean", info.mean, finite),
            ("a deviation", info.std, within(0, LARGEST_FLOAT)),
            ("a smallest or largest value", (*info.minimum, *info.maximum), finite),
            *((f"its {name}", [value], of_type(dict)) for name, value in counts.items()),
            ("its target", [info.target], or_none(of_type(dict))),
            ("its date", [info.created], is_name),
        ]
    )
    if fault is not None:
        return fault
    if not classes and info.task in CLASS_TASKS:
        return f"it is for {info.task}, but has no classes"
    if info.label_nodata in info.classes.values.tolist():
        return f"its value for no label, {info.label_nodata}, is a class"
    if bands * info.chip_size**2 * np.dtype(info.dtype).itemsize > LARGEST_CHIP_BYTES:
        return f"a chip of {info.chip_size} pixels in {bands} bands would be too large"
    rows = [row for table in tables.values() for row in table.values()]
    wrong = find_fault([("a list of counts", rows, lambda row: isinstance(row, list) and len(row) == classes)])
    return wrong or find_fault(
        [
            ("a number of chips", info.chip_counts.values(), count),
            ("a count", [value for row in rows for value in row], count),
            ("a number of the target", (info.target or {}).values(), finite),
            ("its block size", [info.split.get("block_size")], or_none(whole(1, 2**31))),
            ("its folds", [info.split.get("folds")], or_none(whole(2, 1000))),
            ("its splits", [*info.chip_counts, *info.pixel_counts, *info.class_chips], is_name),
        ]
    )


def _is_source(source: Any) -> bool:
    return isinstance(source, dict) and whole(-1, 2**53)(source.get("cluster", 0))


def open_dataset(folder: str | Path) -> ChipDataset:
    """Open a chip dataset; reads the index, but no chips.

    Raises:
        InputError: The folder is not a chip dataset, its index is damaged, or a path leads out of the folder.
    """
    folder = Path(folder)
    info = read_info(folder)
    path = index_of(folder)
    values = info.classes.values.tolist()
    columns = [f"pixels_{value}" for value in values]
    with index_errors(path):
        source = open_index(path)
        layer = source.GetLayerByName(LAYER)
        there = check_fields(layer, field_types(info.classes))
        added = [name for name in ("fold", "classes", "labelled_share", "target") if name in there]  # new in format 2
        rows = rows_of(layer, ["image", "label", "split", *columns, *added])
    if not rows:
        raise InputError(f"The chip dataset {folder} holds no chips.", "Export the chips again.")
    texts = [[row[place] or "" for row in rows] for place in range(3)]
    check_names([*texts[0], *texts[1]], path)
    if max(map(len, (*texts[0], *texts[1], *set(texts[2])))) > LONGEST_PATH:
        raise InputError(f"The index {path} contains very long names.", "Export the chips again.")
    odd = next((name for name in (*texts[0], *filter(None, texts[1])) if not name.endswith(CHIP_ENDINGS)), None)
    if odd is not None:
        raise InputError(f'The index {path} names "{odd}", which is not a chip.', "Export the chips again.")
    images, labels, splits = (np.array(column, dtype=str) for column in texts)
    end = 3 + len(columns)
    pixels = np.array([[count or 0 for count in row[3:end]] for row in rows], np.int64).reshape(len(rows), len(values))
    extra = {name: [row[end + place] for row in rows] for place, name in enumerate(added)}
    folds = np.array([fold or 0 for fold in extra.get("fold", [0] * len(rows))], np.int64)
    wrong = (pixels < 0).any() or (pixels > info.chip_size**2).any() or (folds < 0).any() or (folds > len(rows)).any()
    if wrong or not np.isin(splits, ("", *SPLITS, NO_SPLIT)).all():
        raise InputError(f"The index {path} contains values that are not valid for a chip.", "Export the chips again.")
    shares = np.array([np.nan if share is None else share for share in extra.get("labelled_share", [None] * len(rows))])
    shown = pixels > 0
    if info.task in ("classification", "multilabel"):
        shown = classes_shown(extra.get("classes", [""] * len(rows)), values)
    targets = np.full(len(rows), np.nan)
    if info.task == "chip_regression":
        targets = numbers_of(extra.get("target", [None] * len(rows)))
    return ChipDataset(folder, info, images, labels, splits, folds, pixels, shares, shown, targets)


def index_of(folder: Path) -> Path:
    """The path of a dataset's index.

    Raises:
        InputError: It does not exist, is not a regular file, or leads out of the folder.
    """
    path = inside(folder, INDEX, folder)
    with index_errors(path):
        check_plain(path)
    return path


def check_index(folder: str | Path) -> None:
    """Check an index before it is opened by other means than `open_dataset`.

    Raises:
        InputError: It is damaged, not a GeoPackage, unsafe, or outside of the folder.
    """
    path = inside(Path(folder), INDEX, Path(folder))
    with index_errors(path):
        open_index(path)


def field_types(classes: ClassTable) -> dict[str, int]:
    """Field names of an index → OGR types."""
    return {**CHIP_FIELDS, **{f"pixels_{value}": ogr.OFTInteger64 for value in classes.values.tolist()}}


def numbers_of(texts: list[Optional[str]]) -> np.ndarray:
    """(n,) float64 from texts of the field `target`: a chip's number, or the mean of its mask of numbers; NaN for none.

    Raises:
        InputError: A text is damaged.
    """
    return np.array([BandStatistics.from_json(text, 1).known_mean[0] if text else np.nan for text in texts])


def classes_shown(texts: list[Optional[str]], values: list[int]) -> np.ndarray:
    """(n, C) bool from texts of the field `classes` such as "1,4"; unknown values are ignored."""
    place = {str(value): index for index, value in enumerate(values)}
    shown = np.zeros((len(texts), len(values)), bool)
    for row, text in enumerate(texts):
        for word in (text or "").split(","):
            if word in place:
                shown[row, place[word]] = True
    return shown
