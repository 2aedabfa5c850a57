"""The chips that a network got most wrong, for the report."""

from __future__ import annotations

import numpy as np

from ..assessment.classifier_report import Answered, Mistake
from ..assessment.regression_report import Miss
from ..chips.dataset import ChipDataset
from ..models.decision import choose_class, choose_labels
from .chips import ChipReader

MOST = 24


def find_mistakes(
    answered: Answered, threshold: float | None, places: np.ndarray, split: str, reader: ChipReader
) -> list[Mistake]:
    """The wrong chips to which the network was surest of its answer, the worst first; at most `MOST`.

    Args:
        answered: What the network says.
        threshold: See `decision`.
        places: (n,) the chips in the dataset, in the order of the answers.
        split: Theirs, for captions.
        reader: The dataset's reader.
    """
    probabilities = answered.probabilities
    if answered.reference.ndim == 2:
        said, truth = choose_labels(probabilities, threshold), answered.reference > 0
    else:
        classes = np.arange(probabilities.shape[1])
        said = choose_class(probabilities, threshold)[:, None] == classes
        truth = answered.reference[:, None] == classes
    wrong = said != truth
    # How far the worst of a chip's wrong answers is from the truth, 0 to 1.
    error = np.where(wrong, np.abs(probabilities - truth), -1).max(axis=1)
    worst = [int(row) for row in np.argsort(-error, kind="stable")[:MOST] if error[row] >= 0]
    return [
        Mistake(
            image=reader.read([places[row]])[0][0].numpy(),
            caption=_caption(reader.dataset, int(places[row]), split),
            reference=_classes(truth[row], probabilities[row]),
            prediction=_classes(said[row], probabilities[row]),
        )
        for row in worst
    ]


def find_misses(answers: np.ndarray, places: np.ndarray, split: str, reader: ChipReader) -> list[Miss]:
    """The chips whose number the network missed by most, the worst first; at most `MOST`.

    Args:
        answers: (n, 2) what the network says of each chip, and its target.
        places, split, reader: As of `find_mistakes`.
    """
    errors = np.abs(answers[:, 0] - answers[:, 1])
    worst = np.argsort(-np.where(np.isfinite(errors), errors, np.inf), kind="stable")[:MOST].tolist()
    return [
        Miss(
            image=reader.read([places[row]])[0][0].numpy(),
            caption=_caption(reader.dataset, int(places[row]), split),
            target=float(answers[row, 1]),
            prediction=float(answers[row, 0]),
        )
        for row in worst
    ]


def _classes(shown: np.ndarray, probabilities: np.ndarray) -> list[tuple[int, float]]:
    """Indices and probabilities of classes, the likeliest first."""
    return sorted(
        ((int(index), float(probabilities[index])) for index in np.flatnonzero(shown)), key=lambda pair: -pair[1]
    )


def _caption(dataset: ChipDataset, place: int, split: str) -> str:
    return f"{str(dataset.images[place]).removeprefix('images/')} · {split}"
