"""Measures of the chips' pixels: each chip is read once, on threads, and only a few numbers are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..chips.dataset import ChipDataset
from ..chips.statistics import BandStatistics
from ..classes import IGNORE_INDEX
from ..errors import InputError
from ..events import Stage
from ..rasters.raster_io import missing_values
from ..tasks import SEGMENTER_TASKS
from ..threads import READERS, work_ahead
from . import looks
from .chip_table import ChipTable, add_target, rows_of

# The bytes of chips that a thread reads in one step, and the maximum number of chips.
BATCH_BYTES, BATCH_CHIPS = 4_000_000, 16
# The number of pixels for histograms over all bands, and the maximum number of chips they are from.
SAMPLED_VALUES, SAMPLED_CHIPS = 6_000_000, 4096
# A class with no more pixels than this in a chip may be a mistake.
STRAY_PIXELS = 3


@dataclass
class PixelSample:
    """Values of the same K pixels in S chips."""

    chips: np.ndarray  # (S,) indices into the dataset
    positions: np.ndarray  # (K,) indices into a flattened band
    values: np.ndarray  # (B, S, K) as stored
    classes: np.ndarray  # (S, K) uint8 class indices, or IGNORE_INDEX
    targets: np.ndarray  # (S, K) float32 values of masks of numbers, (S, 1) of chips; (S, 0) for other tasks
    read: np.ndarray  # (S,) bool, false for chips that could not be read


@dataclass
class Measures:
    """Measures of n chips; for chips that were not read, `read` is False and all else is 0."""

    read: np.ndarray  # (n,) bool
    image_hashes: np.ndarray  # (n,) uint64, equal for identical images
    label_hashes: np.ndarray  # (n,) uint64, equal for identical masks
    fingerprints: np.ndarray  # (n,) uint64, see looks.py
    constant: np.ndarray  # (n,) bool: a single value in each band
    black: np.ndarray  # (n,) float32: share of pixels with 0 in all bands, if 0 is not nodata
    unknown: np.ndarray  # (n,) int64: mask pixels that are neither a class nor "no label"
    miscounted: np.ndarray  # (n,) bool: pixel counts of the mask differ from the index
    stray: dict[int, list[tuple[int, int]]]  # chip → (class index, pixels)
    problems: dict[int, str]  # chip → why it cannot be read
    sample: PixelSample

    @classmethod
    def empty(cls, count: int, sample: PixelSample) -> Measures:
        """Measures before any chip is read."""
        return cls(
            read=np.zeros(count, bool),
            image_hashes=np.zeros(count, np.uint64),
            label_hashes=np.zeros(count, np.uint64),
            fingerprints=np.zeros(count, np.uint64),
            constant=np.zeros(count, bool),
            black=np.zeros(count, np.float32),
            unknown=np.zeros(count, np.int64),
            miscounted=np.zeros(count, bool),
            stray={},
            problems={},
            sample=sample,
        )


@dataclass
class _Measured:
    """The measures of one chip."""

    image_hash: int = 0
    label_hash: int = 0
    fingerprint: int = 0
    constant: bool = False
    black: float = 0.0
    unknown: int = 0
    miscounted: bool = False
    stray: list[tuple[int, int]] = field(default_factory=list)
    statistics: BandStatistics | None = None
    target: BandStatistics | None = None
    valid: float = 1.0
    labelled: float = 0.0


def measure(dataset: ChipDataset, table: ChipTable, chips: np.ndarray, seed: int, stage: Stage) -> Measures:
    """Read chips and measure them; statistics missing in the index are added to `table`.

    Args:
        dataset: The dataset.
        table: Its index.
        chips: (m,) indices of the chips to read, ascending.
        seed: Seed for the choice of histogram pixels.
        stage: Advanced by the number of chips.
    """
    reader = _Reader(dataset, table, draw_pixels(dataset, chips, seed))
    found = Measures.empty(len(dataset.images), reader.sample)
    for chip, measured in reader.read_all(chips):
        if isinstance(measured, str):
            found.problems[chip] = measured
        else:
            _keep(found, table, dataset, chip, measured)
        stage.advance()
    return found


def _keep(found: Measures, table: ChipTable, dataset: ChipDataset, chip: int, measured: _Measured) -> None:
    found.read[chip] = True
    found.image_hashes[chip], found.label_hashes[chip] = measured.image_hash, measured.label_hash
    found.fingerprints[chip] = measured.fingerprint
    found.constant[chip], found.black[chip] = measured.constant, measured.black
    found.unknown[chip], found.miscounted[chip] = measured.unknown, measured.miscounted
    if measured.stray:
        found.stray[chip] = measured.stray
    if measured.statistics is not None:
        table.bands.add([chip], dataset.splits[chip : chip + 1], rows_of(measured.statistics)[None])
    if np.isnan(table.valid[chip]):
        table.valid[chip] = measured.valid
    if np.isnan(table.labelled[chip]):
        table.labelled[chip] = measured.labelled
    if measured.target is not None:
        add_target(table, chip, measured.target)


def draw_pixels(dataset: ChipDataset, chips: np.ndarray, seed: int) -> PixelSample:
    """Choose the pixels for histograms; their number does not grow with the number of chips or bands."""
    rng = np.random.default_rng(seed)
    bands, size = len(dataset.info.band_names), dataset.info.chip_size
    count = min(len(chips), max(1, min(SAMPLED_CHIPS, SAMPLED_VALUES // bands)))
    drawn = np.sort(rng.choice(chips, count, replace=False))
    pixels = int(np.clip(SAMPLED_VALUES // (count * bands), 1, size * size))
    positions = np.sort(rng.choice(size * size, pixels, replace=False))
    targets = {"regression": pixels, "chip_regression": 1}.get(dataset.info.task, 0)
    return PixelSample(
        drawn,
        positions,
        np.zeros((bands, count, pixels), dataset.info.dtype),
        np.full((count, pixels), IGNORE_INDEX, np.uint8),
        np.full((count, targets), np.nan, np.float32),
        np.zeros(count, bool),
    )


class _Reader:
    """Reads and measures chips; thread-safe."""

    def __init__(self, dataset: ChipDataset, table: ChipTable, sample: PixelSample) -> None:
        self.dataset, self.table, self.sample = dataset, table, sample
        info = dataset.info
        self.size, self.bands = info.chip_size, len(info.band_names)
        self.nodata = (info.nodata,) * self.bands
        self.sampled = {chip: row for row, chip in enumerate(sample.chips.tolist())}

    def read_all(self, chips: np.ndarray) -> Iterator[tuple[int, _Measured | str]]:
        """Each chip with its measures, or with the reason why it cannot be read."""
        chip_bytes = self.size**2 * (self.bands * np.dtype(self.dataset.info.dtype).itemsize + 1)
        step = int(np.clip(BATCH_BYTES // chip_bytes, 1, BATCH_CHIPS))
        batches = [chips[begin : begin + step].tolist() for begin in range(0, len(chips), step)]
        with closing(work_ahead(self._batch, batches, threads=READERS, waiting=READERS + 1)) as read:
            for _, found in read:
                yield from found

    def _batch(self, chips: Sequence[int]) -> list[tuple[int, _Measured | str]]:
        found: list[tuple[int, _Measured | str]] = []
        for chip in chips:
            try:
                found.append((chip, self._chip(chip)))
            except InputError as error:
                found.append((chip, error.problem))
        return found

    def _chip(self, chip: int) -> _Measured:
        measured = _Measured()
        image = self.dataset.read_image(chip)
        missing = missing_values(image, self.nodata)
        bands = self.table.bands
        if not bands.known[chip]:
            measured.statistics = BandStatistics.of(image, missing)
        measured.valid = 1.0 if missing is None else 1 - float(missing.all(axis=0).mean())
        measured.image_hash = _hash(image)
        measured.fingerprint = looks.fingerprint(looks.grey(image, missing, bands.mean, bands.std, looks.SIDE))
        first = image[:, :1, :1]
        measured.constant = bool((image[:, :1] == first).all() and (image == first).all())
        if self.dataset.info.nodata != 0:
            measured.black = 1 - np.count_nonzero(image.any(axis=0)) / self.size**2
        row = self.sampled.get(chip)
        if row is not None:
            self.sample.values[:, row] = image.reshape(self.bands, -1)[:, self.sample.positions]
            self.sample.read[row] = True
            if self.dataset.info.task == "chip_regression":
                self.sample.targets[row] = self.dataset.targets[chip]
        if self.dataset.info.task in SEGMENTER_TASKS:
            mask = self.dataset.read_mask(chip)
            measured.label_hash = _hash(mask)
            (self._classes if self.dataset.info.task == "segmentation" else self._target)(measured, chip, row, mask)
        return measured

    def _classes(self, measured: _Measured, chip: int, row: int | None, mask: np.ndarray) -> None:
        info = self.dataset.info
        indices = info.classes.to_indices(mask)
        counts = np.bincount(indices.ravel(), minlength=256)
        measured.unknown = int(counts[IGNORE_INDEX] - np.count_nonzero(mask == info.label_nodata))
        pixels = counts[: len(info.classes)]
        measured.labelled = float(pixels.sum()) / indices.size
        measured.miscounted = not np.array_equal(pixels, self.dataset.pixels[chip])
        few = np.flatnonzero((pixels > 0) & (pixels <= STRAY_PIXELS))
        measured.stray = [(int(index), int(pixels[index])) for index in few if is_stray(indices, int(index))]
        if row is not None:
            self.sample.classes[row] = indices.ravel()[self.sample.positions]

    def _target(self, measured: _Measured, chip: int, row: int | None, mask: np.ndarray) -> None:
        unknown = ~np.isfinite(mask)
        measured.labelled = 1 - float(unknown.mean())
        if self.table.target_pixels[chip] < 0:
            measured.target = BandStatistics.of(mask[None], unknown[None])
        if row is not None:
            self.sample.targets[row] = mask.ravel()[self.sample.positions]


def is_stray(indices: np.ndarray, index: int) -> bool:
    """Return whether the pixels of a class are surrounded by other classes, away from edges of the chip and its labels.

    Args:
        indices: (H, W) class indices.
        index: The class index.
    """
    height, width = indices.shape
    for row, col in np.argwhere(indices == index).tolist():
        if not (0 < row < height - 1 and 0 < col < width - 1):
            return False
        if (indices[row - 1 : row + 2, col - 1 : col + 2] == IGNORE_INDEX).any():
            return False
    return True


def _hash(data: np.ndarray) -> int:
    whole: Any = np.ascontiguousarray(data)
    return int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "little")
