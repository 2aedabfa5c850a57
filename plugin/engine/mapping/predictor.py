"""A trained network at work on tiles of a raster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ..config import SegmentRasterConfig
from ..models.header import ModelHeader
from ..models.networks import likeliest
from ..models.normalisation import Normaliser
from ..windows import Grid, Window
from .blending import USUAL_OVERLAP, ChipBlender
from .reading import Batch
from .regions import Ground
from .steps import Steps
from .tiling import with_halo

# A tile is at least so many windows a side, else most of them would be calculated for several tiles.
WINDOWS_ACROSS = 4
# Windows that go through the network at once have as many pixels as a tile of so many a side.
WINDOWS_AT_ONCE = 512


class Predictor(Protocol):
    """Tiles → logits, on a device.

    Attributes:
        least: The smallest tile that is worth while, in pixels a side.
        tiles_at_once: How many tiles a batch has.
    """

    least: int
    tiles_at_once: int

    def outer(self, core: Window) -> Window:
        """The pixels that are seen for a tile; they hold the tile."""

    def logits(self, batch: Batch, advance: Callable[[float], object]) -> torch.Tensor:
        """(N, C, H, W) logits of the tiles' cores, on the device.

        `advance` is called with how many tiles are done since the last call; it may end the job.
        """


class TilePredictor:
    """A `Predictor` of networks that see so far and no further: tile by tile, with so much around each.

    Args:
        network: In evaluation mode.
        header: Of its model file.
        device: Where to calculate.
        halo: In pixels.
        batch_size: Tiles at once.
    """

    least = 1

    def __init__(
        self, network: nn.Module, header: ModelHeader, device: torch.device, halo: int, batch_size: int
    ) -> None:
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalise = Normaliser(header.mean, header.std, device)
        self.device, self.halo, self.tiles_at_once = device, halo, batch_size

    def outer(self, core: Window) -> Window:
        """As `Predictor.outer`."""
        return with_halo(core, self.halo)

    @torch.inference_mode()
    def logits(self, batch: Batch, advance: Callable[[float], object]) -> torch.Tensor:
        """As `Predictor.logits`."""
        gaps = None if batch.missing is None else torch.from_numpy(batch.missing).to(self.device)
        images = self.normalise(torch.from_numpy(batch.data).to(self.device), gaps)
        found: torch.Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        advance(len(batch.tiles))
        rows, cols = batch.tiles[0].slices  # the same for all: they have the same sizes
        return found[..., rows, cols].float()


class WindowPredictor:
    """A `Predictor` of networks that look at all they are shown: in windows as large as the chips they learnt from.

    A pixel's probabilities are those of the windows around it, each of which counts most in its middle.

    Args:
        network, header, device: As of `TilePredictor`.
        grid: The raster's.
        batch_size: Windows at once, times as many as have `WINDOWS_AT_ONCE`.
    """

    tiles_at_once = 1

    def __init__(
        self, network: nn.Module, header: ModelHeader, device: torch.device, grid: Grid, batch_size: int
    ) -> None:
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        size = header.chip_size
        self.least = WINDOWS_ACROSS * size
        self.blender = ChipBlender(
            Steps(size, max(1, size // USUAL_OVERLAP), grid),
            Normaliser(header.mean, header.std, device),
            self._shares,
            len(header.classes),
            batch_size * max(1, WINDOWS_AT_ONCE**2 // size**2),
        )

    def outer(self, core: Window) -> Window:
        """As `Predictor.outer`."""
        return self.blender.outer(core)

    @torch.inference_mode()
    def logits(self, batch: Batch, advance: Callable[[float], object]) -> torch.Tensor:
        """As `Predictor.logits`: what the softmax makes the blended probabilities of."""
        (tile,) = batch.tiles
        missing = None if batch.missing is None else batch.missing[0]
        return self.blender.blend(Ground(tile.core, tile.outer, batch.data[0], missing), advance).log_()[None]

    def _shares(self, windows: torch.Tensor) -> torch.Tensor:
        """(N, B, S, S) → (N, C, S, S) probabilities."""
        found: torch.Tensor = self.network(windows.contiguous(memory_format=torch.channels_last))
        return found.float().softmax(1)


def choose_predictor(
    network: nn.Module, header: ModelHeader, device: torch.device, config: SegmentRasterConfig, grid: Grid
) -> Predictor:
    """How a raster is mapped with a network."""
    if header.whole_window:
        return WindowPredictor(network, header, device, grid, config.batch_size)
    return TilePredictor(network, header, device, config.halo, config.batch_size)


def classes(logits: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) logits → (N, H, W) uint8 class indices, `IGNORE_INDEX` where the network gives no numbers."""
    found: np.ndarray = likeliest(logits).cpu().numpy()
    return found


def probabilities(logits: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) logits → float32 probabilities of the same shape."""
    found: np.ndarray = logits.softmax(1).cpu().numpy()
    return found
