"""Import: convert a folder of chips from another program into a chip dataset."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ...classes import ClassTable
from ...config import ImportChipsConfig
from ...drafts import check_writable, claim
from ...errors import InputError, not_none
from ...events import Reporter, Stage
from ...strangers.images import Unreadable
from ...strangers.paths import check_apart
from ...threads import work_ahead
from ..builder import building, check_target, file_errors
from ..dataset import SPLITS, DatasetInfo
from ..divide import SplitRule, divide
from ..export import result_of
from ..extremes import measure, to_json
from ..index import ChipIndex
from ..writer import ENDINGS, ChipFiles
from .class_table import Found, find_classes, label_nodata_of
from .foreign import NO_CLASS, ForeignChip, ForeignFolder
from .images import ImageFacts, corners, place_image, read_image, turn
from .masks import square_mask
from .readers import read_folder
from .squares import square_chip
from .survey import Shape, survey
from .words import counted, first_of


@dataclass(frozen=True)
class _Chip:
    """The index entry of a chip."""

    corners: Sequence[tuple[float, float]]
    values: dict[str, Any]
    pixels: np.ndarray  # (C,) pixels per class


def import_chips(config: ImportChipsConfig, reporter: Reporter) -> dict[str, Any]:
    """Convert a folder of another program into a chip dataset.

    Images are copied byte for byte if they have the dataset's size, bands and one of its formats, and no EXIF rotation,
    which GDAL and QGIS ignore. The dataset appears under its final name when it is complete; a cancelled or failed
    import leaves nothing.

    Returns:
        dataset (folder), chips, training, validation, test (numbers of chips), left_out (chips in no split), classes
        (number), block_size (pixels; None without blocks).

    Raises:
        InputError: The format is unknown, or something in the folder cannot be used.
        ResourceError: The folder cannot be written, or the disk is full.
        Cancelled: The user cancelled the job.
    """
    check_apart(config.input, config.output)
    with claim(config.output):
        return _import_chips(config, reporter)


def _import_chips(config: ImportChipsConfig, reporter: Reporter) -> dict[str, Any]:
    rule = SplitRule.of(config)
    check_target(config.output, config.overwrite)
    with file_errors():
        folder = read_folder(Path(config.input), config.folder_format, reporter)
    reporter.log(f"{config.input} is a folder of {folder.kind} for {folder.task}.")
    for remark in folder.remarks:
        reporter.log(remark)
    for warning in folder.warnings:
        reporter.warning(warning)
    found, shape = survey(folder, reporter)
    found, classes, background = find_classes(folder, found, reporter)
    label_nodata = label_nodata_of(folder, classes) if folder.task == "segmentation" else None
    raw = shape.chip_size**2 * shape.bands * shape.dtype.itemsize
    check_writable(config.output, sum(facts.size if shape.keeps(facts) else raw for _, facts in found))
    with file_errors(), building(config.output) as partial:
        job = _Import(folder, shape, classes, label_nodata, background, partial, _keeps_splits(found, rule, reporter))
        with ChipIndex(partial / "chips.gpkg", classes, shape.ground.crs) as index:
            job.write_chips(found, index, Stage(reporter, len(found), "Writing chips", 0.4, 1))
            job.report(reporter)
            outline = job.outline(config)
            info = divide(index, outline, job.rule(rule, index, reporter), reporter)
        (partial / "dataset.json").write_text(info.to_json(), encoding="utf-8")
    return result_of(config.output, info)


def _keeps_splits(found: Found, rule: SplitRule, reporter: Reporter) -> bool:
    """Return whether the folder's own splits are used: every chip has one, and they are not all the same."""
    splits = {chip.split for chip, _ in found}
    if "" not in splits and len(splits) > 1:
        reporter.log("The splits of the folder are used.")
        return True
    if splits - {""}:
        missing = "" in splits
        reporter.log(
            "Only some chips of the folder have a split, so all are divided again."
            if missing
            else f"All chips of the folder are for {splits.pop()}, so they are divided again."
        )
    return False


class _Import:
    """A running import: chips are read and written on threads."""

    def __init__(
        self,
        folder: ForeignFolder,
        shape: Shape,
        classes: ClassTable,
        label_nodata: Optional[int],
        background: Optional[int],
        target: Path,
        keeps_splits: bool,
    ) -> None:
        self.folder, self.shape, self.classes = folder, shape, classes
        self.label_nodata, self.background, self.target = label_nodata, background, target
        self.keeps_splits = keeps_splits
        # Compressed, since images that are not GeoTIFFs were compressed as well.
        self.files = ChipFiles(
            target, shape.ground.crs, shape.band_names, shape.nodata, classes, label_nodata, "GTiff", "deflate"
        )
        self.copied = 0
        self.damaged: list[str] = []

    def write_chips(self, found: Found, index: ChipIndex, stage: Stage) -> None:
        """Write all chips and add them to the index.

        Raises:
            InputError: No chip can be read.
        """
        with closing(work_ahead(self._write, enumerate(found), stage)) as chips:
            for (_, (chip, facts)), written in chips:
                if written is None:
                    self.damaged.append(chip.image.name)
                    continue
                index.add(written.corners, written.values, written.pixels)
                self.copied += self._kept(facts)
        if not index.count:
            raise InputError(f"No chip can be read: {first_of(self.damaged)}.", "Check that the files are intact.")

    def report(self, reporter: Reporter) -> None:
        """Log how many images were copied and which chips were left out."""
        reporter.log(f"{counted(self.copied, 'image')} copied byte for byte.")
        if self.damaged:
            reporter.warning(f"Chips that cannot be read are left out: {first_of(self.damaged)}.")

    def _kept(self, facts: ImageFacts) -> bool:
        return facts.driver in ENDINGS and self.shape.keeps(facts)

    def _write(self, item: tuple[int, tuple[ForeignChip, ImageFacts]]) -> Optional[_Chip]:
        """Read a chip completely, then write it, so that a damaged one leaves nothing; runs on a thread."""
        number, (chip, facts) = item
        shape, size = self.shape, self.shape.chip_size
        try:
            mask = None if self.folder.mask is None else self.folder.mask(chip)
            shown = facts if mask is None else facts.as_drawn(mask.shape)
            data = read_image(shown, shape.bands, shape.dtype)
        except Unreadable:
            return None
        data, missing = square_chip(data, shape.nodata, size)
        transform = shape.ground.transform(number, facts)
        name = f"{number:07d}"
        if self._kept(facts):
            image = f"images/{name}.{ENDINGS[facts.driver]}"
            shutil.copyfile(chip.image, self.target / image)
            place_image(self.target / image, transform, shape.ground.crs)
        else:
            image = self.files.write_image(name, data, transform)
        values = self._values(chip, facts, number, transform)
        values["image"] = image
        values["valid_share"] = 1.0 if missing is None else round(1 - float(missing.all(axis=0).mean()), 6)
        statistics, extremes = measure(data, missing)
        values["statistics"], values["extremes"] = statistics.to_json(), to_json(extremes)
        pixels = np.zeros(len(self.classes), np.int64)
        if mask is not None:
            pixels = self._write_mask(square_mask(mask, size), name, transform, values)
        return _Chip(corners(transform, size), values, pixels)

    def _values(self, chip: ForeignChip, facts: ImageFacts, number: int, transform: Sequence[float]) -> dict[str, Any]:
        """The index entry of a chip, without its pixel counts."""
        ground = self.shape.ground
        column, row = ground.offset(transform)
        return {
            "label": "",
            "source": 0,
            "col_off": column,
            "row_off": row,
            "side": facts.side,
            "angle": turn(transform) if ground.real else 0.0,
            "feature": -1,
            "block": ground.block(number, transform),
            "split": chip.split if self.keeps_splits else None,
            "classes": ",".join(map(str, chip.classes)),
            "labelled_share": 1.0 if chip.classes else 0.0,
        }

    def _write_mask(
        self, mask: np.ndarray, name: str, transform: Sequence[float], values: dict[str, Any]
    ) -> np.ndarray:
        """Write a mask of class values; returns (C,) pixels per class."""
        if self.background is not None:
            mask[mask == NO_CLASS] = self.background
        indices = self.classes.to_indices(mask)
        mask = self.classes.to_values(indices, not_none(self.label_nodata))
        values["label"] = self.files.write_label(name, mask, transform)
        pixels = np.bincount(indices.ravel(), minlength=256)[: len(self.classes)].astype(np.int64)
        values["labelled_share"] = round(float(pixels.sum()) / mask.size, 6)
        shown = self.classes.values[pixels > 0]
        values["classes"] = ",".join(map(str, shown.tolist()))
        return pixels

    def rule(self, rule: SplitRule, index: ChipIndex, reporter: Reporter) -> SplitRule:
        """How the chips are divided: as in the folder, or by the settings; at random if they have no georeference."""
        if self.keeps_splits:
            splits = [row[0] for row in index.rows(["split"])]
            shares = [splits.count(split) / len(splits) for split in SPLITS]
            return SplitRule("imported", shares[1], shares[2], None, rule.seed)
        if rule.method == "blocks" and not self.shape.ground.real:
            reporter.log("The chips have no georeference, so they are divided at random instead of by blocks.")
            return dataclasses.replace(rule, method="random")
        return rule

    def outline(self, config: ImportChipsConfig) -> DatasetInfo:
        """The description, without the results of `divide`."""
        shape = self.shape
        return DatasetInfo(
            task=self.folder.task,
            band_names=shape.band_names,
            bands=tuple(range(1, shape.bands + 1)),
            dtype=shape.dtype.name,
            nodata=shape.nodata,
            chip_size=shape.chip_size,
            stride=shape.chip_size,
            crs=shape.ground.crs,
            pixel_size=shape.ground.pixel_size,
            classes=self.classes,
            label_nodata=self.label_nodata,
            sources=({"raster": config.input, "labels": self.folder.kind, "cluster": 0},),
            split={"block_size": shape.ground.block_size},
            mean=(),
            std=(),
            minimum=(),
            maximum=(),
            chip_counts={},
            pixel_counts={},
            placement={"method": "imported", "folder_format": self.folder.kind},
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )
