"""Summarises a network layer by layer: names, output shapes, parameters."""

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
# The attribute of `Classifier` that holds its network; omitted from names.
INNER = "network"


@dataclass(frozen=True)
class Row:
    """A layer, or a block with everything in it."""

    name: str
    kind: str  # name of its class
    shape: tuple[int, ...]  # of its output, without the batch dimension
    parameters: int


@dataclass(frozen=True)
class Summary:
    """The layers in the order in which an image passes through them."""

    rows: tuple[Row, ...]
    input_shape: tuple[int, ...]  # (B, S, S)
    output_shape: tuple[int, ...]
    parameters: int
    learning: int  # number of parameters that are not frozen
    megabytes: float  # of parameters and buffers

    def to_json(self) -> dict[str, Any]:
        """Return the summary for a report, with `rows` as a list of dictionaries."""
        return asdict(self)

    def text(self) -> str:
        """Return a table with fixed-width columns, followed by the totals."""
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
    """Determine the output shape of each layer of a network for one image, without computing anything.

    If there are more than `max_rows` layers, blocks are shown as one row, from the innermost outwards. Every parameter
    is counted in one row; parameters of a block outside its layers are in a row with the name of the block.

    Args:
        network: (1, B, S, S) → a tensor.
        bands: Number of bands B.
        size: S, in pixels.
        max_rows: Maximum number of rows; the outermost blocks are always shown.
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
    """Return a copy of a network on the meta device, in evaluation mode."""
    copies: dict[int, Any] = {
        id(value): nn.Parameter(value.detach().to(META), value.requires_grad) for value in network.parameters()
    }
    copies.update((id(value), value.to(META)) for value in network.buffers())
    return copy.deepcopy(network, copies).eval()


def _rows(layers: Iterable[LayerInfo], depth: int) -> list[Row]:
    """Return one row per layer, or per block that is `depth` levels down or has parameters outside its layers."""
    rows = []
    for layer in layers:
        whole = layer.is_leaf_layer or layer.depth == depth
        parameters = layer.num_params if whole else layer.leftover_params()
        if layer.depth <= depth and (whole or parameters):
            rows.append(Row(_name(layer), layer.class_name, _output(layer), parameters))
    return rows


def _name(layer: LayerInfo) -> str:
    """Return the name of a layer in its network."""
    name, block = layer.var_name, layer.parent_info
    while block and block.depth:
        name, block = f"{block.var_name}.{name}", block.parent_info
    return name.removeprefix(f"{INNER}.")


def _output(layer: LayerInfo) -> tuple[int, ...]:
    """Return the output shape of a layer, or of its last part if the network calls the parts separately."""
    passed = [part.output_size for part in (*layer.children, layer) if part.output_size]
    return tuple(passed[-1][1:]) if passed else ()


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(str(side) for side in shape) or "-"
