"""What can go wrong in a way that the user can mend, and the end that the user asked for."""

from __future__ import annotations


class EngineError(Exception):
    """An error in two sentences: what is wrong, with the values, and what to do about it.

    Args:
        problem: One sentence that names the values.
        remedy: One sentence that says what to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class InputError(EngineError):
    """Something the user gave cannot be used: a file, a layer, a setting."""


class ResourceError(EngineError):
    """The machine lacks something: memory, disk space, a device, a permission."""


class Cancelled(Exception):
    """The user asked for the end; there is nothing to explain."""
