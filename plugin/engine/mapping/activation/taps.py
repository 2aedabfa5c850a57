"""Reads the output of one layer of a network during inference, with gradients if wanted."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

import torch
from torch import nn

from ...errors import InputError, not_none
from ...models.classifier_network import Classifier
from ...models.networks import REFUSALS, STRIDE, Segmenter
from ...models.reach import sees_whole_window
from ...models.summary import INNER, summarise

# Layers named in the error message for an unknown layer.
SUGGESTIONS = 5
ROWS = 80
PROBE = 128  # pixels per side, a multiple of every stride


class _Enough(Exception):
    """Raised when the layer's output is known, to stop the network."""


class Tap:
    """A network with one layer whose output is read.

    Args:
        network: In evaluation mode, with all weights frozen.
        layer: Name of the layer, as listed by `describe_layers`; "" for the last of the features: what a classifier
            pools, or the map from which a segmentation network computes class scores. The deepest map of a U-Net would
            say little, because most of the information on its classes bypasses it.

    Raises:
        InputError: There is no such layer, or the network has no map.
    """

    def __init__(self, network: Classifier | Segmenter, layer: str) -> None:
        self.network, self.layer = network, layer
        self._heard: torch.Tensor | None = None
        self._size = (0, 0)
        self._ends = False  # whether the network may stop after the layer
        self.module: nn.Module = network  # the layer; for what a classifier pools, the classifier itself
        if layer:
            self.module = _find(network, layer)
        elif isinstance(network, Segmenter):
            self.module = network.get_submodule(network.last_features)
        elif not network.has_map:
            raise InputError(
                "The network has no map of features: an MLP processes the pixels of a chip as one list.",
                "Choose the model of a convolutional network or a transformer.",
            )

    @property
    def title(self) -> str:
        """The layer's name for messages."""
        return f"layer {self.layer}" if self.layer else "the last features"

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, B, H, W) normalised bands → the network's logits, and the layer's output.

        If gradients are enabled, they are recorded from that output on, but not before it.

        Raises:
            InputError: The network does not use the layer, or it has no map as output.
        """
        self._size = images.shape[-2], images.shape[-1]
        # Otherwise batch norms of PyTorch 2.5 and 2.6 give one image a wrong gradient before layers that see its pixels
        # as a list, such as those of SegFormer's decoder.
        images = images.contiguous(memory_format=torch.channels_last)
        if isinstance(self.module, Classifier):
            with torch.no_grad():
                features = self.module.features(images)
            features = features.detach().requires_grad_(torch.is_grad_enabled())
            return self.module.head(features), features
        self._heard = None
        handle = self.module.register_forward_hook(self._listen)
        try:
            logits: torch.Tensor = self.network(images)
        finally:
            handle.remove()
        heard = self._heard
        if heard is None:
            raise InputError(f"The layer {self.layer} is not used by the network.", "Choose another LAYER.")
        return logits, heard

    @torch.no_grad()
    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, H, W) normalised bands → the layer's (N, F, h, w); layers after it are not computed.

        Raises:
            InputError: As `__call__` and `as_map`.
        """
        if isinstance(self.module, Classifier):
            return self.module.as_map(self.module.features(images))
        self._ends = True
        try:
            self(images)
        except _Enough:
            pass
        finally:
            self._ends = False
        return self.as_map(not_none(self._heard))

    def _listen(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        several = isinstance(output, (list, tuple))
        found = output[-1] if several else output
        heard = found.detach().requires_grad_(torch.is_grad_enabled())
        self._heard = heard
        if self._ends:
            raise _Enough
        # The next layer gets a copy, because it may change its input in place.
        return [*output[:-1], heard.clone()] if several else heard.clone()

    def as_map(self, values: torch.Tensor) -> torch.Tensor:
        """The layer's output, or its gradient → (N, F, h, w) over `covers`.

        Raises:
            InputError: It is not a map.
        """
        if isinstance(self.module, Classifier):
            return self.module.as_map(values)
        if values.ndim == 3 and isinstance(self.network, Classifier) and self.network.has_map:
            return self.network.as_map(values)  # tokens of a transformer
        height, width = self._size
        if values.ndim == 4:
            # Some networks have channels last. A map has the proportions of the image.
            if abs(values.shape[2] * width - values.shape[3] * height) <= max(height, width):
                return values
            if abs(values.shape[1] * width - values.shape[2] * height) <= max(height, width):
                return values.permute(0, 3, 1, 2)
        raise InputError(
            f"The output of {self.title} is not a map, but {' × '.join(map(str, values.shape[1:]))}.",
            "Choose a LAYER of the features from the list in the log, or leave LAYER empty.",
        )

    def covers(self, side: int) -> int:
        """Return the side in pixels that a map covers for an image of `side` pixels; some networks pad it."""
        if isinstance(self.network, Segmenter):
            return self.network.padded_size(side)
        return max(side, self.network.input_size)


class TappedNetwork(nn.Module):
    """A network that ends at the layer of a tap: its output is `Tap.maps`."""

    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self.network, self.tap = tap.network, tap  # a copy has copies of both, which still belong together

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, H, W) normalised bands → the layer's (N, F, h, w)."""
        return self.tap.maps(images)


def spacing(tap: Tap, bands: int, device: torch.device) -> int | None:
    """Return the pixels per value of a layer's map; None if maps of tiles would differ from those of chips.

    They differ if this number depends on the size of the image, or values depend on the whole input.
    """
    found = []
    for side in (PROBE, 2 * PROBE):
        try:
            maps = tap.maps(torch.zeros(1, bands, side, side, device=device))
        except REFUSALS:  # a network for chips of one size only
            return None
        height, width = maps.shape[-2:]
        if height != width or side % width:
            return None
        found.append(side // width)
    if found[0] != found[1] or STRIDE % found[0] or sees_whole_window(TappedNetwork(tap), bands):
        return None
    return found[0]


def describe_layers(network: nn.Module, bands: int, size: int) -> str:
    """List the layers of a network and their outputs, for the log."""
    summary = summarise(network, bands, size, ROWS)
    # That no weight is trainable any more is of no interest here.
    return dataclasses.replace(summary, learning=summary.parameters).text()


def _find(network: nn.Module, layer: str) -> nn.Module:
    modules = {name.removeprefix(f"{INNER}."): module for name, module in network.named_modules() if name != INNER}
    modules.pop("", None)
    if layer in modules:
        return modules[layer]
    near = difflib.get_close_matches(layer, modules, SUGGESTIONS, 0.3) or list(modules)[:SUGGESTIONS]
    raise InputError(
        f'The network has no layer "{layer}".',
        f"Choose one from the list in the log, such as {', '.join(near)}, or leave LAYER empty.",
    )
