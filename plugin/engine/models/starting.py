"""Starts a network from a model file of the same architecture, whose classes or bands may be others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from ..classes import ClassTable
from .classifier_weights import fitted
from .header import ModelHeader
from .input_bands import adapt_filters

NAMED = 3  # tensors that do not fit, in the log


def start_from(
    network: nn.Module, header: ModelHeader, tensors: Mapping[str, torch.Tensor], classes: ClassTable,
    band_names: Sequence[str], first: str | None, with_outputs: Callable[[int], nn.Module],
) -> str:  # fmt: skip
    """Take from an earlier model whatever fits a network.

    The first layer is fitted to the bands, see `adapt_filters`. Of the output layer, the rows of classes with the same
    name are taken, and that of a number; all else in it stays as it is.

    Args:
        network: On the CPU, with random weights.
        header, tensors: Of the earlier model.
        classes: The classes of the network; empty for numbers.
        band_names: The bands of the network.
        first: The key of the weights that see the bands; None if they are the output layer's.
        with_outputs: Makes the network with another number of outputs, on the meta device.

    Returns:
        A sentence for the log.
    """
    state = network.state_dict()
    outputs = _output_keys(state, with_outputs)
    rows = _common_rows(header, classes)
    taken, other = 0, []
    for key, value in state.items():
        old = tensors.get(key)
        if old is not None and key in outputs:
            _take_rows(value, old, rows)
            continue
        if old is not None and key == first:
            old = _other_bands(old, value, header, band_names)
        new = fitted(old, value, key, False)
        if new is None:
            other.append(key)
        else:
            value.copy_(new)
            taken += 1
    network.load_state_dict(state)
    text = f"{taken} of {len(state) - len(outputs)} tensors before the output layer are taken"
    if other:
        text += f" ({', '.join(other[:NAMED])}{' …' if len(other) > NAMED else ''} not)"
    if first is not None and tuple(band_names) != header.band_names:
        text += f"; the first layer is fitted from {', '.join(header.band_names)} to {', '.join(band_names)}"
    return f"{text}; {_about_output(classes, rows)}."


def _output_keys(state: Mapping[str, torch.Tensor], with_outputs: Callable[[int], nn.Module]) -> set[str]:
    """The keys of the output layer: what has another shape with another number of outputs."""
    shapes = [{key: value.shape for key, value in with_outputs(count).state_dict().items()} for count in (2, 3)]
    return {key for key in state if shapes[0][key] != shapes[1][key]}


def _common_rows(header: ModelHeader, classes: ClassTable) -> dict[int, int]:
    """The outputs of the network that the earlier one has as well, with their places there."""
    if not len(classes) and header.target is not None:
        return {0: 0}
    places = {name.strip().casefold(): place for place, name in enumerate(header.classes.names)}
    names = [name.strip().casefold() for name in classes.names]
    return {row: places[name] for row, name in enumerate(names) if name in places}


def _take_rows(value: torch.Tensor, old: torch.Tensor, rows: Mapping[int, int]) -> None:
    """Copy rows of an output layer, if all else of it has the same shape."""
    if value.shape[1:] == old.shape[1:]:
        for row, place in rows.items():
            value[row] = old[place]


def _other_bands(
    old: torch.Tensor, value: torch.Tensor, header: ModelHeader, band_names: Sequence[str]
) -> torch.Tensor:
    """Fit the first layer: filters of a convolution, or the weights of an MLP, which has them for each pixel."""
    if old.ndim == 2:
        if old.shape[1] % len(header.band_names):
            return old
        filters = old.reshape(len(old), len(header.band_names), -1, 1)
        return adapt_filters(filters, band_names, header.band_names).flatten(1)
    if old.shape[1] != len(header.band_names):  # such as grouped convolutions
        return old
    return adapt_filters(old, band_names, header.band_names)


def _about_output(classes: ClassTable, rows: Mapping[int, int]) -> str:
    if not len(classes):
        return f"the output layer is {'taken' if rows else 'new'}"
    kept = [name for row, name in enumerate(classes.names) if row in rows]
    new = [name for row, name in enumerate(classes.names) if row not in rows]
    parts = [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} {what}"
        for names, what in ((kept, "taken"), (new, "new"))
        if names
    ]
    return f"of the output layer, {' and '.join(parts)}"
