"""Turns a classifier's probabilities into classes, in the same way in training, reports and mapping; needs only NumPy.

n chips, C classes.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from ..classes import IGNORE_INDEX, MAX_CLASSES
from ..errors import InputError

# For several classes per chip, if none is given.
USUAL_THRESHOLD = 0.5


def choose_class(probabilities: np.ndarray, threshold: Optional[float] = None) -> np.ndarray:
    """Choose one class per chip: the likeliest, if there is no threshold.

    With a threshold, the second of two classes is chosen from that probability on, otherwise the first; one of more
    classes must reach it.

    Args:
        probabilities: (n, C); each row sums to 1.
        threshold: 0 to 1.

    Returns:
        (n,) uint8 class indices; `IGNORE_INDEX` if no class is likely enough, or a probability is NaN.

    Raises:
        InputError: There are more classes than class indices.
    """
    classes = probabilities.shape[1]
    if classes > MAX_CLASSES:
        raise InputError(
            f"There are {classes} classes, but at most {MAX_CLASSES} are possible.",
            "Choose a model with fewer classes.",
        )
    likeliest = probabilities.argmax(axis=1)
    unknown = np.isnan(probabilities).any(axis=1)
    if threshold is not None and classes == 2:
        likeliest = probabilities[:, 1] >= threshold
    elif threshold is not None:
        unknown |= probabilities.max(axis=1) < threshold
    return np.where(unknown, IGNORE_INDEX, likeliest).astype(np.uint8)


def choose_labels(probabilities: np.ndarray, threshold: Optional[float] = None) -> np.ndarray:
    """Choose any number of classes per chip: (n, C) probabilities → (n, C) bool, those from the threshold on."""
    found: np.ndarray = probabilities >= (USUAL_THRESHOLD if threshold is None else threshold)
    return found
