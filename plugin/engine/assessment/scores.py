"""Accuracies of classifiers for whole chips, from probabilities.

There are n chips and C classes. Precision equals the user's accuracy of a map, recall the producer's accuracy; see
`confusion`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.decision import choose_class, choose_labels
from . import confusion

# Values of k for top-k accuracy, used if there are more classes.
TOP = (2, 3, 5)


def chip_matrix(probabilities: np.ndarray, reference: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """(C, C) int64: the confusion matrix of chips, rows = prediction, columns = reference.

    Args:
        probabilities: (n, C).
        reference: (n,) class indices; chips without a valid index or without a predicted class are not counted.
        threshold: See `decision.choose_class`.
    """
    classes = probabilities.shape[1]
    answer = choose_class(probabilities, threshold)
    given = answer < classes
    return confusion.confusion_matrix(answer[given], reference[given], classes)


def class_figures(probabilities: np.ndarray, reference: np.ndarray, threshold: float | None = None) -> dict[str, Any]:
    """Compute the accuracies for one class per chip, ready for JSON; arguments as of `chip_matrix`.

    A chip without a predicted class counts as an error.

    Returns:
        `overall_accuracy`; `top` (k → share of chips whose class is among the k most likely); `mean_precision`,
        `mean_recall`, `mean_f1` over the classes that occur in predictions or reference; `precision`, `recall`, `f1`
        of each class, None if undefined (which counts as 0 in the mean if the class occurs).
    """
    matrix = chip_matrix(probabilities, reference, threshold)
    classes = probabilities.shape[1]
    known = reference < classes
    right, answered = np.diag(matrix), matrix.sum(axis=1)
    shown = np.bincount(reference[known], minlength=classes)  # includes chips without a predicted class
    return {
        "overall_accuracy": confusion.number(float(confusion.ratio(right.sum(), shown.sum()))),
        "top": _top(probabilities[known], reference[known]),
        **_per_class(right, answered, shown),
    }


def _top(probabilities: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    classes = probabilities.shape[1]
    if not len(reference):
        return {str(k): None for k in TOP if k < classes}
    place = reference[:, None].astype(np.int64)
    own = np.take_along_axis(probabilities, place, axis=1)
    # The number of classes ranked before the correct one; ties go to the first, as in `choose_class`.
    before = ((probabilities > own) | ((probabilities == own) & (np.arange(classes) < place))).sum(axis=1)
    before[np.isnan(probabilities).any(axis=1)] = classes
    return {str(k): float((before < k).mean()) for k in TOP if k < classes}


def labels_figures(probabilities: np.ndarray, shown: np.ndarray, threshold: float | None = None) -> dict[str, Any]:
    """Compute the accuracies for several classes per chip, ready for JSON.

    Args:
        probabilities: (n, C).
        shown: (n, C) bool, the classes of each chip.
        threshold: See `decision.choose_labels`.

    Returns:
        `overall_accuracy` (share of chips with exactly the correct classes), `label_accuracy` (share of correct
        decisions per class), `micro_f1` (over all decisions), the same means and values per class as `class_figures`,
        and `average_precision` (whose mean is over the classes that occur in the reference).
    """
    answer = choose_labels(probabilities, threshold)
    right = (answer & shown).sum(axis=0)
    precisions = np.array(
        [average_precision(probabilities[:, index], shown[:, index]) for index in range(shown.shape[1])]
    )
    agree = answer == shown
    total = answer.sum() + shown.sum()
    return {
        "overall_accuracy": float(agree.all(axis=1).mean()) if len(agree) else None,
        "label_accuracy": float(agree.mean()) if agree.size else None,
        "micro_f1": confusion.number(float(confusion.ratio(2 * right.sum(), total))),
        **_per_class(right, answer.sum(axis=0), shown.sum(axis=0)),
        "mean_average_precision": confusion.number(confusion.mean_over_classes(precisions)),
        "average_precision": confusion.numbers(precisions),
    }


def average_precision(scores: np.ndarray, shown: np.ndarray) -> float:
    """The area under the precision-recall curve, as a step function; NaN if no chip has the class.

    It is the mean of the precisions at each chip with the class, by descending score; chips with equal scores are
    counted together.

    Args:
        scores: (n,).
        shown: (n,) bool, true for chips with the class.
    """
    if not shown.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    sorted_scores, found = scores[order], np.cumsum(shown[order])
    last = np.flatnonzero(np.append(sorted_scores[1:] != sorted_scores[:-1], True))  # the last chip of each score
    precision, gained = found[last] / (last + 1), np.diff(found[last], prepend=0)
    return float((precision * gained).sum() / shown.sum())


def _per_class(right: np.ndarray, answered: np.ndarray, shown: np.ndarray) -> dict[str, Any]:
    """Precision, recall and F1 of each class, and their means over the classes that occur.

    Args:
        right, answered, shown: (C,) numbers of chips: correctly predicted, predicted, and in the reference.
    """
    per_class = {
        "precision": confusion.ratio(right, answered),
        "recall": confusion.ratio(right, shown),
        "f1": confusion.ratio(2 * right, answered + shown),
    }
    occurs = answered + shown > 0
    # A class that is never predicted has no precision. Ignoring it would reward networks that predict few classes.
    means = {
        f"mean_{name}": confusion.number(confusion.mean_over_classes(np.nan_to_num(found)[occurs]))
        for name, found in per_class.items()
    }
    return {**means, **{name: confusion.numbers(found) for name, found in per_class.items()}}
