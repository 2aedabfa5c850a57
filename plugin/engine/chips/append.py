"""Append chips to an existing dataset: check that they match, and continue its numbering."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from ..classes import ClassTable
from ..config import ExportChipsConfig
from ..errors import InputError
from ..rasters.raster_io import crs_text, same_crs, scale_text
from ..strangers.indexes import LAYER, check_fields, index_errors, open_index, rows_of
from .cutting import common_nodata
from .dataset import CHIP_FIELDS, DatasetInfo, index_of
from .labels import LabelSource, MappedLabels
from .plan import Plan
from .scheme import LabelScheme


@dataclass(frozen=True)
class Join:
    """The first numbers of new chips; all are 0 in a new dataset."""

    chips: int = 0  # rows in the existing index
    first_number: int = 0  # of the new files
    sources: int = 0
    blocks: int = 0


def check_joins(
    config: ExportChipsConfig, earlier: DatasetInfo, plan: Plan, scheme: LabelScheme, sources: list[LabelSource]
) -> tuple[Join, LabelScheme, list[LabelSource]]:
    """Check that new chips match a dataset, and map the new class values to the dataset's.

    Raises:
        InputError: Task, CRS, bands, pixel size or classes differ.
    """
    first = plan.rasters[0]
    if not same_crs(earlier.crs, first.crs):
        raise InputError(
            f"The dataset {config.output} is in {crs_text(earlier.crs)}, but {first.path} is in {crs_text(first.crs)}.",
            "Reproject the raster, or export it to a new dataset.",
        )
    dtype = np.result_type(*[info.dtype for info in plan.rasters]).name
    for words, old, new in (
        ("is for", earlier.task, config.task),
        ("has chips of", f"{earlier.chip_size} pixels", f"{plan.chip_size} pixels"),
        ("has the bands", ", ".join(earlier.band_names), ", ".join(first.band_names)),
        ("holds", earlier.dtype, dtype),
    ):
        if old != new:
            raise InputError(
                f"The dataset {config.output} {words} {old}, but the new chips have {new}.",
                "Export them with the same settings, or to a new dataset.",
            )
    if earlier.scales and earlier.scales != first.scales:
        raise InputError(
            f"The values of the dataset {config.output} have {scale_text(earlier.scales)}, but those of {first.path} "
            + (f"have {scale_text(first.scales)}." if first.scales else "declare none."),
            "Export all rasters together, or these to a new dataset.",
        )
    if abs(earlier.pixel_size - first.pixel_size) > 0.01 * earlier.pixel_size:
        raise InputError(
            f"The pixels of the dataset {config.output} are {earlier.pixel_size:g} units wide, but those of "
            f"{first.path} {first.pixel_size:g}.",
            f"Set PIXEL_SIZE to {earlier.pixel_size:g}.",
        )
    nodata = common_nodata(plan.rasters, np.dtype(dtype))
    if earlier.nodata is None and nodata is not None:
        raise InputError(
            f"The dataset {config.output} has no nodata value, but {first.path} has {nodata:g}.",
            "Export it to a new dataset.",
        )
    mapping = _same_classes(config.output, earlier.classes, scheme)
    background = scheme.background if scheme.background is None else mapping.get(scheme.background, scheme.background)
    joined = LabelScheme(earlier.classes, earlier.label_nodata, background)
    if any(old != new for old, new in mapping.items()):
        sources = [MappedLabels(source, mapping) for source in sources]
    return _join(config.output, earlier), joined, sources


def _same_classes(folder: str, old: ClassTable, scheme: LabelScheme) -> dict[int, Optional[int]]:
    """New class value → class value of the dataset, matched by name, then by value."""
    by_name = {info.name: info.value for info in old.classes}
    values = {info.value for info in old.classes}
    mapping: dict[int, Optional[int]] = {}
    for info in scheme.classes.classes:
        if info.name in by_name:
            mapping[info.value] = by_name[info.name]
        elif info.value in values and info.name == f"class {info.value}":
            mapping[info.value] = info.value
        else:
            raise InputError(
                f'The dataset {folder} has no class "{info.name}" (its classes: {", ".join(old.names)}).',
                "Map it to one of them in the class table, or leave it out.",
            )
    return mapping


def _join(folder: str, earlier: DatasetInfo) -> Join:
    rows = _rows(index_of(Path(folder)))
    numbers = [int(stem) for stem in (Path(image).stem for image, _ in rows) if stem.isdecimal()]
    return Join(
        chips=len(rows),
        first_number=1 + max(numbers, default=len(rows) - 1),
        sources=len(earlier.sources),
        blocks=1 + max((block or 0 for _, block in rows), default=-1),
    )


def _rows(index: Path) -> list[tuple[str, Optional[int]]]:
    """Image and block of every chip, read without changing the index."""
    with index_errors(index):
        source = open_index(index)
        layer = source.GetLayerByName(LAYER)
        check_fields(layer, CHIP_FIELDS)
        return [(image or "", block) for image, block in rows_of(layer, ["image", "block"])]
