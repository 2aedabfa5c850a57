"""Divide the chips of a dataset into training, validation and test, using only its index.

An export does this after all chips are cut, `splitchips` does it again, and appended chips are included. Chips are
assigned in groups (blocks, areas, rasters), and no chip may share ground with another split.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Union

import numpy as np
from osgeo import gdal, ogr

from ..config import ExportChipsConfig, ImportChipsConfig, SplitChipsConfig
from ..errors import InputError, not_none
from ..events import Reporter
from ..rasters.raster_io import value_text
from ..tasks import CLASS_TASKS, NUMBER_TASKS
from .dataset import NO_SPLIT, SPLITS, DatasetInfo, classes_shown, numbers_of
from .extremes import Extreme, Ranges, from_json, together
from .features import AREAS_LAYER, VALUE_FIELD
from .index import ChipIndex
from .overlaps import overlapping_pairs
from .split import deal_groups, disagreement
from .statistics import BandStatistics

TRAINING, VALIDATION, TEST = range(3)
# Names of the splits in layers of areas drawn by users.
SPLIT_WORDS = {
    "training": TRAINING, "train": TRAINING, "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
TARGET_BINS = 4
NAMED = 5  # maximum number of bands in a message


@dataclass(frozen=True)
class SplitRule:
    """How chips are divided; the fields are those of config.SplitChipsConfig."""

    method: str
    validation_share: float
    test_share: float
    folds: Optional[int]
    seed: int
    block_size: Optional[int] = None
    areas: Optional[str] = None
    names: tuple[Any, ...] = ()

    @classmethod
    def of(cls, config: Union[ExportChipsConfig, SplitChipsConfig, ImportChipsConfig]) -> SplitRule:
        """Make the rule from a job's settings.

        Raises:
            InputError: No training chips would be left, or SPLIT_METHOD and SPLIT_AREAS contradict each other.
        """
        if config.test_share + (0 if config.folds else config.validation_share) >= 1:
            raise InputError(
                f"VALIDATION_SHARE {config.validation_share:g} and TEST_SHARE {config.test_share:g} leave "
                "nothing for training.",
                "Let them sum to less than 1.",
            )
        areas = getattr(config, "split_areas", None)
        if (config.split_method == "areas") != bool(areas):
            raise InputError(
                "SPLIT_METHOD is areas, but no SPLIT_AREAS are given."
                if not areas
                else f"SPLIT_AREAS are given, but SPLIT_METHOD is {config.split_method}.",
                "Give polygons as SPLIT_AREAS and set SPLIT_METHOD to areas, or neither.",
            )
        names = tuple((int(value), str(name)) for value, name in getattr(config, "split_names", ()))
        return cls(
            config.split_method, config.validation_share, config.test_share, config.folds, config.seed,
            getattr(config, "block_size", None), areas, names,
        )  # fmt: skip

    @property
    def shares(self) -> np.ndarray:
        """(P,) shares of the parts: training, validation and test; or test and the folds."""
        if self.folds:
            return np.array([self.test_share, *[(1 - self.test_share) / self.folds] * self.folds])
        return np.array([1 - self.validation_share - self.test_share, self.validation_share, self.test_share])

    def split_of(self, parts: np.ndarray) -> np.ndarray:
        """(n,) indices into SPLITS from parts; negative ones are kept. With folds, the first one is for validation."""
        if not self.folds:
            return parts
        return np.select([parts < 0, parts == 0, parts == 1], [parts, TEST, VALIDATION], TRAINING)


@dataclass(frozen=True)
class Chips:
    """The index of all chips, as arrays of n."""

    fids: np.ndarray
    sources: np.ndarray
    blocks: np.ndarray
    splits: np.ndarray  # indices into SPLITS; -1 for none, -2 for not assigned yet
    folds: np.ndarray  # from 1; 0 for test or none
    pixels: np.ndarray  # (n, C)
    shown: np.ndarray  # (n, C) bool
    target: np.ndarray  # the number, or the mean of the mask of numbers; NaN for none
    corners: np.ndarray  # (n, 4, 2)

    def __len__(self) -> int:
        return len(self.fids)


def divide(index: ChipIndex, outline: DatasetInfo, rule: SplitRule, reporter: Reporter) -> DatasetInfo:
    """Assign every chip to a split, and complete the description.

    Chips that have a split keep it; call `forget_splits` of the index first to assign all again.

    Args:
        index: The index of all chips, to which splits and folds are written.
        outline: The description, without counts, statistics and the split.
        rule: How the chips are divided.
        reporter: Logs the result.

    Returns:
        The complete description.
        The whole description.

    Raises:
        InputError: The rule does not suit these chips.
    """
    chips = read_chips(index, outline)
    groups = _groups(chips, outline, rule)
    parts = _parts(chips, outline, rule, groups)
    parts = _separate(chips, rule, parts, bool(outline.crs), reporter)
    splits = rule.split_of(parts)
    folds = [int(part) if rule.folds and part >= 0 else None for part in parts]
    index.set_splits(chips.fids.tolist(), [SPLITS[split] if split >= 0 else NO_SPLIT for split in splits], folds)
    info = _describe(chips, outline, rule, splits, _weights(chips, outline))
    bands, target, far = _statistics(index, splits == TRAINING, len(outline.band_names))
    _tell_far(outline, far, reporter)
    seen = bands.count > 0
    info = dataclasses.replace(
        info,
        mean=tuple(map(float, bands.mean)),
        std=tuple(map(float, bands.std)),
        minimum=tuple(map(float, np.where(seen, bands.minimum, 0))),
        maximum=tuple(map(float, np.where(seen, bands.maximum, 0))),
        target=target if outline.task in NUMBER_TASKS else None,
    )
    _report(info, rule, reporter)
    return info


def read_chips(index: ChipIndex, info: DatasetInfo) -> Chips:
    """Read what is needed to divide the chips."""
    values = info.classes.values.tolist()
    names = ["fid", "source", "block", "split", "fold", "classes", "target", *(f"pixels_{value}" for value in values)]
    rows = list(index.rows(names))
    if not rows:
        raise InputError("The chip dataset contains no chips.", "Export the chips again.")
    place = {NO_SPLIT: -1, **{split: number for number, split in enumerate(SPLITS)}}
    pixels = np.array([[count or 0 for count in row[7:]] for row in rows], np.int64).reshape(len(rows), len(values))
    shown = classes_shown([row[5] for row in rows], values)
    return Chips(
        fids=np.array([row[0] for row in rows], np.int64),
        sources=np.array([row[1] or 0 for row in rows], np.int64),
        blocks=np.array([row[2] or 0 for row in rows], np.int64),
        splits=np.array([place.get(row[3], -2) for row in rows], np.int64),
        folds=np.array([row[4] or 0 for row in rows], np.int64),
        pixels=pixels,
        shown=shown if info.task in ("classification", "multilabel") else pixels > 0,
        target=numbers_of([row[6] for row in rows]),
        corners=index.corners(),
    )


def _weights(chips: Chips, info: DatasetInfo) -> np.ndarray:
    """(n, C) weight of each chip per class: its labelled pixels, or 1."""
    if info.task == "segmentation":
        return chips.pixels
    if info.task in CLASS_TASKS:
        return chips.shown.astype(np.int64)
    if info.task in NUMBER_TASKS:
        bins = np.nanquantile(chips.target, np.linspace(0, 1, TARGET_BINS + 1)[1:-1])
        return np.eye(TARGET_BINS, dtype=np.int64)[np.searchsorted(bins, np.nan_to_num(chips.target))]
    return np.ones((len(chips), 1), np.int64)


def _groups(chips: Chips, info: DatasetInfo, rule: SplitRule) -> np.ndarray:
    """(n,) group of each chip, as any number; -1 for none."""
    if rule.method == "random":
        return chips.fids
    if rule.method == "rasters":
        clusters = np.array([source.get("cluster", place) for place, source in enumerate(info.sources)])
        return clusters[chips.sources]
    if rule.method == "areas":
        return _area_groups(chips, not_none(rule.areas))
    if rule.block_size is None or rule.block_size == info.split.get("block_size"):
        return chips.blocks
    if rule.block_size < info.chip_size:
        raise InputError(
            f"BLOCK_SIZE is {rule.block_size} pixels, smaller than a chip ({info.chip_size}).",
            f"Set it to {info.chip_size} or more, or leave it empty.",
        )
    clusters = np.array([source.get("cluster", place) for place, source in enumerate(info.sources)])
    centres = chips.corners.mean(axis=1)
    cells = np.floor((centres - centres.min(axis=0)) / (rule.block_size * info.pixel_size)).astype(np.int64)
    return np.unique(np.column_stack([clusters[chips.sources], cells]), axis=0, return_inverse=True)[1].ravel()


def _area_groups(chips: Chips, path: str) -> np.ndarray:
    """(n,) value of the area that completely contains a chip; -1 for chips that cross an edge or are outside."""
    source = gdal.OpenEx(path, gdal.OF_VECTOR, allowed_drivers=["GPKG"])
    found = np.full(len(chips), -1, np.int64)
    low, high = chips.corners.min(axis=1), chips.corners.max(axis=1)
    shapes: dict[int, ogr.Geometry] = {}
    for feature in source.GetLayerByName(AREAS_LAYER):
        value, shape = int(feature.GetField(VALUE_FIELD)), feature.GetGeometryRef().Clone()
        shapes[value] = shapes[value].Union(shape) if value in shapes else shape
    for value, shape in shapes.items():
        left, right, bottom, top = shape.GetEnvelope()
        near = (low >= (left, bottom)).all(axis=1) & (high <= (right, top)).all(axis=1)
        slack = TOUCH_SHARE * float((high - low).min())
        inside = shape.Buffer(slack).CreatePreparedGeometry()
        for place in np.flatnonzero(near):
            if inside.Contains(_footprint(chips.corners[place])):
                # Overlapping areas would share ground.
                found[place] = value if found[place] == -1 else -2
    return np.where(found == -2, -1, found)


TOUCH_SHARE = 1e-4  # share of a chip's side; tolerates area edges drawn along chip edges


def _footprint(corners: np.ndarray) -> ogr.Geometry:
    ring = ogr.Geometry(ogr.wkbLinearRing)
    for x, y in (*corners.tolist(), corners[0].tolist()):
        ring.AddPoint_2D(x, y)
    polygon = ogr.Geometry(ogr.wkbPolygon)
    polygon.AddGeometry(ring)
    return polygon


def _parts(chips: Chips, info: DatasetInfo, rule: SplitRule, groups: np.ndarray) -> np.ndarray:
    """(n,) part of each chip, numbered as in `SplitRule.shares`; -1 for none."""
    kept = (groups >= 0) & (chips.splits != -1)
    parts = np.full(len(chips), -1, np.int64)
    words = {value: name.strip().lower() for value, name in rule.names}
    if words and SPLIT_WORDS.keys() >= set(words.values()) and not rule.folds:
        parts[kept] = [SPLIT_WORDS[words[int(group)]] for group in groups[kept]]
        return parts
    names, place = np.unique(groups[kept], return_inverse=True)
    if not len(names):
        raise InputError(
            "No chip is completely inside one of the SPLIT_AREAS.", "Draw larger areas, or use a smaller CHIP_SIZE."
        )
    weights = np.zeros((len(names), _weights(chips, info).shape[1]), np.int64)
    np.add.at(weights, place.ravel(), _weights(chips, info)[kept])
    earlier = np.where(chips.splits >= 0, chips.folds if rule.folds else chips.splits, -1)[kept]
    known = np.full(len(names), -1, np.int64)
    known[place.ravel()[earlier >= 0]] = earlier[earlier >= 0]
    _follow(chips, kept, place.ravel(), known)
    dealt = deal_groups(weights, rule.shares, rule.seed, known if (known >= 0).any() else None)
    parts[kept] = np.where(earlier >= 0, earlier, dealt[place.ravel()])
    return parts


def _follow(chips: Chips, kept: np.ndarray, place: np.ndarray, known: np.ndarray) -> None:
    """Assign groups of new chips to the part of the existing chips that they overlap."""
    if not (known >= 0).any() or (known >= 0).all():
        return
    where = known[place]
    votes: dict[int, dict[int, int]] = {}
    for pairs in overlapping_pairs(chips.corners[kept], np.where(where >= 0, 1, 0)):
        for old, new in ((0, 1), (1, 0)):
            mixed = (where[pairs[:, old]] >= 0) & (where[pairs[:, new]] < 0)
            for group, part in zip(place[pairs[mixed, new]].tolist(), where[pairs[mixed, old]].tolist()):
                votes.setdefault(group, {}).setdefault(part, 0)
                votes[group][part] += 1
    for group, counts in votes.items():
        known[group] = max(counts, key=lambda part: counts[part])


def _separate(chips: Chips, rule: SplitRule, parts: np.ndarray, placed: bool, reporter: Reporter) -> np.ndarray:
    """Remove chips that share ground with another part; for a random split, only warn of them.

    Args:
        chips: All chips.
        rule: How they are divided.
        parts: (n,) part of each chip.
        placed: False if the chips have no georeference, so that no chips are known to be neighbours.
        reporter: Receives the result.

    Returns:
        (n,) parts, with -1 for removed chips.
    """
    shared, pairs_found = np.zeros(len(chips), bool), 0
    leave = np.zeros(len(chips), bool)
    # Of two chips, keep an existing one, or else test before validation before training, since these have fewer chips.
    weight = np.select([chips.splits >= 0, rule.split_of(parts) == TEST, rule.split_of(parts) == VALIDATION], [3, 2, 1])
    for pairs in overlapping_pairs(chips.corners, parts):
        pairs_found += len(pairs)
        shared[pairs.ravel()] = True
        first_stays = weight[pairs[:, 0]] >= weight[pairs[:, 1]]
        gone = np.where(first_stays, pairs[:, 1], pairs[:, 0])
        both = np.where(first_stays, pairs[:, 0], pairs[:, 1])
        leave[gone[~leave[both]]] = True
    if rule.method in ("random", "imported"):
        held = rule.split_of(parts) > TRAINING
        if shared.any():
            reporter.warning(
                f"{int((shared & held).sum())} of {int(held.sum())} validation and test chips share ground with a "
                "training chip. The network has seen this ground, so accuracies will be too high. Use SPLIT_METHOD "
                "blocks, or a STRIDE of the chip size or more."
            )
        elif rule.method == "random" and placed:
            reporter.warning(
                "A random split puts neighbouring chips, which look alike, into different splits. Accuracies will be "
                "higher than on new ground. Use SPLIT_METHOD blocks to avoid this."
            )
        return parts
    if leave.any():
        reporter.log(
            f"{int(leave.sum())} of {len(chips)} chips belong to no split, since they share ground with another "
            "split's chips."
        )
    return np.where(leave, -1, parts)


def _describe(
    chips: Chips, outline: DatasetInfo, rule: SplitRule, splits: np.ndarray, weights: np.ndarray
) -> DatasetInfo:
    def sums(values: np.ndarray) -> dict[str, list[int]]:
        return {split: values[splits == number].sum(axis=0).tolist() for number, split in enumerate(SPLITS)}

    return dataclasses.replace(
        outline,
        chip_counts={split: int((splits == number).sum()) for number, split in enumerate(SPLITS)},
        pixel_counts=sums(chips.pixels),
        class_chips=sums(chips.shown.astype(np.int64)),
        split={
            "method": rule.method,
            "seed": rule.seed,
            "block_size": rule.block_size or outline.split.get("block_size"),
            "validation_share": rule.validation_share,
            "test_share": rule.test_share,
            "folds": rule.folds,
            "left_out": int((splits < 0).sum()),
            "disagreement": round(disagreement(weights, splits), 6),
        },
    )


def _statistics(
    index: ChipIndex, training: np.ndarray, bands: int
) -> tuple[BandStatistics, Optional[dict[str, float]], Far]:
    """Compute the statistics that go into the description.

    Returns:
        The band statistics of the training chips, without outliers; those of a regression's target, or None; and the
        outliers of all chips, with the range of all other values.
    """
    ranges, target = Ranges(bands), BandStatistics.empty(1)
    for wanted, (text, target_text, extremes) in zip(
        training.tolist(), index.rows(["statistics", "target", "extremes"])
    ):
        if text:
            ranges.add(BandStatistics.from_json(text, bands), from_json(extremes, bands))
        if wanted and target_text:
            target.add(BandStatistics.from_json(target_text, 1))
    far = Far(ranges.far(), ranges)
    values = {(extreme.band, extreme.value) for extreme in far.values}
    found = BandStatistics.empty(bands)
    for wanted, (text, extremes) in zip(training.tolist(), index.rows(["statistics", "extremes"])):
        if wanted and text:
            found.add(together(BandStatistics.from_json(text, bands), from_json(extremes, bands), values))
    if not target.count[0]:
        return found, None, far
    names = ("mean", "std", "minimum", "maximum")
    return found, {name: float(getattr(target, name)[0]) for name in names}, far


class Far(NamedTuple):
    """Outliers of all chips, and the ranges of all other values."""

    values: list[Extreme]
    others: Ranges


def _tell_far(info: DatasetInfo, far: Far, reporter: Reporter) -> None:
    """Warn of values that are probably undeclared nodata."""
    by_value: dict[float, list[Extreme]] = {}
    for extreme in far.values:
        by_value.setdefault(extreme.value, []).append(extreme)
    for value, extremes in by_value.items():
        bands = [extreme.band for extreme in extremes]
        low, high = min(far.others.low[bands]), max(far.others.high[bands])
        pixels, text = sum(extreme.pixels for extreme in extremes), value_text(np.dtype(info.dtype).type(value))
        names = ", ".join(info.band_names[band] for band in bands[:NAMED]) + (" …" if len(bands) > NAMED else "")
        reporter.warning(
            f"{text} is probably an undeclared nodata value: {_count(pixels, 'pixel')} of {names} have it, and all "
            f"other values are between {low:g} and {high:g}. The statistics leave it out, but it would be learned and "
            "mapped as ground. Export again with it as NODATA, or set it as nodata value of the images "
            f"(gdal_edit.py -a_nodata {text} in a shell)."
        )


def _report(info: DatasetInfo, rule: SplitRule, reporter: Reporter) -> None:
    """Log the size and class shares of the splits, and warn if something is missing."""
    counts = info.chip_counts
    reporter.log(", ".join(f"{_count(counts[split], 'chip')} for {split}" for split in SPLITS) + ".")
    names = info.classes.names
    if names and sum(map(sum, info.class_chips.values())):
        table = info.pixel_counts if info.task == "segmentation" else info.class_chips
        reporter.log(
            "Class shares in " + " / ".join(split for split in SPLITS if counts[split]) + ": "
            + "; ".join(_shares(name, place, table, counts) for place, name in enumerate(names))
            + f". They differ from the whole by at most {100 * info.split['disagreement']:.1f} percentage points."
        )  # fmt: skip
    wanted = {"training": 1.0, "validation": rule.validation_share, "test": rule.test_share}
    for split in (split for split in SPLITS if wanted[split] > 0):
        absent = [name for name, count in zip(names, info.class_chips[split]) if count == 0]
        if counts[split] == 0:
            reporter.warning(
                f"No chips are left for {split}, since there are too few {rule.method}. Use a smaller CHIP_SIZE "
                "or BLOCK_SIZE, or label more ground."
            )
        elif absent:
            reporter.warning(f"No {split} chip shows {', '.join(absent)}, since too few {rule.method} contain it.")
    constant = [name for name, std in zip(info.band_names, info.std) if std == 0]
    if constant and counts["training"]:
        reporter.warning(
            f"All values of {', '.join(constant)} are equal, so nothing can be learned from it. "
            "Leave it out with BANDS."
        )


def _shares(name: str, place: int, table: dict[str, list[int]], counts: dict[str, int]) -> str:
    shares = [table[split][place] / max(1, sum(table[split])) for split in SPLITS if counts[split]]
    return f"{name} " + " / ".join(f"{share:.1%}" for share in shares)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
