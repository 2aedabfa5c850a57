"""A training to watch: its history as a table, and events for TensorBoard."""

from __future__ import annotations

import csv
import io
from typing import Any

from ..drafts import claim, publish
from ..errors import InputError
from ..events import Relay, Reporter


def flat(record: dict[str, Any], prefix: str = "") -> dict[str, float | None]:
    """The numbers of the record of an epoch by name, such as "validation_mean_iou"; lists of classes are left out."""
    found: dict[str, float | None] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{name}_"))
        elif value is None or isinstance(value, (int, float)):
            found[prefix + name] = value
    return found


def write_history(path: str, history: list[dict[str, Any]]) -> None:
    """Write a CSV file with a row an epoch.

    Raises:
        InputError, ResourceError: It cannot be written.
    """
    rows = [flat(record) for record in history]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with claim(path) as draft:
        draft.fresh().write_text(text.getvalue(), encoding="utf-8")
        publish(draft)


def check_tensorboard() -> None:
    """Refuse to write events for TensorBoard where it is not installed.

    Raises:
        InputError: It is not.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(
            "TENSORBOARD is given, and the package tensorboard is not installed in the worker's Python.",
            "Install it there (pip install tensorboard), or leave TENSORBOARD empty.",
        ) from error


class Events:
    """Writes the figures of steps and epochs as event files for TensorBoard.

    Args:
        folder: Where the event files go; those of other runs may lie there, too.
    """

    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(folder)  # type: ignore[no-untyped-call]

    def add(self, group: str, step: int, values: dict[str, float | None]) -> None:
        """Add the numbers of a step or an epoch."""
        for name, value in values.items():
            if value is not None:
                self.writer.add_scalar(f"{group}/{name}", value, step)  # type: ignore[no-untyped-call]
        self.writer.flush()  # type: ignore[no-untyped-call]


class Watched(Relay):
    """Passes everything on to another reporter, and writes events beside."""

    def __init__(self, reporter: Reporter, folder: str) -> None:
        super().__init__(reporter)
        self.events = Events(folder)

    def step(self, record: dict[str, Any]) -> None:
        """Write the figures of a step."""
        self.reporter.step(record)
        self.events.add("step", record["step"], flat(record))

    def epoch(self, record: dict[str, Any]) -> None:
        """Write the figures of an epoch."""
        self.reporter.epoch(record)
        self.events.add("epoch", record["epoch"], flat(record))
