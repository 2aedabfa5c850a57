"""From a classifier's probabilities to its answer: the same in training, reports and mapping. Needs numpy only.

n chips, C classes.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from ..classes import IGNORE_INDEX, MAX_CLASSES
from ..errors import InputError

# Of several classes a chip, where nobody gives one.
USUAL_THRESHOLD = 0.5


def choose_class(probabilities: np.ndarray, threshold: Optional[float] = None) -> np.ndarray:
    """One class a chip: the likeliest, if there is no threshold.

    With one, the second of two classes is taken from there on, else the first one; one of more has to reach it.

    Args:
        probabilities: (n, C), each row sums to 1.
        threshold: 0 to 1.

    Returns:
        (n,) uint8 class indices; `IGNORE_INDEX` where no class is likely enough, or where the network broke down and
        gave no numbers.

    Raises:
        InputError: There are more classes than a class index can tell apart.
    """
    classes = probabilities.shape[1]
    if classes > MAX_CLASSES:
        raise InputError(
            f"There are {classes} classes, and a class is chosen from {MAX_CLASSES} at most.",
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
    """Any number of classes a chip: (n, C) probabilities → (n, C) bool, those from the threshold on."""
    found: np.ndarray = probabilities >= (USUAL_THRESHOLD if threshold is None else threshold)
    return found
