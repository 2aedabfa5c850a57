"""Layers → chip dataset."""

from __future__ import annotations

import datetime
import os
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from osgeo import gdal

from ..classes import ClassTable
from ..config import ExportChipsConfig
from ..errors import InputError, ResourceError
from ..events import Reporter, Stage
from ..files import check_writable, partial_path, remove_partial
from ..raster_io import RasterInfo, RasterReader, crs_text
from ..windows import Window, overlap, tiles
from .dataset import SPLITS, DatasetInfo
from .labels import (
    Area,
    LabelSource,
    PolygonLabels,
    RasterLabels,
    discover_classes,
    merge_classes,
    no_overlap,
    polygon_values,
    raster_classes,
)
from .plan import Plan, Unit, make_plan
from .split import split_blocks
from .statistics import BandStatistics
from .writer import ChipFiles, ChipIndex

# Chips that wait for a writer; bounds the memory, whatever the disk's speed.
WAITING_CHIPS = 64
DISCOVERY_TILE = 2048  # pixels a side
BACKGROUND_NAME, BACKGROUND_COLOR = "background", "#d9d9d9"


@dataclass(frozen=True)
class LabelScheme:
    """What labels become in the chips."""

    classes: ClassTable
    nodata: int
    background: Optional[int]  # the class value of ground without a label; None leaves it unlabelled


@dataclass
class Block:
    """What is known of a block: it decides about its split."""

    pixels: np.ndarray  # (C,)
    chips: int
    bands: BandStatistics


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
    rasters = tuple(reader.info for reader in readers)
    plan = make_plan(config, rasters)
    sources = _open_labels(config, plan)
    areas = [Area(config.area, info.grid) if config.area else None for info in rasters]
    _check_target(config)
    reporter.log(f"{_count(len(rasters), 'raster')}, {rasters[0].size_text} (the first), {crs_text(rasters[0].crs)}.")
    scheme = _label_scheme(config, plan, sources, reporter)
    planned = plan.count_chips()
    size = planned * config.chip_size**2 * len(rasters[0].bands) * _dtype(rasters).itemsize
    check_writable(config.output, size)
    partial = partial_path(config.output)
    remove_partial(config.output)
    partial.mkdir()
    try:
        exporter = _Exporter(config, plan, readers, sources, areas, scheme, partial)
        info = exporter.run(Stage(reporter, planned, "Writing chips"), reporter)
        (partial / "dataset.json").write_text(info.to_json(), encoding="utf-8")
        _publish_folder(partial, Path(config.output))
    except RuntimeError as error:  # GDAL's own words, when a file breaks while it is read or the disk fills up
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
        "dataset": str(config.output),
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


def _open_labels(config: ExportChipsConfig, plan: Plan) -> list[LabelSource]:
    if bool(config.labels) == bool(config.label_rasters):
        raise InputError(
            "Both polygons and label rasters are given." if config.labels else "No labels are given.",
            "Give either LABELS or LABEL_RASTERS.",
        )
    if config.labels:
        polygons = [PolygonLabels(config.labels, info.grid) for info in plan.rasters]
        if not any(overlap(found.polygons.extent, found.polygons.grid.bounds) for found in polygons):
            raise no_overlap(config.labels, polygons[0].polygons.extent, plan.rasters[0])
        return list(polygons)
    paths, count = config.label_rasters, len(plan.rasters)
    if len(paths) not in (1, count):
        raise InputError(
            f"{len(paths)} label rasters are given for {count} rasters.",
            "Give one for each raster, in the same order, or one for all.",
        )
    if len(paths) == 1:
        paths = paths * count
    return [RasterLabels(path, info, config.label_nodata) for path, info in zip(paths, plan.rasters)]


def _label_scheme(
    config: ExportChipsConfig, plan: Plan, sources: list[LabelSource], reporter: Reporter
) -> LabelScheme:
    """Find the classes there are, and decide what ground without a label becomes."""
    given = {int(row[0]): (str(row[1] or ""), row[2] or None) for row in config.classes}
    nodata: Optional[int] = None
    own: dict[int, tuple[str, Optional[str]]] = {}
    if config.labels:
        values = np.array(polygon_values(config.labels), np.int64)
    else:
        for path in reversed(config.label_rasters):
            own.update(raster_classes(path))
        windows = [list(tiles(area, DISCOVERY_TILE)) for area in plan.areas]
        stage = Stage(reporter, sum(map(len, windows)), "Looking for classes", 0, 0)
        values = discover_classes([(source, _counted(parts, stage)) for source, parts in zip(sources, windows)])
        nodatas = {source.nodata for source in sources if isinstance(source, RasterLabels)} - {None}
        whole = [value for value in nodatas if float(value).is_integer() and abs(value) < 2**31]
        nodata = int(whole[0]) if whole else None
    if len(values) == 0:
        raise InputError("No pixel of the rasters has a label.", "Check where the labels lie and which value means no label.")
    names = merge_classes(values, given, own).names
    background: Optional[int] = None
    if config.background == "class" or (config.background == "auto" and len(values) == 1):
        background = next(value for value in (0, 255, int(values.max()) + 1) if value not in values)
        given.setdefault(background, (BACKGROUND_NAME, BACKGROUND_COLOR))
        values = np.sort(np.append(values, background))
        if config.background == "auto":
            reporter.log(f'The labels hold one class, "{names[0]}": ground without a label is the class "background".')
    if len(values) < 2:
        raise InputError(
            f'The labels hold one class only: {values[0]} ("{names[0]}").',
            "Label a second class, or set BACKGROUND to class.",
        )
    classes = merge_classes(values, given, own)
    if nodata is None or nodata in values:
        nodata = classes.free_value()
    reporter.log("Classes: " + ", ".join(f"{info.value} {info.name}" for info in classes.classes) + ".")
    return LabelScheme(classes, nodata, background)


def _counted(windows: list[Window], stage: Stage) -> Iterator[Window]:
    for window in windows:
        stage.advance()
        yield window


class _Exporter:
    """The export itself: units are read here, and their chips written on threads."""

    def __init__(
        self,
        config: ExportChipsConfig,
        plan: Plan,
        readers: list[RasterReader],
        sources: list[LabelSource],
        areas: list[Optional[Area]],
        scheme: LabelScheme,
        folder: Path,
    ) -> None:
        self.config, self.plan, self.readers, self.sources, self.areas = config, plan, readers, sources, areas
        self.scheme = scheme
        self.dtype = _dtype(plan.rasters)
        self.nodata = _common_nodata(plan.rasters, self.dtype)
        first = plan.rasters[0]
        self.files = ChipFiles(folder, first.crs, first.band_names, self.nodata, scheme.classes, scheme.nodata)
        self.index = ChipIndex(folder / "chips.gpkg", first.crs, scheme.classes)
        self.mask_dtype = scheme.classes.mask_dtype(scheme.nodata)
        self.blocks: dict[int, Block] = {}
        self.without_data = self.without_labels = 0

    def run(self, stage: Stage, reporter: Reporter) -> DatasetInfo:
        """Write all chips and their index; gives the dataset's description."""
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as writers:
            try:
                for unit in self.plan.units():
                    for chip in self._chips_of(unit):
                        if chip is not None:
                            waiting.append(writers.submit(self._write, *chip))
                        while len(waiting) > WAITING_CHIPS:
                            waiting.popleft().result()
                        stage.advance()
                while waiting:
                    stage.advance(0)
                    waiting.popleft().result()
            except BaseException:
                writers.shutdown(cancel_futures=True)
                raise
        return self._finish(reporter)

    def _chips_of(self, unit: Unit) -> Iterator[Optional[tuple[Any, ...]]]:
        """Read a unit once and cut it into chips; None for a chip that is not kept."""
        size, grid = self.plan.chip_size, self.plan.rasters[unit.source].grid
        mask, labelled = self.sources[unit.source].read(unit.window)
        area = self.areas[unit.source]
        inside = area.read(unit.window) if area is not None else None
        if self.scheme.background is not None:
            mask = np.where(labelled, mask, self.scheme.background)
            labelled = np.ones_like(labelled)
        if inside is not None:
            labelled = labelled & inside
        if not labelled.any():  # then the image need not be read
            self.without_labels += len(unit.cols)
            yield from (None for _ in unit.cols)
            return
        reader = self.readers[unit.source]
        data = reader.read(unit.window)
        missing = reader.missing(data)
        valid = reader.valid(unit.window, missing)
        data = data.astype(self.dtype, copy=False)
        if missing is not None and self.nodata is not None:
            data[missing] = self.nodata
        if valid is not None:
            labelled = labelled & valid
        indices = self.scheme.classes.to_indices(mask)
        values = np.where(labelled, mask, self.scheme.nodata).astype(self.mask_dtype)
        classes = len(self.scheme.classes)
        for col, row in zip(unit.cols.tolist(), unit.rows.tolist()):
            window = Window(col, row, size, size)
            part = window.intersection(unit.window)
            here = part.slices_in(unit.window)
            share_valid = 1.0 if valid is None else float(valid[here].mean())
            shown = labelled[here]
            pixels = np.bincount(indices[here][shown], minlength=256)[:classes]
            share = pixels.sum() / size**2
            if share_valid == 0:
                self.without_data += 1
            elif share == 0 or share < self.config.min_labelled_share:
                self.without_labels += 1
            if share_valid == 0 or share == 0 or share < self.config.min_labelled_share:
                yield None
                continue
            name = f"{self.index.count:07d}.tif"
            self.index.add(
                grid,
                part,
                {
                    "image": f"images/{name}",
                    "label": f"labels/{name}",
                    "source": unit.source,
                    "col_off": col,
                    "row_off": row,
                    "block": unit.block,
                    "valid_share": round(share_valid * part.width * part.height / size**2, 6),
                    "labelled_share": round(float(share), 6),
                },
                pixels,
            )
            block = self.blocks.get(unit.block)
            if block is None:
                block = self.blocks[unit.block] = Block(
                    np.zeros(classes, np.int64), 0, BandStatistics.empty(len(reader.info.bands))
                )
            block.pixels += pixels
            block.chips += 1
            image, labels = data[(slice(None), *here)], values[here]
            excluded = missing[(slice(None), *here)] if missing is not None else None
            if valid is not None:
                hidden = np.broadcast_to(~valid[here], image.shape)
                excluded = hidden if excluded is None else excluded | hidden
            block.bands.add(BandStatistics.of(image, excluded))
            yield name, image, labels, grid.geotransform(window)

    def _write(self, name: str, image: np.ndarray, labels: np.ndarray, transform: tuple[float, ...]) -> None:
        size = self.plan.chip_size
        if image.shape[1:] != (size, size):
            below, right = size - image.shape[1], size - image.shape[2]
            image = np.pad(image, ((0, 0), (0, below), (0, right)), constant_values=self.nodata or 0)
            labels = np.pad(labels, ((0, below), (0, right)), constant_values=self.scheme.nodata)
        self.files.write_image(name, image, transform)
        self.files.write_label(name, labels, transform)

    def _finish(self, reporter: Reporter) -> DatasetInfo:
        """Assign the splits, close the index and describe the dataset."""
        config, plan, scheme = self.config, self.plan, self.scheme
        if not self.blocks:
            raise self._nothing_kept()
        if self.without_labels:
            reporter.log(f"{_count(self.without_labels, 'chip')} without enough labelled pixels left out.")
        if self.without_data:
            reporter.log(f"{_count(self.without_data, 'chip')} without image data left out.")
        numbers = sorted(self.blocks)
        pixels = np.array([self.blocks[number].pixels for number in numbers])
        shares = (1 - config.validation_share - config.test_share, config.validation_share, config.test_share)
        found = split_blocks(pixels, shares, config.seed)
        self.index.set_splits(dict(zip(numbers, found.tolist())))
        self.index.close()
        bands = BandStatistics.empty(len(plan.rasters[0].bands))
        chip_counts, pixel_counts = {}, {}
        for place, split in enumerate(SPLITS):
            members = [self.blocks[number] for number, where in zip(numbers, found.tolist()) if where == place]
            chip_counts[split] = sum(block.chips for block in members)
            pixel_counts[split] = pixels[found == place].sum(axis=0)
            if split == "training":
                for block in members:
                    bands.add(block.bands)
        self._warn_of_absent_classes(reporter, chip_counts, pixel_counts)
        without = bands.count == 0
        first = plan.rasters[0]
        return DatasetInfo(
            task="segmentation",
            band_names=first.band_names,
            bands=first.bands,
            dtype=self.dtype.name,
            nodata=self.nodata,
            chip_size=plan.chip_size,
            stride=plan.stride,
            crs=first.crs,
            pixel_size=first.pixel_size,
            classes=scheme.classes,
            label_nodata=scheme.nodata,
            sources=tuple(
                {"raster": info.path, "labels": str(config.labels or config.label_rasters[place % len(config.label_rasters)])}
                for place, info in enumerate(plan.rasters)
            ),
            split={
                "method": "blocks",
                "seed": config.seed,
                "block_size": plan.block_size,
                "validation_share": config.validation_share,
                "test_share": config.test_share,
            },
            mean=tuple(bands.mean.tolist()),
            std=tuple(bands.std.tolist()),
            minimum=tuple(np.where(without, 0, bands.minimum).tolist()),
            maximum=tuple(np.where(without, 0, bands.maximum).tolist()),
            chip_counts=chip_counts,
            pixel_counts={split: counts.tolist() for split, counts in pixel_counts.items()},
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        )

    def _warn_of_absent_classes(
        self, reporter: Reporter, chip_counts: dict[str, int], pixel_counts: dict[str, np.ndarray]
    ) -> None:
        wanted = {"training": 1.0, "validation": self.config.validation_share, "test": self.config.test_share}
        for split in SPLITS:
            if wanted[split] == 0:
                continue
            if chip_counts[split] == 0:
                reporter.warning(
                    f"There are too few labelled blocks for {split} chips ({len(self.blocks)} of {self.plan.block_size} "
                    "pixels): use a smaller CHIP_SIZE or BLOCK_SIZE, or label more ground."
                )
                continue
            absent = [name for name, count in zip(self.scheme.classes.names, pixel_counts[split]) if count == 0]
            if absent:
                reporter.warning(f"No {split} chip shows {', '.join(absent)}: those classes lie in too few blocks.")

    def _nothing_kept(self) -> InputError:
        if self.without_data and not self.without_labels:
            return InputError(
                f"{self.plan.rasters[0].path} holds no data where chips were asked for: every pixel is nodata.",
                "Check the raster, its nodata value and the chosen bands.",
            )
        return InputError(
            f"None of {self.without_labels + self.without_data} chips has labelled pixels with image data "
            f"(MIN_LABELLED_SHARE is {self.config.min_labelled_share:g}).",
            "Check that labels and image overlap and hold data there, or lower MIN_LABELLED_SHARE.",
        )


def _dtype(rasters: tuple[RasterInfo, ...]) -> np.dtype[Any]:
    return np.result_type(*[info.dtype for info in rasters])


def _common_nodata(rasters: tuple[RasterInfo, ...], dtype: np.dtype[Any]) -> Optional[float]:
    """One nodata value for all bands of all chips: the first there is; NaN needs none, since NaN is always missing."""
    for info in rasters:
        for value in info.nodata:
            if value is not None and value == value:
                return value
    return None


def _publish_folder(partial: Path, final: Path) -> None:
    """Give a finished dataset its name; an earlier one of that name goes only once the new one is whole."""
    if not final.exists():
        os.replace(partial, final)
        return
    old = final.with_name(f".{final.name}.replaced-{os.getpid()}")
    os.replace(final, old)
    try:
        os.replace(partial, final)
    except OSError:
        os.replace(old, final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
