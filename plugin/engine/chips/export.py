"""Layers → chip dataset."""

from __future__ import annotations

import datetime
import os
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..config import ExportChipsConfig
from ..errors import InputError, ResourceError
from ..events import Reporter, Stage
from ..files import check_writable, partial_path, remove_partial
from ..raster_io import RasterReader, crs_text
from .cutting import Block, Chip, Cutter
from .dataset import SPLITS, DatasetInfo
from .labels import Area
from .plan import Plan, make_plan
from .scheme import LabelScheme, find_scheme, open_labels
from .split import split_blocks
from .statistics import BandStatistics
from .writer import ChipFiles, ChipIndex

# Chips that wait for a writer; bounds the memory, whatever the disk's speed.
WAITING_CHIPS = 64


def export_chips(config: ExportChipsConfig, reporter: Reporter) -> dict[str, Any]:
    """Cut image and label chips from rasters and write them as a chip dataset.

    The dataset appears under its final name when it is whole; a cancelled or failed export leaves nothing.

    Returns:
        dataset (folder), chips, training, validation, test (numbers of chips), classes (number), block_size (pixels).

    Raises:
        InputError: The layers do not go together or cannot be used.
        ResourceError: The folder cannot be written or its disk is full.
        Cancelled: The user asked for the end.
    """
    readers = [RasterReader(path, config.bands) for path in config.input]
    plan = make_plan(config, tuple(reader.info for reader in readers))
    sources = open_labels(config, plan)
    areas = [Area(config.area, info.grid) if config.area else None for info in plan.rasters]
    _check_target(config)
    first = plan.rasters[0]
    reporter.log(f"{_count(len(readers), 'raster')}; the first has {first.size_text} in {crs_text(first.crs)}.")
    scheme = find_scheme(config, plan, sources, reporter)
    cutter = Cutter(plan, readers, sources, areas, scheme, config.min_labelled_share)
    planned = plan.count_chips()
    check_writable(config.output, planned * plan.chip_size**2 * len(first.bands) * cutter.dtype.itemsize)
    remove_partial(config.output)
    partial = partial_path(config.output)
    partial.mkdir()
    try:
        with ChipIndex(partial / "chips.gpkg", first.crs, scheme.classes) as index:
            export = _Export(config, plan, cutter, scheme, index, partial)
            export.write_chips(Stage(reporter, planned, "Writing chips"))
            info = export.finish(reporter)
        (partial / "dataset.json").write_text(info.to_json(), encoding="utf-8")
        _publish(partial, Path(config.output))
    except RuntimeError as error:  # GDAL's own words, when a file turns out broken or the disk fills up
        remove_partial(config.output)
        raise ResourceError(
            f"Reading or writing failed ({error}).", "Check that the rasters are whole and the disk has room."
        ) from error
    except BaseException:
        remove_partial(config.output)
        raise
    counts = info.chip_counts
    reporter.log(", ".join(f"{_count(counts[split], 'chip')} for {split}" for split in SPLITS) + ".")
    return {
        "dataset": config.output,
        "chips": sum(counts.values()),
        **counts,
        "classes": len(scheme.classes),
        "block_size": plan.block_size,
    }


def _check_target(config: ExportChipsConfig) -> None:
    """An existing dataset is replaced only when asked; any other folder with something in it never is."""
    folder = Path(config.output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / "dataset.json").is_file():
            raise InputError(f"{folder} exists and is no chip dataset.", "Choose a new or an empty folder.")
        if not config.overwrite:
            raise InputError(f"The chip dataset {folder} exists.", "Choose another folder, or set OVERWRITE.")
    check_writable(config.output)


class _Export:
    """An export under way: chips are cut here and written on threads, while each block's figures add up."""

    def __init__(
        self,
        config: ExportChipsConfig,
        plan: Plan,
        cutter: Cutter,
        scheme: LabelScheme,
        index: ChipIndex,
        folder: Path,
    ) -> None:
        self.config, self.plan, self.cutter, self.scheme, self.index = config, plan, cutter, scheme, index
        first = plan.rasters[0]
        self.files = ChipFiles(folder, first.crs, first.band_names, cutter.nodata, scheme.classes, scheme.nodata)
        self.blocks: dict[int, Block] = {}
        self.plain: list[str] = []  # the value of each chip that shows nothing but one value a band

    def write_chips(self, stage: Stage) -> None:
        """Cut every unit of the plan and write the chips that are kept."""
        waiting: deque[tuple[int, Future[BandStatistics]]] = deque()
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as writers:
            try:
                for unit in self.plan.units():
                    for chip in self.cutter.cut(unit):
                        if chip is not None:
                            name = self._register(chip)
                            waiting.append((unit.block, writers.submit(self._write, name, chip)))
                        while len(waiting) > WAITING_CHIPS:
                            self._collect(*waiting.popleft())
                        stage.advance()
                while waiting:
                    self._collect(*waiting.popleft())
                    stage.advance(0)
            except BaseException:
                writers.shutdown(cancel_futures=True)
                raise

    def _register(self, chip: Chip) -> str:
        """Enter a chip into the index and its block; gives its file name."""
        name = f"{self.index.count:07d}.tif"
        values = {
            "image": f"images/{name}",
            "label": f"labels/{name}",
            "source": chip.unit.source,
            "col_off": chip.window.col_off,
            "row_off": chip.window.row_off,
            "block": chip.unit.block,
            "valid_share": round(chip.valid_share, 6),
            "labelled_share": round(chip.labelled_share, 6),
        }
        self.index.add(self.plan.rasters[chip.unit.source].grid, chip.part, values, chip.pixels)
        block = self.blocks.get(chip.unit.block)
        if block is None:
            block = Block(np.zeros_like(chip.pixels), BandStatistics.empty(len(chip.image)))
            self.blocks[chip.unit.block] = block
        block.pixels += chip.pixels
        block.chips += 1
        return name

    def _write(self, name: str, chip: Chip) -> BandStatistics:
        """Write a chip's two files, padded to the chip size; runs on a thread, in GDAL and numpy for the most part."""
        image, mask = chip.image, chip.mask
        below, right = chip.window.height - chip.part.height, chip.window.width - chip.part.width
        if below or right:
            image = np.pad(image, ((0, 0), (0, below), (0, right)), constant_values=self.cutter.nodata or 0)
            mask = np.pad(mask, ((0, below), (0, right)), constant_values=self.scheme.nodata)
        transform = self.plan.rasters[chip.unit.source].grid.geotransform(chip.window)
        self.files.write_image(name, image, transform)
        self.files.write_label(name, mask, transform)
        return BandStatistics.of(chip.image, chip.excluded)

    def _collect(self, block: int, written: Future[BandStatistics]) -> None:
        found = written.result()
        self.blocks[block].bands.add(found)
        if (found.minimum == found.maximum).all():
            self.plain.append(", ".join(f"{value:g}" for value in found.minimum[:8]))

    def finish(self, reporter: Reporter) -> DatasetInfo:
        """Assign the splits and describe the dataset."""
        if not self.blocks:
            raise self._nothing_kept()
        self._report_left_out(reporter)
        config, plan, scheme = self.config, self.plan, self.scheme
        numbers = sorted(self.blocks)
        pixels = np.array([self.blocks[number].pixels for number in numbers])
        shares = (1 - config.validation_share - config.test_share, config.validation_share, config.test_share)
        found = split_blocks(pixels, shares, config.seed)
        self.index.set_splits(dict(zip(numbers, map(int, found))))
        chips = np.array([self.blocks[number].chips for number in numbers])
        chip_counts = {split: int(chips[found == place].sum()) for place, split in enumerate(SPLITS)}
        pixel_counts = {split: pixels[found == place].sum(axis=0).tolist() for place, split in enumerate(SPLITS)}
        self._warn_of_gaps(reporter, chip_counts, pixel_counts)
        bands = BandStatistics.empty(len(plan.rasters[0].bands))
        for number, place in zip(numbers, map(int, found)):
            if SPLITS[place] == "training":
                bands.add(self.blocks[number].bands)
        seen = bands.count > 0
        constant = [name for name, std in zip(plan.rasters[0].band_names, map(float, bands.std)) if std == 0]
        if constant:
            reporter.warning(
                f"The same value stands everywhere in {', '.join(constant)}: nothing can be learned from it. "
                "Leave it out with BANDS."
            )
        first = plan.rasters[0]
        return DatasetInfo(
            task="segmentation",
            band_names=first.band_names,
            bands=first.bands,
            dtype=self.cutter.dtype.name,
            nodata=self.cutter.nodata,
            chip_size=plan.chip_size,
            stride=plan.stride,
            crs=first.crs,
            pixel_size=first.pixel_size,
            classes=scheme.classes,
            label_nodata=scheme.nodata,
            sources=self._sources(),
            split={
                "method": "blocks",
                "seed": config.seed,
                "block_size": plan.block_size,
                "validation_share": config.validation_share,
                "test_share": config.test_share,
            },
            mean=tuple(map(float, bands.mean)),
            std=tuple(map(float, bands.std)),
            minimum=tuple(map(float, np.where(seen, bands.minimum, 0))),
            maximum=tuple(map(float, np.where(seen, bands.maximum, 0))),
            chip_counts=chip_counts,
            pixel_counts=pixel_counts,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )

    def _sources(self) -> tuple[dict[str, Any], ...]:
        labels = self.config.label_rasters or ("polygons",)
        return tuple(
            {"raster": info.path, "labels": labels[place % len(labels)]} for place, info in enumerate(self.plan.rasters)
        )

    def _report_left_out(self, reporter: Reporter) -> None:
        tally = self.cutter.tally
        if tally.without_labels:
            reporter.log(f"{_count(tally.without_labels, 'chip')} without enough labelled pixels left out.")
        if tally.without_data:
            reporter.log(f"{_count(tally.without_data, 'chip')} without image data left out.")
        if self.plain:
            reporter.warning(
                f"{_count(len(self.plain), 'chip')} of {self.index.count} show the same value everywhere "
                f"({max(set(self.plain), key=self.plain.count)}). Where that is filling without an image, set it as "
                "the raster's nodata value: it would be learned and counted as ground."
            )

    def _warn_of_gaps(
        self, reporter: Reporter, chip_counts: dict[str, int], pixel_counts: dict[str, list[int]]
    ) -> None:
        """Warn of splits without chips, and of classes that a split does not show."""
        config = self.config
        wanted = {"training": 1.0, "validation": config.validation_share, "test": config.test_share}
        for split in (split for split in SPLITS if wanted[split] > 0):
            absent = [name for name, count in zip(self.scheme.classes.names, pixel_counts[split]) if count == 0]
            if chip_counts[split] == 0:
                reporter.warning(
                    f"No chips are left for {split}: the labels lie in {_count(len(self.blocks), 'block')} of "
                    f"{self.plan.block_size} pixels. Use a smaller CHIP_SIZE or BLOCK_SIZE, or label more ground."
                )
            elif absent:
                reporter.warning(f"No {split} chip shows {', '.join(absent)}: too few blocks hold it.")

    def _nothing_kept(self) -> InputError:
        tally = self.cutter.tally
        if tally.without_data and not tally.without_labels:
            return InputError(
                f"{self.plan.rasters[0].path} holds no data where chips were asked for: every pixel is nodata.",
                "Check the raster, its nodata value and the chosen bands.",
            )
        return InputError(
            f"None of {tally.without_labels + tally.without_data} chips has enough labelled pixels with image data "
            f"(MIN_LABELLED_SHARE is {self.config.min_labelled_share:g}).",
            "Check that labels and image overlap and hold data there, or lower MIN_LABELLED_SHARE.",
        )


def _publish(partial: Path, final: Path) -> None:
    """Give a finished dataset its name; an earlier one of that name goes only once the new one stands there."""
    if not final.exists():
        partial.replace(final)
        return
    old = final.with_name(f".{final.name}.replaced-{os.getpid()}")
    final.replace(old)
    try:
        partial.replace(final)
    except OSError:
        old.replace(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
