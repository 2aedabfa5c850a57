"""The chips that a classifier got most wrong, for the report."""

from __future__ import annotations

import numpy as np

from ..assessment.classifier_report import Answered, Mistake
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


def _classes(shown: np.ndarray, probabilities: np.ndarray) -> list[tuple[int, float]]:
    """Indices and probabilities of classes, the likeliest first."""
    return sorted(
        ((int(index), float(probabilities[index])) for index in np.flatnonzero(shown)), key=lambda pair: -pair[1]
    )


def _caption(dataset: ChipDataset, place: int, split: str) -> str:
    return f"{str(dataset.images[place]).removeprefix('images/')} · {split}"
