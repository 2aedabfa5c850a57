"""What a classifier's answers are worth: the accuracies of whole chips, from their probabilities.

n chips, C classes. Precision is what a map's user's accuracy is, recall its producer's accuracy; see `confusion`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.decision import choose_class, choose_labels
from . import confusion

# Whether the right class is among the likeliest so many; told where there are more classes than that.
TOP = (2, 3, 5)


def chip_matrix(probabilities: np.ndarray, reference: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """(C, C) int64: the confusion matrix of chips, rows = prediction, columns = reference.

    Args:
        probabilities: (n, C).
        reference: (n,) class indices; what is no class is not counted, nor is a chip to which the network gives none.
        threshold: See `decision.choose_class`.
    """
    classes = probabilities.shape[1]
    answer = choose_class(probabilities, threshold)
    given = answer < classes
    return confusion.confusion_matrix(answer[given], reference[given], classes)


def class_figures(probabilities: np.ndarray, reference: np.ndarray, threshold: float | None = None) -> dict[str, Any]:
    """The accuracies of one class a chip, ready for JSON; arguments as of `chip_matrix`.

    A chip to which the network gives no class counts as a miss.

    Returns:
        `overall_accuracy`; `top` (k → the share of chips whose class is among the k likeliest); `mean_precision`,
        `mean_recall`, `mean_f1` over the classes that occur in answer or reference; `precision`, `recall`, `f1` of
        each class, None where it has none (which is 0 in the mean, if the class occurs).
    """
    matrix = chip_matrix(probabilities, reference, threshold)
    classes = probabilities.shape[1]
    known = reference < classes
    right, answered = np.diag(matrix), matrix.sum(axis=1)
    shown = np.bincount(reference[known], minlength=classes)  # the columns of the matrix lack chips without an answer
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
    # How many classes come before the right one; of equals the first, as `choose_class` has it.
    before = ((probabilities > own) | ((probabilities == own) & (np.arange(classes) < place))).sum(axis=1)
    before[np.isnan(probabilities).any(axis=1)] = classes
    return {str(k): float((before < k).mean()) for k in TOP if k < classes}


def labels_figures(probabilities: np.ndarray, shown: np.ndarray, threshold: float | None = None) -> dict[str, Any]:
    """The accuracies of any number of classes a chip, ready for JSON.

    Args:
        probabilities: (n, C).
        shown: (n, C) bool, the classes that each chip shows.
        threshold: See `decision.choose_labels`.

    Returns:
        `overall_accuracy` (the share of chips with exactly the right classes), `label_accuracy` (the share of right
        yes-or-no answers), `micro_f1` (of all answers together), the same means and figures of each class as
        `class_figures`, and with them `average_precision` (its mean is over the classes that a chip shows).
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
    """The mean of the precisions at each chip that shows a class, going down its scores; NaN where no chip shows it.

    The area under the curve of precision over recall, as steps; chips of one score come together.

    Args:
        scores: (n,).
        shown: (n,) bool.
    """
    if not shown.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    sorted_scores, found = scores[order], np.cumsum(shown[order])
    last = np.flatnonzero(np.append(sorted_scores[1:] != sorted_scores[:-1], True))  # the last of each score
    precision, gained = found[last] / (last + 1), np.diff(found[last], prepend=0)
    return float((precision * gained).sum() / shown.sum())


def _per_class(right: np.ndarray, answered: np.ndarray, shown: np.ndarray) -> dict[str, Any]:
    """Precision, recall and F1 of each class, and their means over the classes that occur.

    Args:
        right, answered, shown: (C,) counts of chips: those with a class in answer and label, in answer, in label.
    """
    per_class = {
        "precision": confusion.ratio(right, answered),
        "recall": confusion.ratio(right, shown),
        "f1": confusion.ratio(2 * right, answered + shown),
    }
    occurs = answered + shown > 0
    # A class that is never answered has no precision; were it left out, to answer one class only would pay.
    means = {
        f"mean_{name}": confusion.number(confusion.mean_over_classes(np.nan_to_num(found)[occurs]))
        for name, found in per_class.items()
    }
    return {**means, **{name: confusion.numbers(found) for name, found in per_class.items()}}
