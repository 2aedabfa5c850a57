"""The confusion matrix, and accuracies derived from it.

Rows i are predicted classes (the map), columns j are reference classes (the labels), and n[i, j] is a number of pixels.
The diagonal divided by the row sums is the user's accuracy (precision), and by the column sums the producer's accuracy
(recall).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def confusion_matrix(prediction: np.ndarray, reference: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by predicted and reference class index.

    Args:
        prediction: Class indices.
        reference: Class indices of the same shape; pixels with an index of `classes` or more, such as `IGNORE_INDEX`,
            are not counted.
        classes: The number of classes C.

    Returns:
        (C, C) int64.
    """
    known = reference < classes
    places = prediction[known].astype(np.int64) * classes + reference[known]
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def overall_accuracy(matrix: np.ndarray) -> float:
    """The share of correctly classified pixels; NaN if there are none."""
    return float(ratio(np.trace(matrix), matrix.sum()))


def users_accuracy(matrix: np.ndarray) -> np.ndarray:
    """(C,) share of the pixels predicted as a class that have this class; NaN for classes never predicted."""
    return ratio(np.diag(matrix), matrix.sum(axis=1))


def producers_accuracy(matrix: np.ndarray) -> np.ndarray:
    """(C,) share of the reference pixels of a class that are predicted correctly; NaN for classes without any."""
    return ratio(np.diag(matrix), matrix.sum(axis=0))


def iou(matrix: np.ndarray) -> np.ndarray:
    """(C,) intersection over union, n_jj / (row + column − n_jj); NaN for classes in neither map nor reference."""
    right = np.diag(matrix)
    return ratio(right, matrix.sum(axis=0) + matrix.sum(axis=1) - right)


def f1(matrix: np.ndarray) -> np.ndarray:
    """(C,) harmonic mean of user's and producer's accuracy, 2 n_jj / (row + column); NaN as for `iou`."""
    return ratio(2 * np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def mean_over_classes(values: np.ndarray) -> float:
    """The mean over classes that occur in map or reference, ignoring NaN; NaN if there are none."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def figures(matrix: np.ndarray) -> dict[str, Any]:
    """The accuracies by name, ready for JSON; None for classes in neither map nor reference.

    `mean_iou` and `mean_f1` are means over the classes that occur in map or reference.
    """
    per_class_iou, per_class_f1 = iou(matrix), f1(matrix)
    return {
        "overall_accuracy": number(overall_accuracy(matrix)),
        "mean_iou": number(mean_over_classes(per_class_iou)),
        "mean_f1": number(mean_over_classes(per_class_f1)),
        "iou": numbers(per_class_iou),
        "f1": numbers(per_class_f1),
    }


def never_answered(matrix: np.ndarray, names: Sequence[str], split: str) -> str:
    """What to say of classes that occur and are never predicted; "" if there are none.

    Args:
        matrix: (C, C), row = prediction, column = reference.
        names: Of the classes.
        split: What was counted, such as "test".
    """
    never = (matrix.sum(axis=1) == 0) & (matrix.sum(axis=0) > 0)
    if not never.any():
        return ""
    listed = ", ".join(name for name, flag in zip(names, never) if flag)
    return (
        f"The network never predicts {listed} on the {split} chips, which show it. Export more chips of it, or train "
        "longer, with CLASS_WEIGHTS balanced or another LOSS such as dice."
    )


def doubt(matrix: np.ndarray, names: Sequence[str], split: str) -> str:
    """A warning if predicting the most common class everywhere would be as accurate; "" otherwise.

    Args:
        matrix: (C, C), see `confusion_matrix`.
        names: Names of the classes.
        split: The split counted, such as "test".
    """
    reference = matrix.sum(axis=0)
    if not reference.any() or np.trace(matrix) > reference.max():
        return ""
    place = int(reference.argmax())
    return (
        f"Predicting {names[place]} everywhere would be correct for {reference[place] / reference.sum():.1%} of the "
        f"{split} labels, and this network is for {overall_accuracy(matrix):.1%}: it has not learned anything useful. "
        "Train for more epochs, at another LEARNING_RATE, with more or better labels, or with CLASS_WEIGHTS balanced."
    )


def number(value: float) -> float | None:
    """Replace NaN with None, since JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def numbers(values: np.ndarray | Sequence[float]) -> list[float | None]:
    """Replace NaN with None, since JSON has no NaN."""
    return [number(value) for value in values]


def ratio(part: Any, whole: Any) -> Any:
    """part / whole, for numbers or arrays of one shape; NaN if the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
