"""A reporter that records what a job under test reports."""

from __future__ import annotations

from typing import Any, Optional

from plugin.engine.events import Reporter


class Heard(Reporter):
    """A reporter that keeps what it is told; its attributes answer what it is asked.

    Args:
        cancel_after: Reports of progress after which it asks for the end; None = never.
    """

    def __init__(self, cancel_after: Optional[int] = None) -> None:
        self.cancel_after = cancel_after
        self.logs: list[str] = []
        self.warnings: list[str] = []
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []
        self.fractions: list[float] = []
        self.cancel_at = self.finish_at = self.orphaned_at = 10**9  # epochs told

    def progress(self, fraction: float, text: str = "", seconds_left: Optional[float] = None) -> None:
        self.fractions.append(fraction)

    def log(self, text: str) -> None:
        self.logs.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def step(self, record: dict[str, Any]) -> None:
        self.steps.append(record)

    def epoch(self, record: dict[str, Any]) -> None:
        self.epochs.append(record)

    def cancel_requested(self) -> bool:
        told = self.cancel_after is not None and len(self.fractions) >= self.cancel_after
        return told or len(self.epochs) >= self.cancel_at

    def finish_requested(self) -> bool:
        return len(self.epochs) >= self.finish_at

    def orphaned(self) -> bool:
        return len(self.epochs) >= self.orphaned_at
