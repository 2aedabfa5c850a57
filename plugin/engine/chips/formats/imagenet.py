"""One folder of images per class, as in ImageNet: `train/forest/0001.jpg`, or `forest/0001.jpg`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...class_names import class_text, class_values, remarks_on
from ...errors import InputError
from ...events import Reporter
from ...strangers.images import ENDINGS
from ...strangers.paths import entries
from ..dataset import ChipDataset
from .foreign import SPLIT_NAMES, FolderWriter, ForeignChip, ForeignFolder, Note, file_names, split_of
from .images import copy_chip
from .words import counted, first_of

KIND = "imagenet"


def recognise(folder: Path) -> bool:
    """Return whether a folder contains folders of images."""
    return any(next(_images(part, folder), None) is not None for part in _parts(folder, folder))


def read(folder: Path, reporter: Reporter) -> ForeignFolder:
    """Read the images of each class; class values are assigned to folder names by `class_values`.

    Raises:
        InputError: There are no folders with images.
    """
    note, remarks, warnings, other = Note.of(folder, KIND), [], [], 0
    parts = [part for part in _parts(folder, folder) if next(_images(part, folder), None) is not None]
    splits = {part: split_of(part.name) for part in parts}
    # A class may be called "test", so folders are splits only if all have names of splits.
    divided = bool(parts) and all(splits.values()) and all(_parts(part, folder) for part in parts)
    held = [("", part) for part in parts]
    if divided:
        held = [(splits[part], found) for part in parts for found in _parts(part, folder)]
    values = note.values if note else class_values(class_text(found.name) for _, found in held)
    if not note:
        remarks += remarks_on((found.name for _, found in held), values, "the folders' names")
    chips = []
    for split, found in held:
        reporter.check_wanted()
        name = class_text(found.name)
        if name not in values:
            warnings.append(f"The folder {found} is left out: terrazzo.json does not list it. Remove that file first.")
            continue
        images = list(_images(found, folder))
        other += sum(1 for path in found.rglob("*") if path.is_file()) - len(images)
        chips += [ForeignChip(image, None, (values[name],), split) for image in images]
    if not chips:
        raise InputError(f"{folder} contains no folders of images.", "Put the images of each class into a folder.")
    loose = [path.name for path in folder.iterdir() if path.is_file() and path.suffix.lower() in ENDINGS]
    if loose:
        warnings.append(f"Images outside of the class folders are left out: {first_of(sorted(loose))}.")
    if other:
        remarks.append(f"{counted(other, 'other file')} left out.")
    named = note.named if note else {value: (name, None) for name, value in values.items()}
    return ForeignFolder(KIND, "classification", tuple(chips), named, remarks=tuple(remarks), warnings=tuple(warnings))


def _parts(folder: Path, root: Path) -> list[Path]:
    return [path for path in entries(folder, root) if path.is_dir() and not path.name.startswith((".", "__"))]


def _images(folder: Path, root: Path) -> Iterator[Path]:
    """The images in a folder and its subfolders, sorted by name."""
    for path in entries(folder, root):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():  # links may form a cycle
                yield from _images(path, root)
        elif path.suffix.lower() in ENDINGS:
            yield path


class ImagenetWriter(FolderWriter):
    """Copies each chip into the folder of its class, inside the folder of its split."""

    KIND = KIND
    TASKS = ("classification",)

    def __init__(self, dataset: ChipDataset, folder: Path, places: np.ndarray) -> None:
        super().__init__(dataset, folder, places)
        self.folders = dict(zip(self.values, file_names(self.info.classes)))
        for split in dict.fromkeys(dataset.splits[places].tolist()):
            # Also for classes without chips, since readers number classes by the folders they find.
            for name in self.folders.values():
                (folder / SPLIT_NAMES[split] / name).mkdir(parents=True)

    def write(self, place: int) -> Any:
        """Copy a chip."""
        source = self.dataset.image_path(place)
        values = self.classes_of(place)
        if len(values) != 1:
            raise InputError(
                f"The chip {source} has {len(values)} classes, but this format needs exactly one.",
                "Export the chips again.",
            )
        split = SPLIT_NAMES[str(self.dataset.splits[place])]
        copy_chip(source, self.folder / split / self.folders[values[0]] / source.name)

    def finish(self) -> None:
        """Write the note."""
        self.note(self.folders.values())
