"""The most important findings about a chip dataset, sorted by weight, each with a remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..chips.dataset import NO_SPLIT, ChipDataset
from ..tasks import CLASS_TASKS
from .chip_table import ChipTable
from .duplicates import Duplicates
from .shares import ClassShares, fold_shares, split_shares
from .suspects import REASONS, Suspicion

# Lower limits of the weights for the levels "serious" and "worth a look"; lower weights are notes.
SERIOUS, WORTH = 70, 30
FEW_CHIPS = 50  # training chips
RARE_SHARE, RARE_CHIPS = 0.005, 10
UNLIKE_SPLITS = 0.10  # largest difference of a class share
UNLIKE_BANDS = 0.75  # difference of means, in standard deviations of the training chips
MUCH_NODATA, MANY_OUTSIDE = 0.2, 0.1


@dataclass(frozen=True)
class Finding:
    """Something to look at in a dataset."""

    weight: int  # 0 to 100
    title: str  # with a number
    text: str
    remedy: str
    section: str = ""  # of the report with more details

    @property
    def level(self) -> str:
        """The level: "serious", "worth a look" or "note"."""
        return "serious" if self.weight >= SERIOUS else "worth a look" if self.weight >= WORTH else "note"


def find(
    dataset: ChipDataset, table: ChipTable, duplicates: Duplicates, suspects: list[Suspicion], nodata_share: float
) -> list[Finding]:
    """Find everything conspicuous, the most important first."""
    shares = split_shares(dataset)
    found = [
        *_suspects(dataset, suspects),
        *_folds(dataset, duplicates),
        *_splits(dataset, shares),
        *_classes(dataset, shares),
        *_bands(dataset, table, nodata_share),
    ]
    return sorted(found, key=lambda finding: -finding.weight)


def _suspects(dataset: ChipDataset, suspects: list[Suspicion]) -> Iterator[Finding]:
    count = len(dataset.images)
    for key, number in Counter(suspicion.reason for suspicion in suspects).items():
        reason = REASONS[key]
        title = f"{reason.title}: {number:,} of {count:,}"
        yield Finding(reason.weight, title, reason.meaning, reason.remedy, f"reason-{key}")


def _folds(dataset: ChipDataset, duplicates: Duplicates) -> Iterator[Finding]:
    across = int(duplicates.across_folds.sum())
    if across:
        yield Finding(
            90, f"Copies in different folds: {across:,}",
            "In cross-validation, a network is validated with pictures that it was trained on.",
            "Delete the copies, or divide again by blocks of ground.", "folds")  # fmt: skip
    shares = fold_shares(dataset)
    if len(shares.names) and shares.differences.max() > UNLIKE_SPLITS:
        worst = int(np.argmax(shares.differences))
        yield Finding(
            34, f"Folds with different class shares: up to {100 * shares.differences[worst]:.0f} percentage points",
            f"In {shares.names[worst]} the share of a class differs by that much from the whole, so the accuracies "
            "of the folds are hard to compare.",
            "Use fewer FOLDS or a smaller BLOCK_SIZE, or label the classes in more places.", "folds")  # fmt: skip


def _splits(dataset: ChipDataset, shares: ClassShares) -> Iterator[Finding]:
    counts = dict(zip(shares.names, shares.counts.tolist()))
    if not counts.get("training"):
        yield Finding(96, "Training chips: 0", "A network cannot be trained on this dataset.",
                      "Divide the chips again with smaller shares for validation and test.", "classes")  # fmt: skip
    elif counts["training"] < FEW_CHIPS:
        yield Finding(36, f"Few training chips: {counts['training']}", "A network easily overfits to them.",
                      "Label more ground, use a smaller STRIDE, or start from pretrained weights.",
                      "classes")  # fmt: skip
    if "validation" not in counts and not dataset.folds.any():
        yield Finding(62, "Validation chips: 0", "The best epoch cannot be chosen with chips that were not trained on.",
                      "Divide the chips again with a larger VALIDATION_SHARE or a smaller BLOCK_SIZE.",
                      "classes")  # fmt: skip
    if "test" not in counts:
        yield Finding(38, "Test chips: 0", "There will be no accuracy for ground that was not used in training.",
                      "Divide the chips again with a TEST_SHARE, or reserve another area for the test.",
                      "classes")  # fmt: skip
    outside = counts.get(NO_SPLIT, 0)
    if outside > MANY_OUTSIDE * len(dataset.images):
        yield Finding(24, f"Chips in no split: {outside:,} of {len(dataset.images):,}",
                      "They share ground with another split and are not used.",
                      "Use larger blocks or a larger STRIDE if you need more chips.", "map")  # fmt: skip
    rows = [row for row, name in enumerate(shares.names) if name != NO_SPLIT]
    if len(rows) > 1 and dataset.info.task in CLASS_TASKS:
        worst = max(rows, key=lambda row: shares.differences[row])
        difference = shares.differences[worst]
        if difference > UNLIKE_SPLITS:
            column = int(np.nanargmax(np.abs(shares.shares[worst] - shares.whole)))
            name = dataset.info.classes.names[column]
            yield Finding(
                54, f"Splits with different class shares: {100 * difference:.0f} percentage points",
                f"{name} has {shares.shares[worst, column]:.0%} in {shares.names[worst]} and "
                f"{shares.whole[column]:.0%} in all chips, so accuracies on it say less about the rest.",
                "Use a smaller BLOCK_SIZE or another SEED, or label the classes in more places.",
                "classes")  # fmt: skip


def _classes(dataset: ChipDataset, shares: ClassShares) -> Iterator[Finding]:
    if dataset.info.task not in CLASS_TASKS:
        return
    names = dataset.info.classes.names
    rows = {name: row for row, name in enumerate(shares.names)}
    present = [name for name, chips in zip(names, shares.chips.sum(axis=0)) if chips]
    if len(present) < 2:
        yield Finding(94, f"Classes with labels: {len(present)}", "A network needs at least two classes.",
                      "Label another class, or export with BACKGROUND class.", "classes")  # fmt: skip
    unused = [name for name in names if name not in present]
    if unused:
        yield Finding(32, f"Classes without labels: {len(unused)} ({_some(unused)})",
                      "No chip contains them, so a network would have outputs that are never trained.",
                      "Label them, or remove them from the classes of the label layer.", "classes")  # fmt: skip
    for split, weight in (("training", 84), ("validation", 48), ("test", 46)):
        if split not in rows:
            continue
        absent = [name for name, chips in zip(names, shares.chips[rows[split]]) if not chips and name in present]
        if absent:
            meaning = "They cannot be learned." if split == "training" else "Their accuracy cannot be measured."
            yield Finding(weight, f"Classes missing in {split}: {len(absent)} ({_some(absent)})", meaning,
                          "Use a smaller BLOCK_SIZE, or label them in more places.", "classes")  # fmt: skip
    if "training" in rows:
        row = rows["training"]
        # With few chips all classes are rare, which is a separate finding.
        least = RARE_CHIPS if shares.counts[row] >= FEW_CHIPS else 0
        rare = [
            f"{name} {share:.2%}, {chips} {'chip' if chips == 1 else 'chips'}"
            for name, share, chips in zip(names, shares.shares[row], shares.chips[row].tolist())
            if chips and (share < RARE_SHARE or chips < least)
        ]
        if rare:
            yield Finding(52, f"Rare classes: {len(rare)} ({_some(rare, '; ')})",
                          f"They have less than {RARE_SHARE:.1%} of the training labels or fewer than {RARE_CHIPS} "
                          "chips, so they are learned poorly.",
                          "Label more of them, merge them with another class, or train with CLASS_WEIGHTS balanced.",
                          "classes")  # fmt: skip


def _bands(dataset: ChipDataset, table: ChipTable, nodata_share: float) -> Iterator[Finding]:
    names = dataset.info.band_names
    if nodata_share > MUCH_NODATA:
        yield Finding(33, f"Pixels without image data: {nodata_share:.0%}",
                      "They contribute nothing, but take memory and time.",
                      "Exclude these places with AREA, or use smaller chips.", "bands")  # fmt: skip
    total = table.bands.total()
    flat = [name for name, count, std in zip(names, total.count, total.std) if count and std == 0]
    if flat:
        yield Finding(64, f"Bands with one value: {len(flat)} ({_some(flat)})", "Nothing can be learned from them.",
                      "Exclude them with BANDS.", "bands")  # fmt: skip
    bare = [name for name, count in zip(names, total.count) if not count]
    if bare and table.bands.known.any():
        yield Finding(65, f"Bands without data: {len(bare)} ({_some(bare)})", "All their pixels are nodata.",
                      "Exclude them with BANDS.", "bands")  # fmt: skip
    training = table.bands.splits.get("training")
    if training is None:
        return
    spread = np.where(training.std > 0, training.std, np.inf)
    for split in ("validation", "test"):
        other = table.bands.splits.get(split)
        if other is None:
            continue
        both = (other.count > 0) & (training.count > 0)
        apart = np.where(both, np.abs(other.mean - training.mean) / spread, 0)
        if apart.max(initial=0) > UNLIKE_BANDS:
            band = int(np.argmax(apart))
            yield Finding(
                42, f"Different pixel values in {split}: {apart[band]:.1f} standard deviations in {names[band]}",
                f"The mean is {other.mean[band]:.4g} there and {training.mean[band]:.4g} in the training chips, "
                "because of other ground, light or sensors. The network has to generalise to this.",
                "Divide again with another SEED or smaller blocks, unless you want to test exactly this.",
                "bands")  # fmt: skip


def _some(names: list[str], separator: str = ", ", most: int = 4) -> str:
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")
