"""Write a chip dataset as a Pascal VOC folder: palette masks, or annotations for the classes of whole chips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal

from ...errors import InputError
from ...xml_elements import Element, SubElement, tostring
from ..dataset import ChipDataset
from .foreign import SPLIT_NAMES, FolderWriter, file_names
from .images import copy_chip
from .voc import KIND, LABELMAP, MASKS, VOID, VOID_COLOR, Color

LISTS = ("train", "val", "trainval", "test")


class VocWriter(FolderWriter):
    """Copies images, and writes masks or annotations and the lists of the splits."""

    KIND = KIND
    TASKS = ("segmentation", "classification", "multilabel")

    def __init__(self, dataset: ChipDataset, folder: Path, places: np.ndarray) -> None:
        super().__init__(dataset, folder, places)
        self.whole = self.info.task != "segmentation"
        outside = [value for value in self.values if not 0 <= value < VOID]
        if outside and not self.whole:
            raise InputError(
                f"Masks of Pascal VOC hold class values from 0 to 254, but the class {self.names[outside[0]]} has "
                f"{outside[0]}.",
                "Export the chips with other class values, or convert them to coco.",
            )
        self.colors = distinct_colors([info.rgb for info in self.info.classes.classes])
        self.table = gdal.ColorTable()
        for value in range(256):  # unused values get the colour of "no label"
            self.table.SetColorEntry(value, (*VOID_COLOR, 255))
        for value, color in zip(self.values, self.colors):
            if not self.whole:
                self.table.SetColorEntry(value, (*color, 255))
        self.lists: dict[str, list[tuple[str, list[int]]]] = {name: [] for name in LISTS}
        for name in ("JPEGImages", "Annotations" if self.whole else MASKS):
            (folder / name).mkdir()

    def write(self, place: int) -> Any:
        """Copy a chip, and write its mask or annotation."""
        source = self.dataset.image_path(place)
        copy_chip(source, self.folder / "JPEGImages" / source.name)
        if self.whole:
            target = self.folder / "Annotations" / f"{source.stem}.xml"
            target.write_bytes(self._annotation(source.name, place))
            return
        indices = self.info.classes.to_indices(self.dataset.read_mask(place))
        lookup = np.full(256, VOID, np.uint8)
        lookup[: len(self.values)] = self.values
        mask = gdal.GetDriverByName("MEM").Create("", indices.shape[1], indices.shape[0], 1, gdal.GDT_Byte)
        mask.GetRasterBand(1).SetColorTable(self.table)
        mask.WriteArray(lookup[indices])
        path = self.folder / MASKS / f"{source.stem}.png"
        gdal.GetDriverByName("PNG").CreateCopy(str(path), mask, options=["ZLEVEL=1"]).FlushCache()

    def _annotation(self, name: str, place: int) -> bytes:
        size = self.info.chip_size
        root = Element("annotation")
        SubElement(root, "folder").text = "JPEGImages"
        SubElement(root, "filename").text = name
        SubElement(SubElement(root, "source"), "database").text = "Terrazzo"
        dimensions = SubElement(root, "size")
        for part, number in (("width", size), ("height", size), ("depth", len(self.info.band_names))):
            SubElement(dimensions, part).text = str(number)
        SubElement(root, "segmented").text = "0"
        for value in self.classes_of(place):
            found = SubElement(root, "object")
            SubElement(found, "name").text = self.names[value]
            box = SubElement(found, "bndbox")  # VOC counts pixels from 1
            for corner, number in (("xmin", 1), ("ymin", 1), ("xmax", size), ("ymax", size)):
                SubElement(box, corner).text = str(number)
        return tostring(root, encoding="utf-8", xml_declaration=True)

    def collect(self, place: int, written: Any) -> None:
        """Add a chip to the lists of its split."""
        row = (Path(str(self.dataset.images[place])).stem, self.classes_of(place))
        name = SPLIT_NAMES[str(self.dataset.splits[place])]
        self.lists[name].append(row)
        if name != "test":
            self.lists["trainval"].append(row)

    def finish(self) -> None:
        """Write the lists, and the names and colours of the classes."""
        folder = self.folder / "ImageSets" / ("Main" if self.whole else "Segmentation")
        folder.mkdir(parents=True)
        for name, rows in self.lists.items():
            _write_lines(folder / f"{name}.txt", (stem for stem, _ in rows))
            if not self.whole:
                continue
            for value, file in zip(self.values, file_names(self.info.classes)):
                marks = (f"{stem} {' 1' if value in shown else '-1'}" for stem, shown in rows)
                _write_lines(folder / f"{file}_{name}.txt", marks)
        lines = [
            f"{' '.join(name.replace(':', ' ').split())}:{','.join(map(str, color))}::"
            for name, color in zip(self.info.classes.names, self.colors)
        ]
        _write_lines(self.folder / LABELMAP, ["# label:color_rgb:parts:actions", *lines])
        self.note(self.info.classes.names if self.whole else self.values)


def _write_lines(path: Path, lines: Any) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def distinct_colors(colors: list[Color]) -> list[Color]:
    """Change colours as little as possible, so that all are distinct and none is that of "no label"."""
    taken = {VOID_COLOR}
    found = []
    for color in colors:
        red, green, blue = color
        for step in range(256**3):
            # Blue first, since changes of blue are the least visible.
            number = ((red << 16 | green << 8 | blue) + step) % 256**3
            color = (number >> 16, number >> 8 & 255, number & 255)
            if color not in taken:
                break
        taken.add(color)
        found.append(color)
    return found
