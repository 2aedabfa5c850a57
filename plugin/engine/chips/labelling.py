"""What a chip's label is, for each task, and whether the chip is worth keeping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol

import numpy as np

from ..config import ExportChipsConfig
from ..errors import not_none
from .dataset import CLASS_TASKS
from .scheme import LabelScheme

# Up to so many classes it is quicker to compare a mask with each value than to count all values at once.
COMPARED_CLASSES = 24


@dataclass(frozen=True)
class Label:
    """A kept chip's label."""

    pixels: np.ndarray  # (C,) per class
    classes: str  # class values, "1,4"
    labelled_share: float


class Labelling(Protocol):
    """Judges chips by their masks."""

    writes_masks: bool

    def mask(self, found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """(H, W) labels and where they are → a mask as it is stored, with a value for "no label"."""

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """The label of a chip, or None for one that is not kept.

        Args:
            mask: (h, w) the part of the chip inside its block.
            whole: The pixels of the whole chip.
            value: Of the feature that the chip was cut for; NaN without one.
        """


class ClassMasks:
    """Labels that are masks of class values, or follow from them.

    Args:
        scheme: The classes.
        min_labelled_share: Of a chip's pixels, 0 to 1; a chip without any label is never kept.
        writes_masks: Whether the chips have mask files.
    """

    writes_masks = True

    def __init__(self, scheme: LabelScheme, min_labelled_share: float) -> None:
        self.scheme, self.min_labelled_share = scheme, min_labelled_share
        self.nodata = not_none(scheme.nodata)
        self.values = scheme.classes.values
        self.dtype = scheme.classes.mask_dtype(self.nodata)

    def mask(self, found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """(H, W) class values in the type of the dataset's masks, `nodata` where there is no label."""
        values = found.astype(self.dtype, copy=False)
        return values if labelled.all() else np.where(labelled, values, self.dtype.type(self.nodata))

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """The chip's label."""
        pixels = self._count(mask)
        share = float(pixels.sum()) / whole
        if share == 0 or share < self.min_labelled_share:
            return None
        classes = self._classes(pixels, whole, value)
        if not len(classes):
            return None
        return Label(pixels, ",".join(map(str, classes.tolist())), share)

    def _count(self, mask: np.ndarray) -> np.ndarray:
        """(C,) int64: pixels of each class."""
        if len(self.values) <= COMPARED_CLASSES:
            return np.array([np.count_nonzero(mask == value) for value in self.values], np.int64)
        indices = self.scheme.classes.to_indices(mask)
        return np.bincount(indices.ravel(), minlength=256)[: len(self.values)]

    def _classes(self, pixels: np.ndarray, whole: int, value: float) -> np.ndarray:
        """The class values that the chip shows."""
        return self.values[pixels > 0]


class SceneClass(ClassMasks):
    """One class a chip: its feature's, or the one that most of its pixels have.

    Args:
        min_class_share: Of the chip's pixels that must have this class, 0 to 1.
    """

    writes_masks = False

    def __init__(self, scheme: LabelScheme, min_labelled_share: float, min_class_share: float) -> None:
        super().__init__(scheme, min_labelled_share)
        self.min_class_share = min_class_share

    def _classes(self, pixels: np.ndarray, whole: int, value: float) -> np.ndarray:
        chosen = int(pixels.argmax()) if np.isnan(value) else int(np.searchsorted(self.values, int(value)))
        return self.values[[chosen]] if pixels[chosen] >= self.min_class_share * whole else self.values[:0]


class SceneClasses(SceneClass):
    """Several classes a chip: all that enough of its pixels have."""

    def _classes(self, pixels: np.ndarray, whole: int, value: float) -> np.ndarray:
        return self.values[(pixels > 0) & (pixels >= self.min_class_share * whole)]


class Targets:
    """Continuous values a pixel, float32 with NaN where there is none."""

    writes_masks = True

    def __init__(self, min_labelled_share: float) -> None:
        self.min_labelled_share = min_labelled_share

    def mask(self, found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """(H, W) float32."""
        return np.where(labelled, found, np.nan).astype(np.float32, copy=False)

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """The chip's label."""
        share = float(np.count_nonzero(np.isfinite(mask))) / whole
        kept = share > 0 and share >= self.min_labelled_share
        return Label(np.empty(0, np.int64), "", share) if kept else None


class NoLabelling:
    """Chips without labels."""

    writes_masks = False

    def mask(self, found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """(H, W) where chips are wanted."""
        return labelled

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """An empty label, where the chip holds any ground that is wanted."""
        return Label(np.empty(0, np.int64), "", 0.0) if mask.any() else None


def labelling_for(config: ExportChipsConfig, scheme: LabelScheme) -> Labelling:
    """How the chips of a task are labelled."""
    if config.task == "segmentation":
        return ClassMasks(scheme, config.min_labelled_share)
    if config.task in CLASS_TASKS:
        kind = SceneClass if config.task == "classification" else SceneClasses
        return kind(scheme, config.min_labelled_share, config.min_class_share)
    return Targets(config.min_labelled_share) if config.task == "regression" else NoLabelling()
