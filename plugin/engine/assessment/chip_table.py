"""What the index of a chip dataset says of each chip beside its split and classes: read once, kept as arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal, ogr

from ..chips.dataset import ChipDataset
from ..chips.statistics import BandStatistics
from ..errors import InputError
from ..events import Stage

# Fields of the index that a dataset of format 1, or one from elsewhere, may lack.
FIELDS = ("source", "angle", "valid_share", "labelled_share", "statistics", "target")
ROWS_A_STEP = 500


class BandTable:
    """Statistics of the bands by split, and what those of a single chip say about it.

    Args:
        chips: How many chips there are.
        mean, std: (B,) of the training chips, to compare bands of unlike units.
    """

    def __init__(self, chips: int, mean: np.ndarray, std: np.ndarray) -> None:
        self.mean, self.std = mean, np.where(std > 0, std, 1)
        self.splits: dict[str, BandStatistics] = {}
        self.known = np.zeros(chips, bool)  # whether a chip's statistics were added
        self.constant = np.zeros(chips, bool)  # one value in each band
        self.contrast = np.full(chips, np.nan, np.float32)  # deviation, 1 = as large as that of all training pixels

    def add(self, chip: int, split: str, statistics: BandStatistics) -> None:
        """Count in the statistics of one chip."""
        if split not in self.splits:
            self.splits[split] = BandStatistics.empty(len(self.mean))
        self.splits[split].add(statistics)
        self.known[chip] = True
        seen = statistics.count > 0
        if seen.any():
            self.constant[chip] = bool((statistics.minimum == statistics.maximum)[seen].all())
            self.contrast[chip] = (statistics.std / self.std)[seen].mean()

    def total(self) -> BandStatistics:
        """Of the chips of all splits."""
        found = BandStatistics.empty(len(self.mean))
        for statistics in self.splits.values():
            found.add(statistics)
        return found


class ChipTable:
    """Columns of the index, one row a chip, in the order of `ChipDataset`; NaN and -1 where the index has nothing."""

    def __init__(self, dataset: ChipDataset) -> None:
        count, info = len(dataset.images), dataset.info
        self.corners = np.full((count, 4, 2), np.nan)  # of the footprints, in CRS units
        self.sources = np.full(count, -1, np.int64)
        self.angles = np.zeros(count)
        self.valid = np.full(count, np.nan)  # share of pixels with image data
        self.labelled = np.full(count, np.nan)  # share of pixels with a label
        self.bands = BandTable(count, np.array(info.mean, np.float64), np.array(info.std, np.float64))
        # Regression: smallest and largest value of each chip's mask, and how many pixels have one.
        self.target_range = np.full((count, 2), np.nan)
        self.target_pixels = np.full(count, -1, np.int64)
        self.target = BandStatistics.empty(1)

    @property
    def placed(self) -> bool:
        """Whether the footprints say where on the ground the chips lie."""
        known = ~np.isnan(self.corners[:, 0, 0])
        if not known.any():
            return False
        # Photos without a place all lie at the origin.
        distinct = len(np.unique(np.round(self.corners[known].mean(axis=1), 6), axis=0))
        return bool(distinct > 1 or known.sum() == 1)


def read_table(dataset: ChipDataset, stage: Stage) -> ChipTable:
    """Read the index.

    Args:
        stage: Advances by the number of chips.

    Raises:
        InputError: The index cannot be read.
    """
    table = ChipTable(dataset)
    index = dataset.folder / "chips.gpkg"
    try:
        _fill(table, dataset, index, stage)
    except (RuntimeError, AttributeError) as error:
        raise InputError(f"The index {index} cannot be read ({error}).", "Export the chips again.") from error
    return table


def _fill(table: ChipTable, dataset: ChipDataset, index: Path, stage: Stage) -> None:
    source = gdal.OpenEx(str(index), gdal.OF_VECTOR)
    layer = source.GetLayerByName("chips")
    definition = layer.GetLayerDefn()
    places = {name: definition.GetFieldIndex(name) for name in FIELDS}
    wanted = {name for name, place in places.items() if place >= 0}
    names = [definition.GetFieldDefn(place).GetName() for place in range(definition.GetFieldCount())]
    layer.SetIgnoredFields([name for name in names if name not in wanted])
    columns = {"source": table.sources, "angle": table.angles, "valid_share": table.valid,
               "labelled_share": table.labelled}  # fmt: skip
    for row, feature in enumerate(layer):
        for name, column in columns.items():
            value = feature.GetField(places[name]) if places[name] >= 0 else None
            if value is not None:
                column[row] = value
        _footprint(table.corners[row], feature.GetGeometryRef())
        statistics = _statistics(feature, places["statistics"], len(dataset.info.band_names))
        if statistics is not None:
            table.bands.add(row, str(dataset.splits[row]), statistics)
        target = _statistics(feature, places["target"], 1)
        if target is not None:
            add_target(table, row, target)
        if (row + 1) % ROWS_A_STEP == 0:
            stage.advance(ROWS_A_STEP)
    stage.advance(len(dataset.images) % ROWS_A_STEP)


def add_target(table: ChipTable, chip: int, target: BandStatistics) -> None:
    """Count in the statistics of one chip's regression mask."""
    table.target.add(target)
    table.target_pixels[chip] = int(target.count[0])
    if target.count[0]:
        table.target_range[chip] = target.minimum[0], target.maximum[0]


def _footprint(corners: np.ndarray, geometry: Any) -> None:
    """Fill in (4, 2) corners from a polygon of four; other shapes give the corners of their envelope."""
    if geometry is None or geometry.IsEmpty():
        return
    ring = geometry.GetGeometryRef(0) if ogr.GT_Flatten(geometry.GetGeometryType()) == ogr.wkbPolygon else None
    if ring is not None and ring.GetPointCount() == 5:
        corners[:] = [ring.GetPoint_2D(place) for place in range(4)]
        return
    left, right, bottom, top = geometry.GetEnvelope()
    corners[:] = [(left, top), (right, top), (right, bottom), (left, bottom)]


def _statistics(feature: Any, place: int, bands: int) -> BandStatistics | None:
    text = feature.GetField(place) if place >= 0 else None
    if not text:
        return None
    try:
        found = BandStatistics.from_json(text)
    except (ValueError, TypeError):
        return None  # somebody's own edit; the pixels tell as well
    whole = found.count.shape == (bands,) and math.isfinite(float(found.mean.sum() + found.squares.sum()))
    return found if whole else None
