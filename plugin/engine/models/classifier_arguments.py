"""The shapes of the teaching networks as settings, checked without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..records import Record
from .classifiers import check_chip_size, find_family
from .layer_choices import ACTIVATIONS

MAX_BLOCKS = 12
MAX_FILTERS = 4096
MAX_WIDTH = 65536
# of one layer; more do not fit into the memory of any suitable computer
MAX_WEIGHTS = 500_000_000
# The settings that shape a teaching network.
ARGUMENTS = ("filters", "hidden_sizes", "kernel_size", "stride", "padding", "activation", "dropout", "block_dropout")
POOLING = 2  # every block halves its map


class TeachingArguments(Record):
    """Arguments of all teaching networks: hidden, fully connected layers before the output."""

    hidden_sizes: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: float = 0.0  # after each hidden layer

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, list):
                object.__setattr__(self, spec.name, tuple(value))
        _check_list("hidden_sizes", self.hidden_sizes, fewest=0, highest=MAX_WIDTH)
        if self.activation not in ACTIVATIONS:
            raise InputError(f'ACTIVATION is "{self.activation}".', f"Choose one of {', '.join(ACTIVATIONS)}.")
        _check_share("dropout", self.dropout)

    def to_json(self) -> dict[str, Any]:
        """Return the arguments as a dictionary for `json.dumps`."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


class MlpArguments(TeachingArguments):
    """A plain multilayer perceptron: the pixels, hidden layers, the output."""

    hidden_sizes: tuple[int, ...] = (512, 256)


class LectureCnnArguments(TeachingArguments):
    """Blocks of convolution → batch norm → activation → 2 × 2 max pool, then hidden layers, then the output."""

    hidden_sizes: tuple[int, ...] = (64,)
    filters: tuple[int, ...] = (8, 16, 32, 64)  # of each block
    kernel_size: int = 3
    stride: int = 1  # of each convolution
    padding: int | None = None  # in pixels; None keeps the size at stride 1
    block_dropout: float = 0.0  # after each block

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_list("filters", self.filters, fewest=1, highest=MAX_FILTERS)
        _check_whole("kernel_size", self.kernel_size, 1, 15)
        if self.kernel_size % 2 == 0:
            raise InputError(f"KERNEL_SIZE is {self.kernel_size}.", "Give an odd number, such as 3 or 5.")
        _check_whole("stride", self.stride, 1, 8)
        if self.padding is not None:
            _check_whole("padding", self.padding, 0, self.kernel_size - 1)
        _check_share("block_dropout", self.block_dropout)

    @property
    def convolutions(self) -> int:
        """Number of convolutions per block."""
        return 1

    @property
    def margin(self) -> int:
        """The padding of each convolution in pixels."""
        return self.kernel_size // 2 if self.padding is None else self.padding

    def map_sizes(self, chip_size: int) -> list[int]:
        """Return the side of each block's output in pixels, for chips of this size; below 1, there is none."""
        sizes = []
        for _ in self.filters:
            for _ in range(self.convolutions):
                chip_size = (chip_size + 2 * self.margin - self.kernel_size) // self.stride + 1
            chip_size //= POOLING
            sizes.append(chip_size)
        return sizes

    def smallest_chip(self) -> int:
        """Return the smallest chip size for which the last block has an output."""
        size = 1
        for _ in self.filters:
            size *= POOLING
            for _ in range(self.convolutions):
                size = max(1, (size - 1) * self.stride + self.kernel_size - 2 * self.margin)
        return size


class KerasCnnArguments(LectureCnnArguments):
    """Blocks of two convolutions, each with its activation, → 2 × 2 max pool → dropout; then one wide hidden layer."""

    filters: tuple[int, ...] = (32, 64, 128)
    hidden_sizes: tuple[int, ...] = (1024,)
    dropout: float = 0.5
    block_dropout: float = 0.25

    @property
    def convolutions(self) -> int:
        """Number of convolutions per block."""
        return 2


KINDS: dict[str, type[TeachingArguments]] = {
    "lecture_cnn": LectureCnnArguments,
    "keras_cnn": KerasCnnArguments,
    "mlp": MlpArguments,
}


def read_arguments(name: str, values: Mapping[str, Any]) -> TeachingArguments | None:
    """Create the arguments of a classifier from settings or JSON.

    Args:
        name: One of `classifiers.CLASSIFIERS`.
        values: Arguments by name; those that are missing or None take the network's default.

    Returns:
        The arguments; None for networks of libraries, whose shape is fixed.

    Raises:
        InputError: The network has no such argument, or it is out of bounds.
    """
    find_family(name)
    given = {key: value for key, value in values.items() if value is not None}
    known = [spec.name for spec in dataclasses.fields(KINDS[name])] if name in KINDS else []
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(
            f"{name} has no {', '.join(str(key).upper() for key in unknown)}.",
            f"It takes {', '.join(key.upper() for key in known)}."
            if known
            else f"Its shape is fixed: leave these empty, or choose one of {', '.join(KINDS)}.",
        )
    return KINDS[name](**given) if name in KINDS else None


def check_arguments(name: str, arguments: TeachingArguments | None, bands: int, chip_size: int) -> None:
    """Check that chips fit a network, before it is built.

    Args:
        name: One of `classifiers.CLASSIFIERS`.
        arguments: Shape of a teaching network; None for other networks.
        bands: Number of bands.
        chip_size: In pixels.

    Raises:
        InputError: The chips are too small for it, or one of its layers would be too large.
    """
    check_chip_size(name, chip_size)
    if arguments is None:
        return
    inputs = bands * chip_size**2
    remedy = "Give smaller HIDDEN_SIZES, or export smaller chips."
    largest = 0
    if isinstance(arguments, LectureCnnArguments):
        sizes = arguments.map_sizes(chip_size)
        lost = next((block for block, size in enumerate(sizes, 1) if size < 1), None)
        if lost is not None:
            smallest = arguments.smallest_chip()
            raise InputError(
                f"The chips are {chip_size} × {chip_size} pixels; {name} halves them in each of its {len(sizes)} "
                f"blocks and needs {smallest} × {smallest}, because nothing is left after block {lost}.",
                f"Give fewer FILTERS or more PADDING, or export chips with CHIP_SIZE {smallest} or more.",
            )
        inputs = arguments.filters[-1] * sizes[-1] ** 2
        remedy = "Give more blocks, or smaller FILTERS and HIDDEN_SIZES, or export smaller chips."
        widths = (bands, *(width for width in arguments.filters for _ in range(arguments.convolutions)))
        largest = arguments.kernel_size**2 * max(first * second for first, second in zip(widths, widths[1:]))
    widths = (inputs, *arguments.hidden_sizes)
    largest = max(largest, *(first * second for first, second in zip(widths, (*widths[1:], 1))))
    if largest > MAX_WEIGHTS:
        raise InputError(
            f"A layer of {name} would have {largest:,} weights for chips of {chip_size} × {chip_size} pixels.", remedy
        )


def _check_list(name: str, values: Any, fewest: int, highest: int) -> None:
    if not isinstance(values, tuple) or not fewest <= len(values) <= MAX_BLOCKS:
        shown = (", ".join(map(str, values)) or "0, which is none") if isinstance(values, tuple) else repr(values)
        raise InputError(f"{name.upper()} is {shown}.", f"Give {fewest} to {MAX_BLOCKS} numbers.")
    for value in values:
        _check_whole(name, value, 1, highest)


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name.upper()} is {value!r}.", f"Give a whole number from {low} to {high}.")


def _check_share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 0.95:
        raise InputError(f"{name.upper()} is {value!r}.", "Give a number from 0 to 0.95.")
