"""What a network is made of, layer by layer: names, output shapes, parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

MEGABYTE = 1024**2
META = torch.device("meta")
# What `Classifier` calls the network in it; nobody wants to read that in front of every name.
INNER = "network"


@dataclass(frozen=True)
class Row:
    """A layer, or a block with all that is in it."""

    name: str
    kind: str  # the name of its class
    shape: tuple[int, ...]  # of its output, without the batch
    parameters: int


@dataclass(frozen=True)
class Summary:
    """The layers in the order in which an image passes them."""

    rows: tuple[Row, ...]
    input_shape: tuple[int, ...]  # (B, S, S)
    output_shape: tuple[int, ...]
    parameters: int
    learning: int  # of the parameters, those that are not frozen
    megabytes: float  # of the parameters and buffers

    def to_json(self) -> dict[str, Any]:
        """The summary for a report: `rows` is a list of dictionaries."""
        return asdict(self)

    def text(self) -> str:
        """A table of fixed columns, with the totals below it."""
        head = ("layer", "type", "output shape", "parameters")
        table = [(row.name, row.kind, _shape(row.shape), f"{row.parameters:,}") for row in self.rows]
        widths = [max(len(line[column]) for line in (head, *table)) for column in range(4)]
        lines = [
            f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:<{widths[2]}}  {count:>{widths[3]}}"
            for name, kind, shape, count in (head, *table)
        ]
        frozen = self.parameters - self.learning
        total = f"{self.parameters:,} parameters" + (f", of which {frozen:,} are frozen" if frozen else "")
        lines += [
            "─" * (sum(widths) + 6),
            f"{_shape(self.input_shape)} → {_shape(self.output_shape)}: {total}; {self.megabytes:.1f} MB",
        ]
        return "\n".join(lines)


def summarise(network: nn.Module, bands: int, size: int, max_rows: int = 60) -> Summary:
    """Note what would come out of each layer of a network for one image; nothing is calculated.

    Where the layers would be more than `max_rows`, blocks are shown as one row, from the innermost outwards. Every
    parameter is counted in one row; what a block has beside its layers has rows of its own.

    Args:
        network: (1, B, S, S) → a tensor.
        bands: B.
        size: S, in pixels.
        max_rows: More layers than that are folded; the outermost blocks are always shown.
    """
    network = _outline(network)
    modules = {name: module for name, module in network.named_modules() if name not in ("", INNER)}
    shapes: dict[str, tuple[int, ...]] = {}
    output = _pass_through(network, modules, shapes, torch.zeros(1, bands, size, size, device=META))
    tree = _Tree(network, modules, shapes, frozenset(block for name in shapes for block in _above(name)))
    deepest = max(name.removeprefix(f"{INNER}.").count(".") for name in modules)
    for depth in range(deepest, -1, -1):
        rows = tree.rows(depth)
        if len(rows) <= max_rows:
            break
    tensors = [*network.parameters(), *network.buffers()]
    return Summary(
        rows=tuple(rows),
        input_shape=(bands, size, size),
        output_shape=tuple(output.shape[1:]),
        parameters=_count(network.parameters()),
        learning=_count(value for value in network.parameters() if value.requires_grad),
        megabytes=sum(value.numel() * value.element_size() for value in tensors) / MEGABYTE,
    )


@dataclass(frozen=True)
class _Tree:
    """The modules of a network by name, with the shapes of what came out of those that were passed."""

    network: nn.Module
    modules: dict[str, nn.Module]
    shapes: dict[str, tuple[int, ...]]
    blocks: frozenset[str]  # modules in which others were passed

    def rows(self, depth: int) -> list[Row]:
        """One row a layer, or a block where that is `depth` levels down."""
        rows = [self._own(name, value) for name, value in _own_parameters(self.network, INNER)]
        for name, module in self.modules.items():
            level = name.removeprefix(f"{INNER}.").count(".")
            if level > depth or self._in_layer(name):
                continue
            parameters = _count(module.parameters())
            if level == depth or self._is_layer(name):
                if name in self.shapes or parameters:
                    kind = type(module).__name__
                    rows.append(Row(name.removeprefix(f"{INNER}."), kind, self._shape(name), parameters))
            else:
                rows += [self._own(key, value) for key, value in _own_parameters(module, name)]
        return rows

    def _own(self, name: str, value: nn.Parameter) -> Row:
        return Row(name.removeprefix(f"{INNER}."), "Parameter", tuple(value.shape), value.numel())

    def _is_layer(self, name: str) -> bool:
        """Whether nothing in a module was passed by itself: a layer, or an attention that uses its parts' weights."""
        return name not in self.blocks

    def _in_layer(self, name: str) -> bool:
        return any(other in self.shapes and self._is_layer(other) for other in _above(name))

    def _shape(self, name: str) -> tuple[int, ...]:
        """What came out of a module, or of the last one in it."""
        if name in self.shapes:
            return self.shapes[name]
        inside = [shape for other, shape in self.shapes.items() if other.startswith(f"{name}.")]
        return inside[-1] if inside else ()


def _outline(network: nn.Module) -> nn.Module:
    """A copy of a network without its numbers, in evaluation mode."""
    copies: dict[int, Any] = {
        id(value): nn.Parameter(value.detach().to(META), value.requires_grad) for value in network.parameters()
    }
    copies.update((id(value), value.to(META)) for value in network.buffers())
    return copy.deepcopy(network, copies).eval()


def _pass_through(
    network: nn.Module, modules: dict[str, nn.Module], shapes: dict[str, tuple[int, ...]], image: torch.Tensor
) -> torch.Tensor:
    """Send an image through, filling `shapes` in the order of the modules' ends."""

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, (tuple, list)) else output
            shapes.setdefault(name, tuple(output.shape[1:]))

        return hook

    for name, module in modules.items():
        module.register_forward_hook(note(name))
    with torch.no_grad():
        output: torch.Tensor = network(image)
    return output


def _above(name: str) -> list[str]:
    """The modules that a module is in, from the outermost."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _own_parameters(module: nn.Module, name: str) -> list[tuple[str, nn.Parameter]]:
    """What a module holds beside its layers, a class token, say; of the whole network where `name` is `INNER`."""
    if name == INNER:
        module = getattr(module, INNER, module)
    return [(f"{name}.{key}", value) for key, value in module.named_parameters(recurse=False)]


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(value.numel() for value in parameters)


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(str(side) for side in shape) or "-"
