"""Export: cut rasters and labels into a chip dataset."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ..config import ExportChipsConfig
from ..drafts import Draft, claim
from ..errors import InputError
from ..events import Reporter, Stage
from ..files import check_kept, check_space
from ..rasters.block_cache import limited_cache
from ..rasters.opening import files_behind
from ..rasters.raster_io import crs_text
from ..threads import WORKERS, work_ahead
from .append import Join, check_joins
from .builder import building, check_target
from .chip_size import choose_size
from .cutting import Chip, Cutter
from .dataset import DatasetInfo, index_of, read_info
from .divide import SplitRule, divide
from .extremes import Extreme, measure, to_json
from .fingerprint import fingerprint_of, without_files
from .index import ChipIndex
from .journal import Journal, Progress
from .outline import outline_of
from .placement import corners_of
from .plan import Plan, Unit, exported_areas, make_plan
from .scheme import find_scheme, open_labels
from .sources import degrees_warning, open_sources
from .statistics import BandStatistics
from .writer import ChipFiles, check_format

# The maximum number and size of chips that wait to be written, which limits memory if the disk is slow.
WAITING_CHIPS = 64
WAITING_BYTES = 100_000_000


def export_chips(config: ExportChipsConfig, reporter: Reporter) -> dict[str, Any]:
    """Cut image and label chips from rasters and write them as a chip dataset.

    The dataset appears under its final name when it is complete. A cancelled or failed export leaves nothing, or, with
    `resume`, a hidden folder from which it can be resumed.

    Returns:
        dataset (folder), chips, training, validation, test (numbers of chips), left_out (chips in no split), classes
        (number), block_size (pixels; None without blocks).

    Raises:
        InputError: A layer or setting cannot be used.
        ResourceError: The folder cannot be written, or the disk is full.
        Cancelled: The user cancelled the job.
    """
    _check_settings(config)
    # If the dataset is a link, its target is changed, and the link stays.
    output = os.path.realpath(config.output) if config.append else config.output
    with claim(output, config.resume) as draft:
        return _export_chips(dataclasses.replace(config, output=output), draft, reporter)


def _export_chips(config: ExportChipsConfig, draft: Draft, reporter: Reporter) -> dict[str, Any]:
    rule = SplitRule.of(config)
    if config.resume and draft.finished and draft.finished == _mark(config):
        reporter.log("The interrupted export was already complete, and now has its final name.")
        return result_of(config.output, read_info(config.output))
    earlier = read_info(config.output) if config.append and Path(config.output).exists() else None
    check_target(config.output, config.overwrite or earlier is not None)
    readers = open_sources(config, reporter)
    if earlier is None:
        read = files_behind(file for reader in readers for file in (reader.info.path, *reader.files()))
        check_kept({"OUTPUT": config.output}, {"one of the rasters": [*config.input, *config.label_rasters, *read]})
    rasters = tuple(reader.info for reader in readers)
    areas = exported_areas(config, rasters)
    sources = open_labels(config, rasters, reporter)
    first = rasters[0]
    reporter.log(f"{_count(len(readers), 'raster')}; the first has {first.size_text} in {crs_text(first.crs)}.")
    size = choose_size(config, rasters, areas, sources, earlier.chip_size if earlier else None, reporter)
    warning = degrees_warning(first, size)
    if warning:
        reporter.warning(warning)
    plan = make_plan(config, rasters, areas, size)
    scheme, sources = find_scheme(config, plan, sources, reporter)
    join = Join()
    if earlier is not None:
        join, scheme, sources = check_joins(config, earlier, plan, scheme, sources)
    cutter = Cutter(config, plan, readers, sources, scheme)
    if earlier is not None:
        cutter.nodata = earlier.nodata
    check_format(config.chip_format, len(first.bands), cutter.dtype, cutter.nodata)
    outline = outline_of(config, plan, cutter, earlier)
    planned = plan.count_chips()
    if not planned:
        raise InputError(
            "No chip can be placed: there are no features in the exported part of the rasters."
            if config.placement in ("features", "bounding_boxes")
            else "No chip can be placed in the exported part of the rasters.",
            "Check EXTENT, PLACEMENT and the layers.",
        )
    check_space(config.output, planned * plan.chip_size**2 * len(first.bands) * cutter.dtype.itemsize)
    progress = _prepare(dataclasses.replace(config, chip_size=size), draft, reporter)
    building_it = building(config.output, config.resume, earlier is not None, _mark(config))
    with building_it as partial, limited_cache(readers, plan.unit_rows):
        if earlier is not None and not progress.units:
            shutil.copy2(index_of(Path(config.output)), partial / "chips.gpkg")
        new = earlier is None and not progress.units
        with ChipIndex(partial / "chips.gpkg", outline.classes, first.crs if new else None) as index:
            if progress.units:
                index.remove(f"fid > {progress.chips}")  # written after the last saved progress
            export = _Export(config, plan, cutter, outline, index, draft, join, progress)
            export.write_chips(Stage(reporter, planned, "Writing chips"))
            export.report_left_out(reporter)
            info = divide(index, outline, rule, reporter)
        (partial / "dataset.json").write_text(info.to_json(), encoding="utf-8")
    return result_of(config.output, info)


def result_of(folder: str, info: DatasetInfo) -> dict[str, Any]:
    """The results of a job that created or changed a dataset."""
    return {
        "dataset": folder,
        "chips": sum(info.chip_counts.values()) + info.split.get("left_out", 0),
        **info.chip_counts,
        "left_out": info.split.get("left_out", 0),
        "classes": len(info.classes),
        "block_size": info.split.get("block_size"),
    }


def _check_settings(config: ExportChipsConfig) -> None:
    """Check combinations of settings.

    Raises:
        InputError: Some settings contradict each other.
    """
    around_features = config.placement in ("features", "bounding_boxes")
    if config.blacken and not around_features:
        raise InputError(
            f"BLACKEN is set, but with PLACEMENT {config.placement} chips do not belong to features.",
            "Set PLACEMENT to features or bounding_boxes, or BLACKEN to false.",
        )
    if config.append and config.overwrite:
        raise InputError("APPEND and OVERWRITE are both set.", "Set only one: either append or replace.")
    if config.min_feature_share > 0 and not config.labels:
        raise InputError("MIN_FEATURE_SHARE is set, but no features are given.", "Give LABELS, or set it to 0.")


def _mark(config: ExportChipsConfig) -> str:
    """Identify a resumable export, also after its chips have been appended to the dataset."""
    return fingerprint_of(dataclasses.replace(config, append=False)) if config.resume else ""


def _prepare(config: ExportChipsConfig, draft: Draft, reporter: Reporter) -> Progress:
    """The progress of an interrupted export to resume; leftovers of an export with other settings are removed."""
    if not config.resume:
        return Progress("")
    fresh = Progress(fingerprint_of(config))
    found = Journal(draft.folder, fresh.fingerprint).earlier() if (draft.path / "chips.gpkg").exists() else None
    if found is not None:
        reporter.log(f"Resuming an interrupted export with {_count(found.chips, 'chip')} already written.")
        for path in without_files(config):
            reporter.warning(f"Changes to {path} since the interruption cannot be detected, since it is not a file.")
        return found
    if draft.path.exists():
        reporter.log("Settings or layers have changed since the interrupted export, so it starts from the beginning.")
        draft.clear()
    return fresh


@dataclass(frozen=True)
class _Written:
    """The result of writing a chip."""

    image: str  # path relative to the dataset
    label: str
    statistics: BandStatistics
    extremes: list[Extreme]
    target: Optional[BandStatistics]


class _Export:
    """A running export: one thread reads ahead, the calling thread cuts, and others write."""

    def __init__(
        self,
        config: ExportChipsConfig,
        plan: Plan,
        cutter: Cutter,
        outline: DatasetInfo,
        index: ChipIndex,
        draft: Draft,
        join: Join,
        progress: Progress,
    ) -> None:
        self.config, self.plan, self.cutter, self.index, self.join = config, plan, cutter, index, join
        self.progress = progress
        self.journal = Journal(draft.folder, progress.fingerprint)
        self.files = ChipFiles(
            draft.path, outline.crs, outline.band_names, outline.nodata, outline.classes, outline.label_nodata,
            config.chip_format, config.compression,
        )  # fmt: skip
        self.plain = Counter(progress.plain)
        for name, count in progress.left_out.items():
            setattr(cutter.tally, name, count)
        chip_bytes = plan.chip_size**2 * len(outline.band_names) * cutter.dtype.itemsize
        self.most_waiting = int(min(WAITING_CHIPS, max(4, WAITING_BYTES // chip_bytes)))

    def write_chips(self, stage: Stage) -> None:
        """Cut all units of the plan, and write the chips that are kept."""
        waiting: deque[tuple[Chip, np.ndarray, Future[_Written]]] = deque()
        number = self.join.first_number + max(0, self.progress.chips - self.join.chips)
        read = work_ahead(lambda numbered: self.cutter.read(numbered[1]), self._units(stage), threads=1, waiting=2)
        with closing(read) as units, ThreadPoolExecutor(WORKERS) as writers:
            try:
                for (done, unit), pixels in units:
                    corners = unit.spots.corners(self.plan.rasters[unit.source].grid)
                    for chip in self.cutter.cut(unit, pixels):
                        if chip is not None:
                            square = corners[chip.place]
                            waiting.append((chip, square, writers.submit(self._write, f"{number:07d}", chip, square)))
                            number += 1
                        while len(waiting) > self.most_waiting:
                            self._collect(*waiting.popleft())
                        stage.advance()
                    if self.journal.due():
                        while waiting:
                            self._collect(*waiting.popleft())
                        self._note(done)
                while waiting:
                    self._collect(*waiting.popleft())
                    stage.advance(0)
            except BaseException:
                writers.shutdown(cancel_futures=True)
                raise

    def _units(self, stage: Stage) -> Iterator[tuple[int, Unit]]:
        """(number of units done, unit); units of an earlier run are skipped."""
        for number, unit in enumerate(self.plan.units(), start=1):
            if number > self.progress.units:
                yield number, unit
            else:
                stage.advance(len(unit.spots))

    def _write(self, name: str, chip: Chip, corners: np.ndarray) -> _Written:
        """Write the files of a chip; runs on a thread, mostly in GDAL and numpy."""
        stored, shown, excluded = self.cutter.image_of(chip)
        across, down = (corners[1] - corners[0]) / self.plan.chip_size, (corners[3] - corners[0]) / self.plan.chip_size
        transform = (corners[0, 0], across[0], down[0], corners[0, 1], across[1], down[1])
        image = self.files.write_image(name, stored, transform)
        label, target = "", None
        if chip.label.target is not None:
            target = BandStatistics.of(np.full((1, 1, 1), chip.label.target), None)
        if chip.mask is not None:
            label = self.files.write_label(name, chip.mask, transform)
            if self.config.task == "regression":
                target = BandStatistics.of(chip.mask[None], ~np.isfinite(chip.mask)[None])
        return _Written(image, label, *measure(shown, excluded), target)

    def _collect(self, chip: Chip, corners: np.ndarray, future: Future[_Written]) -> None:
        """Add a written chip to the index."""
        written, spots, place = future.result(), chip.unit.spots, chip.place
        found = written.statistics
        if not written.extremes and (found.minimum == found.maximum).all():
            self.plain[", ".join(f"{value:g}" for value in found.minimum[:8])] += 1
        values = {
            "image": written.image,
            "label": written.label,
            "source": chip.unit.source + self.join.sources,
            "col_off": chip.window.col_off,
            "row_off": chip.window.row_off,
            "side": int(spots.sides[place]),
            "angle": float(spots.angles[place]),
            "feature": int(spots.features[place]),
            "block": chip.unit.block + self.join.blocks,
            "classes": chip.label.classes,
            "valid_share": round(chip.valid_share, 6),
            "labelled_share": round(chip.label.labelled_share, 6),
            "statistics": found.to_json(),
            "extremes": to_json(written.extremes),
            "target": written.target.to_json() if written.target is not None else None,
        }
        if chip.part != chip.window and spots.angles[place] % 360 == 0:  # the footprint is the ground it shows
            corners = corners_of(self.plan.rasters[chip.unit.source].grid, chip.part)
        self.index.add(corners.tolist(), values, chip.label.pixels)

    def _note(self, units: int) -> None:
        """Save the progress, once all chips of these units are in the index."""
        self.index.commit()
        if self.config.resume:
            progress = Progress(
                self.progress.fingerprint, units, self.index.count, asdict(self.cutter.tally), dict(self.plain)
            )
            self.journal.note(progress)

    def report_left_out(self, reporter: Reporter) -> None:
        """Log how many chips were left out, and warn of chips that look like nodata.

        Raises:
            InputError: No chip was kept.
        """
        tally = self.cutter.tally
        if self.index.count == self.join.chips:
            raise self._nothing_kept()
        if tally.without_labels:
            reporter.log(f"{_count(tally.without_labels, 'chip')} left out for too few labels.")
        if tally.without_data:
            reporter.log(f"{_count(tally.without_data, 'chip')} left out for missing image data.")
        if tally.background_only:
            reporter.log(f"{_count(tally.background_only, 'chip')} left out for showing only background.")
        if self.plain:
            value, _ = self.plain.most_common(1)[0]
            reporter.warning(
                f"{_count(sum(self.plain.values()), 'chip')} of {self.index.count} have the same value in all pixels "
                f"({value}). If it stands for no image, export again with it as NODATA; otherwise it is learned "
                "as ground."
            )

    def _nothing_kept(self) -> InputError:
        tally = self.cutter.tally
        if tally.without_data and not tally.without_labels:
            return InputError(
                f"{self.plan.rasters[0].path} has no data where chips are placed: all pixels are nodata.",
                "Check the raster, its nodata value and the chosen bands.",
            )
        return InputError(
            f"None of {sum(asdict(tally).values())} chips has enough labelled pixels with image data "
            f"(MIN_LABELLED_SHARE is {self.config.min_labelled_share:g}, MIN_CLASS_SHARE "
            f"{self.config.min_class_share:g}).",
            "Check that labels and images overlap and have data there, or lower these shares.",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
