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
        reference: (n,) class indices; what is no class is not counted.
        threshold: See `decision.choose_class`.
    """
    return confusion.confusion_matrix(choose_class(probabilities, threshold), reference, probabilities.shape[1])


def class_figures(probabilities: np.ndarray, reference: np.ndarray, threshold: float | None = None) -> dict[str, Any]:
    """The accuracies of one class a chip, ready for JSON; arguments as of `chip_matrix`.

    Returns:
        `overall_accuracy`; `top` (k → the share of chips whose class is among the k likeliest); `mean_precision`,
        `mean_recall`, `mean_f1` over the classes that occur in answer or reference; `precision`, `recall`, `f1` of
        each class, None where it has none.
    """
    matrix = chip_matrix(probabilities, reference, threshold)
    per_class = {
        "precision": confusion.users_accuracy(matrix),
        "recall": confusion.producers_accuracy(matrix),
        "f1": confusion.f1(matrix),
    }
    known = reference < probabilities.shape[1]
    return {
        "overall_accuracy": confusion.number(confusion.overall_accuracy(matrix)),
        "top": _top(probabilities[known], reference[known]),
        **_means(per_class),
    }


def _top(probabilities: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    classes = probabilities.shape[1]
    if not len(reference):
        return {str(k): None for k in TOP if k < classes}
    own = np.take_along_axis(probabilities, reference[:, None].astype(np.int64), axis=1)
    before = (probabilities > own).sum(axis=1)  # how many classes are likelier than the right one
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
        `class_figures`, and with them `average_precision`.
    """
    answer = choose_labels(probabilities, threshold)
    right = (answer & shown).sum(axis=0)
    per_class = {
        "precision": confusion.ratio(right, answer.sum(axis=0)),
        "recall": confusion.ratio(right, shown.sum(axis=0)),
        "f1": confusion.ratio(2 * right, answer.sum(axis=0) + shown.sum(axis=0)),
        "average_precision": np.array(
            [average_precision(probabilities[:, index], shown[:, index]) for index in range(shown.shape[1])]
        ),
    }
    agree = answer == shown
    total = answer.sum() + shown.sum()
    return {
        "overall_accuracy": float(agree.all(axis=1).mean()) if len(agree) else None,
        "label_accuracy": float(agree.mean()) if agree.size else None,
        "micro_f1": confusion.number(float(confusion.ratio(2 * right.sum(), total))),
        **_means(per_class),
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


def _means(per_class: dict[str, np.ndarray]) -> dict[str, Any]:
    means = {f"mean_{name}": confusion.number(confusion.mean_over_classes(found)) for name, found in per_class.items()}
    return {**means, **{name: confusion.numbers(found) for name, found in per_class.items()}}
