"""The confusion matrix and what is derived from it.

Rows i are what the map says, columns j what the reference (the label) says; n[i, j] counts pixels. So the diagonal
over the row sums is the user's accuracy (precision), over the column sums the producer's accuracy (recall).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def confusion_matrix(prediction: np.ndarray, reference: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by predicted and reference class index.

    Args:
        prediction, reference: Class indices, of one shape; where the reference has no class (an index of `classes` or
            more, such as `IGNORE_INDEX`) the pixel is not counted.

    Returns:
        (C, C) int64.
    """
    known = reference < classes
    places = prediction[known].astype(np.int64) * classes + reference[known]
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def overall_accuracy(matrix: np.ndarray) -> float:
    """The share of pixels whose class is right; NaN without pixels."""
    return float(ratio(np.trace(matrix), matrix.sum()))


def users_accuracy(matrix: np.ndarray) -> np.ndarray:
    """(C,) of the pixels mapped as a class, the share that is so; NaN for a class that is not mapped."""
    return ratio(np.diag(matrix), matrix.sum(axis=1))


def producers_accuracy(matrix: np.ndarray) -> np.ndarray:
    """(C,) of the pixels of a class in the reference, the share mapped as such; NaN for a class that is not there."""
    return ratio(np.diag(matrix), matrix.sum(axis=0))


def iou(matrix: np.ndarray) -> np.ndarray:
    """(C,) intersection over union, n_jj / (row + column − n_jj); NaN for a class in neither map nor reference."""
    right = np.diag(matrix)
    return ratio(right, matrix.sum(axis=0) + matrix.sum(axis=1) - right)


def f1(matrix: np.ndarray) -> np.ndarray:
    """(C,) harmonic mean of user's and producer's accuracy, 2 n_jj / (row + column); NaN as for `iou`."""
    return ratio(2 * np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1))


def mean_over_classes(values: np.ndarray) -> float:
    """The mean over the classes that occur in map or reference (the values that are not NaN); NaN without any."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float("nan")


def figures(matrix: np.ndarray) -> dict[str, Any]:
    """The accuracies by name, ready for JSON: None stands where a class occurs in neither map nor reference.

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


def doubt(matrix: np.ndarray, names: Sequence[str], split: str) -> str:
    """What to say of a result that is no better than to name the commonest class everywhere; "" of a better one.

    Args:
        names: Of the classes.
        split: What was counted, such as "test".
    """
    reference = matrix.sum(axis=0)
    if not reference.any() or np.trace(matrix) > reference.max():
        return ""
    place = int(reference.argmax())
    return (
        f"Naming {names[place]} everywhere would be right in {reference[place] / reference.sum():.1%} of the {split} "
        f"labels, and this network is in {overall_accuracy(matrix):.1%}: so far it has learned nothing of use there. "
        "Train for more epochs, with more or better labels, or with CLASS_WEIGHTS balanced."
    )


def number(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return float(value) if np.isfinite(value) else None


def numbers(values: np.ndarray | Sequence[float]) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    return [number(value) for value in values]


def ratio(part: Any, whole: Any) -> Any:
    """part / whole, of numbers or arrays of one shape; NaN where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
