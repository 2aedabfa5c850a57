"""Runs chips through a classifier: one by one, or with shared parts computed once.

N chips, B bands, S chip size, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ...events import Reporter
from ...models.classifier_network import Classifier
from ...models.header import ModelHeader
from ...models.networks import calibrated
from ...models.normalisation import Normaliser
from ...windows import Window
from ..pipeline.loop import Advance
from ..reading.steps import Steps, block_side
from ..reading.tile_reader import Batch, Images
from .averaging import SYMMETRIES, Symmetry, kind_of, mean, symmetric_answers
from .dense import SharedEvaluator, is_worthwhile, layers_of, saving
from .source import normalised

# Target side of a block in pixels, and the maximum number of values computed at a time for it.
BLOCK_PIXELS = 1024
VALUES_AT_ONCE = 64_000_000
# Maximum number of values of a block's chips that are cut out on the device at a time.
WAITING_VALUES = 16_000_000


class ChipPredictor:
    """Computes the logits of chips on a device.

    Args:
        network: In evaluation mode.
        header: Header of its model file.
        device: Device to compute on.
        batch_size: Chips per batch.
        symmetries: How chips are shown to the network; the mean of its answers counts.
    """

    def __init__(
        self, network: Classifier, header: ModelHeader, device: torch.device, batch_size: int,
        symmetries: Sequence[Symmetry] = SYMMETRIES["none"],
    ) -> None:  # fmt: skip
        self.batch_size, self.header, self.symmetries, self.kind = batch_size, header, symmetries, kind_of(header)
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.normalise = Normaliser(header.mean, header.std, device)

        def maps(chips: torch.Tensor) -> torch.Tensor:
            return calibrated(network(chips.contiguous(memory_format=torch.channels_last)).float(), header)

        self.maps = symmetric_answers(maps, symmetries, self.kind)

    def values(self, chips: Images, advance: Advance) -> torch.Tensor:
        """(N, C) logits."""
        return self.logits(normalised(chips, self.normalise), lambda count: advance(count / len(chips.data)))

    @torch.inference_mode()
    def logits(self, chips: torch.Tensor, advance: Callable[[int], object]) -> torch.Tensor:
        """(N, B, S, S) normalised bands → (N, C) logits, batch by batch; `advance` gets the number of chips done."""
        found = []
        for batch in torch.split(chips, self.batch_size):
            found.append(self.maps(batch))
            advance(len(batch))
        return torch.cat(found)


class StepSource:
    """A `Source` with one value per step: what a classifier predicts for the step's chip.

    Args:
        predictor: The classifier.
        steps: The positions of the chips.
        shared: Computes shared parts of chips once; None if there are none, or sharing would not be faster.
    """

    def __init__(self, predictor: ChipPredictor, steps: Steps, shared: SharedEvaluator | None) -> None:
        self.predictor, self.steps, self.shared = predictor, steps, shared

    def outer(self, core: Window) -> Window:
        """As `Source.outer`."""
        return self.steps.chips(core)

    @torch.inference_mode()
    def values(self, batch: Batch, advance: Advance) -> torch.Tensor:
        """As `Source.values`, of one block: (1, C, rows, cols) logits, NaN except for wanted steps."""
        block, wanted = normalised(batch, self.predictor.normalise)[0], batch.asked[0]
        if self.shared is not None and float(wanted.mean()) * saving(self.shared, max(wanted.shape)) > 1:
            logits = self._together(self.shared, block, wanted)
            advance(1)
        else:
            logits = self._one_by_one(block, wanted, advance)
        found = logits.new_full((*wanted.shape, logits.shape[1]), torch.nan)
        found[torch.from_numpy(wanted).to(logits.device)] = logits
        return found.permute(2, 0, 1)[None]

    def _together(self, shared: SharedEvaluator, block: torch.Tensor, wanted: np.ndarray) -> torch.Tensor:
        """(n, C) logits of the wanted chips in a (B, h, w) block, row by row."""
        numbers = torch.zeros(wanted.shape, dtype=torch.int64)
        numbers[torch.from_numpy(wanted)] = torch.arange(int(np.count_nonzero(wanted)))

        def turned(symmetry: Symmetry) -> torch.Tensor:
            there = symmetry.apply(torch.from_numpy(wanted)).numpy()
            found = shared.logits(symmetry.apply(block), there)
            order = symmetry.apply(numbers)[torch.from_numpy(there)].argsort()
            return calibrated(found, self.predictor.header)[order.to(found.device)]

        return mean(map(turned, self.predictor.symmetries), self.predictor.kind)

    def _one_by_one(self, block: torch.Tensor, wanted: np.ndarray, advance: Advance) -> torch.Tensor:
        """(n, C) logits of the wanted chips in a (B, h, w) block, row by row."""
        size, stride = self.steps.chip_size, self.steps.stride
        # A view: chip (row, col) is at [:, row, col].
        every = block.unfold(1, size, stride).unfold(2, size, stride).permute(1, 2, 0, 3, 4)
        rows, cols = (torch.from_numpy(axis).to(block.device) for axis in np.nonzero(wanted))
        some = max(self.predictor.batch_size, WAITING_VALUES // (len(block) * size * size))
        places = zip(torch.split(rows, some), torch.split(cols, some))
        return torch.cat(
            [self.predictor.logits(every[row, col], lambda count: advance(count / len(rows))) for row, col in places]
        )


def choose_evaluation(
    network: Classifier, header: ModelHeader, stride: int, over: Window, reporter: Reporter
) -> tuple[int, SharedEvaluator | None]:
    """Choose the number of steps per block side, and whether chips share computations, if that is possible and faster.

    The choice and its reason are written to the log.

    Args:
        network: The classifier.
        header: Header of its model file.
        stride: Distance of chips in pixels.
        over: The steps to classify.
        reporter: Receives the log line.

    Returns:
        Steps per side of a block, and the evaluator; None if chips do not share computations.
    """
    bands, size = len(header.band_names), header.chip_size
    side = block_side(stride, BLOCK_PIXELS)
    while side > 1 and bands * ((side - 1) * stride + size) ** 2 > VALUES_AT_ONCE:
        side //= 2
    if stride >= size:
        return side, None  # chips do not overlap
    layers = layers_of(network)
    if layers is None:
        reporter.log(
            f"Each chip is processed separately: {header.architecture} is not a simple chain of convolutions and "
            "pooling, so overlapping chips cannot share computations without changing the result."
        )
        return side, None
    shared = SharedEvaluator(layers, size, stride)
    tried = min(side, 2 ** math.ceil(math.log2(max(over.width, over.height))))
    while tried > 1 and shared.values(tried, bands) > VALUES_AT_ONCE:
        tried //= 2
    if not is_worthwhile(shared, tried):
        reporter.log(
            "Each chip is processed separately: with this network and stride, overlapping chips have too little in "
            f"common (sharing would need {saving(shared, tried):.1f} times fewer multiplications)."
        )
        return side, None
    reporter.log(
        f"Overlapping chips share computations: {saving(shared, tried):.0f} times fewer multiplications than chip by "
        "chip, with the same result."
    )
    return tried, shared
