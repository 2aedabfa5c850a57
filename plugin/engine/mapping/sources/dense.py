"""Runs a network on many overlapping chips and computes shared parts only once, with exactly the same result.

Where two chips overlap, a convolution gives the same numbers at the same places, so they are computed once for a whole
block of pixels: a network of convolutions and pooling becomes fully convolutional (Long, Shelhamer and Darrell 2015),
its strides turn into dilation (à trous; Giusti et al. 2013, "Fast image scanning with deep max-pooling convolutional
neural networks"), and fully connected layers become convolutions as large as their input map.

This alone is exact only for networks without padding, because the zeros around a chip do not exist inside a block.
Places of a map that are affected by the zeros at the chip's edge are therefore computed separately, depending on their
distance from the edge. There are few of them: of the 32 × 32 map after the first block of a lecture CNN, only the
outermost ring. So a map is stored in several parts: along each axis, the *inner* places, which all chips share, and one
part for each place that is affected by an edge.

Rows and columns are treated alike, because chips are square.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...models.classifier_network import Classifier
from ...models.teaching import TeachingNetwork

# The key of places that are not affected by an edge; all others are keyed by their number.
INNER = -1
# Sharing moves more memory per multiplication than processing whole chips; measured on a CPU, both take the same time
# if sharing needs about a third of the multiplications.
WORTHWHILE = 3.5

Key = tuple[int, int]  # of rows and columns


@dataclass(frozen=True)
class Axis:
    """The places of a map along one axis of a chip.

    Attributes:
        size: Number of places per chip.
        spacing: Distance of neighbouring places in pixels.
        first, last: First and last inner place; there are none if last < first.
    """

    size: int
    spacing: int
    first: int
    last: int

    @property
    def keys(self) -> list[int]:
        """One key for each place that is affected by an edge, and `INNER` if there are inner places."""
        inner = [INNER] if self.last >= self.first else []
        return [*range(self.first), *inner, *range(max(self.first, self.last + 1), self.size)]

    def key(self, place: int) -> int:
        """Return the key of a place."""
        return INNER if self.first <= place <= self.last else place


class Layer:
    """A convolution or pooling: output place i is computed from the input places i · stride − padding + tap."""

    def __init__(self, kernel: int, stride: int, padding: int) -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.after: list[Callable[[torch.Tensor], torch.Tensor]] = []  # on (1, F, rows, cols)

    def axis(self, axis: Axis) -> Axis:
        """Return the places of the output for those of the input."""
        size = (axis.size + 2 * self.padding - self.kernel) // self.stride + 1
        inner = [
            place
            for place in range(size)
            if axis.first <= place * self.stride - self.padding
            and place * self.stride - self.padding + self.kernel - 1 <= axis.last
        ]
        spacing = axis.spacing * self.stride
        return Axis(size, spacing, inner[0], inner[-1]) if inner else Axis(size, spacing, size, size - 1)

    def taps(self, place: int, axis: Axis) -> list[tuple[int, int]]:
        """Return (tap, input place) of an output place, without those in the padding."""
        begin = place * self.stride - self.padding
        return [(tap, begin + tap) for tap in range(self.kernel) if 0 <= begin + tap < axis.size]

    def apply(self, pieces: list[list[torch.Tensor]], rows: list[int], cols: list[int]) -> torch.Tensor:
        """Compute the output from the input under the taps of `rows` and `cols`: each (F, n, m) → (F', n, m)."""
        raise NotImplementedError

    def products(self, rows: int, cols: int) -> int:
        """Return the multiplications per output value with this many taps, times the number of output channels."""
        raise NotImplementedError


class Convolution(Layer):
    """A convolution; a fully connected layer is a convolution that covers its whole map."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int = 1, padding: int = 0) -> None:
        super().__init__(weight.shape[-1], stride, padding)
        self.weight, self.bias = weight, bias  # (F', F, k, k)

    def apply(self, pieces: list[list[torch.Tensor]], rows: list[int], cols: list[int]) -> torch.Tensor:
        """As `Layer.apply`."""
        weight = self.weight[:, :, rows][:, :, :, cols]  # (F', F, taps, taps)
        filters = len(weight)
        height, width = pieces[0][0].shape[-2:]
        stacked = torch.stack([torch.stack(row, 1) for row in pieces], 1)  # (F, taps, taps, n, m)
        flat = stacked.reshape(-1, height * width)
        matrix = weight.reshape(filters, -1)
        found = matrix @ flat if self.bias is None else torch.addmm(self.bias[:, None], matrix, flat)
        return found.reshape(filters, height, width)

    def apply_inner(self, region: torch.Tensor, step: int, dilation: int) -> torch.Tensor:
        """Compute all inner places at once, from the (F, h, w) region that they depend on."""
        return F.conv2d(region[None], self.weight, self.bias, stride=step, dilation=dilation)[0]

    def products(self, rows: int, cols: int) -> int:
        """As `Layer.products`."""
        return rows * cols * self.weight.shape[0] * self.weight.shape[1]


class MaxPooling(Layer):
    """Max pooling."""

    def apply(self, pieces: list[list[torch.Tensor]], rows: list[int], cols: list[int]) -> torch.Tensor:
        """As `Layer.apply`."""
        found = pieces[0][0]
        for piece in [piece for row in pieces for piece in row][1:]:
            found = torch.maximum(found, piece)
        return found

    def products(self, rows: int, cols: int) -> int:
        """Return 0: no multiplications."""
        return 0


def layers_of(classifier: Classifier) -> list[Layer] | None:
    """Return the layers of a network that is a chain of convolutions, max pooling and pointwise layers.

    Args:
        classifier: The network.

    Returns:
        The layers; None for networks with shortcuts, branches, attention or global pooling.
    """
    network = classifier.network
    if not isinstance(network, TeachingNetwork):
        return None
    layers: list[Layer] = []
    side = classifier.input_size  # of the map, as long as there is one
    flat = False
    for module in _chain((network.features, network.hidden, network.output)):
        if isinstance(module, nn.Conv2d):
            kernel, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
            layers.append(Convolution(module.weight, module.bias, stride, padding))
            side = (side + 2 * padding - kernel) // stride + 1
        elif isinstance(module, nn.MaxPool2d):
            kernel, stride = int(module.kernel_size), int(module.stride)  # type: ignore[arg-type]
            layers.append(MaxPooling(kernel, stride, 0))
            side = (side - kernel) // stride + 1
        elif isinstance(module, nn.Flatten):
            flat = True
        elif isinstance(module, nn.Linear):
            kernel = side if flat else 1
            weight = module.weight.reshape(module.out_features, -1, kernel, kernel)
            layers.append(Convolution(weight, module.bias))
            side, flat = 1, False
        elif isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            layers[-1].after.append(_norm(module))
        elif isinstance(module, (nn.ReLU, nn.LeakyReLU, nn.PReLU)):
            layers[-1].after.append(module)
        elif not isinstance(module, (nn.Dropout, nn.Identity)):
            return None
        if not layers and flat:
            return None  # an MLP: its first layer sees all pixels of a chip, so chips share nothing
    return layers


def _chain(modules: tuple[nn.Module, ...]) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _chain(tuple(module))
        else:
            yield module


def _norm(module: nn.BatchNorm1d | nn.BatchNorm2d) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that applies a batch norm of either kind to maps."""
    return lambda values: F.batch_norm(
        values, module.running_mean, module.running_var, module.weight, module.bias, False, 0.0, module.eps
    )


class SharedEvaluator:
    """Evaluates chips at every `stride` pixels of a block and computes shared parts once; see `evaluation.StepSource`.

    Args:
        layers: Layers of the network, from `layers_of`, on the device of the blocks.
        chip_size, stride: In pixels.
    """

    def __init__(self, layers: list[Layer], chip_size: int, stride: int) -> None:
        self.layers, self.stride, self.chip_size = layers, stride, chip_size
        self.axes = [Axis(chip_size, 1, 0, chip_size - 1)]
        for layer in layers:
            self.axes.append(layer.axis(self.axes[-1]))

    @torch.inference_mode()
    def logits(self, block: torch.Tensor, wanted: np.ndarray) -> torch.Tensor:
        """Compute the logits of some chips; all chips are computed, so this pays if most are wanted.

        Args:
            block: (B, h, w) normalised; chip (row, col) begins at row · stride and col · stride.
            wanted: (rows, cols) bool.

        Returns:
            (n, C) logits in the order of the true values of `wanted`, row by row.
        """
        maps: dict[Key, torch.Tensor] = {(INNER, INNER): block}
        for number, layer in enumerate(self.layers):
            below, axis = self.axes[number], self.axes[number + 1]
            made: dict[Key, torch.Tensor] = {}
            for row in axis.keys:
                for col in axis.keys:
                    found = self._map(layer, below, axis, maps, row, col, wanted.shape)
                    for function in layer.after:
                        found = function(found[None])[0]
                    made[row, col] = found
            maps = made
        logits = next(iter(maps.values()))  # (C, rows, cols): a single place is left, inner or not
        return logits.permute(1, 2, 0)[torch.from_numpy(wanted).to(block.device)]

    def _map(
        self, layer: Layer, below: Axis, axis: Axis, maps: dict[Key, torch.Tensor], row: int, col: int,
        counts: tuple[int, ...],
    ) -> torch.Tensor:  # fmt: skip
        """Compute the output of a layer at the places of a key: (F, n, m)."""
        if row == col == INNER and isinstance(layer, Convolution):
            spans = [self._inner_span(layer, below, axis, count) for count in counts]
            region = maps[INNER, INNER][:, spans[0], spans[1]]
            step = self._lattice(axis) // self._lattice(below)
            # If a chip has only one inner place, the kernel has one tap.
            return layer.apply_inner(region, step, max(1, below.spacing // self._lattice(below)))
        rows = self._sources(layer, below, axis, row, counts[0])
        cols = self._sources(layer, below, axis, col, counts[1])
        pieces = [
            [maps[row_key, col_key][:, row_span, col_span] for _, col_key, col_span in cols]
            for _, row_key, row_span in rows
        ]
        return layer.apply(pieces, [tap for tap, _, _ in rows], [tap for tap, _, _ in cols])

    def _lattice(self, axis: Axis) -> int:
        """Return the distance of neighbouring inner places of all chips in pixels."""
        return self.stride if axis.first == axis.last else math.gcd(self.stride, axis.spacing)

    def _length(self, axis: Axis, key: int, chips: int) -> int:
        """Return the number of values of a map along an axis for this many chips."""
        if key != INNER:
            return chips  # one per chip
        return ((chips - 1) * self.stride + (axis.last - axis.first) * axis.spacing) // self._lattice(axis) + 1

    def _sources(self, layer: Layer, below: Axis, axis: Axis, key: int, chips: int) -> list[tuple[int, int, slice]]:
        """Return, for each tap of a key's places: the tap, the key of the input map, and the slice of its values."""
        place = axis.first if key == INNER else key
        count = self._length(axis, key, chips)
        # Distance of neighbouring output values in pixels.
        pixels = self._lattice(axis) if key == INNER else self.stride
        found = []
        for tap, source in layer.taps(place, below):
            source_key = below.key(source)
            if source_key != INNER:
                found.append((tap, source_key, slice(0, count)))
                continue
            lattice = self._lattice(below)
            begin = (source - below.first) * below.spacing // lattice
            step = pixels // lattice
            found.append((tap, INNER, slice(begin, begin + (count - 1) * step + 1, step)))
        return found

    def _inner_span(self, layer: Layer, below: Axis, axis: Axis, chips: int) -> slice:
        """Return the slice of the inner input map that the inner output depends on."""
        sources = self._sources(layer, below, axis, INNER, chips)
        return slice(sources[0][2].start, sources[-1][2].stop)

    def products(self, chips: int) -> int:
        """Return the multiplications for a block of `chips` × `chips` chips."""
        total = 0
        for layer, below, axis in zip(self.layers, self.axes, self.axes[1:]):
            costs = [
                (len(layer.taps(axis.first if key == INNER else key, below)), self._length(axis, key, chips))
                for key in axis.keys
            ]
            total += sum(layer.products(rows, cols) * height * width for rows, height in costs for cols, width in costs)
        return total

    def window_products(self, chips: int) -> int:
        """Return the multiplications if each chip goes through the network separately."""
        total = 0
        for layer, axis in zip(self.layers, self.axes[1:]):
            total += layer.products(layer.kernel, layer.kernel) * axis.size**2
        return total * chips**2

    def values(self, chips: int, bands: int) -> int:
        """Return the maximum number of values in memory for a block of `chips` × `chips` chips."""
        most, channels = 0, bands
        below = channels * self._length(self.axes[0], INNER, chips) ** 2
        for layer, axis in zip(self.layers, self.axes[1:]):
            inputs = channels
            if isinstance(layer, Convolution):
                channels = layer.weight.shape[0]
            lengths = [self._length(axis, key, chips) for key in axis.keys]
            made = channels * sum(lengths) ** 2
            # In addition to both maps: the input of one key, stacked by taps, and its output.
            taps = min(layer.kernel, axis.size if axis.size > 1 else layer.kernel) ** 2
            most = max(most, below + made + (taps * inputs + channels) * max(lengths) ** 2)
            below = made
        return most


def saving(shared: SharedEvaluator, chips: int) -> float:
    """Return how many times fewer multiplications sharing needs for blocks of `chips` × `chips` chips."""
    return shared.window_products(chips) / max(1, shared.products(chips))


def is_worthwhile(shared: SharedEvaluator, chips: int) -> bool:
    """Return whether sharing is faster than processing whole chips one by one."""
    return saving(shared, chips) > WORTHWHILE
