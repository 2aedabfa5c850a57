"""What a folder of another program comes to, and what every writer of one offers."""

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

# Marks the pixels without a label in the masks that readers give; no raster's class value is that low.
NO_CLASS = int(np.iinfo(np.int32).min)
# What others call the splits, and how they begin such names: "train", "train2017", "valid".
SPLIT_NAMES = {"training": "train", "validation": "val", "test": "test"}
NOTE = "terrazzo.json"

# value → name and colour (#rrggbb), either of which may be missing
Named = dict  # dict[int, tuple[str, Optional[str]]]


@dataclass(frozen=True)
class ForeignChip:
    """An image of the folder, and what its reader knows of it."""

    image: Path
    label: Any = None  # what the reader's `mask` takes: a path, annotations
    classes: tuple[int, ...] = ()  # of the whole chip
    split: str = ""  # one of SPLITS; "" where the folder does not say


@dataclass(frozen=True)
class ForeignFolder:
    """A folder of chips as its reader found it."""

    kind: str  # config.CHIP_FOLDERS
    task: str  # config.TASKS
    chips: tuple[ForeignChip, ...]
    classes: Named  # the classes that the folder names; the dataset has them, shown or not
    # (chip) → (H, W) int32 of class values, NO_CLASS where there is none; None where the task has no masks
    mask: Optional[Callable[[ForeignChip], np.ndarray]] = None
    names: Named = field(default_factory=dict)  # of values that are classes only where a mask shows them
    label_nodata: Optional[int] = None  # the value for "no label" that the dataset shall have; None = any free one
    complete: bool = False  # whether no mask can hold a value that `classes` lacks
    remarks: tuple[str, ...] = ()  # for the log
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """`terrazzo.json`: what a format has no place for, left by `convertchips` and found again by `importchips`."""

    kind: str
    task: str
    classes: ClassTable
    written_as: tuple[str, ...]  # what stands for each class in the folder: a value, a folder's name
    label_nodata: Optional[int]  # of the dataset

    def write(self, folder: Path) -> None:
        """Write it into a folder; it also tells that the folder is one of ours."""
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
        """The note of a folder; None where it has none.

        Raises:
            InputError: It is damaged.
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
        """The note of a folder, if it is of that kind."""
        note = cls.read(folder)
        return note if note is not None and note.kind == kind else None

    @property
    def named(self) -> Named:
        """Value → name and colour."""
        return {info.value: (info.name, info.color) for info in self.classes.classes}

    @property
    def values(self) -> dict[str, int]:
        """What stands in the folder, as `class_text` → class value."""
        return dict(zip(map(class_text, self.written_as), self.classes.values.tolist()))


class FolderWriter:
    """Writes a chip dataset as another program's folder, chip by chip.

    Args:
        dataset: What is written.
        folder: Where to; it is there and empty.
        places: (n,) the chips of the dataset that will be written, in this order.
    """

    KIND = ""
    TASKS: tuple[str, ...] = ()  # what the format can hold

    def __init__(self, dataset: ChipDataset, folder: Path, places: np.ndarray) -> None:
        self.dataset, self.folder, self.places = dataset, folder, places
        self.info = dataset.info
        self.values: list[int] = self.info.classes.values.tolist()
        self.names = dict(zip(self.values, self.info.classes.names))
        self.remarks: list[str] = []  # for the log

    def write(self, place: int) -> Any:
        """Write the files of a chip; runs on a thread and gives what `collect` needs."""
        raise NotImplementedError

    def collect(self, place: int, written: Any) -> None:
        """Count a chip in, in the order of the dataset."""

    def finish(self) -> None:
        """Write what stands beside the chips."""

    def close(self) -> None:
        """Close the files that are open, also after a failure: on Windows they could not be removed."""

    def classes_of(self, place: int) -> list[int]:
        """The class values that a chip shows, or its class."""
        return [value for value, there in zip(self.values, self.dataset.shown[place].tolist()) if there]

    def note(self, written_as: Iterable[Any]) -> None:
        """Leave our own note; `written_as` stands for each class in the folder."""
        info = self.info
        Note(self.KIND, info.task, info.classes, tuple(map(str, written_as)), info.label_nodata).write(self.folder)


def split_of(name: str) -> str:
    """The split that a folder, a list or a file of that name holds; "" for none."""
    found = re.match(r"(train|val|test)(ing|id|idation)?(?![a-z])", name.lower())
    return {"train": SPLITS[0], "val": SPLITS[1], "test": SPLITS[2]}[found[1]] if found else ""


def file_name(name: str) -> str:
    """A class name as every file system takes it."""
    safe = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip().rstrip(".") or "_"
    return f"{safe}_" if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", safe) else safe[:120]


def file_names(table: ClassTable) -> list[str]:
    """`file_name` of each class; names that would be the same carry their class value."""
    names = [file_name(name) for name in table.names]
    folded = [name.casefold() for name in names]
    return [
        name if folded.count(key) == 1 else f"{name}_{value}"
        for name, key, value in zip(names, folded, table.values.tolist())
    ]
