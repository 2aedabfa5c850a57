"""Data structures for folders of other programs, and the base class of their writers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ...class_names import class_text
from ...classes import ClassTable
from ...errors import InputError
from ...strangers.paths import inside, read_bytes
from ...strangers.rules import DAMAGES, read_classes
from ...strangers.texts import JSON_MEMORY, parse_json
from ..dataset import SPLITS, ChipDataset

# Marks unlabelled pixels in the masks returned by readers; lower than any valid class value.
NO_CLASS = int(np.iinfo(np.int32).min)
# Other names of the splits and the prefixes they use: "train", "train2017", "valid".
SPLIT_NAMES = {"training": "train", "validation": "val", "test": "test"}
NOTE = "terrazzo.json"

# value → (name, colour as #rrggbb), either may be missing
Named = dict  # dict[int, tuple[str, Optional[str]]]


@dataclass(frozen=True)
class ForeignChip:
    """An image of a foreign folder and its label."""

    image: Path
    label: Any = None  # input of the reader's `mask`, such as a path or annotations
    classes: tuple[int, ...] = ()  # classes of the whole chip
    split: str = ""  # one of SPLITS; "" if unknown


@dataclass(frozen=True)
class ForeignFolder:
    """The contents of a foreign folder."""

    kind: str  # config.CHIP_FOLDERS
    task: str  # tasks.TASKS
    chips: tuple[ForeignChip, ...]
    classes: Named  # all become classes of the dataset, even if no chip has them
    # (chip) → (H, W) int32 of class values, NO_CLASS where unlabelled; None for tasks without masks
    mask: Optional[Callable[[ForeignChip], np.ndarray]] = None
    names: Named = field(default_factory=dict)  # names of values that become classes only if a mask has them
    label_nodata: Optional[int] = None  # the value for "no label" in the dataset; None for any free value
    complete: bool = False  # whether `classes` contains all values of the masks
    remarks: tuple[str, ...] = ()  # for the log
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """`terrazzo.json`: what the format cannot store, written by `convertchips` and read by `importchips`."""

    kind: str
    task: str
    classes: ClassTable
    written_as: tuple[str, ...]  # how each class is written: a value or a folder name
    label_nodata: Optional[int]  # of the dataset

    def write(self, folder: Path) -> None:
        """Write the note into a folder, which also marks the folder as written by Terrazzo."""
        rows = [{**row, "written_as": text} for row, text in zip(self.classes.to_json(), self.written_as)]
        values = {
            "written_by": "Terrazzo",
            "folder_format": self.kind,
            "task": self.task,
            "classes": rows,
            "label_nodata": self.label_nodata,
        }
        (folder / NOTE).write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Optional[Note]:
        """Read the note of a folder; None if there is none.

        Raises:
            InputError: The note is damaged.
        """
        path = inside(folder, NOTE, folder)
        if not path.is_file():
            return None
        try:
            values = parse_json(read_bytes(path, JSON_MEMORY))
            table = read_classes(values["classes"])
            texts = {int(row["value"]): str(row["written_as"]) for row in values["classes"]}
            written = tuple(texts[value] for value in table.values.tolist())
            nodata = values["label_nodata"]
            nodata = None if nodata is None else int(nodata)
            return cls(str(values["folder_format"]), str(values["task"]), table, written, nodata)
        except (OSError, *DAMAGES) as error:
            raise InputError(
                f"The file {path} is damaged ({error}).", "Remove it to import the folder without it."
            ) from error

    @classmethod
    def of(cls, folder: Path, kind: str) -> Optional[Note]:
        """Read the note of a folder; None if there is none for this format."""
        note = cls.read(folder)
        return note if note is not None and note.kind == kind else None

    @property
    def named(self) -> Named:
        """Class value → name and colour."""
        return {info.value: (info.name, info.color) for info in self.classes.classes}

    @property
    def values(self) -> dict[str, int]:
        """The text of a class in the folder → class value."""
        return dict(zip(map(class_text, self.written_as), self.classes.values.tolist()))


class FolderWriter:
    """Writes a chip dataset as a folder of another program, chip by chip.

    Args:
        dataset: The dataset.
        folder: The output folder, which must exist and be empty.
        places: (n,) indices of the chips to write, in this order.
    """

    KIND = ""
    TASKS: tuple[str, ...] = ()  # the tasks that the format supports

    def __init__(self, dataset: ChipDataset, folder: Path, places: np.ndarray) -> None:
        self.dataset, self.folder, self.places = dataset, folder, places
        self.info = dataset.info
        self.values: list[int] = self.info.classes.values.tolist()
        self.names = dict(zip(self.values, self.info.classes.names))
        self.remarks: list[str] = []  # for the log

    def write(self, place: int) -> Any:
        """Write the files of a chip on a thread; returns what `collect` needs."""
        raise NotImplementedError

    def collect(self, place: int, written: Any) -> None:
        """Record a written chip; called in the order of the dataset."""

    def finish(self) -> None:
        """Write the files that describe all chips."""

    def close(self) -> None:
        """Close open files, also after an error, since Windows could not remove them otherwise."""

    def classes_of(self, place: int) -> list[int]:
        """The values of the classes in a chip, or of its class."""
        return [value for value, there in zip(self.values, self.dataset.shown[place].tolist()) if there]

    def note(self, written_as: Iterable[Any]) -> None:
        """Write `terrazzo.json`; `written_as` has the value or name that stands for each class."""
        info = self.info
        Note(self.KIND, info.task, info.classes, tuple(map(str, written_as)), info.label_nodata).write(self.folder)


def split_of(name: str) -> str:
    """The split that a folder, list or file name stands for; "" for none."""
    found = re.match(r"(train|val|test)(ing|id|idation)?(?![a-z])", name.lower())
    return {"train": SPLITS[0], "val": SPLITS[1], "test": SPLITS[2]}[found[1]] if found else ""


def file_name(name: str) -> str:
    """Convert a class name to a file name valid on every file system."""
    safe = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip().rstrip(".") or "_"
    return f"{safe}_" if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", safe) else safe[:120]


def file_names(table: ClassTable) -> list[str]:
    """File names for all classes; class values are added to names that would be equal."""
    names = [file_name(name) for name in table.names]
    folded = [name.casefold() for name in names]
    return [
        name if folded.count(key) == 1 else f"{name}_{value}"
        for name, key, value in zip(names, folded, table.values.tolist())
    ]
