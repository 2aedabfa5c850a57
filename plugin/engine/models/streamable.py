"""Finds the layers of a network that can be run in strips, see `streaming.py`.

That suits layers of which a row of the result depends on few rows of the input: convolutions, pooling, interpolation,
and what is done for each value. They are found while the network looks at an image. A network with any other one, such
as attention or a pool over the whole image, is not run in strips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import not_none
from .networks import STRIDE
from .reach import alike
from .streaming import Layer, Memory, Run, Step, Stream, reach

aten = torch.ops.aten

# Height and width of the image with which layers are found, and of the one with which results are compared.
FOUND_WITH, COMPARED_WITH = (2 * STRIDE, 3 * STRIDE), (8 * STRIDE, 2 * STRIDE)
ALIKE = 1e-3  # of the largest answer; in float32, strips change less

# Operations on single values, which write their result where they are told.
VALUES = {
    "add", "clamp", "clamp_min", "div", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish",
    "mul", "sigmoid", "silu", "sub", "tanh",
}  # fmt: skip
# Operations that change nothing, as long as the result has the size of the input.
NOTHING = {"alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "slice"}


class Unsuitable(Exception):
    """A layer looks at more than some rows of its input, or is not known."""


@dataclass(frozen=True)
class Streamable:
    """A network that can be run in strips.

    Attributes:
        steps: Its steps.
        reach: How many rows above and below a row of the result can depend on; a multiple of `STRIDE`.
    """

    steps: list[Step]
    reach: int

    def begin(self, height: int) -> Stream:
        """Begin an image of so many rows, a multiple of `STRIDE`."""
        return Stream(self.steps, height)


@torch.no_grad()
def streamable(network: nn.Module, bands: int, unneeded: int = 0) -> Streamable | None:
    """Return a network as it is run in strips; None if a layer does not suit, or the result would be another.

    Args:
        network: (N, B, H, W) → (N, C, H, W), in evaluation mode; its weights are not copied.
        bands: Number of bands B.
        unneeded: Columns at the left and right for which a `Segmenter` computes no logits.
    """
    only = (unneeded, 0) if unneeded else ()
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    image, large = (
        torch.randn(1, bands, rows, cols + 2 * unneeded, generator=generator).to(
            device, memory_format=torch.channels_last
        )
        for rows, cols in (FOUND_WITH, COMPARED_WITH)
    )
    recorder = _Recorder(image)
    try:
        with recorder:
            logits = network(image, *only)
        steps = recorder.steps_to(logits)
    except (Unsuitable, RuntimeError, ValueError, AssertionError):
        return None
    found = Streamable(steps, reach(steps))
    whole = found.begin(large.shape[-2]).whole(torch.split(large, 2 * STRIDE, -2))
    return found if alike(network(large, *only), whole, ALIKE) else None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what is done with an image.

    Args:
        image: (1, B, H, W).
    """

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps = [Step(Layer(lambda values, memory: values[0]), ())]
        self.numbers = {id(image): 0}  # of the step that made a map
        self.maps = [image]  # kept, so that no other tensor gets the id of one

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        sizes = [tuple(one.shape) if torch.is_tensor(one) else None for one in args]
        found = func(*args, **(kwargs or {}))
        sources = tuple(self.numbers[id(one)] for one in tree_leaves((args, kwargs)) if id(one) in self.numbers)
        if sources:
            result = found[0] if isinstance(found, (tuple, list)) else found
            if not torch.is_tensor(result):
                raise Unsuitable(str(func))
            layer = _layer(_Call(func, args, kwargs or {}, sizes, tuple(result.shape), self.numbers))
            self.numbers[id(result)] = len(self.steps) if layer else sources[0]
            self.maps.append(result)
            if layer:
                self.steps.append(Step(layer, sources))
        return found

    def steps_to(self, result: torch.Tensor) -> list[Step]:
        """Return all steps.

        Raises:
            Unsuitable: The result is not that of the last one.
        """
        if self.numbers.get(id(result)) != len(self.steps) - 1:
            raise Unsuitable("the result")
        return self.steps


class _Call:
    """A call of an operation.

    Args:
        func, args, kwargs: As for `__torch_dispatch__`.
        sizes: Of the arguments that are tensors.
        size: Of the result.
        numbers: Tells which tensors are maps; all others are weights.
    """

    def __init__(
        self, func: Any, args: Any, kwargs: dict[str, Any], sizes: list[tuple[int, ...] | None],
        size: tuple[int, ...], numbers: dict[int, int],
    ) -> None:  # fmt: skip
        self.schema: Any = func._schema
        # Whether it overwrites its input makes no difference here.
        self.name: str = self.schema.name.removeprefix("aten::").removesuffix("_")
        names = [one.name for one in self.schema.arguments]
        self.given = {one.name: one.default_value for one in self.schema.arguments} | dict(zip(names, args)) | kwargs
        self.sizes, self.size, self.numbers = dict(zip(names, sizes)), size, numbers

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def is_map(self, value: Any) -> bool:
        """Whether an argument is a map."""
        return id(value) in self.numbers

    def pair(self, name: str) -> tuple[int, int]:
        """An argument with a value for rows and one for columns."""
        value = list(self[name])
        return value[0], value[-1]


def _layer(call: _Call) -> Layer | None:
    """Return the layer of a call; None if it does nothing.

    Raises:
        Unsuitable: It cannot be run in strips.
    """
    if call.name in NOTHING and call.sizes["self"] == call.size:
        return None
    if call.name in VALUES:
        return _values(call)
    if call.name not in LAYERS:
        raise Unsuitable(call.name)
    return LAYERS[call.name](call)


def _windows(run: Run, kernel: int, stride: int, padding: int, dilation: int, outside: float) -> Layer:
    """A layer that moves a window over the rows."""
    more = (kernel - 1) * dilation
    return Layer(
        run,
        height=lambda height: (height + 2 * padding - more - 1) // stride + 1,
        ready=lambda rows: (rows - 1 + padding - more) // stride + 1,
        first=lambda row: row * stride - padding,
        last=lambda row: row * stride - padding + more,
        outside=outside,
    )


def _convolution(call: _Call) -> Layer:
    weight, bias, groups = call["weight"], call["bias"], call["groups"]
    stride, padding, dilation = call.pair("stride"), call.pair("padding"), call.pair("dilation")
    if call["transposed"]:
        return _transposed(call)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.conv2d(values[0], weight, bias, stride, (0, padding[1]), dilation, groups)

    return _windows(run, weight.shape[2], stride[0], padding[0], dilation[0], 0.0)


def _transposed(call: _Call) -> Layer:
    weight, bias, groups = call["weight"], call["bias"], call["groups"]
    (stride, _), (padding, cols) = call.pair("stride"), call.pair("padding")
    if any(call["output_padding"]) or call.pair("dilation") != (1, 1):
        raise Unsuitable(call.name)
    kernel = weight.shape[2]

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.conv_transpose2d(values[0], weight, bias, call.pair("stride"), (0, cols), 0, groups)

    return Layer(
        run,
        height=lambda height: (height - 1) * stride - 2 * padding + kernel,
        ready=lambda rows: rows * stride - padding,
        first=lambda row: -((kernel - 1 - padding - row) // stride),
        last=lambda row: (row + padding) // stride,
        origin=lambda row: row * stride - padding,
    )


def _max_pool(call: _Call) -> Layer:
    kernel, padding, dilation = call.pair("kernel_size"), call.pair("padding"), call.pair("dilation")
    stride = call.pair("stride") if call["stride"] else kernel
    if call["ceil_mode"]:
        raise Unsuitable(call.name)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.max_pool2d(values[0], kernel, stride, (0, padding[1]), dilation)

    return _windows(run, kernel[0], stride[0], padding[0], dilation[0], float("-inf"))


def _average_pool(call: _Call) -> Layer:
    kernel = call.pair("kernel_size")
    if any(call["padding"]) or (call["stride"] and call.pair("stride") != kernel) or call["divisor_override"]:
        raise Unsuitable(call.name)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.avg_pool2d(values[0], kernel)

    return _windows(run, kernel[0], kernel[0], 0, 1, 0.0)


def _pad(call: _Call) -> Layer:
    left, right, top, bottom = (*call["pad"], 0, 0)[:4]
    value = float(call["value"])
    if min(left, right, top, bottom) < 0 or len(call["pad"]) > 4:
        raise Unsuitable(call.name)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        (image,) = values
        _, channels, rows, cols = image.shape
        found = memory.new(values, channels, rows, cols + left + right)
        found[..., :left], found[..., left + cols :] = value, value
        found[..., left : left + cols].copy_(image)
        return found

    return Layer(
        run,
        height=lambda height: height + top + bottom,
        ready=lambda rows: rows + top,
        first=lambda row: row - top,
        last=lambda row: row - top,
        outside=value,
        gives_room=True,
    )


def _factor(call: _Call) -> int:
    """How many times larger an interpolation makes a map."""
    (before, beside), (after, along) = not_none(call.sizes["self"])[-2:], call.size[-2:]
    if after % before or along * before != after * beside:
        raise Unsuitable(call.name)
    return after // before


def _nearest(call: _Call) -> Layer:
    factor = _factor(call)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        (image,) = values
        size = image.shape[-2] * factor, image.shape[-1] * factor
        found: torch.Tensor = aten.upsample_nearest2d.out(image, size, out=memory.new(values, image.shape[1], *size))
        return found

    return Layer(
        run,
        height=lambda height: height * factor,
        ready=lambda rows: rows * factor,
        first=lambda row: row // factor,
        last=lambda row: row // factor,
        origin=lambda row: row * factor,
        gives_room=True,
    )


def _bilinear(call: _Call) -> Layer:
    factor = _factor(call)
    if call["align_corners"]:
        raise Unsuitable(call.name)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.interpolate(values[0], scale_factor=factor, mode="bilinear")

    def first(row: int) -> int:
        return max(0, (2 * row + 1 - factor) // (2 * factor))

    return Layer(
        run,
        height=lambda height: height * factor,
        ready=lambda rows: (rows - 1) * factor + factor // 2,
        first=first,
        last=lambda row: (2 * row + 1 - factor) // (2 * factor) + 1,
        origin=lambda row: row * factor,
    )


def _cat(call: _Call) -> Layer:
    if call["dim"] != 1:
        raise Unsuitable(call.name)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        rows, cols = values[0].shape[-2:]
        found = memory.new(values, sum(one.shape[1] for one in values), rows, cols)
        return torch.cat(values, 1, out=found)

    return Layer(run, gives_room=True)


def _slice(call: _Call) -> Layer:
    """All rows, without some columns at the left and right."""
    cols, first = not_none(call.sizes["self"])[3], call["start"] or 0
    right = max(0, cols - call["end"]) if call["end"] is not None else 0
    if call["dim"] != 3 or call["step"] != 1 or first < 0 or (call["end"] or 0) < 0:
        raise Unsuitable(call.name)
    return Layer(lambda values, memory: values[0][..., first : values[0].shape[3] - right])


def _values(call: _Call) -> Layer:
    """A function of each value, such as an activation, or of the values of two maps."""
    names = [one.name for one in call.schema.arguments if not one.kwarg_only]
    more = {one.name: call[one.name] for one in call.schema.arguments if one.kwarg_only}
    places = [number for number, name in enumerate(names) if call.is_map(call[name])]
    weights = [call[name] for name in names if torch.is_tensor(call[name]) and not call.is_map(call[name])]
    if any(call.sizes[names[place]] != call.size for place in places) or any(one.numel() != 1 for one in weights):
        raise Unsuitable(call.name)
    arguments = [None if number in places else call[name] for number, name in enumerate(names)]
    operation = getattr(aten, call.name)
    write = operation.Scalar_out if call.schema.overload_name == "Scalar" else operation.out

    def run(values: Any, memory: Memory) -> torch.Tensor:
        given = arguments.copy()
        for place, value in zip(places, values):
            given[place] = value
        found: torch.Tensor = write(*given, **more, out=memory.like(values))
        return found

    return Layer(run, gives_room=True)


def _relu(call: _Call) -> Layer:
    def run(values: Any, memory: Memory) -> torch.Tensor:
        return torch.clamp_min(values[0], 0, out=memory.like(values))

    return Layer(run, gives_room=True)


def _batch_norm(call: _Call) -> Layer:
    """A batch norm that could not be folded into a convolution."""
    statistics = call["running_mean"], call["running_var"], call["weight"], call["bias"]
    eps = call["eps"]

    def run(values: Any, memory: Memory) -> torch.Tensor:
        (image,) = values
        # Unlike those of a convolution, they must be on the device `meta`, too, where memory is counted.
        mean, spread, weight, bias = (None if one is None else one.to(image.device) for one in statistics)
        return F.batch_norm(image, mean, spread, weight, bias, False, 0.0, eps)

    return Layer(run)


LAYERS: dict[str, Callable[[_Call], Layer]] = {
    "avg_pool2d": _average_pool,
    "cat": _cat,
    "constant_pad_nd": _pad,
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "native_batch_norm": _batch_norm,
    "relu": _relu,
    "slice": _slice,
    "upsample_bilinear2d": _bilinear,
    "upsample_nearest2d": _nearest,
}
