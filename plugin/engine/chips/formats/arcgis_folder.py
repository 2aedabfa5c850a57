"""Write a chip dataset in the format of ArcGIS Pro's "Export Training Data For Deep Learning".

Label rasters contain class values, and 0 for unlabelled pixels, which readers of this format assume. Readers also take
class values in XML for unsigned numbers. So classes with values of 0 and below get new ones above the largest;
`terrazzo.json` has the original values. Features are the connected regions of a class in a chip. The format has no
splits, which are written to `splits.csv`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal

from ...classes import ClassInfo, ClassTable
from ...rasters.raster_io import gdal_type, missing_values
from ...strangers.images import WORLD_FILES, open_image
from ...xml_elements import Element, SubElement, tostring
from ..dataset import ChipDataset
from ..statistics import BandStatistics
from ..writer import COMPRESSION_OPTIONS
from .arcgis import DEFINITION, KIND, MAP, MODES, SPLITS_FILE, STATISTICS, UNLABELLED
from .arcgis_statistics import Statistics, to_text
from .foreign import FolderWriter
from .images import copy_chip, world_file
from .regions import regions

WORLD_FILE_OF = {"tif": "tfw", "png": "pgw", "jpg": "jgw"}


@dataclass(frozen=True)
class _Written:
    """The contribution of a chip to the statistics."""

    image: str
    label: str
    bands: BandStatistics
    pixels: np.ndarray  # (C,) pixels per class
    areas: Sequence[Sequence[float]]  # areas of the features of each class


class ArcgisWriter(FolderWriter):
    """Writes images, labels and the four description files."""

    KIND = KIND
    TASKS = tuple(MODES.values())

    def __init__(self, dataset: ChipDataset, folder: Path, places: np.ndarray) -> None:
        super().__init__(dataset, folder, places)
        self.written = written_values(self.info.classes) if self.values else []
        table = ClassTable.from_rows(ClassInfo(value, "", "#000000") for value in self.written)
        self.mask_dtype = table.mask_dtype(UNLABELLED) if self.values else np.dtype(np.uint8)
        mode = next(mode for mode, task in MODES.items() if task == self.info.task)
        self.statistics = Statistics(self.info, mode, self.written)
        self.numbers = {int(place): number for number, place in enumerate(places)}
        for name in ("images", "labels"):
            (folder / name).mkdir()
        self.map = (folder / MAP).open("w", encoding="utf-8", newline="")
        self.splits = (folder / SPLITS_FILE).open("w", encoding="utf-8", newline="")
        self.rows = csv.writer(self.splits)
        self.rows.writerow(("image", "split"))
        moved = [value for value, written in zip(self.values, self.written) if value != written]
        if moved:
            changes = ", ".join(
                f"{value} ({self.names[value]}) is written as {written}"
                for value, written in zip(self.values, self.written)
                if value != written
            )
            self.remarks.append(f"Class values in ArcGIS folders must be greater than 0: {changes}.")

    def write(self, place: int) -> _Written:
        """Write a chip's image, georeference and label; returns its statistics."""
        info = self.info
        source = self.dataset.image_path(place)
        stem = f"{self.numbers[place]:09d}"
        ending = source.suffix.lstrip(".")
        image = f"images/{stem}.{ending}"
        copy_chip(source, self.folder / image)
        data, opened = self.dataset.read_image(place), open_image(source)
        transform = opened.GetGeoTransform()
        for other in WORLD_FILES:  # ArcGIS expects a certain suffix
            (self.folder / image).with_suffix(other).unlink(missing_ok=True)
        (self.folder / image).with_suffix(f".{WORLD_FILE_OF[ending]}").write_text(world_file(transform))
        bands = BandStatistics.of(data, missing_values(data, (info.nodata,) * len(data)))
        cell = abs(transform[1] * transform[5] - transform[2] * transform[4])
        if info.task == "unlabelled":
            return _Written(image, "", bands, np.empty(0, np.int64), [])
        if info.task == "segmentation":
            return self._write_mask(place, stem, image, bands, opened, cell)
        shown = self.classes_of(place)
        label = f"labels/{stem}.xml"
        names = [self.written[self.values.index(value)] for value in shown]
        (self.folder / label).write_bytes(_label_xml(image, data.shape, [",".join(map(str, names))] if names else []))
        height, width = data.shape[1:]
        there = np.array([value in shown for value in self.values])
        areas = [[height * width * cell] if found else [] for found in there.tolist()]
        return _Written(image, label, bands, there * height * width, areas)

    def _write_mask(
        self, place: int, stem: str, image: str, bands: BandStatistics, opened: gdal.Dataset, cell: float
    ) -> _Written:
        mask = self.dataset.read_mask(place)
        indices = self.info.classes.to_indices(mask)
        lookup = np.full(256, UNLABELLED, self.mask_dtype)
        lookup[: len(self.written)] = self.written
        label = f"labels/{stem}.tif"
        height, width = mask.shape
        # Without a colour table, since readers would convert it to grey values.
        target = gdal.GetDriverByName("GTiff").Create(
            str(self.folder / label), width, height, 1, gdal_type(self.mask_dtype), COMPRESSION_OPTIONS["deflate"]
        )
        target.SetGeoTransform(opened.GetGeoTransform())
        if opened.GetSpatialRef() is not None:
            target.SetSpatialRef(opened.GetSpatialRef())
        target.WriteArray(lookup[indices])
        target.FlushCache()
        areas: list[list[float]] = [[] for _ in self.values]
        labelled = indices < len(self.values)
        for region in regions(indices, labelled):
            areas[region.value].append(region.area * cell)
        pixels = np.bincount(indices[labelled], minlength=len(self.values)).astype(np.int64)
        return _Written(image, label, bands, pixels, areas)

    def collect(self, place: int, written: Any) -> None:
        """Add a chip to `map.txt`, `splits.csv` and the statistics."""
        self.statistics.add(written.bands, written.pixels, written.areas)
        self.map.write(self.statistics.map_line(written.image, written.label))
        self.rows.writerow((written.image, self.dataset.splits[place]))

    def finish(self) -> None:
        """Write the description files."""
        (self.folder / "stats.txt").write_bytes(self.statistics.stats_text().encode("utf-8"))
        (self.folder / STATISTICS).write_text(to_text(self.statistics.accumulated()), encoding="utf-8")
        (self.folder / DEFINITION).write_text(to_text(self.statistics.definition()), encoding="utf-8")
        self.note(self.written)

    def close(self) -> None:
        """Close the lists."""
        self.map.close()
        self.splits.close()


def written_values(classes: ClassTable) -> list[int]:
    """The value written for each class: its own, or a free one if that is not greater than 0."""
    values = classes.values.tolist()
    free = max([0, *values])
    return [value if value > 0 else free + place for place, value in enumerate(values, start=1)]


def _label_xml(image: str, shape: tuple[int, ...], names: list[str]) -> bytes:
    """The XML label of a whole chip: one object per class, whose box is the chip."""
    bands, height, width = shape
    root = Element("annotation")
    SubElement(root, "filename").text = Path(image).name
    SubElement(SubElement(root, "source"), "annotation").text = "Terrazzo"
    size = SubElement(root, "size")
    for name, number in (("width", width), ("height", height), ("depth", bands)):
        SubElement(size, name).text = str(number)
    for name in names:
        found = SubElement(root, "object")
        SubElement(found, "name").text = name
        box = SubElement(found, "bndbox")
        for corner, number in (("xmin", 0), ("ymin", 0), ("xmax", width), ("ymax", height)):
            SubElement(box, corner).text = f"{number:.2f}"
    return tostring(root, encoding="utf-8", xml_declaration=True)
