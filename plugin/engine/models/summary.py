"""What a network is made of, layer by layer: names, output shapes, parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torchinfo
from torch import nn
from torchinfo.layer_info import LayerInfo

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
    parameter is counted in one row; those that a block holds beside its layers are a row with the block's name.

    Args:
        network: (1, B, S, S) → a tensor.
        bands: B.
        size: S, in pixels.
        max_rows: More layers than that are folded; the outermost blocks are always shown.
    """
    network = _outline(network)
    found = torchinfo.summary(network, input_data=torch.zeros(1, bands, size, size, device=META), verbose=0)
    layers = [layer for layer in found.summary_list if not layer.is_recursive]  # each once
    outermost = 2 if hasattr(network, INNER) else 1
    for depth in range(max(layer.depth for layer in layers), outermost - 1, -1):
        rows = _rows(layers, depth)
        if len(rows) <= max_rows:
            break
    tensors = [*network.parameters(), *network.buffers()]
    return Summary(
        rows=tuple(rows),
        input_shape=(bands, size, size),
        output_shape=_output(layers[0]),
        parameters=found.total_params,
        learning=found.trainable_params,
        megabytes=sum(value.numel() * value.element_size() for value in tensors) / MEGABYTE,
    )


def _outline(network: nn.Module) -> nn.Module:
    """A copy of a network without its numbers, in evaluation mode."""
    copies: dict[int, Any] = {
        id(value): nn.Parameter(value.detach().to(META), value.requires_grad) for value in network.parameters()
    }
    copies.update((id(value), value.to(META)) for value in network.buffers())
    return copy.deepcopy(network, copies).eval()


def _rows(layers: Iterable[LayerInfo], depth: int) -> list[Row]:
    """One row a layer, or a block where that is `depth` levels down or holds parameters beside its layers."""
    rows = []
    for layer in layers:
        whole = layer.is_leaf_layer or layer.depth == depth
        parameters = layer.num_params if whole else layer.leftover_params()
        if layer.depth <= depth and (whole or parameters):
            rows.append(Row(_name(layer), layer.class_name, _output(layer), parameters))
    return rows


def _name(layer: LayerInfo) -> str:
    """The name of a layer in its network."""
    name, block = layer.var_name, layer.parent_info
    while block and block.depth:
        name, block = f"{block.var_name}.{name}", block.parent_info
    return name.removeprefix(f"{INNER}.")


def _output(layer: LayerInfo) -> tuple[int, ...]:
    """The shape of what came out of a layer, or of the last one in it where a network passes its parts alone."""
    passed = [part.output_size for part in (*layer.children, layer) if part.output_size]
    return tuple(passed[-1][1:]) if passed else ()


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(str(side) for side in shape) or "-"
