"""A network as mapping uses it: with folded batch norms, and in 16 bits where that is faster and the map the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, cached_property

import torch
from torch import nn

from ...errors import not_none
from ...events import Reporter
from ...models.folding import folded
from ...models.header import ModelHeader
from ...models.networks import STRIDE, Segmenter, calibrated
from ...models.reach import decoder_reach, other_answers
from ...models.rounding import rounded
from ...models.streamable import Streamable, streamable
from ...models.streaming import Stream
from ...precision import WORTHWHILE, autocast, precision
from ..pipeline.decisions import Decisions

# With 16 bits, so many of the pixels by which the type is chosen may have another class.
ALIKE = 0.005
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Inference:
    """Turns normalised images into calibrated logits.

    Args:
        network: The network, in evaluation mode on the CPU.
        header: Header of its model file.
        device: Device to work on.
        mixed: Whether 16 bits may be used.
        reporter: Receives log lines.
        decisions: Holds the type if it was chosen before.
    """

    def __init__(
        self, network: Segmenter, header: ModelHeader, device: torch.device, mixed: bool, reporter: Reporter,
        decisions: Decisions | None = None,
    ) -> None:  # fmt: skip
        network = folded(network, len(header.band_names))
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.header, self.device, self.reporter = header, device, reporter
        self.decisions = decisions or Decisions()
        self.dtype = torch.float32  # until it is chosen
        self.mixed, self.possible = mixed, precision(device, mixed)
        self.unneeded = 0  # pixels along the edges of images whose logits are not computed

    def in_strips(self, halo: int = 0) -> Streamable | None:
        """The network in strips, without the logits that only a halo at the left and right has; None if it cannot be
        run so.
        """
        return streamable(self.network, len(self.header.band_names), self.unneeded_of(halo) if halo else 0)

    def continue_edges(self) -> None:
        """Let convolutions repeat the edge of a tile instead of zeros, which would change answers far inside.

        Only on a processor, whose tiles are small: a third of the pixels that seams change is left, for a twentieth
        more time. Where logits are left out, the map depends on no edge in the decoder, and copies of its large maps
        are saved.
        """
        if self.device.type != "cpu":
            return
        part: nn.Module = self.network.encoder if self.unneeded else self.network
        for module in part.modules():
            if type(module) is nn.Conv2d and isinstance(module.padding, tuple) and any(module.padding):
                module.padding_mode = "replicate"
                rows, cols = module.padding
                module._reversed_padding_repeated_twice = [cols, cols, rows, rows]

    def leave_out(self, halo: int) -> None:
        """Compute no logits in that part of a halo that only the encoder needs: two thirds of one of 192 pixels.

        The map is the same; tiles of 1024 pixels take 23 % less time with U-Net and EfficientNet-Lite0, 14 % less with
        ResNet-34.
        """
        self.unneeded = self.unneeded_of(halo)

    def unneeded_of(self, halo: int) -> int:
        """The width of that part, in pixels."""
        return 0 if self._reach is None else max(0, halo - self._reach) // STRIDE * STRIDE

    @cached_property
    def _reach(self) -> int | None:
        if not isinstance(self.network, Segmenter):
            return None
        return decoder_reach(self.network, len(self.header.band_names))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(N, B, h, w) → (N, C, h, w) logits in float32."""
        return calibrated(self._answers(self.network, images, self.dtype, self.unneeded), self.header)

    def push(self, stream: Stream, strip: torch.Tensor | None) -> torch.Tensor | None:
        """As `Stream.push`, but calibrated and in float32."""
        if strip is not None:
            strip = strip.contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.dtype):
            found = stream.push(strip)
        return None if found is None else calibrated(found.float(), self.header)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The same as of a call, but not calibrated, calculated in float32, and for all pixels."""
        return self._answers(self.network, images, torch.float32)

    @torch.no_grad()
    def choose_type(self, look: Callable[[], tuple[torch.Tensor, torch.Tensor] | None]) -> None:
        """Choose the type in which the map is calculated, and round the weights to it.

        Args:
            look: Returns (N, B, h, w) images from all over the raster, and (N, h, w) bool, true for their pixels to
                compare; None if there are none.
        """
        if not self.mixed:
            return
        images = cache(look)
        trial = cache(lambda dtype: rounded(self.network, not_none(images())[0], dtype))

        def choose() -> str:
            seen = None if self.possible is torch.float32 else images()
            if seen is not None:
                return self._compare(*seen, trial)
            if self.possible is not torch.float32:
                self.reporter.log("Most of the raster has no data to choose the type of number by: float32 is used.")
            return "float32"

        self.dtype = DTYPES[self.decisions.settle("type", choose, DTYPES.__contains__)]
        if self.dtype is not torch.float32 and images() is not None:
            self.network = trial(self.dtype)

    def _compare(self, images: torch.Tensor, compared: torch.Tensor, trial: Callable[[torch.dtype], nn.Module]) -> str:
        """Return the name of the type for the map, after a comparison of both.

        Args:
            images: (N, B, h, w).
            compared: (N, h, w) bool, true for pixels that count.
            trial: Returns the network with weights of another type.
        """
        half = self.possible or torch.bfloat16
        name = str(half).removeprefix("torch.")
        found, seconds = [], []
        for dtype, network in ((torch.float32, self.network), (half, trial(half))):
            begun = time.process_time()
            found.append(self._answers(network, images, dtype))
            seconds.append(time.process_time() - begun)
        other = float(other_answers(*found)[compared.to(self.device)].float().mean())
        what = "number" if self.header.target else "class"
        where = f"{len(images)} parts of the raster" if len(images) > 1 else "a part of the raster"
        text = f"In {name}, {1 - other:.2%} of the pixels in {where} have the same {what} as in float32"
        faster = True
        if self.possible is None:  # a processor
            times = seconds[0] / max(seconds[1], 1e-9)
            faster = times >= WORTHWHILE
            text += f", and it is {times:.2f} times as fast"
        good = faster and other <= ALIKE
        self.reporter.log(f"{text}: {name if good else 'float32'} is used.")
        return name if good else "float32"

    def _answers(self, network: nn.Module, images: torch.Tensor, dtype: torch.dtype, unneeded: int = 0) -> torch.Tensor:
        """Logits in float32, calculated in a type; 0 in `unneeded` pixels along the edges."""
        more = (unneeded,) if unneeded else ()
        with autocast(self.device, dtype):
            found: torch.Tensor = network(images.contiguous(memory_format=torch.channels_last), *more)
        return found.float()
