"""Chips that a person should look at, each with a reason; what the reasons mean and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..chips.dataset import CLASS_TASKS, ChipDataset
from .chip_table import ChipTable
from .duplicates import Duplicates
from .measures import Measures

# A chip with image data on less of it than this is all but empty, and with labels on less, all but unlabelled.
HARDLY = 0.05, 0.01
# Where the labels of half the chips cover less than this, sparse labels are how the dataset was made.
DENSE = 0.5
BLACK_SHARE = 0.1
# Values of a regression mask that lie so many deviations from the mean.
EXTREME = 8.0
# For "one class in a mixed place": how many chips of one class alone it takes to know what is usual, and how far out of
# the usual a chip must lie (Tukey 1977, quartiles and "far out" fences).
USUAL_CHIPS, FAR_OUT = 20, 3.0


@dataclass(frozen=True)
class Reason:
    """Why chips are listed: how much it matters, a heading, what it means and what to do."""

    weight: int  # 0 to 100
    title: str
    meaning: str
    remedy: str


DUPLICATE_REASONS = ("leak", "shared_ground", "duplicate", "near_duplicate")
REASONS = {
    "damaged": Reason(100, "Chips that cannot be read",
        "Their file is missing, damaged or of another size. Training would stop at the first.",
        "Export the chips again."),
    "leak": Reason(97, "Validation or test chips whose picture training has seen",
        "The same picture lies in an earlier split as well, so the accuracy found on it is too good.",
        "Delete the copies, or use “Split training chips”: by blocks of ground or your own areas, not at random."),
    "shared_ground": Reason(95, "Validation or test chips on ground that training has seen",
        "Their footprint overlaps that of a chip of an earlier split, so the accuracy found on them is too good.",
        "Use “Split training chips” with blocks of ground, or export with a STRIDE of at least the chip size."),
    "contradiction": Reason(92, "The same picture with different labels",
        "At least one of the labels is wrong, and training is told both.",
        "Compare them, correct or delete the wrong ones, and export again."),
    "unknown_values": Reason(86, "Masks with values of no class",
        "Pixels with such values are ignored as if they had no label.",
        "Add the missing classes to the label layer's style or field and export again, or correct the masks."),
    "miscounted": Reason(82, "Masks that are not those of the index",
        "The index counts other pixels per class than the mask holds: a mask was changed after the export. "
        "Weights of classes and shares of splits are taken from the index.",
        "Export the chips again from the corrected labels."),
    "several_classes": Reason(80, "Chips with several classes where one is expected",
        "A classification network learns one class a chip.",
        "Correct their classes, or export with TASK multilabel."),
    "constant": Reason(72, "Images of one value",
        "They show nothing, but their labels are learned from and counted as if they did.",
        "Set the filling of the raster as its nodata value, or leave these places out with AREA, and export again."),
    "empty": Reason(70, "Images without data", "Every pixel is nodata.",
        "Leave these places out with AREA, and export again."),
    "extreme_target": Reason(66, "Masks with extreme values",
        f"They hold values more than {EXTREME:g} deviations from the mean: often a nodata value that was not declared.",
        "Set the label raster's nodata value and export again, or check the places."),
    "far_values": Reason(64, "Images with values far beyond all others",
        "Such values look like filling that nothing declares; they are learned as ground.",
        "Export again with the value as NODATA."),
    "duplicate": Reason(60, "Chips that occur twice",
        "They are the same to the last bit. What they show counts double in training.",
        "Check whether a raster was given twice; delete the copies."),
    "near_duplicate": Reason(56, "Chips that look the same",
        "The same picture turned, mirrored, brightened or compressed. Training does that by itself with AUGMENTATION.",
        "Delete the copies, or keep them knowingly: at least they lie in one split."),
    "unlabelled": Reason(50, "Chips without any label", "Training leaves them out.",
        "Raise MIN_LABELLED_SHARE, or label these places."),
    "mixed_place": Reason(44, "One class all over a place that looks mixed",
        "The image varies far more than usual where this class is alone: the label may be too coarse.",
        "Compare image and label, and draw the missing classes."),
    "stray": Reason(40, "Specks of a class",
        "One to three pixels of a class in the midst of others: often a slip of the mouse, or noise of a label raster.",
        "Look at some. Remove them in the label layer, or filter the label raster (Sieve)."),
    "black": Reason(36, "Black parts that are no nodata",
        f"At least {BLACK_SHARE:.0%} of these images hold 0 in every band. If that is filling, it shifts the bands' "
        "statistics and is learned as ground.",
        "Set 0 as the raster's nodata value and export again, unless it is really dark there."),
    "hardly_data": Reason(30, "Images that are almost all nodata",
        f"Less than {HARDLY[0]:.0%} of them hold data.",
        "Leave these places out with AREA, and export again."),
    "hardly_labelled": Reason(26, "Masks that are almost all unlabelled",
        f"Less than {HARDLY[1]:.0%} of them is labelled, while most chips are labelled well.",
        "Raise MIN_LABELLED_SHARE, or label these places."),
}  # fmt: skip


@dataclass(frozen=True)
class Suspicion:
    """A chip, a key of `REASONS`, what exactly it is here, and the other chip that it has to do with, or -1."""

    chip: int
    reason: str
    detail: str
    other: int = -1


def find_suspects(
    dataset: ChipDataset, table: ChipTable, measures: Measures, duplicates: Duplicates, shared: np.ndarray
) -> list[Suspicion]:
    """All chips with something to look at, the weightiest reasons first.

    Args:
        shared: (n,) for chips on ground of an earlier split, a chip there; -1 for the others.
    """
    found = [
        *_images(dataset, table, measures),
        *_labels(dataset, table, measures),
        *_copies(dataset, duplicates, measures),
        *(
            Suspicion(chip, "shared_ground", f"overlaps a {dataset.splits[shared[chip]]} chip", int(shared[chip]))
            for chip in np.flatnonzero(shared >= 0).tolist()
        ),
    ]
    return sorted(found, key=lambda suspicion: -REASONS[suspicion.reason].weight)  # stable: by chip within a reason


def suspicious_chips(suspects: list[Suspicion]) -> set[int]:
    """Chips whose image or label looks wrong, copies aside."""
    return {suspicion.chip for suspicion in suspects if suspicion.reason not in DUPLICATE_REASONS}


def _images(dataset: ChipDataset, table: ChipTable, measures: Measures) -> Iterator[Suspicion]:
    for chip, problem in sorted(measures.problems.items()):
        yield Suspicion(chip, "damaged", problem)
    for chip in np.flatnonzero(table.valid == 0).tolist():
        yield Suspicion(chip, "empty", "no pixel holds data")
    constant = (table.bands.constant | measures.constant) & ~(table.valid == 0)
    for chip in np.flatnonzero(constant).tolist():
        classes = int(dataset.shown[chip].sum())
        yield Suspicion(chip, "constant", "one value" + (f", labelled with {classes} classes" if classes > 1 else ""))
    for chip in np.flatnonzero((measures.black >= BLACK_SHARE) & ~constant).tolist():
        yield Suspicion(chip, "black", f"{measures.black[chip]:.0%} are 0 in every band")
    for chip in np.flatnonzero((table.valid > 0) & (table.valid < HARDLY[0])).tolist():
        yield Suspicion(chip, "hardly_data", f"{table.valid[chip]:.1%} hold data")
    for chip, extremes in sorted(table.far.items()):
        for band, value, pixels in extremes:
            yield Suspicion(chip, "far_values", f"{value:.9g} in {pixels:,} pixels of {dataset.info.band_names[band]}")


def _labels(dataset: ChipDataset, table: ChipTable, measures: Measures) -> Iterator[Suspicion]:
    task, names = dataset.info.task, dataset.info.classes.names
    if task in CLASS_TASKS:
        for chip in np.flatnonzero(~dataset.shown.any(axis=1)).tolist():
            yield Suspicion(chip, "unlabelled", "no class")
    if task == "classification":
        for chip in np.flatnonzero(dataset.shown.sum(axis=1) > 1).tolist():
            shown = ", ".join(name for name, there in zip(names, dataset.shown[chip]) if there)
            yield Suspicion(chip, "several_classes", shown)
    if task == "regression":
        yield from _targets(table)
    if task != "segmentation":
        return
    for chip in np.flatnonzero(measures.unknown).tolist():
        yield Suspicion(chip, "unknown_values", f"{measures.unknown[chip]:,} pixels")
    for chip in np.flatnonzero(measures.miscounted).tolist():
        yield Suspicion(chip, "miscounted", "other pixels per class")
    for chip, specks in sorted(measures.stray.items()):
        words = [f"{pixels} {'pixel' if pixels == 1 else 'pixels'} of {names[index]}" for index, pixels in specks]
        yield Suspicion(chip, "stray", ", ".join(words))
    known = table.labelled[~np.isnan(table.labelled)]
    if len(known) and np.median(known) >= DENSE:
        hardly = (table.labelled > 0) & (table.labelled < HARDLY[1])
        for chip in np.flatnonzero(hardly & dataset.shown.any(axis=1)).tolist():
            yield Suspicion(chip, "hardly_labelled", f"{table.labelled[chip]:.2%} labelled")
    yield from _mixed_places(dataset, table)


def _targets(table: ChipTable) -> Iterator[Suspicion]:
    for chip in np.flatnonzero(table.target_pixels == 0).tolist():
        yield Suspicion(chip, "unlabelled", "no value is known")
    if table.target.count[0] == 0:
        return
    mean, std = float(table.target.mean[0]), float(table.target.std[0])
    far = np.abs(table.target_range - mean) > EXTREME * max(std, 1e-12)
    for chip in np.flatnonzero(far.any(axis=1)).tolist():
        low, high = table.target_range[chip]
        yield Suspicion(chip, "extreme_target", f"from {low:g} to {high:g}")


def _mixed_places(dataset: ChipDataset, table: ChipTable) -> Iterator[Suspicion]:
    """Chips of one class alone whose image has far more contrast than is usual where this class is alone."""
    contrast = table.bands.contrast
    alone = (dataset.shown.sum(axis=1) == 1) & (table.labelled > 0.9) & ~np.isnan(contrast)
    for index, name in enumerate(dataset.info.classes.names):
        chips = np.flatnonzero(alone & dataset.shown[:, index])
        if len(chips) < USUAL_CHIPS:
            continue
        low, middle, high = np.percentile(contrast[chips], (25, 50, 75))
        limit = max(high + FAR_OUT * (high - low), 2 * middle)
        for chip in chips[contrast[chips] > limit].tolist():
            more = contrast[chip] / max(middle, 1e-12)
            yield Suspicion(chip, "mixed_place", f"{name} alone, with {more:.1f} times the usual contrast")


def _copies(dataset: ChipDataset, duplicates: Duplicates, measures: Measures) -> Iterator[Suspicion]:
    order = {"training": 0, "validation": 1, "test": 2}
    for group in duplicates.groups():
        # Of the earliest split, the first: that is the one that the others repeat.
        original = min(group.tolist(), key=lambda chip: (order.get(str(dataset.splits[chip]), 3), chip))
        for chip in group.tolist():
            other = original if chip != original else int(next(one for one in group.tolist() if one != original))
            if duplicates.contradicting[chip]:
                yield Suspicion(chip, "contradiction", "another label", other)
            if chip == original:
                continue
            exact = measures.image_hashes[chip] == measures.image_hashes[original]
            how = "the same to the last bit" if exact else "looks the same"
            if duplicates.leaking[chip]:
                yield Suspicion(chip, "leak", f"{how}, and the other is a {dataset.splits[original]} chip", original)
            else:
                yield Suspicion(chip, "duplicate" if exact else "near_duplicate", how, original)
