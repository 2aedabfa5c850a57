"""What is measured once for a map and holds for all of it, also in other processes and after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Decided = TypeVar("Decided")


class Decisions:
    """Decisions by name, ready for JSON.

    Args:
        made: Those of an interrupted job, which are not trusted; others are added.
        begin: Of the names.
    """

    def __init__(self, made: dict[str, Any] | None = None, begin: str = "") -> None:
        self.made, self.begin = {} if made is None else made, begin

    def part(self, name: str) -> Decisions:
        """Decisions on a part of the job, such as one of its models."""
        return Decisions(self.made, f"{self.begin}{name} ")

    def settle(self, name: str, decide: Callable[[], Decided], fits: Callable[[Any], bool]) -> Decided:
        """Return a decision, which is made now if it was not made before.

        Args:
            name: What is decided.
            decide: Decides it.
            fits: Whether a value is one that `decide` could return.
        """
        name = self.begin + name
        if name not in self.made or not fits(self.made[name]):
            self.made[name] = decide()
        found: Decided = self.made[name]
        return found
