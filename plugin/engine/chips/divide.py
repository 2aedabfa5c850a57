"""Divides the chips of a dataset into training, validation and test, from its index alone.

The export does it when all chips are cut, `splitchips` does it again, and chips that were added later join in. Chips
are dealt out in groups (blocks, areas, rasters); afterwards no chip may share ground with another split's.
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
from .dataset import CLASS_TASKS, NO_SPLIT, SPLITS, DatasetInfo, classes_shown
from .extremes import Extreme, Ranges, from_json, together
from .features import AREAS_LAYER, VALUE_FIELD
from .index import ChipIndex
from .overlaps import overlapping_pairs
from .split import deal_groups, disagreement
from .statistics import BandStatistics

TRAINING, VALIDATION, TEST = range(3)
# What people call the splits, when they draw the areas of each by hand.
SPLIT_WORDS = {
    "training": TRAINING, "train": TRAINING, "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
TARGET_BINS = 4
NAMED = 5  # bands of a message


@dataclass(frozen=True)
class SplitRule:
    """How chips are divided; fields as in config.SplitChipsConfig."""

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
        """The rule that a job's settings hold.

        Raises:
            InputError: The shares leave nothing to train with, or areas are wanted and not given.
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
                "SPLIT_METHOD is areas, and no SPLIT_AREAS are given."
                if not areas
                else f"SPLIT_AREAS are given, and SPLIT_METHOD is {config.split_method}.",
                "Give polygons as SPLIT_AREAS and set SPLIT_METHOD to areas, or neither.",
            )
        names = tuple((int(value), str(name)) for value, name in getattr(config, "split_names", ()))
        return cls(
            config.split_method, config.validation_share, config.test_share, config.folds, config.seed,
            getattr(config, "block_size", None), areas, names,
        )  # fmt: skip

    @property
    def shares(self) -> np.ndarray:
        """(P,) the shares of the parts: training, validation, test; or test and the folds."""
        if self.folds:
            return np.array([self.test_share, *[(1 - self.test_share) / self.folds] * self.folds])
        return np.array([1 - self.validation_share - self.test_share, self.validation_share, self.test_share])

    def split_of(self, parts: np.ndarray) -> np.ndarray:
        """(n,) places in SPLITS from parts; negative ones stay. With folds, the first one validates."""
        if not self.folds:
            return parts
        return np.select([parts < 0, parts == 0, parts == 1], [parts, TEST, VALIDATION], TRAINING)


@dataclass(frozen=True)
class Chips:
    """What the index says of all chips; arrays of n."""

    fids: np.ndarray
    sources: np.ndarray
    blocks: np.ndarray
    splits: np.ndarray  # places in SPLITS; -1 = none, -2 = not divided yet
    folds: np.ndarray  # from 1; 0 = test or none
    pixels: np.ndarray  # (n, C)
    shown: np.ndarray  # (n, C) bool
    target: np.ndarray  # mean of the regression mask; NaN where there is none
    corners: np.ndarray  # (n, 4, 2)

    def __len__(self) -> int:
        return len(self.fids)


def divide(index: ChipIndex, outline: DatasetInfo, rule: SplitRule, reporter: Reporter) -> DatasetInfo:
    """Give every chip its split, and the description what follows from it.

    Chips that have a split keep it; call the index's `forget_splits` first to deal all of them anew.

    Args:
        index: Of all chips; splits and folds are written to it.
        outline: The description, but for counts, statistics and the split.

    Returns:
        The whole description.

    Raises:
        InputError: The rule does not fit these chips.
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
        target=target if outline.task == "regression" else None,
    )
    _report(info, rule, reporter)
    return info


def read_chips(index: ChipIndex, info: DatasetInfo) -> Chips:
    """Read what dividing needs of every chip."""
    values = info.classes.values.tolist()
    names = ["fid", "source", "block", "split", "fold", "classes", "target", *(f"pixels_{value}" for value in values)]
    rows = list(index.rows(names))
    if not rows:
        raise InputError("The chip dataset holds no chips.", "Export the chips again.")
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
        target=np.array([BandStatistics.from_json(row[6], 1).mean[0] if row[6] else np.nan for row in rows]),
        corners=index.corners(),
    )


def _weights(chips: Chips, info: DatasetInfo) -> np.ndarray:
    """(n, C) what a chip counts for each class: its pixels, or itself."""
    if info.task == "segmentation":
        return chips.pixels
    if info.task in CLASS_TASKS:
        return chips.shown.astype(np.int64)
    if info.task == "regression":
        bins = np.nanquantile(chips.target, np.linspace(0, 1, TARGET_BINS + 1)[1:-1])
        return np.eye(TARGET_BINS, dtype=np.int64)[np.searchsorted(bins, np.nan_to_num(chips.target))]
    return np.ones((len(chips), 1), np.int64)


def _groups(chips: Chips, info: DatasetInfo, rule: SplitRule) -> np.ndarray:
    """(n,) the group of each chip, any number; -1 for a chip that belongs to none."""
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
            f"BLOCK_SIZE is {rule.block_size} pixels, less than a chip ({info.chip_size}).",
            f"Set it to {info.chip_size} or more, or leave it empty.",
        )
    clusters = np.array([source.get("cluster", place) for place, source in enumerate(info.sources)])
    centres = chips.corners.mean(axis=1)
    cells = np.floor((centres - centres.min(axis=0)) / (rule.block_size * info.pixel_size)).astype(np.int64)
    return np.unique(np.column_stack([clusters[chips.sources], cells]), axis=0, return_inverse=True)[1].ravel()


def _area_groups(chips: Chips, path: str) -> np.ndarray:
    """(n,) the value of the area that a chip lies in wholly; -1 for one that crosses an edge or lies outside."""
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
                # Areas that lie over each other would share ground.
                found[place] = value if found[place] == -1 else -2
    return np.where(found == -2, -1, found)


TOUCH_SHARE = 1e-4  # of a chip's side: an edge drawn along the chips' own is no crossing


def _footprint(corners: np.ndarray) -> ogr.Geometry:
    ring = ogr.Geometry(ogr.wkbLinearRing)
    for x, y in (*corners.tolist(), corners[0].tolist()):
        ring.AddPoint_2D(x, y)
    polygon = ogr.Geometry(ogr.wkbPolygon)
    polygon.AddGeometry(ring)
    return polygon


def _parts(chips: Chips, info: DatasetInfo, rule: SplitRule, groups: np.ndarray) -> np.ndarray:
    """(n,) the part of each chip, as `SplitRule.shares` numbers them; -1 for none."""
    kept = (groups >= 0) & (chips.splits != -1)
    parts = np.full(len(chips), -1, np.int64)
    words = {value: name.strip().lower() for value, name in rule.names}
    if words and SPLIT_WORDS.keys() >= set(words.values()) and not rule.folds:
        parts[kept] = [SPLIT_WORDS[words[int(group)]] for group in groups[kept]]
        return parts
    names, place = np.unique(groups[kept], return_inverse=True)
    if not len(names):
        raise InputError(
            "No chip lies wholly in one of the SPLIT_AREAS.", "Draw larger areas, or take a smaller CHIP_SIZE."
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
    """Groups of new chips on ground that is divided already get the part of that ground."""
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
    """Take chips that share ground with another part's out of the division; a random one only counts them.

    Args:
        placed: Whether the chips have a place on the ground; photographs have none, and no neighbours.
    """
    shared, pairs_found = np.zeros(len(chips), bool), 0
    leave = np.zeros(len(chips), bool)
    # What is rare is kept: test before validation before training. What was there before stays anyhow.
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
                "training chip: the network has seen what it is tested on, and accuracies will be too good. Use "
                "SPLIT_METHOD blocks, or a STRIDE of the chip size or more."
            )
        elif rule.method == "random" and placed:
            reporter.warning(
                "A random split puts neighbouring chips into different splits, and neighbours are alike: accuracies "
                "will be better than on new ground. SPLIT_METHOD blocks avoids that."
            )
        return parts
    if leave.any():
        reporter.log(
            f"{int(leave.sum())} of {len(chips)} chips belong to no split, because they share ground with another "
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
    """Statistics of the training chips: of the bands without what lies far off, and of a regression's target; and
    what lies far off in chips of any split, with the range of all other values."""
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
    """What lies far beyond all other values, and where those are."""

    values: list[Extreme]
    others: Ranges


def _tell_far(info: DatasetInfo, far: Far, reporter: Reporter) -> None:
    """Warn of values that look like filling which nothing declares."""
    by_value: dict[float, list[Extreme]] = {}
    for extreme in far.values:
        by_value.setdefault(extreme.value, []).append(extreme)
    for value, extremes in by_value.items():
        bands = [extreme.band for extreme in extremes]
        low, high = min(far.others.low[bands]), max(far.others.high[bands])
        pixels, text = sum(extreme.pixels for extreme in extremes), value_text(np.dtype(info.dtype).type(value))
        names = ", ".join(info.band_names[band] for band in bands[:NAMED]) + (" …" if len(bands) > NAMED else "")
        reporter.warning(
            f"{text} looks like filling that nothing declares: it stands in {_count(pixels, 'pixel')} of {names}, and "
            f"all other values lie between {low:g} and {high:g}. The statistics leave it out, but it would be learned "
            "and mapped as ground. Export again with it as NODATA, or give the images this nodata value "
            f"(gdal_edit.py -a_nodata {text} in a shell)."
        )


def _report(info: DatasetInfo, rule: SplitRule, reporter: Reporter) -> None:
    """Tell how well the splits agree, and what is missing in them."""
    counts = info.chip_counts
    reporter.log(", ".join(f"{_count(counts[split], 'chip')} for {split}" for split in SPLITS) + ".")
    names = info.classes.names
    if names and sum(map(sum, info.class_chips.values())):
        table = info.pixel_counts if info.task == "segmentation" else info.class_chips
        reporter.log(
            "Class shares in " + " / ".join(split for split in SPLITS if counts[split]) + ": "
            + "; ".join(_shares(name, place, table, counts) for place, name in enumerate(names))
            + f". They differ from the whole by {100 * info.split['disagreement']:.1f} percentage points at most."
        )  # fmt: skip
    wanted = {"training": 1.0, "validation": rule.validation_share, "test": rule.test_share}
    for split in (split for split in SPLITS if wanted[split] > 0):
        absent = [name for name, count in zip(names, info.class_chips[split]) if count == 0]
        if counts[split] == 0:
            reporter.warning(
                f"No chips are left for {split}: there are too few {rule.method} to divide. Use a smaller CHIP_SIZE "
                "or BLOCK_SIZE, or label more ground."
            )
        elif absent:
            reporter.warning(f"No {split} chip shows {', '.join(absent)}: too few {rule.method} hold it.")
    constant = [name for name, std in zip(info.band_names, info.std) if std == 0]
    if constant and counts["training"]:
        reporter.warning(
            f"The same value stands everywhere in {', '.join(constant)}: nothing can be learned from it. "
            "Leave it out with BANDS."
        )


def _shares(name: str, place: int, table: dict[str, list[int]], counts: dict[str, int]) -> str:
    shares = [table[split][place] / max(1, sum(table[split])) for split in SPLITS if counts[split]]
    return f"{name} " + " / ".join(f"{share:.1%}" for share in shares)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
