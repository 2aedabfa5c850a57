"""Read the folder written by ArcGIS Pro's "Export Training Data For Deep Learning".

It has `images/` and `labels/` with equal stems, `map.txt` with one line per chip, and
`esri_accumulated_stats.json` and `esri_model_definition.emd` with the classes and the kind of labels. The format was
derived from existing folders and from programs that read them; it was not tested with ArcGIS Pro.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ...class_names import class_text, class_values
from ...errors import InputError
from ...events import Reporter, Stage
from ...strangers.paths import inside
from ...strangers.texts import read_json, read_lines, read_rows, read_xml
from ...threads import work_ahead
from ..dataset import SPLITS
from .foreign import ForeignChip, ForeignFolder, Named, Note
from .masks import read_mask
from .words import counted, first_of

KIND = "arcgis"
MAP, STATISTICS, DEFINITION = "map.txt", "esri_accumulated_stats.json", "esri_model_definition.emd"
SPLITS_FILE = "splits.csv"  # written by Terrazzo only; ArcGIS has no splits
MODES = {
    "Classified_Tiles": "segmentation",
    "Labeled_Tiles": "classification",
    "MultiLabeled_Tiles": "multilabel",
    "Export_Tiles": "unlabelled",
}
DETECTION = ("PASCAL_VOC_rectangles", "KITTI_rectangles", "RCNN_Masks")
# ArcGIS's value for unlabelled pixels in label rasters.
UNLABELLED = 0
WHOLE = r"-?\d{1,10}"
NO_CLASS_NAMES = ("", "0", "nodata", "unclassified", "unlabelled", "unlabeled", "ignore", "class0")


def recognise(folder: Path) -> bool:
    """Return whether a folder has ArcGIS's format."""
    return all((folder / name).is_file() for name in (MAP, STATISTICS, DEFINITION))


def read(folder: Path, reporter: Reporter) -> ForeignFolder:
    """Read the chips and classes of a folder.

    Raises:
        InputError: The labels are boxes or unknown, or a file is damaged or names a path outside.
    """
    definition, statistics = (read_json(inside(folder, name, folder)) for name in (DEFINITION, STATISTICS))
    mode = _mode(folder, definition, statistics)
    task, note = MODES[mode], Note.of(folder, KIND)
    named = note.named if note else {**_classes(statistics, "Class"), **_classes(definition, "")}
    splits = _splits(folder)
    remarks = [f"The labels are {mode}."]
    chips, without, second = [], [], 0
    for line in read_lines(inside(folder, MAP, folder)):
        names = _names(line)
        second += len(names) > 2 or (task == "unlabelled" and len(names) > 1)
        image = inside(folder, names[0], folder / MAP)
        label: Optional[Path] = None
        if task != "unlabelled":
            labels = [name for name in names[1:] if name.replace("\\", "/").lower().startswith("labels/")] or names[-1:]
            label = inside(folder, labels[0], folder / MAP) if len(names) > 1 else None
            if label is None or not label.is_file():
                without.append(image.name)
                continue
        split = splits.get(image.relative_to(folder).as_posix().lower(), "")
        chips.append(ForeignChip(image, label, split=split))
    if second:
        remarks.append(f"{counted(second, 'second image')} of the same chip left out.")
    warnings = [f"Chips without a label file are left out: {first_of(without)}."] if without else []
    if task in ("classification", "multilabel"):
        stage = Stage(reporter, len(chips), "Reading labels", 0, 0.1)
        chips, named, empty = _whole_labels(chips, task, named, note, stage)
        if empty:
            warnings.append(f"Chips without a class in their label are left out: {first_of(empty)}.")
    values: dict[int, int] = {}
    if note and task == "segmentation":
        values = {int(text): value for text, value in note.values.items() if re.fullmatch(WHOLE, text)}
    unlabelled: tuple[int, ...] = (UNLABELLED,)
    if task == "segmentation" and note is None and UNLABELLED in named:
        name, _ = named[UNLABELLED]
        if name.lower().replace(" ", "") in NO_CLASS_NAMES:
            del named[UNLABELLED]
        else:
            unlabelled = ()
            warnings.append(f'The value 0 is used as the class "{name}", although it also marks unlabelled ground.')

    def mask(chip: ForeignChip) -> np.ndarray:
        return read_mask(chip.label, unlabelled, values)

    return ForeignFolder(
        kind=KIND,
        task=task,
        chips=tuple(chips),
        classes=named,
        mask=mask if task == "segmentation" else None,
        label_nodata=note.label_nodata if note else None,
        remarks=tuple(remarks),
        warnings=tuple(warnings),
    )


def _mode(folder: Path, definition: Any, statistics: Any) -> str:
    modes = [found.get("MetaDataMode") for found in (statistics, definition) if isinstance(found, dict)]
    mode = next((mode for mode in modes if isinstance(mode, str) and mode), None)
    if mode is None:  # written by older versions
        labels = {Path(name).suffix.lower() for line in read_lines(folder / MAP) for name in _names(line)[1:]}
        mode = "Labeled_Tiles" if labels == {".xml"} else "Classified_Tiles" if labels else "Export_Tiles"
    if mode in DETECTION:
        raise InputError(
            f"The labels of {folder} are {mode}: labels of single objects (detection), which Terrazzo does "
            "not train on.",
            "Export them as Classified_Tiles, Labeled_Tiles or MultiLabeled_Tiles.",
        )
    if mode not in MODES:
        raise InputError(f"The labels of {folder} are {mode}.", f"Terrazzo reads {', '.join(MODES)}.")
    return mode


def _classes(values: Any, prefix: str) -> Named:
    """Read classes with `Value` and `Name`, or these prefixed with "Class"; a colour of −1 means unknown."""
    rows = values.get("Classes") if isinstance(values, dict) else None
    found: Named = {}
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, dict):
            continue
        value = row.get(f"{prefix}Value", row.get("Value", row.get("ClassValue")))
        name = row.get(f"{prefix}Name", row.get("Name", row.get("ClassName")))
        if isinstance(value, str) and re.fullmatch(rf"\s*{WHOLE}\s*", value):
            value = int(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0:
            found[int(value)] = (str(name) if name not in (None, "") else "", _color(row.get("Color")))
    return found


def _color(parts: Any) -> Optional[str]:
    if not isinstance(parts, list) or len(parts) != 3 or not all(isinstance(part, (int, float)) for part in parts):
        return None
    if not all(0 <= part <= 255 for part in parts):
        return None
    return "#{:02x}{:02x}{:02x}".format(*(int(part) for part in parts))


def _names(line: str) -> list[str]:
    """Split a line of `map.txt` into file names, which are separated by two spaces, a tab, or one space."""
    parts = re.split(r"\s{2,}|\t", line)
    return parts if len(parts) > 1 else line.split()


def _splits(folder: Path) -> dict[str, str]:
    """Image → split, from the list written by `convertchips`."""
    path = inside(folder, SPLITS_FILE, folder)
    if not path.is_file():
        return {}
    rows = read_rows(path)
    if not all({"image", "split"} <= row.keys() for row in rows):
        raise InputError(f"The file {path} has no columns image and split.", "Repair or remove it.")
    unknown = sorted({row["split"] for row in rows} - {*SPLITS, "none"})
    if unknown:
        raise InputError(f'{path} names the split "{unknown[0]}".', f"Valid splits are {', '.join(SPLITS)} and none.")
    return {row["image"].replace("\\", "/").lower(): row["split"] for row in rows}


def _whole_labels(
    chips: list[ForeignChip], task: str, named: Named, note: Optional[Note], stage: Stage
) -> tuple[list[ForeignChip], Named, list[str]]:
    """Read the classes of whole chips from their XML files, which contain class values or names.

    Returns:
        The chips, the classes, and the images without a class.
    """
    texts = [found for _, found in work_ahead(lambda chip: _label_texts(chip.label, task), chips, stage)]
    values: dict[str, int] = dict(note.values) if note else {}
    for value in named:
        values.setdefault(str(value), value)
    for value, (name, _) in named.items():
        values.setdefault(class_text(name), value)
    unknown = {text for row in texts for text in row if text not in values}
    numbers = {text for text in unknown if re.fullmatch(WHOLE, text)}
    values.update({text: int(text) for text in numbers})
    values.update(class_values(unknown - numbers, first=1 + max([0, *values.values()])))
    for text in unknown:
        named = {**named, values[text]: ("" if text in numbers else text, None)}
    found, empty = [], []
    for chip, row in zip(chips, texts):
        if row or task == "multilabel":
            found.append(ForeignChip(chip.image, None, tuple(sorted({values[text] for text in row})), chip.split))
        else:
            empty.append(chip.image.name)
    return found, named, empty


def _label_texts(path: Path, task: str) -> list[str]:
    names = [found.text or "" for found in read_xml(path).iterfind("object/name")]
    if task == "multilabel":
        return [class_text(part) for name in names for part in name.split(",") if class_text(part)]
    return [class_text(name) for name in names if class_text(name)][:1]
