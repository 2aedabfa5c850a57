"""The index of a chip dataset as arrays, for everything but splits and classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from osgeo import ogr

from ..chips.dataset import INDEX, ChipDataset, field_types
from ..chips.extremes import Extreme, Ranges, from_json, together
from ..chips.statistics import BandStatistics, read_statistics
from ..events import Stage
from ..strangers.indexes import LAYER, check_fields, index_errors, open_index
from ..strangers.paths import inside

# Fields that may be missing in format 1, or in datasets from other sources.
FIELDS = ("source", "angle", "valid_share", "labelled_share", "statistics", "target", "extremes")
ROWS_A_STEP = 500


class BandTable:
    """Statistics of the bands per split, and measures of single chips derived from them.

    Args:
        chips: The number of chips.
        mean, std: (B,) statistics of the training chips, which make bands comparable.
    """

    def __init__(self, chips: int, mean: np.ndarray, std: np.ndarray) -> None:
        self.mean, self.std = mean, np.where(std > 0, std, 1)
        self.splits: dict[str, BandStatistics] = {}
        self.known = np.zeros(chips, bool)  # true for chips with statistics
        self.constant = np.zeros(chips, bool)  # true for chips with a single value in each band
        self.contrast = np.full(chips, np.nan, np.float32)  # standard deviation relative to that of all training pixels

    def add(self, chips: Sequence[int], splits: np.ndarray, rows: np.ndarray) -> None:
        """Include the statistics of some chips; much faster for many chips at once.

        Args:
            chips: (m,) their indices.
            splits: (m,) their splits, str.
            rows: (m, 5, B), as written by `BandStatistics.to_json`.
        """
        if len(chips) == 0:
            return
        count, _, squares, minimum, maximum = rows.transpose(1, 0, 2)  # (m, B) each
        seen = count > 0
        places = np.array(chips)
        self.known[places] = True
        self.constant[places] = seen.any(axis=1) & ((minimum == maximum) | ~seen).all(axis=1)
        deviations = np.sqrt(squares / np.maximum(count, 1)) / self.std
        shown = np.where(seen, deviations, 0).sum(axis=1)
        self.contrast[places] = np.where(seen.any(axis=1), shown / np.maximum(seen.sum(axis=1), 1), np.nan)
        for split in np.unique(splits).tolist():
            if split not in self.splits:
                self.splits[split] = BandStatistics.empty(len(self.mean))
            self.splits[split].add(_together(rows[splits == split]))

    def total(self) -> BandStatistics:
        """The statistics over all splits."""
        found = BandStatistics.empty(len(self.mean))
        for statistics in self.splits.values():
            found.add(statistics)
        return found


def rows_of(statistics: BandStatistics) -> np.ndarray:
    """(5, B) rows, as written by `BandStatistics.to_json`."""
    seen = statistics.count > 0
    smallest, largest = np.where(seen, statistics.minimum, 0), np.where(seen, statistics.maximum, 0)
    return np.stack([statistics.count, statistics.mean, statistics.squares, smallest, largest])


def _together(rows: np.ndarray) -> BandStatistics:
    """Merge the statistics of chips, (m, 5, B)."""
    count, mean, squares, minimum, maximum = rows.transpose(1, 0, 2)
    seen = count > 0
    total = count.sum(axis=0)
    pooled = (count * mean).sum(axis=0) / np.maximum(total, 1)
    return BandStatistics(
        total,
        pooled,
        squares.sum(axis=0) + (count * (mean - pooled) ** 2).sum(axis=0),
        np.where(seen, minimum, np.inf).min(axis=0),
        np.where(seen, maximum, -np.inf).max(axis=0),
    )


class ChipTable:
    """Columns of the index with one row per chip, in the order of `ChipDataset`; NaN or -1 for missing values."""

    def __init__(self, dataset: ChipDataset) -> None:
        count, info = len(dataset.images), dataset.info
        self.corners = np.full((count, 4, 2), np.nan)  # corners of the footprints, in CRS units
        self.sources = np.full(count, -1, np.int64)
        self.angles = np.zeros(count)
        self.valid = np.full(count, np.nan)  # share of pixels with image data
        self.labelled = np.full(count, np.nan)  # share of pixels with a label
        self.bands = BandTable(count, np.array(info.mean, np.float64), np.array(info.std, np.float64))
        # For regression: minimum, maximum and number of labelled pixels of each mask.
        self.target_range = np.full((count, 2), np.nan)
        self.target_pixels = np.full(count, -1, np.int64)
        self.target = BandStatistics.empty(1)
        self.far: dict[int, list[Extreme]] = {}  # chip → outliers among all chips

    @property
    def placed(self) -> bool:
        """Whether the footprints are real positions on the ground."""
        known = ~np.isnan(self.corners[:, 0, 0])
        if not known.any():
            return False
        # Chips of photographs without georeference are all at the origin.
        distinct = len(np.unique(np.round(self.corners[known].mean(axis=1), 6), axis=0))
        return bool(distinct > 1 or known.sum() == 1)


def read_table(dataset: ChipDataset, stage: Stage) -> ChipTable:
    """Read the index of a dataset.

    Args:
        dataset: The dataset.
        stage: Advanced by the number of chips.

    Raises:
        InputError: The index cannot be read.
    """
    table = ChipTable(dataset)
    path = inside(dataset.folder, INDEX, dataset.folder)
    with index_errors(path):
        source = open_index(path)
        layer = source.GetLayerByName(LAYER)
        check_fields(layer, field_types(dataset.info.classes))
        _fill(table, dataset, layer, stage)
    return table


def _fill(table: ChipTable, dataset: ChipDataset, layer: Any, stage: Stage) -> None:
    definition = layer.GetLayerDefn()
    places = {name: definition.GetFieldIndex(name) for name in FIELDS}
    wanted = {name for name, place in places.items() if place >= 0}
    names = [definition.GetFieldDefn(place).GetName() for place in range(definition.GetFieldCount())]
    layer.SetIgnoredFields([name for name in names if name not in wanted])
    arrays = {"source": table.sources, "angle": table.angles, "valid_share": table.valid,
              "labelled_share": table.labelled}  # fmt: skip
    columns = [(places[name], array) for name, array in arrays.items() if places[name] >= 0]
    bands = len(dataset.info.band_names)
    ranges, extreme_chips = Ranges(bands), []
    waiting: list[tuple[int, np.ndarray]] = []
    for row, feature in enumerate(layer):
        for place, column in columns:
            if feature.IsFieldSetAndNotNull(place):
                column[row] = feature.GetFieldAsDouble(place)
        _footprint(table.corners[row], feature.GetGeometryRef())
        statistics = _statistics(feature, places["statistics"], bands)
        if statistics is not None:
            extremes = _extremes(feature, places["extremes"], bands)
            ranges.add(_together(statistics[None]), extremes)
            if extremes:
                extreme_chips.append((row, _together(statistics[None]), extremes))
            else:
                waiting.append((row, statistics))
        target = _statistics(feature, places["target"], 1)
        if target is not None:
            add_target(table, row, _together(target[None]))
        if (row + 1) % ROWS_A_STEP == 0:
            _count_in(table, dataset, waiting)
            waiting = []
            stage.advance(ROWS_A_STEP)
    far = {(extreme.band, extreme.value) for extreme in ranges.far()}
    for row, own, extremes in extreme_chips:
        waiting.append((row, rows_of(together(own, extremes, far))))
        table.far[row] = [extreme for extreme in extremes if (extreme.band, extreme.value) in far]
    _count_in(table, dataset, waiting)
    stage.advance(len(dataset.images) % ROWS_A_STEP)


def _count_in(table: ChipTable, dataset: ChipDataset, waiting: list[tuple[int, np.ndarray]]) -> None:
    if waiting:
        chips = [chip for chip, _ in waiting]
        table.bands.add(chips, dataset.splits[chips], np.stack([rows for _, rows in waiting]))


def add_target(table: ChipTable, chip: int, target: BandStatistics) -> None:
    """Include the statistics of a chip's regression mask."""
    table.target.add(target)
    table.target_pixels[chip] = int(target.count[0])
    if target.count[0]:
        table.target_range[chip] = target.minimum[0], target.maximum[0]


def _footprint(corners: np.ndarray, geometry: Any) -> None:
    """Set (4, 2) corners from a rectangle; other shapes give the corners of their envelope."""
    if geometry is None or geometry.IsEmpty():
        return
    ring = geometry.GetGeometryRef(0) if ogr.GT_Flatten(geometry.GetGeometryType()) == ogr.wkbPolygon else None
    if ring is not None and ring.GetPointCount() == 5:
        corners[:] = [ring.GetPoint_2D(place) for place in range(4)]
        return
    left, right, bottom, top = geometry.GetEnvelope()
    corners[:] = [(left, top), (right, top), (right, bottom), (left, bottom)]


def _extremes(feature: Any, place: int, bands: int) -> list[Extreme]:
    """The outliers left out of a chip's statistics."""
    text = feature.GetFieldAsString(place) if place >= 0 else ""
    return from_json(text, bands) if text else []


def _statistics(feature: Any, place: int, bands: int) -> np.ndarray | None:
    """(5, B) rows, as written by `BandStatistics.to_json`; None if they are missing or damaged."""
    text = feature.GetFieldAsString(place) if place >= 0 else ""
    if not text:
        return None
    try:
        return read_statistics(text, bands)
    except ValueError:
        return None  # edited by hand; computed from the pixels instead
