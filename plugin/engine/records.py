"""Frozen dataclasses that are fast to define, for modules that QGIS imports at startup.

`dataclass(frozen=True)` generates and compiles six methods per class, which takes most of a millisecond. A `Record` has
the same methods, written once. `dataclasses.fields`, `replace` and `asdict` work as with any dataclass.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**options):
        """Used by type checkers only."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Record:
    """Base class of frozen dataclasses; subclasses declare fields and need no decorator."""

    _names: ClassVar[tuple[str, ...]] = ()
    _known: ClassVar[frozenset[str]] = frozenset()
    _defaults: ClassVar[dict[str, Any]] = {}
    _factories: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        if getattr(cls, "__annotations__", None) or not hasattr(cls, "__dataclass_fields__"):  # else like its base
            made = fields(dataclass(init=False, repr=False, eq=False)(cls))  # type: ignore[arg-type]
            cls._names = tuple(spec.name for spec in made)
            cls._known = frozenset(cls._names)
            cls._defaults = {spec.name: spec.default for spec in made if spec.default is not MISSING}
            cls._factories = {spec.name: spec.default_factory for spec in made if spec.default_factory is not MISSING}

    def __init__(self, *given: Any, **named: Any) -> None:
        values = {**self._defaults, **dict(zip(self._names, given)), **named}
        if len(given) > len(self._names) or (given and not named.keys().isdisjoint(self._names[: len(given)])):
            raise TypeError(f"{type(self).__name__} got more than one value for a field")
        for name, make in self._factories.items():
            if name not in values:
                values[name] = make()
        if values.keys() != self._known:
            wrong = ", ".join(sorted(values.keys() ^ self._known))
            raise TypeError(f"{type(self).__name__} lacks fields or does not have them: {wrong}")
        self.__dict__.update(values)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the values; subclasses may override this."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__[name] for name in self._names))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in self._names)})"
