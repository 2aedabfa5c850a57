"""Names of the fields that a result adds to a layer's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

from ..plugin.engine.events import Reporter

SHAPEFILE_NAME = 10  # letters


def unlike(added: Sequence[Any], own: Iterable[str], reporter: Reporter) -> list[Any]:
    """Fields as `answers.Field` under names that a layer does not have: where one is taken, all get the same number.

    Args:
        added: The fields.
        own: The names of the layer's fields; capitals make no difference, as in databases.
    """
    taken = {name.lower() for name in own}
    clash = [field.name for field in added if field.name.lower() in taken]
    if not clash:
        return list(added)
    number = 2
    while any(f"{field.name}_{number}".lower() in taken for field in added):
        number += 1
    reporter.log(
        f"The layer has {'a field' if len(clash) == 1 else 'fields'} {', '.join(clash)} already: the new fields end in "
        f"_{number}. Give another PREFIX for other names."
    )
    return [dataclasses.replace(field, name=f"{field.name}_{number}") for field in added]


def warn_of_cut_names(path: Optional[Path], names: Iterable[str], reporter: Reporter) -> None:
    """Warn where a file cannot hold names of fields as they are."""
    if path is None or path.suffix.lower() != ".shp":
        return
    long = [name for name in names if len(name.encode()) > SHAPEFILE_NAME]
    if long:
        reporter.warning(
            f"A Shapefile keeps {SHAPEFILE_NAME} letters of a field's name, so {', '.join(long)} are cut. Give OUTPUT "
            "the ending .gpkg, or a shorter PREFIX."
        )
