"""How each task labels a chip, and which chips are kept."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Optional, Protocol

import numpy as np

from ..config import ExportChipsConfig
from ..errors import not_none
from ..tasks import CLASS_TASKS
from .scheme import LabelScheme

# Up to this number of classes, comparing a mask with each value is faster than counting all values at once.
COMPARED_CLASSES = 24


@dataclass(frozen=True)
class Label:
    """The label of a chip that is kept."""

    pixels: np.ndarray  # (C,) pixels per class
    classes: str  # class values, such as "1,4"
    labelled_share: float
    target: Optional[float] = None  # the number of a whole chip


class Labelling(Protocol):
    """Labels chips by their masks."""

    writes_masks: bool

    def mask(self, found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """Convert (H, W) labels and where they are valid to a mask as stored, with a value for "no label"."""

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """Label a chip; None if it is not kept.

        Args:
            mask: (h, w) the part of the chip inside its block.
            whole: The number of pixels of the whole chip.
            value: The value of the feature that the chip was cut for; NaN for none.
        """


class ClassMasks:
    """Labels that are masks of class values, or are derived from them.

    Args:
        scheme: The classes.
        min_labelled_share: The minimum labelled share of a chip, 0 to 1; a chip without labels is never kept.
    """

    writes_masks = True

    def __init__(self, scheme: LabelScheme, min_labelled_share: float) -> None:
        self.scheme, self.min_labelled_share = scheme, min_labelled_share
        self.nodata = not_none(scheme.nodata)
        self.values = scheme.classes.values
        self.dtype = scheme.classes.mask_dtype(self.nodata)

    def mask(self, found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """(H, W) class values in the masks' data type, with `nodata` for unlabelled pixels."""
        values = found.astype(self.dtype, copy=False)
        return values if labelled.all() else np.where(labelled, values, self.dtype.type(self.nodata))

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """Label a chip with its classes; None if too little of it is labelled."""
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
        """The class values to list for a chip."""
        return self.values[pixels > 0]


class SceneClass(ClassMasks):
    """One class per chip: that of its feature, or the most frequent one.

    Args:
        scheme, min_labelled_share: As of `ClassMasks`.
        min_class_share: The minimum share of the chip that must have this class, 0 to 1.
    """

    writes_masks = False

    def __init__(self, scheme: LabelScheme, min_labelled_share: float, min_class_share: float) -> None:
        super().__init__(scheme, min_labelled_share)
        self.min_class_share = min_class_share

    def _classes(self, pixels: np.ndarray, whole: int, value: float) -> np.ndarray:
        chosen = int(pixels.argmax()) if np.isnan(value) else int(np.searchsorted(self.values, int(value)))
        return self.values[[chosen]] if pixels[chosen] >= self.min_class_share * whole else self.values[:0]


class SceneClasses(SceneClass):
    """Several classes per chip: all that cover a sufficient share of it."""

    def _classes(self, pixels: np.ndarray, whole: int, value: float) -> np.ndarray:
        return self.values[(pixels > 0) & (pixels >= self.min_class_share * whole)]


class Targets:
    """Masks of continuous values as float32, with NaN for unlabelled pixels."""

    writes_masks = True

    def __init__(self, min_labelled_share: float) -> None:
        self.min_labelled_share = min_labelled_share

    def mask(self, found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """(H, W) float32, NaN where unlabelled."""
        return np.where(labelled, found, np.nan).astype(np.float32, copy=False)

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """Keep a chip if enough of it is labelled."""
        share = float(np.count_nonzero(np.isfinite(mask))) / whole
        kept = share > 0 and share >= self.min_labelled_share
        return Label(np.empty(0, np.int64), "", share) if kept else None


class SceneNumber(Targets):
    """One number per chip: that of its feature, or the mean of its labelled pixels."""

    writes_masks = False

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """Keep a chip if enough of it is labelled."""
        label = super().judge(mask, whole, value)
        if label is None or np.isinf(value):
            return None
        target = float(np.mean(mask[np.isfinite(mask)], dtype=np.float64)) if np.isnan(value) else value
        return dataclasses.replace(label, target=target)


class NoLabelling:
    """Chips without labels."""

    writes_masks = False

    def mask(self, found: np.ndarray, labelled: np.ndarray) -> np.ndarray:
        """(H, W) bool, true inside the area of interest."""
        return labelled

    def judge(self, mask: np.ndarray, whole: int, value: float) -> Optional[Label]:
        """Keep a chip, with an empty label, if it contains any of the area of interest."""
        return Label(np.empty(0, np.int64), "", 0.0) if mask.any() else None


def labelling_for(config: ExportChipsConfig, scheme: LabelScheme) -> Labelling:
    """The labelling of a task."""
    if config.task == "segmentation":
        return ClassMasks(scheme, config.min_labelled_share)
    if config.task in CLASS_TASKS:
        kind = SceneClass if config.task == "classification" else SceneClasses
        return kind(scheme, config.min_labelled_share, config.min_class_share)
    if config.task == "unlabelled":
        return NoLabelling()
    return (Targets if config.task == "regression" else SceneNumber)(config.min_labelled_share)
