"""Settings: records, each field with its default and its bounds.

What belongs together is a group, a `Settings` of its own that is a field of another. In JSON, as parameters and in
messages all settings have one flat namespace: a setting is called the same wherever it stands.
"""

from __future__ import annotations

import dataclasses
import os
import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from functools import cache
from typing import Any, TypeVar

from .errors import InputError
from .records import Record

Kind = TypeVar("Kind", bound="Settings")


class Choice(Record):
    """One of the values of a setting."""

    words: str  # what it is, and when to choose it; a sentence or two for dialogs and docs
    source: str = ""  # the paper that it comes from


def setting(
    default: Any, low: float | None = None, high: float | None = None,
    choices: Collection[str] | Mapping[str, Choice] = (),
) -> Any:  # fmt: skip
    """A field with bounds; None always means "not given".

    Args:
        default: The default value.
        low, high: The range of a number.
        choices: The values, or a table of them that says what each is.
    """
    said = {"low": low, "high": high, "choices": tuple(choices)}
    return field(default=default, metadata={**said, "table": choices} if isinstance(choices, Mapping) else said)


def group(kind: type[Settings], **defaults: Any) -> Any:
    """A field that is a group of settings.

    Args:
        kind: The group.
        **defaults: Settings of it whose default is another one here.
    """
    return field(default_factory=lambda: kind(**defaults))


def written(default: Any = dataclasses.MISSING) -> Any:
    """A field that names something to write, required unless it has a default."""
    return field(default=default, metadata={"written": True})


class Declared(Record):
    """What a field says of a setting."""

    name: str
    kind: str  # the annotation, such as "int | None"
    default: Any  # dataclasses.MISSING where it has to be given
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    table: Mapping[str, Choice] | None = None  # what each choice is
    written: bool = False  # whether it names something to write

    def joined(self, other: Declared) -> Declared:
        """What two jobs say of a setting of theirs, as one: all choices; None where the default is not the same."""
        said = dataclasses.replace(self, choices=tuple(dict.fromkeys((*other.choices, *self.choices))))
        if self.table and other.table:
            said = dataclasses.replace(said, table={**other.table, **self.table})
        if self.default == other.default:
            return said
        return dataclasses.replace(said, default=None, kind=f"{self.kind.partition(' | ')[0]} | None")


class Settings(Record):
    """A strict way from and to JSON, and a check of every kind and bound."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, Settings):  # which has checked itself
                continue
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, spec.name, value)
            _check_kind(spec.name, value, str(spec.type))
            _check_bounds(spec.name, value, spec.metadata)

    @classmethod
    @cache
    def declared(cls) -> dict[str, Declared]:
        """All settings by name, those of groups included."""
        found = {}
        for spec in dataclasses.fields(cls):
            if spec.default_factory is dataclasses.MISSING:
                found[spec.name] = Declared(spec.name, str(spec.type), spec.default, **spec.metadata)
                continue
            of_group = spec.default_factory()
            for name, said in of_group.declared().items():
                default = getattr(of_group, name)
                found[name] = said if default == said.default else dataclasses.replace(said, default=default)
        return found

    @classmethod
    def outputs(cls) -> list[str]:
        """The settings that name something to write."""
        return [name for name, said in cls.declared().items() if said.written]

    @classmethod
    def results(cls, values: dict[str, Any]) -> list[str]:
        """The files that a job with these settings, as JSON, writes."""
        return [values[name] for name in cls.outputs() if values.get(name)]

    @classmethod
    def from_json(cls: type[Kind], values: dict[str, Any]) -> Kind:
        """Build settings from parsed JSON.

        Raises:
            InputError: A name that the settings do not know, a missing one, or a value of the wrong kind or out of
                bounds.
        """
        known = cls.declared()
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(
                f"{cls.__name__} has no setting {', '.join(unknown)}.", f"Its settings are {', '.join(sorted(known))}."
            )
        lacking = [name for name, said in known.items() if said.default is dataclasses.MISSING and name not in values]
        if lacking:
            raise InputError(f"{cls.__name__} lacks {', '.join(lacking)}.", "Give the missing settings.")
        own = {}
        for spec in dataclasses.fields(cls):
            if spec.default_factory is not dataclasses.MISSING:
                own[spec.name] = spec.default_factory().replace(**values)
            elif spec.name in values:
                own[spec.name] = values[spec.name]
        return cls(**own)

    def replace(self: Kind, **values: Any) -> Kind:
        """The settings with other values, those of groups included; names that are not known here are left out."""
        changes = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, Settings):
                changes[spec.name] = value.replace(**values)
            elif spec.name in values:
                changes[spec.name] = values[spec.name]
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """The settings by name as a dictionary that `json.dumps` takes, those of groups included."""
        found = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            found.update(value.to_json() if isinstance(value, Settings) else {spec.name: value})
        return found


def _is_text(value: Any) -> bool:
    """Whether files may be called so."""
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeError:  # half a character
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (_is_whole(value) and abs(value) < 2**1000)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# What a field is said to hold → whether a value is that, and what it is called.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (_is_text, "text"),
    "int": (_is_whole, "whole number"),
    "float": (_is_number, "number"),
    "bool": (lambda value: isinstance(value, bool), "truth value"),
    "Any": (lambda value: True, ""),
}


def _check_kind(name: str, value: Any, said: str) -> None:
    """Refuse a value that is not what the field is said to hold, such as "tuple[int, ...] | None"."""
    kind, _, otherwise = said.partition(" | ")
    if value is None and otherwise == "None":
        return
    fits, words = KINDS[kind.removeprefix("tuple[").partition(",")[0]]
    if kind.startswith("tuple["):
        words = f"list of {words}s"
        right = isinstance(value, tuple) and all(map(fits, value))
    else:
        right = fits(value)
    if not right:
        raise InputError(f"{name.upper()} is {reprlib.repr(value)}, which is no {words}.", f"Give a {words}.")


def _check_bounds(name: str, value: Any, bounds: Any) -> None:
    if value is None or "choices" not in bounds:
        return
    if bounds["choices"] and value not in bounds["choices"]:
        raise InputError(f'{name.upper()} is "{value}".', f"Choose one of {', '.join(bounds['choices'])}.")
    low, high = bounds["low"], bounds["high"]
    if low is None and high is None:
        return
    if value != value:
        raise InputError(f"{name.upper()} is {value}, which is no number.", "Give a number.")
    if (low is not None and value < low) or (high is not None and value > high):
        allowed = f"from {low:g} to {high:g}" if high is not None else f"of {low:g} or more"
        raise InputError(f"{name.upper()} is {value:g}.", f"Give a number {allowed}.")
