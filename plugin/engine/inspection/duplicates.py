"""Find chips with the same picture, without comparing all pairs.

Exact copies have the same hash. Near copies have fingerprints (see looks.py) that differ in a few bits. These are
sorted several times, each time with rotated bits, and each is compared with the few that follow it (Charikar 2002,
"Similarity estimation techniques from rounding algorithms"). Candidates are then compared pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..chips.dataset import SPLITS, ChipDataset
from ..errors import InputError
from ..events import Stage
from ..rasters.raster_io import missing_values
from ..tasks import SEGMENTER_TASKS
from ..threads import READERS, work_ahead
from . import ground, looks
from .chip_table import ChipTable
from .measures import Measures

# Among a million random fingerprints, about a hundred pairs differ in no more bits than this.
LIKE_BITS = 8
# The number of sort orders, and of followers that each fingerprint is compared with. These find more than 99% of the
# pairs that differ in 4 bits among a million.
ORDERS, FOLLOWERS = 16, 8
# The maximum number of pairs to compare pixel by pixel; the most similar come first.
COMPARED_PAIRS = 20_000
# Pictures with less contrast (relative to all training pixels) cannot be recognised.
LEAST_CONTRAST = 0.01
BITS = 64
_ONES = np.array([bin(number).count("1") for number in range(1 << 16)], np.uint8)


@dataclass(frozen=True)
class Duplicates:
    """Groups of chips with the same picture.

    All arrays have one row per chip. `first` is the index of the first chip of the group, which is the chip itself
    if it has no copy.
    """

    first: np.ndarray  # (n,) int64
    exact: np.ndarray  # (n,) bool: identical with another chip of the group
    contradicting: np.ndarray  # (n,) bool: differs in its label from a copy
    leaking: np.ndarray  # (n,) bool: has a copy in an earlier split
    across_folds: np.ndarray  # (n,) bool: has a copy in another fold
    unchecked: int  # number of similar pairs beyond the limit

    @property
    def surplus(self) -> np.ndarray:
        """(n,) bool: chips that are copies of an earlier one."""
        found: np.ndarray = self.first != np.arange(len(self.first))
        return found

    def groups(self) -> list[np.ndarray]:
        """The groups of at least two chips, ordered by their first chip."""
        several = np.bincount(self.first, minlength=len(self.first))[self.first] > 1
        chips = np.flatnonzero(several)
        chips = chips[np.argsort(self.first[chips], kind="stable")]
        if len(chips) == 0:
            return []
        return np.split(chips, np.flatnonzero(np.diff(self.first[chips])) + 1)


def find_duplicates(dataset: ChipDataset, table: ChipTable, measures: Measures, stage: Stage) -> Duplicates:
    """Find duplicates among the chips that were read and are not constant.

    Args:
        dataset: The dataset.
        table: Its index.
        measures: From `measure`.
        stage: Advanced by 2 steps.
    """
    count = len(dataset.images)
    # Constant chips all look alike, and are reported separately.
    constant = measures.constant | table.bands.constant
    shows = np.flatnonzero(measures.read & ~constant & (table.bands.contrast > LEAST_CONTRAST))
    first = np.arange(count)
    first[shows] = shows[_firsts(measures.image_hashes[shows])]
    exact = np.bincount(first, minlength=count)[first] > 1
    single = shows[first[shows] == shows]
    pairs = single[like_pairs(measures.fingerprints[single], stage)]
    # Overlapping chips of one split are expected to be similar.
    apart = dataset.splits[pairs[:, 0]] != dataset.splits[pairs[:, 1]]
    pairs = pairs[apart | ~ground.near_each_other(table, pairs)]
    stage.advance()
    groups = _Groups(count)
    for begin in range(0, min(len(pairs), COMPARED_PAIRS), 256):
        _join_same(groups, dataset, table, pairs[begin : begin + 256], stage)
    stage.advance()
    roots = np.array([groups.root(chip) for chip in range(count)]) if len(pairs) else np.arange(count)
    first = roots[first]
    return _compare_groups(dataset, measures, first, exact, max(0, len(pairs) - COMPARED_PAIRS))


def _firsts(values: np.ndarray) -> np.ndarray:
    """(n,) index of the first occurrence of each value."""
    _, where, back = np.unique(values, return_index=True, return_inverse=True)
    found: np.ndarray = where[back]
    return found


def like_pairs(fingerprints: np.ndarray, stage: Stage) -> np.ndarray:
    """Find pairs i < j of fingerprints that differ in at most `LIKE_BITS` bits: (p, 2), the most similar first.

    Args:
        fingerprints: (n,) uint64.
        stage: Used to check for cancellation.
    """
    count = len(fingerprints)
    found = np.zeros(0, np.int64)
    for order in range(ORDERS):
        stage.advance(0)
        shift = np.uint64(order * BITS // ORDERS)
        rest = np.uint64(BITS) - shift
        turned = fingerprints if order == 0 else (fingerprints << shift) | (fingerprints >> rest)
        places = np.argsort(turned, kind="stable")
        lined = fingerprints[places]
        for ahead in range(1, min(FOLLOWERS, count - 1) + 1):
            like = np.flatnonzero(differing_bits(lined[:-ahead], lined[ahead:]) <= LIKE_BITS)
            one, other = places[like], places[like + ahead]
            found = np.append(found, np.minimum(one, other) * count + np.maximum(one, other))
        found = np.unique(found)
    pairs = np.stack([found // max(count, 1), found % max(count, 1)], axis=1)
    bits = differing_bits(fingerprints[pairs[:, 0]], fingerprints[pairs[:, 1]])
    likest: np.ndarray = pairs[np.argsort(bits, kind="stable")]
    return likest


def differing_bits(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,) number of bits in which two (n,) uint64 arrays differ."""
    words = np.ascontiguousarray(one ^ other).view(np.uint16).reshape(-1, 4)
    found: np.ndarray = _ONES[words].sum(axis=1)
    return found


class _Groups:
    """Disjoint sets of n elements; the root of a set is its first element."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))

    def root(self, thing: int) -> int:
        while self.parents[thing] != thing:
            self.parents[thing] = self.parents[self.parents[thing]]
            thing = self.parents[thing]
        return thing

    def join(self, one: int, other: int) -> None:
        one, other = self.root(one), self.root(other)
        self.parents[max(one, other)] = min(one, other)


def _join_same(groups: _Groups, dataset: ChipDataset, table: ChipTable, pairs: np.ndarray, stage: Stage) -> None:
    """Join the chips of pairs that have the same picture."""
    pairs = np.array([pair for pair in pairs.tolist() if groups.root(pair[0]) != groups.root(pair[1])], np.int64)
    if len(pairs) == 0:
        return
    shown = dict(work_ahead(_picture_of(dataset, table), np.unique(pairs).tolist(), threads=READERS))
    for one, other in pairs.tolist():
        stage.advance(0)
        first, second = shown[one], shown[other]
        if first is not None and second is not None and looks.same_picture(first, second):
            groups.join(one, other)


def _picture_of(dataset: ChipDataset, table: ChipTable) -> Callable[[int], np.ndarray | None]:
    def picture(chip: int) -> np.ndarray | None:
        try:
            image = dataset.read_image(chip)
        except InputError:
            return None  # removed in the meantime
        missing = missing_values(image, (dataset.info.nodata,) * len(image))
        return looks.grey(image, missing, table.bands.mean, table.bands.std, looks.COMPARED_SIDE)

    return picture


def _compare_groups(
    dataset: ChipDataset, measures: Measures, first: np.ndarray, exact: np.ndarray, unchecked: int
) -> Duplicates:
    count = len(first)
    ranks = np.full(count, len(SPLITS))  # chips in no split come last, and are no leaks
    for rank, split in enumerate(SPLITS):
        ranks[dataset.splits == split] = rank
    earliest = np.full(count, len(SPLITS))
    np.minimum.at(earliest, first, ranks)
    leaking = (ranks < len(SPLITS)) & (ranks > earliest[first])
    contradicting, across = np.zeros(count, bool), np.zeros(count, bool)
    found = Duplicates(first, exact, contradicting, leaking, across, unchecked)
    for group in found.groups():
        folds = dataset.folds[group]
        across[group[1:]] = len(set(folds[folds > 0].tolist())) > 1
        labels = _labels(dataset, measures, group)
        if dataset.info.task in (*SEGMENTER_TASKS, "chip_regression"):
            # The masks or numbers of near copies may differ a little, those of exact copies must not.
            images = measures.image_hashes[group].tolist()
            both = list(zip(images, labels))
            several = {image for image in images if len({pair for pair in both if pair[0] == image}) > 1}
            contradicting[group] = [image in several for image in images]
        elif len(set(labels)) > 1:
            contradicting[group] = True
    return found


def _labels(dataset: ChipDataset, measures: Measures, chips: np.ndarray) -> list[object]:
    """A value per chip that is equal if the labels are."""
    if dataset.info.task == "chip_regression":
        return list(dataset.targets[chips].tolist())
    if dataset.info.task in SEGMENTER_TASKS:
        return list(measures.label_hashes[chips].tolist())
    return [row.tobytes() for row in dataset.shown[chips]]
