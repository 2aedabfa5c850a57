"""The layers of networks that can be run in strips, see `streaming.py`, as what PyTorch calls for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import not_none
from .streaming import Layer, Memory, Run

Pair = tuple[int, int]  # for rows and for columns

aten = torch.ops.aten

# Operations on single values, which write their result where they are told.
VALUES = {
    "add", "clamp", "clamp_min", "div", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish",
    "mul", "sigmoid", "silu", "sub", "tanh",
}  # fmt: skip
# Operations that change nothing, as long as the result has the size of the input.
NOTHING = {"alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "slice"}


class Unsuitable(Exception):
    """A layer looks at more than some rows of its input, or is not known."""


class Call:
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

    def pair(self, name: str) -> Pair:
        """An argument with a value for rows and one for columns."""
        value = list(self[name])
        return value[0], value[-1]


def layer_of(call: Call) -> Layer | None:
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


def _convolution(call: Call) -> Layer:
    weight, bias, groups = call["weight"], call["bias"], call["groups"]
    stride, padding, dilation = call.pair("stride"), call.pair("padding"), call.pair("dilation")
    if not call["transposed"]:
        return convolved(weight, bias, stride, padding, dilation, groups)
    if any(call["output_padding"]) or dilation != (1, 1):
        raise Unsuitable(call.name)
    return transposed(weight, bias, stride, padding, groups)


class _Weights:
    """The weight and the bias of a convolution in the type that autocast asks for.

    Autocast itself would convert them again for each strip: it keeps those only that are being trained.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.found = weight, bias

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        weight, bias = self.found
        device = weight.device.type
        if torch.is_autocast_enabled(device) and weight.dtype is not torch.get_autocast_dtype(device):
            dtype = torch.get_autocast_dtype(device)
            self.found = weight.to(dtype), None if bias is None else bias.to(dtype)
        return self.found


def convolved(
    weight: torch.Tensor, bias: torch.Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Layer:
    """A convolution of a map."""
    weights = _Weights(weight, bias)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.conv2d(values[0], *weights(), stride, (0, padding[1]), dilation, groups)

    return _windows(run, weight.shape[2], stride[0], padding[0], dilation[0], 0.0)


def transposed(weight: torch.Tensor, bias: torch.Tensor | None, strides: Pair, paddings: Pair, groups: int) -> Layer:
    """A transposed convolution of a map."""
    kernel, stride, padding = weight.shape[2], strides[0], paddings[0]
    partial = max(0, kernel - stride)  # rows at the top and bottom of the result to which rows of the map are missing
    weights = _Weights(weight, bias)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.conv_transpose2d(values[0], *weights(), strides, (partial, paddings[1]), 0, groups)

    return Layer(
        run,
        height=lambda height: (height - 1) * stride - 2 * padding + kernel,
        ready=lambda rows: rows * stride - padding,
        first=lambda row: -((kernel - 1 - padding - row) // stride),
        last=lambda row: (row + padding) // stride,
        origin=lambda row: row * stride - padding + partial,
        outside=0.0,
    )


def boxed(weight: torch.Tensor, factor: int) -> torch.Tensor:
    """The weight with which a transposed convolution, whose stride is the factor, gives the same as an enlargement by
    the factor and a convolution: each value of the small map is in a box of the large one.

    Args:
        weight: (O, I, h, w) of the convolution.

    Returns:
        (O, I, h + factor - 1, w + factor - 1).
    """
    kernels = weight.flip(2, 3).reshape(-1, 1, *weight.shape[2:])
    boxed = F.conv2d(kernels, kernels.new_ones(1, 1, factor, factor), padding=factor - 1)
    return boxed.reshape(*weight.shape[:2], *boxed.shape[2:])


def _max_pool(call: Call) -> Layer:
    kernel, padding, dilation = call.pair("kernel_size"), call.pair("padding"), call.pair("dilation")
    stride = call.pair("stride") if call["stride"] else kernel
    if call["ceil_mode"]:
        raise Unsuitable(call.name)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.max_pool2d(values[0], kernel, stride, (0, padding[1]), dilation)

    return _windows(run, kernel[0], stride[0], padding[0], dilation[0], float("-inf"))


def _average_pool(call: Call) -> Layer:
    kernel = call.pair("kernel_size")
    if any(call["padding"]) or (call["stride"] and call.pair("stride") != kernel) or call["divisor_override"]:
        raise Unsuitable(call.name)

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return F.avg_pool2d(values[0], kernel)

    return _windows(run, kernel[0], kernel[0], 0, 1, 0.0)


def _pad(call: Call) -> Layer:
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


def factor_of(call: Call) -> int:
    """How many times larger an interpolation makes a map."""
    (before, beside), (after, along) = not_none(call.sizes["self"])[-2:], call.size[-2:]
    if after % before or along * before != after * beside:
        raise Unsuitable(call.name)
    return after // before


def _nearest(call: Call) -> Layer:
    factor = factor_of(call)

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


def _bilinear(call: Call) -> Layer:
    factor = factor_of(call)
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


def _cat(call: Call) -> Layer:
    if call["dim"] != 1:
        raise Unsuitable(call.name)
    return concatenated()


def concatenated() -> Layer:
    """Several maps beside each other."""

    def run(values: Any, memory: Memory) -> torch.Tensor:
        rows, cols = values[0].shape[-2:]
        found = memory.new(values, sum(one.shape[1] for one in values), rows, cols)
        return torch.cat(values, 1, out=found)

    return Layer(run, gives_room=True)


def _slice(call: Call) -> Layer:
    """All rows, without some columns at the left and right."""
    cols, first = not_none(call.sizes["self"])[3], call["start"] or 0
    right = max(0, cols - call["end"]) if call["end"] is not None else 0
    if call["dim"] != 3 or call["step"] != 1 or first < 0 or (call["end"] or 0) < 0:
        raise Unsuitable(call.name)
    return Layer(lambda values, memory: values[0][..., first : values[0].shape[3] - right])


def _values(call: Call) -> Layer:
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


def added() -> Layer:
    """The sum of two maps of the same size."""

    def run(values: Any, memory: Memory) -> torch.Tensor:
        return torch.add(*values, out=memory.like(values))

    return Layer(run, gives_room=True)


def _relu(call: Call) -> Layer:
    def run(values: Any, memory: Memory) -> torch.Tensor:
        return torch.clamp_min(values[0], 0, out=memory.like(values))

    return Layer(run, gives_room=True)


def _batch_norm(call: Call) -> Layer:
    """A batch norm that could not be folded into a convolution."""
    statistics = call["running_mean"], call["running_var"], call["weight"], call["bias"]
    eps = call["eps"]

    def run(values: Any, memory: Memory) -> torch.Tensor:
        (image,) = values
        # Unlike those of a convolution, they must be on the device `meta`, too, where memory is counted.
        mean, spread, weight, bias = (None if one is None else one.to(image.device) for one in statistics)
        return F.batch_norm(image, mean, spread, weight, bias, False, 0.0, eps)

    return Layer(run)


LAYERS: dict[str, Callable[[Call], Layer]] = {
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
