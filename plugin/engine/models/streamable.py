"""Finds the layers of a network that can be run in strips, see `streaming.py`.

That suits layers of which a row of the result depends on few rows of the input: convolutions, pooling, interpolation,
and what is done for each value. They are found while the network looks at an image. A network with any other one, such
as attention or a pool over the whole image, is not run in strips.

Decoders enlarge a map, put another one beside it, and convolve both. That is the sum of a transposed convolution of the
small map and of a convolution of the other one: 4 multiplications for a pixel and channel instead of 9, and neither the
enlarged map nor both beside each other are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .networks import REFUSALS, STRIDE
from .reach import alike
from .streaming import Layer, Step, Stream, reach
from .strip_layers import Call, Unsuitable, added, boxed, concatenated, convolved, factor_of, layer_of, transposed

# Height and width of the image with which layers are found, and of the one with which results are compared.
FOUND_WITH, COMPARED_WITH = (2 * STRIDE, 3 * STRIDE), (8 * STRIDE, 2 * STRIDE)
ALIKE = 1e-3  # of the largest answer; in float32, strips change less


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
        network: (N, B, H, W) → (N, C, H, W), in evaluation mode.
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
        found = Streamable(steps, reach(steps))
        whole = found.begin(large.shape[-2]).whole(torch.split(large, 2 * STRIDE, -2))
    except (Unsuitable, *REFUSALS):
        return None
    expected = network(large, *only)
    return found if expected.shape == whole.shape and alike(expected, whole, ALIKE) else None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what is done with an image.

    Args:
        image: (1, B, H, W).
    """

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps = [Step(Layer(lambda values, memory: values[0]), ())]
        self.calls: list[Call | None] = [None]  # of which the steps are made
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
            call = Call(func, args, kwargs or {}, sizes, tuple(result.shape), self.numbers)
            self.numbers[id(result)] = self._of_enlarged(call, sources[0]) or self._of(call, sources)
            self.maps.append(result)
        return found

    def _of(self, call: Call, sources: tuple[int, ...]) -> int:
        """Add the step of a call, and return its number; that of its first source if the call does nothing."""
        layer = layer_of(call)
        return self._add(layer, *sources, call=call) if layer else sources[0]

    def _of_enlarged(self, call: Call, source: int) -> int | None:
        """Add the steps of a convolution of enlarged maps, and others beside them, without enlarging any.

        Returns:
            The number of the last one; None if the call is another.
        """
        if call.name != "convolution" or call["transposed"] or call["groups"] != 1:
            return None
        weight, padding, before = call["weight"], call.pair("padding"), self.calls[source]
        maps: tuple[int, ...] = (source,)
        channels = [weight.shape[1]]
        if before is not None and before.name == "cat":
            maps, channels = self.steps[source].sources, [one.shape[1] for one in before["tensors"]]
        # The padding of a transposed convolution is what is cut off.
        edges = weight.shape[2] - 1 - padding[0], weight.shape[3] - 1 - padding[1]
        calls = [self.calls[number] for number in maps]
        enlarged = [one if one is not None and one.name == "upsample_nearest2d" else None for one in calls]
        if not any(enlarged) or min(edges) < 0 or call.pair("stride") != (1, 1) or call.pair("dilation") != (1, 1):
            return None
        parts, others, bias = [], [], call["bias"]
        for number, larger, part in zip(maps, enlarged, torch.split(weight, channels, 1)):
            if larger is None:
                others.append((number, part))
                continue
            factor = factor_of(larger)
            layer = transposed(_channels_last(boxed(part, factor).transpose(0, 1)), bias, (factor, factor), edges, 1)
            parts.append(self._add(layer, *self.steps[number].sources))
            bias = None
        if others:
            numbers, weights = zip(*others)
            beside = numbers[0] if len(numbers) == 1 else self._add(concatenated(), *numbers)
            layer = convolved(_channels_last(torch.cat(weights, 1)), None, (1, 1), padding, (1, 1), 1)
            parts.append(self._add(layer, beside))
        while len(parts) > 1:
            parts[:2] = [self._add(added(), *parts[:2])]
        return parts[0]

    def _add(self, layer: Layer, *sources: int, call: Call | None = None) -> int:
        """Add a step, and return its number."""
        self.steps.append(Step(layer, sources))
        self.calls.append(call)
        return len(self.steps) - 1

    def steps_to(self, result: torch.Tensor) -> list[Step]:
        """Return the steps that a result needs.

        Raises:
            Unsuitable: The result is not that of the last one.
        """
        last = len(self.steps) - 1
        if self.numbers.get(id(result)) != last:
            raise Unsuitable("the result")
        needed = {0, last}
        for number in range(last, 0, -1):
            if number in needed:
                needed.update(self.steps[number].sources)
        places = {number: place for place, number in enumerate(sorted(needed))}
        return [
            Step(self.steps[number].layer, tuple(places[one] for one in self.steps[number].sources))
            for number in sorted(needed)
        ]


def _channels_last(weight: torch.Tensor) -> torch.Tensor:
    return weight.contiguous(memory_format=torch.channels_last)
