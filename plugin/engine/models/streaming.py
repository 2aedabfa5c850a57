"""Runs a network over an image in strips of rows, and computes no row twice.

Each layer keeps the last rows of its input that the next strip needs. So a strip has no halo above or below it, the
result is that of the whole image in one pass, and the memory depends on the width of the image but not on its height.
Line buffers work like that where networks are built in hardware (Alwani et al. 2016, "Fused-layer CNN accelerators").

`streamable.py` finds the layers of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .networks import STRIDE


@dataclass(frozen=True)
class Memory:
    """Where a layer may write its result.

    Attributes:
        room: Rows in front of the result that the next layer will fill with those that it kept.
        reuse: Whether the result may overwrite the layer's first input.
    """

    room: int
    reuse: bool

    def new(self, values: Sequence[torch.Tensor], channels: int, rows: int, cols: int) -> torch.Tensor:
        """Return an uninitialised (N, channels, rows, cols) tensor for a result of these maps, with room in front."""
        like = widest(values)
        size = len(like), channels, self.room + rows, cols
        whole = torch.empty(size, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
        return whole[..., self.room :, :]

    def like(self, values: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return where a result of the size of the first map may be written: over it, or to new memory."""
        first = values[0]
        reused = self.reuse and not self.room and first.dtype is widest(values).dtype
        return first if reused else self.new(values, *first.shape[1:])


def widest(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the map with the most bits per value: in 16 bits, some layers keep 32."""
    return max(values, key=torch.Tensor.element_size)


Run = Callable[[Sequence[torch.Tensor], Memory], torch.Tensor]


def _same(row: int) -> int:
    return row


@dataclass(frozen=True)
class Layer:
    """What is done with one or several maps of the same height, row by row.

    Attributes:
        run: Computes rows of the result from rows of each map, (N, C, h, w). It pads columns, but no rows.
        height: Rows of the result for those of the maps.
        ready: Rows of the result that can be computed from the first rows of the maps.
        first, last: The first and the last row of the maps that a row of the result depends on.
        origin: The row of the result with which `run` begins, for the first row that it gets; None = as asked for.
        outside: Value of the rows above and below the maps; None if the result does not depend on any.
        gives_room: Whether `run` follows `Memory.room`.
    """

    run: Run
    height: Callable[[int], int] = _same
    ready: Callable[[int], int] = _same
    first: Callable[[int], int] = _same
    last: Callable[[int], int] = _same
    origin: Callable[[int], int] | None = None
    outside: float | None = None
    gives_room: bool = False

    @property
    def kept(self) -> int:
        """How many rows of its input, at most, it needs again."""
        deep = 2 * STRIDE  # where no row is outside
        return self.last(deep) - self.first(deep)


@dataclass(frozen=True)
class Step:
    """A layer, and the numbers of the steps whose results it gets. The first step is the image, and has none."""

    layer: Layer
    sources: tuple[int, ...]


class Rows:
    """The rows of a map that one layer has still to see.

    Args:
        height: Rows of the whole map.
    """

    def __init__(self, height: int) -> None:
        self.height = height
        self.begin = self.end = 0  # of the rows that are here
        self.parts: list[torch.Tensor] = []  # (N, C, h, w) each
        self.room = 0  # in front of the last part

    def append(self, part: torch.Tensor, room: int) -> None:
        """Add the next rows, in front of which there is memory for `room` others."""
        self.parts.append(part)
        self.end += part.shape[-2]
        self.room = room

    def take(self, begin: int, end: int, keep: int) -> torch.Tensor:
        """Return rows from `begin` to `end`, and forget those before `keep`."""
        found, kept, last = [], [], self.begin
        room = self.room if end > self.end - self.parts[-1].shape[-2] else 0
        for part in self.parts:
            first, last = last, last + part.shape[-2]
            if first < end and last > begin:
                found.append(cut(part, begin - first, end - first))
            if last > keep:
                # A copy of the rows that are left frees all others.
                kept.append(part if keep <= first else cut(part, keep - first, last - first).clone())
        self.parts, self.begin = kept, max(self.begin, min(keep, self.end))
        return _joined(found, room)


def _joined(parts: list[torch.Tensor], room: int) -> torch.Tensor:
    """Join rows, in the room in front of the last ones if it is large enough."""
    if len(parts) == 1:
        return parts[0]
    *kept, newest = parts
    rows = [part.shape[-2] for part in kept]
    if sum(rows) > room:
        return torch.cat(parts, -2)
    batch, channels, more, cols = newest.shape
    size, offset = (batch, channels, sum(rows) + more, cols), newest.storage_offset() - sum(rows) * newest.stride(-2)
    whole = newest.as_strided(size, newest.stride(), offset)
    for there, part in zip(torch.split(whole[..., : sum(rows), :], rows, -2), kept):
        there.copy_(part)
    return whole


def cut(part: torch.Tensor, begin: int, end: int) -> torch.Tensor:
    """Return some rows of (N, C, h, w); negative numbers count as 0."""
    return part[..., max(0, begin) : max(0, end), :]


class Stream:
    """An image that is seen in strips, from top to bottom.

    Args:
        steps: Of the network; the result is that of the last one.
        height: Rows of the image, a multiple of `STRIDE`.
    """

    def __init__(self, steps: Sequence[Step], height: int) -> None:
        self.steps = steps
        self.heights: list[int] = []  # of the whole results
        self.done = [0] * len(steps)  # rows of each
        self.largest = 0  # strip, in rows
        self.inputs: list[list[Rows]] = []
        self.users: list[list[Rows]] = [[] for _ in steps]
        rooms = [0] * len(steps)
        for step in steps:
            rows = [Rows(self.heights[source]) for source in step.sources]
            for source, one in zip(step.sources, rows):
                self.users[source].append(one)
                if steps[source].layer.gives_room:
                    rooms[source] = max(rooms[source], step.layer.kept)
            self.inputs.append(rows)
            self.heights.append(step.layer.height(rows[0].height) if rows else height)
        # The image belongs to the caller.
        alone = [bool(step.sources) and step.sources[0] > 0 and len(self.users[step.sources[0]]) == 1 for step in steps]
        self.memory = [Memory(*pair) for pair in zip(rooms, alone)]

    def push(self, strip: torch.Tensor | None) -> torch.Tensor | None:
        """Take the next rows of the image, and return the next rows of the result.

        Args:
            strip: (N, B, h, W), channels last; W is a multiple of `STRIDE`. None after the last one, until all rows of
                the result have been returned: so the rest does not need more memory than any strip.

        Returns:
            (N, C, h', W), or None if no further row is ready.
        """
        if strip is not None:
            self.largest = max(self.largest, strip.shape[-2])
        found: torch.Tensor | None = None
        for number, step in enumerate(self.steps):
            found = self._rows_of(number, step) if step.sources else strip
            if found is not None:
                self.done[number] += found.shape[-2]
                for rows in self.users[number]:
                    rows.append(found, self.memory[number].room)
        return found

    def whole(self, strips: Iterable[torch.Tensor]) -> torch.Tensor:
        """Take all strips of the image, and return the whole result.

        Raises:
            ValueError: A layer does not give as many rows as it says.
        """
        parts, done = [self.push(strip) for strip in strips], [-1]
        while self.done[-1] < self.heights[-1]:
            if done == self.done:
                raise ValueError("No further row is ready.")
            done = self.done.copy()
            parts.append(self.push(None))
        return torch.cat([part for part in parts if part is not None], -2)

    def _rows_of(self, number: int, step: Step) -> torch.Tensor | None:
        """Compute all rows of a step's result that are ready; None if none is."""
        layer, inputs, begin = step.layer, self.inputs[number], self.done[number]
        there, height = min(rows.end for rows in inputs), inputs[0].height
        end, all_rows = layer.ready(there), self.heights[number]
        if there == height and begin < all_rows:
            end = min(all_rows, begin - -self.largest * all_rows // self.heights[0])
            if layer.last(end - 1) >= height - 1:
                end = all_rows  # the rest depends on rows below the maps only
        if not there or end <= begin:
            return None
        first, last = layer.first(begin), layer.last(end - 1) + 1
        above, below = max(0, -first), max(0, last - height)
        values = [rows.take(first + above, last - below, layer.first(end)) for rows in inputs]
        if layer.outside is None:
            first += above
        elif above or below:
            values = [F.pad(one, (0, 0, above, below), value=layer.outside) for one in values]
        result = layer.run(values, self.memory[number])
        if layer.origin is None:
            return result
        origin = layer.origin(first)
        return cut(result, begin - origin, end - origin)


def reach(steps: Sequence[Step]) -> int:
    """Return how many rows above and below a row of the result can depend on, rounded up to a multiple of `STRIDE`."""
    farthest = 0
    for row in range(DEEP, DEEP + STRIDE):
        first, last = [DEEP * 2] * len(steps), [0] * len(steps)
        first[-1] = last[-1] = row
        for number in range(len(steps) - 1, 0, -1):
            layer = steps[number].layer
            for source in steps[number].sources:
                first[source] = min(first[source], layer.first(first[number]))
                last[source] = max(last[source], layer.last(last[number]))
        farthest = max(farthest, row - first[0], last[0] - row)
    return -(-farthest // STRIDE) * STRIDE


DEEP = STRIDE * 2**12  # a row that is farther from the image's edges than any network looks
