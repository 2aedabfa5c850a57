"""COCO object instances: images, and one JSON file per split with the outlines of regions.

Written are `images/<split>/` and `annotations/instances_<split>.json`. Category ids are class values. Each connected
region of a class is an annotation: a polygon, or run lengths if it has holes. Read are also JSON files beside their
images, and run lengths packed as text. Where annotations overlap, smaller ones are on top.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...events import Reporter
from ...strangers.paths import entries, inside
from ...strangers.rules import DAMAGES
from ...strangers.texts import contains_all, read_json
from ..dataset import ChipDataset
from .foreign import (
    NO_CLASS,
    SPLIT_NAMES,
    FolderWriter,
    ForeignChip,
    ForeignFolder,
    Named,
    Note,
    split_of,
)
from .images import copy_chip, look_at
from .regions import burn, polygon_of, regions, run_lengths
from .words import counted, first_of

KIND = "coco"
LISTS = ("images", "annotations", "categories")
LARGEST_JSON = 3 * 2**29  # maximum memory of annotations, in bytes


def recognise(folder: Path) -> bool:
    """Return whether a folder contains COCO annotations; looks for the three key names without parsing the JSON."""
    wanted = {f'"{name}"'.encode() for name in LISTS}
    return any(contains_all(path, wanted) for path in _candidates(folder))


def _candidates(folder: Path) -> Iterator[Path]:
    """JSON files in `annotations`, beside image folders, or inside them."""
    held = entries(folder, folder)
    inner = [path for part in held if part.is_dir() for path in entries(part, folder)]
    for path in sorted(path for path in (*held, *inner) if path.suffix == ".json"):
        if path.name != "terrazzo.json" and not path.name.startswith(("captions_", "person_keypoints_", "panoptic_")):
            yield inside(folder, path.relative_to(folder).as_posix(), folder)


def read(folder: Path, reporter: Reporter) -> ForeignFolder:
    """Read categories, images and annotations.

    Raises:
        InputError: They are damaged, contain only boxes, contradict each other, or name paths outside the folder.
    """
    note = Note.of(folder, KIND)
    files = list(dict.fromkeys(_candidates(folder)))
    instances = [path for path in files if path.name.startswith("instances_")]
    named: Named = {}
    chips: list[ForeignChip] = []
    missing: list[str] = []
    boxes = 0
    for path in instances or files:
        reporter.check_wanted()
        values = read_json(path, LARGEST_JSON)
        if not isinstance(values, dict) or not all(isinstance(values.get(name), list) for name in LISTS):
            continue
        try:
            _add_categories(named, values["categories"], path)
            boxes += _add_chips(chips, missing, values, named, folder, path)
        except DAMAGES as error:
            raise InputError(
                f"The annotations {path} are damaged ({type(error).__name__}: {error}).", "Check the file."
            ) from error
    if not chips and not missing:
        raise InputError(f"{folder} contains no COCO annotations with images.", "Choose their parent folder.")
    if boxes and not any(chip.label[1] for chip in chips):
        raise InputError(
            f"The annotations of {folder} are boxes without outlines (detection), which Terrazzo does not support.",
            "Use annotations with segmentations.",
        )
    used = {value for chip in chips for value, _ in chip.label[1]}
    warnings = [f"Missing images are left out: {first_of(missing)}."] if missing else []
    if boxes:
        warnings.append(f"{counted(boxes, 'annotation')} without an outline left out.")
    return ForeignFolder(
        kind=KIND,
        task="segmentation",
        chips=tuple(chips),
        # Only categories that are used, since files often list many more; some tools add one that is never used.
        classes=note.named if note else {value: name for value, name in named.items() if value in used},
        mask=_mask,
        label_nodata=note.label_nodata if note else None,
        complete=True,
        warnings=tuple(warnings),
    )


def _add_categories(named: Named, rows: list[Any], path: Path) -> None:
    for row in rows:
        value, name = _whole(row["id"]), str(row.get("name") or "")
        if value in named and named[value][0] != name:
            raise InputError(
                f'{path} names the category {value} "{name}", but another file names it "{named[value][0]}".',
                "Import them as separate datasets.",
            )
        color = row.get("color")
        fine = isinstance(color, list) and len(color) == 3 and all(isinstance(part, int) for part in color)
        rgb = [min(255, max(0, part)) for part in color] if fine else None
        named[value] = (name, "#{:02x}{:02x}{:02x}".format(*rgb) if rgb else None)


def _whole(number: Any) -> int:
    if isinstance(number, bool) or int(number) != number:
        raise ValueError(f"{number!r} is not an integer")
    return int(number)


def _add_chips(
    chips: list[ForeignChip], missing: list[str], values: dict[str, Any], named: Named, folder: Path, path: Path
) -> int:
    """Add the images of a file with their annotations; returns the number of annotations without an outline."""
    shapes: dict[Any, list[tuple[float, int, Any]]] = {}
    boxes = 0
    for row in values["annotations"]:
        shape, value = row.get("segmentation"), _whole(row["category_id"])
        if value not in named:
            raise InputError(f"{path} has annotations of the category {value}, which it does not list.", "Add it.")
        if not shape:
            boxes += 1
            continue
        if not isinstance(shape, (list, dict)):
            raise ValueError("a segmentation is neither a list of polygons nor run lengths")
        shapes.setdefault(row["image_id"], []).append((float(row.get("area") or 0), value, shape))
    split = split_of(path.stem.replace("instances_", "")) or split_of(path.parent.name)
    bases = _bases(folder, path, split)
    for row in values["images"]:
        name = str(row["file_name"])
        inside(folder, name, path)
        held = (inside(folder, f"{base}{name}", path) for base in bases)
        image = next((found for found in held if found.is_file()), None)
        if image is None:
            missing.append(name)
            continue
        # Larger regions first, so that smaller ones are drawn on top.
        found = sorted(shapes.get(row["id"], ()), key=lambda shape: -shape[0])
        size = (row.get("height"), row.get("width"))
        chips.append(ForeignChip(image, (size, [(value, shape) for _, value, shape in found]), split=split))
    return boxes


def _bases(folder: Path, path: Path, split: str) -> list[str]:
    """Folders that may contain the images of an annotation file, relative to the root folder."""
    own = path.stem.replace("instances_", "")
    names = dict.fromkeys(name for name in (own, SPLIT_NAMES.get(split, ""), split, "") if "/" not in name)
    bases = [folder / "images" / name for name in names] + [folder / name for name in names]
    found = [base for base in dict.fromkeys([*bases, path.parent]) if base.is_dir()]
    return ["" if base == folder else f"{base.relative_to(folder).as_posix()}/" for base in found]


def _mask(chip: ForeignChip) -> np.ndarray:
    size, shapes = chip.label
    facts = look_at(chip.image)
    if size != (facts.height, facts.width):  # annotations of rotated images state the rotated size
        facts = facts.as_stored()
    mask = np.full((facts.height, facts.width), NO_CLASS, np.int32)
    try:
        burn(mask, shapes)
    except InputError as error:
        raise InputError(f"{error.problem} The image is {chip.image}.", error.remedy) from error
    return mask


class CocoWriter(FolderWriter):
    """Copies images and writes the annotations of each split to a file chip by chip, to save memory."""

    KIND = KIND
    TASKS = ("segmentation",)

    def __init__(self, dataset: ChipDataset, folder: Path, places: np.ndarray) -> None:
        super().__init__(dataset, folder, places)
        self.files: dict[str, Any] = {}
        self.images: dict[str, list[str]] = {}
        self.annotations = 0
        self.begun: set[str] = set()  # splits that have an annotation
        (folder / "annotations").mkdir()
        for split in dict.fromkeys(dataset.splits[places].tolist()):
            name = SPLIT_NAMES[split]
            (folder / "images" / name).mkdir(parents=True)
            self.files[split] = (folder / "annotations" / f"instances_{name}.json").open("w", encoding="utf-8")
            self.files[split].write('{"annotations": [')
            self.images[split] = []

    def write(self, place: int) -> list[dict[str, Any]]:
        """Copy a chip; returns its annotations, without ids."""
        source = self.dataset.image_path(place)
        copy_chip(source, self.folder / "images" / SPLIT_NAMES[str(self.dataset.splits[place])] / source.name)
        mask = self.dataset.read_mask(place)
        height, width = mask.shape
        indices = self.info.classes.to_indices(mask)
        found = regions(indices, indices < len(self.values))
        holed = [region for region in found if region.holes]
        runs = iter(run_lengths(holed, height, width) if holed else ())
        rows = []
        for region in found:
            shape: Any = [polygon_of(region)]
            if region.holes:
                shape = {"size": [height, width], "counts": next(runs)}
            rows.append(
                {
                    "image_id": place + 1,
                    "category_id": self.values[region.value],
                    "iscrowd": 0,
                    "area": region.area,
                    "bbox": list(region.bounds),
                    "segmentation": shape,
                }
            )
        return rows

    def collect(self, place: int, written: Any) -> None:
        """Append the annotations of a chip to the file of its split."""
        split = str(self.dataset.splits[place])
        file, images = self.files[split], self.images[split]
        for row in written:
            self.annotations += 1
            file.write(",\n" if split in self.begun else "\n")
            file.write(json.dumps({"id": self.annotations, **row}))
            self.begun.add(split)
        size = self.info.chip_size
        name = Path(str(self.dataset.images[place])).name
        images.append(json.dumps({"id": place + 1, "file_name": name, "width": size, "height": size}))

    def finish(self) -> None:
        """Write the lists of images and categories."""
        rows = [
            {"id": info.value, "name": info.name, "supercategory": "land", "color": list(info.rgb)}
            for info in self.info.classes.classes
        ]
        for split, file in self.files.items():
            file.write(f'\n],\n"categories": {json.dumps(rows, ensure_ascii=False)},\n"images": [\n')
            file.write(",\n".join(self.images[split]))
            description = json.dumps(f"Chips for {split}, written by Terrazzo")
            file.write(f'\n],\n"info": {{"description": {description}}},\n"licenses": []\n}}\n')
        self.note(self.values)

    def close(self) -> None:
        """Close the files of the splits."""
        for file in self.files.values():
            file.close()
