"""Turns what a classifier gives into classes or numbers, and into the rows of a table.

N chips, C classes. Does not import torch, because tables are also written inside QGIS.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from ...classes import ClassTable
from ...models.decision import USUAL_THRESHOLD, choose_class, choose_labels
from ...models.header import ModelHeader
from ...vector_files import INTEGER, NUMBER, TEXT, Field
from .numbers import Moments

MULTILABEL = "multilabel"
BETWEEN_VALUES, BETWEEN_NAMES = ",", ", "


@dataclass(frozen=True)
class Answers:
    """How the probabilities of a model are read; `Numbers` are read by themselves.

    Attributes:
        classes: Classes of the model.
        several: Whether a chip may have any number of classes instead of one.
        threshold: Probability from which a class counts, see `models.decision`; None takes the likeliest.
    """

    classes: ClassTable
    several: bool
    threshold: Optional[float]

    @classmethod
    def of(cls, header: ModelHeader, threshold: Optional[float] = None) -> Answers:
        """Create from the header of a model; a given threshold overrides the model's own."""
        if header.target is not None:
            return Numbers(header.classes, False, None, header.target)
        several = header.task == MULTILABEL
        chosen = header.threshold if threshold is None else threshold
        return cls(header.classes, several, USUAL_THRESHOLD if several and chosen is None else chosen)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """(N, C) probabilities → (N,) uint8, the class index of each chip, as `decision.choose_class`."""
        return choose_class(probabilities, self.threshold)

    def members(self, probabilities: np.ndarray) -> np.ndarray:
        """(N, C) probabilities → (N, C) bool, the classes of each chip; with one class per chip, that of `decide`."""
        if self.several:
            return choose_labels(probabilities, self.threshold)
        return self.decide(probabilities)[:, None] == np.arange(len(self.classes))

    def fields(self, prefix: str = "") -> list[Field]:
        """Return the columns of a table: `value`, `class`, `confidence`, or `values` and `classes`;
        `probability_<value>`.
        """
        first = [
            Field(f"{prefix}value", INTEGER),
            Field(f"{prefix}class", TEXT),
            Field(f"{prefix}confidence", NUMBER),
        ]
        if self.several:
            first = [Field(f"{prefix}values", TEXT), Field(f"{prefix}classes", TEXT)]
        rest = [Field(f"{prefix}probability_{kind.value}", NUMBER, kind.name) for kind in self.classes.classes]
        return first + rest

    def rows(self, probabilities: np.ndarray) -> list[list[Any]]:
        """(N, C) probabilities → N rows for `fields`, with None where there is no class."""
        members = self.members(probabilities)
        shares = [[round(share, 6) for share in row] for row in probabilities.tolist()]
        return [self._row(np.flatnonzero(row).tolist(), share) for row, share in zip(members, shares)]

    def _row(self, shown: Sequence[int], shares: list[float]) -> list[Any]:
        kinds = [self.classes.classes[index] for index in shown]
        if self.several:
            values = BETWEEN_VALUES.join(str(kind.value) for kind in kinds)
            return [values, BETWEEN_NAMES.join(kind.name for kind in kinds), *shares]
        if not kinds:
            return [None, None, max(shares), *shares]
        return [kinds[0].value, kinds[0].name, shares[shown[0]], *shares]


@dataclass(frozen=True)
class Numbers(Answers):
    """The answers of a model of numbers: one for each chip, and no classes.

    Attributes:
        target: Statistics of the target, see `ModelHeader`.
    """

    target: dict[str, float]

    def members(self, probabilities: np.ndarray) -> np.ndarray:
        """(N, 1) numbers → (N, 0), because there are no classes."""
        return np.zeros((len(probabilities), 0), bool)

    def fields(self, prefix: str = "") -> list[Field]:
        """Return the column of a table: `value`."""
        return [Field(f"{prefix}value", NUMBER)]

    def rows(self, probabilities: np.ndarray) -> list[list[Any]]:
        """(N, 1) numbers → N rows for `fields`."""
        found: list[list[Any]] = probabilities.tolist()
        return found


@dataclass(frozen=True)
class Answered:
    """The answers of a network for some chips."""

    shares: np.ndarray  # (n, C) probabilities of the chips with an answer, or (n, 1) numbers
    known: np.ndarray  # bool, (N,) chips or (N, rows, cols) steps; true where there is an answer
    lost: int  # number of chips without an answer, because the network gave NaN or infinity

    @classmethod
    def of(cls, values: np.ndarray, asked: np.ndarray) -> Answered:
        """Create from (n, C) values of the chips that count, and (N,) or (N, rows, cols) bool of these."""
        there = np.isfinite(values).all(axis=1)
        known = asked.copy()
        known[asked] = there
        return cls(values[there], known, int(np.count_nonzero(~there)))

    def laid_out(self, values: np.ndarray, nothing: float) -> np.ndarray:
        """(n,) or (n, K) values of the known → (N, …) or (N, K, …), filled with `nothing` elsewhere."""
        count, *place = self.known.shape
        found = np.full((count, *values.shape[1:], *place), nothing, values.dtype)
        (found if values.ndim == 1 else np.moveaxis(found, 1, -1))[self.known] = values
        return found


class Tally:
    """A sink that counts answers."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.counts = np.zeros(len(answers.classes), np.int64)  # per class
        self.numbers = Moments()
        self.answered = self.unanswered = 0

    def take(self, found: Answered) -> Answered:
        """As `Sink.take`."""
        return found

    def write(self, _work: object, found: Answered) -> None:
        """As `Sink.write`."""
        self.counts += self.answers.members(found.shares).sum(axis=0)
        if isinstance(self.answers, Numbers):
            self.numbers.add(found.shares[:, 0])
        self.answered += len(found.shares)
        self.unanswered += found.lost

    @property
    def statistics(self) -> dict[str, Any]:
        """`statistics` of a result: those of the numbers; nothing for classes."""
        return {"statistics": self.numbers.figures} if isinstance(self.answers, Numbers) else {}


def field_titles(fields: Iterable[Field]) -> dict[str, str]:
    """Return the titles of fields by name, for those that have one."""
    return {field.name: field.title for field in fields if field.title}


def known_answers(header: ModelHeader, threshold: Optional[float]) -> str:
    """Describe how a model's probabilities are read, for the log."""
    answers = Answers.of(header, threshold)
    if isinstance(answers, Numbers):
        return "A number per chip, in the units of the target."
    if answers.several:
        return f"Several classes per chip: each counts from a probability of {answers.threshold:g}."
    if answers.threshold is None:
        return "One class per chip: the likeliest."
    if len(answers.classes) == 2:
        second, first = answers.classes.names[1], answers.classes.names[0]
        return f"One class per chip: {second} from a probability of {answers.threshold:g}, otherwise {first}."
    return f"One class per chip: the likeliest, if its probability is {answers.threshold:g} or more."
