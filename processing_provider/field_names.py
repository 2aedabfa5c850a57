"""Names of the fields that a result adds to those of a layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

from ..plugin.engine.events import Reporter

SHAPEFILE_NAME = 10  # bytes


def unlike(added: Sequence[Any], own: Iterable[str], reporter: Reporter) -> list[Any]:
    """Rename new fields that clash with fields of a layer: if one does, all get the same number.

    Args:
        added: The new fields, `answers.Field`.
        own: Names of the layer's fields; compared without case, as in databases.
        reporter: Receives a log line if fields are renamed.

    Returns:
        The fields under their final names.
    """
    taken = {name.lower() for name in own}
    clash = [field.name for field in added if field.name.lower() in taken]
    if not clash:
        return list(added)
    number = 2
    while any(f"{field.name}_{number}".lower() in taken for field in added):
        number += 1
    reporter.log(
        f"The layer already has {'a field' if len(clash) == 1 else 'fields'} {', '.join(clash)}, so the new fields "
        f"end in _{number}. To choose other names, change PREFIX."
    )
    return [dataclasses.replace(field, name=f"{field.name}_{number}") for field in added]


def warn_of_cut_names(path: Optional[Path], names: Iterable[str], reporter: Reporter) -> None:
    """Warn if the file format cuts field names."""
    if path is None or path.suffix.lower() != ".shp":
        return
    long = [name for name in names if len(name.encode()) > SHAPEFILE_NAME]
    if long:
        reporter.warning(
            f"Shapefiles cut field names to {SHAPEFILE_NAME} bytes; this affects {', '.join(long)}. Give OUTPUT the "
            "extension .gpkg, or choose a shorter PREFIX."
        )
