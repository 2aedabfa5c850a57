"""Chips that should be checked, each with a reason, an explanation and a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..chips.dataset import ChipDataset
from ..tasks import CLASS_TASKS, NUMBER_TASKS
from .chip_table import ChipTable
from .duplicates import Duplicates
from .measures import Measures

# A chip with a smaller share of image data is almost empty, and with a smaller labelled share almost unlabelled.
HARDLY = 0.05, 0.01
# If the labels of half the chips cover less than this, the dataset is sparsely labelled on purpose.
DENSE = 0.5
BLACK_SHARE = 0.1
# Outliers of regression masks, in standard deviations from the mean.
EXTREME = 8.0
# For "mixed_place": the minimum number of chips with a single class, and the distance of outliers (Tukey 1977,
# quartiles and "far out" fences).
USUAL_CHIPS, FAR_OUT = 20, 3.0


@dataclass(frozen=True)
class Reason:
    """A reason for listing chips: its weight, a heading, an explanation and a remedy."""

    weight: int  # 0 to 100
    title: str
    meaning: str
    remedy: str


DUPLICATE_REASONS = ("leak", "shared_ground", "duplicate", "near_duplicate")
REASONS = {
    "damaged": Reason(100, "Chips that cannot be read",
        "Their file is missing, damaged or of another size. Training would stop at the first one.",
        "Export the chips again."),
    "leak": Reason(97, "Validation or test chips with the same picture as training chips",
        "An earlier split has the same picture, so the accuracy for it is too high.",
        "Delete the copies, or use “Split training chips” with blocks or your own areas, not at random."),
    "shared_ground": Reason(95, "Validation or test chips on the same ground as training chips",
        "Their footprint overlaps a chip of an earlier split, so the accuracy for them is too high.",
        "Use “Split training chips” with blocks, or export with a STRIDE of at least the chip size."),
    "contradiction": Reason(92, "The same picture with different labels",
        "At least one of the labels is wrong, and training uses both.",
        "Compare them, correct or delete the wrong ones, and export again."),
    "unknown_values": Reason(86, "Masks with unknown values",
        "Pixels with these values are ignored like unlabelled ones.",
        "Add the missing classes to the label layer's style or field and export again, or correct the masks."),
    "miscounted": Reason(82, "Masks that differ from the index",
        "Pixel counts of the mask differ from the index, so the mask was changed after the export. "
        "Class weights and shares of splits are based on the index.",
        "Export the chips again from the corrected labels."),
    "several_classes": Reason(80, "Chips with several classes where one is expected",
        "A classification network learns one class per chip.",
        "Correct their classes, or export with TASK multilabel."),
    "constant": Reason(72, "Images with a single value",
        "They show nothing, but their labels are used in training and accuracies.",
        "Set this value as the raster's nodata value, or exclude these places with AREA, and export again."),
    "empty": Reason(70, "Images without data", "All pixels are nodata.",
        "Exclude these places with AREA, and export again."),
    "extreme_target": Reason(66, "Labels with extreme values",
        f"They have values more than {EXTREME:g} standard deviations from the mean, often an undeclared nodata value.",
        "Set the label raster's nodata value and export again, or check these places."),
    "far_values": Reason(64, "Images with outliers",
        "Values far beyond all others are probably an undeclared nodata value, but are learned as ground.",
        "Export again with the value as NODATA."),
    "duplicate": Reason(60, "Chips that occur twice",
        "They are identical, so they count twice in training.",
        "Check whether a raster was given twice; delete the copies."),
    "near_duplicate": Reason(56, "Chips that look the same",
        "The same picture rotated, mirrored, brightened or compressed. Training does this itself with AUGMENTATION.",
        "Delete the copies, or keep them, since they are in the same split."),
    "unlabelled": Reason(50, "Chips without any label", "Training leaves them out.",
        "Raise MIN_LABELLED_SHARE, or label these places."),
    "mixed_place": Reason(44, "A single class where the image varies",
        "The image varies far more than is usual for chips with this class only. The label may be too coarse.",
        "Compare image and label, and add the missing classes."),
    "stray": Reason(40, "Specks of a class",
        "One to three pixels of a class amid others, often a digitising mistake or noise of a label raster.",
        "Check some of them. Remove them in the label layer, or filter the label raster (Sieve)."),
    "black": Reason(36, "Black areas that are not nodata",
        f"At least {BLACK_SHARE:.0%} of these images are 0 in all bands. If there is no image, this distorts the "
        "bands' statistics and is learned as ground.",
        "Set 0 as the raster's nodata value and export again, unless it is really dark there."),
    "hardly_data": Reason(30, "Images that are almost all nodata",
        f"Less than {HARDLY[0]:.0%} of their pixels have data.",
        "Exclude these places with AREA, and export again."),
    "hardly_labelled": Reason(26, "Masks that are almost all unlabelled",
        f"Less than {HARDLY[1]:.0%} of their pixels are labelled, but most chips have many labels.",
        "Raise MIN_LABELLED_SHARE, or label these places."),
}  # fmt: skip


@dataclass(frozen=True)
class Suspicion:
    """A chip, a key of `REASONS`, the details, and the index of the other chip concerned, or -1."""

    chip: int
    reason: str
    detail: str
    other: int = -1


def find_suspects(
    dataset: ChipDataset, table: ChipTable, measures: Measures, duplicates: Duplicates, shared: np.ndarray
) -> list[Suspicion]:
    """Find all suspicious chips, the most important reasons first.

    Args:
        dataset: The dataset.
        table: Its index.
        measures: From `measure`.
        duplicates: From `find_duplicates`.
        shared: From `shared_ground`.
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
    """Chips whose image or label looks wrong, without copies."""
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
        yield Suspicion(chip, "black", f"{measures.black[chip]:.0%} are 0 in all bands")
    for chip in np.flatnonzero((table.valid > 0) & (table.valid < HARDLY[0])).tolist():
        yield Suspicion(chip, "hardly_data", f"{table.valid[chip]:.1%} have data")
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
    if task in NUMBER_TASKS:
        yield from _targets(table)
    if task != "segmentation":
        return
    for chip in np.flatnonzero(measures.unknown).tolist():
        yield Suspicion(chip, "unknown_values", f"{measures.unknown[chip]:,} pixels")
    for chip in np.flatnonzero(measures.miscounted).tolist():
        yield Suspicion(chip, "miscounted", "different pixel counts")
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
    """Chips with a single class, and far more contrast than other chips with this class only."""
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
            yield Suspicion(chip, "mixed_place", f"only {name}, with {more:.1f} times the usual contrast")


def _copies(dataset: ChipDataset, duplicates: Duplicates, measures: Measures) -> Iterator[Suspicion]:
    order = {"training": 0, "validation": 1, "test": 2}
    for group in duplicates.groups():
        # The first one of the earliest split is the original.
        original = min(group.tolist(), key=lambda chip: (order.get(str(dataset.splits[chip]), 3), chip))
        for chip in group.tolist():
            other = original if chip != original else int(next(one for one in group.tolist() if one != original))
            if duplicates.contradicting[chip]:
                yield Suspicion(chip, "contradiction", "another label", other)
            if chip == original:
                continue
            exact = measures.image_hashes[chip] == measures.image_hashes[original]
            how = "identical" if exact else "looks the same"
            if duplicates.leaking[chip]:
                yield Suspicion(chip, "leak", f"{how}; the copy is a {dataset.splits[original]} chip", original)
            else:
                yield Suspicion(chip, "duplicate" if exact else "near_duplicate", how, original)
