"""Several models as one: which bands and classes they have in common, and their headers as one; does not need torch.

Each member keeps its normalisation, its temperature and its windows. The header of the ensemble is that of the first
model, with the bands of all: the raster is opened and read once, for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import InputError
from ...models.header import ModelHeader, read_header
from ...rasters.raster_io import scale_text
from ...tasks import CLASSIFIER_TASKS


class Member(NamedTuple):
    """How a model fits into its ensemble."""

    bands: tuple[int, ...]  # of each of its bands, the place among those of the ensemble
    order: tuple[int, ...]  # of each class of the ensemble, the index in this model
    factor: float = 1.0  # its standardised numbers × factor + shift are those of the ensemble
    shift: float = 0.0


def ensemble_header(paths: Sequence[str]) -> ModelHeader:
    """Read the header of one model file, or of an ensemble; raises as `combine` and `read_header`."""
    return combine(paths, [read_header(path) for path in paths])[0]


def combine(paths: Sequence[str], headers: Sequence[ModelHeader]) -> tuple[ModelHeader, list[Member]]:
    """Combine the headers of some models.

    Args:
        paths: Their files, for messages.
        headers: The headers; the first one decides values, names, colours and order of the classes.

    Returns:
        The header of the ensemble, and how each model fits into it; a single model's header is returned as it is.

    Raises:
        InputError: They do not fit together.
    """
    for path in paths[1:]:
        if paths.count(path) > 1:
            raise InputError(f"The model {path} is given twice.", "Give each model of the ensemble once.")
    first = headers[0]
    bands = _bands(paths, headers)
    members = []
    for path, header, places in zip(paths, headers, bands):
        if header.task != first.task:
            raise InputError(
                f"The model {path} is for {header.task}, but {paths[0]} is for {first.task}.",
                "Choose models of the same task.",
            )
        if header.task in CLASSIFIER_TASKS and header.chip_size != first.chip_size:
            raise InputError(
                f"The model {path} sees chips of {header.chip_size} pixels, but {paths[0]} of {first.chip_size}.",
                "Choose classifiers with the same chip size.",
            )
        if header.target is not None and first.target is not None:
            std = first.target["std"]
            shift = (header.target["mean"] - first.target["mean"]) / std
            members.append(Member(places, (0,), header.target["std"] / std, shift))
        else:
            members.append(Member(places, _order(paths[0], first, path, header)))
    return _joined(paths, headers, bands), members


def _order(first_path: str, first: ModelHeader, path: str, header: ModelHeader) -> tuple[int, ...]:
    """Return the index in a model of each class of the first one, by name.

    Raises:
        InputError: The classes differ.
    """
    names, wanted = header.classes.names, first.classes.names
    if sorted(names) != sorted(wanted):
        raise InputError(
            f"The model {path} has the classes {', '.join(names)}, but {first_path} has {', '.join(wanted)}.",
            "Choose models that were trained on the same classes.",
        )
    if len(set(names)) == len(names):
        return tuple(names.index(name) for name in wanted)
    if names != wanted or header.classes.values.tolist() != first.classes.values.tolist():
        raise InputError(
            f"The models {path} and {first_path} have several classes of the same name, and different class values.",
            "Give each class a name of its own, and train again.",
        )
    return tuple(range(len(names)))


def _bands(paths: Sequence[str], headers: Sequence[ModelHeader]) -> list[tuple[int, ...]]:
    """Return for each band of each model its place among the bands of all: by name, or in order if names repeat.

    Raises:
        InputError: Names repeat, and the models have different numbers of bands.
    """
    names = [[name.casefold() for name in header.band_names] for header in headers]
    if all(len(set(own)) == len(own) for own in names):
        known = list(dict.fromkeys(name for own in names for name in own))
        return [tuple(known.index(name) for name in own) for own in names]
    counts = [len(own) for own in names]
    for path, count in zip(paths, counts):
        if count != counts[0]:
            raise InputError(
                f"The model {path} has {count} bands and {paths[0]} has {counts[0]}, and some have the same name.",
                "Choose models with the same bands, or with band names that differ.",
            )
    return [tuple(range(count)) for count in counts]


def _joined(paths: Sequence[str], headers: Sequence[ModelHeader], bands: Sequence[tuple[int, ...]]) -> ModelHeader:
    """Return the header of the first model, with the bands of all.

    Raises:
        InputError: Models were trained on different units of a band.
    """
    first = headers[0]
    if len(headers) == 1:
        return first
    for path, header in zip(paths, headers):
        if bool(header.scales) != bool(first.scales):
            ours, theirs = (scale_text(one.scales) if one.scales else "no scale" for one in (first, header))
            raise InputError(
                f"The model {path} was trained on rasters with {theirs}, but {paths[0]} on rasters with {ours}.",
                "Choose models that were trained on the same units.",
            )
    found: dict[int, tuple[ModelHeader, int]] = {}  # place → the first model with the band, and its number there
    for path, header, places in zip(paths, headers, bands):
        for number, place in enumerate(places):
            owner, there = found.setdefault(place, (header, number))
            if header.scales and header.scales[number] != owner.scales[there]:
                raise InputError(
                    f"The model {path} was trained on the band {header.band_names[number]} with another scale or "
                    f"offset than an earlier one ({header.scales[number]}, not {owner.scales[there]}).",
                    "Choose models that were trained on the same units.",
                )
    rows = [found[place] for place in sorted(found)]
    return dataclasses.replace(
        first,
        band_names=tuple(owner.band_names[number] for owner, number in rows),
        mean=tuple(owner.mean[number] for owner, number in rows),
        std=tuple(owner.std[number] for owner, number in rows),
        scales=tuple(owner.scales[number] for owner, number in rows if owner.scales),
        nodata=next((header.nodata for header in headers if header.nodata is not None), None),
    )
