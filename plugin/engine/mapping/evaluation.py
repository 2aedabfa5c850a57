"""How the chips of a block go through the network: one by one, or with the work they share done once."""

from __future__ import annotations

import math

import torch

from ..events import Reporter
from ..models.classifier_network import Classifier
from ..models.header import ModelHeader
from ..windows import Window
from .chip_predictor import ChipPredictor, WindowEvaluator
from .dense import SharedEvaluator, is_worthwhile, layers_of, saving
from .step_reader import StepBlock
from .steps import Steps, block_side

# A block covers about so many pixels a side, and what is calculated at once for it fits into so many numbers.
BLOCK_PIXELS = 1024
VALUES_AT_ONCE = 64_000_000


class Evaluation:
    """The logits of a block's chips, in the way that is quicker for it."""

    def __init__(self, predictor: ChipPredictor, steps: Steps, shared: SharedEvaluator | None) -> None:
        self.predictor, self.shared = predictor, shared
        self.single = WindowEvaluator(predictor, steps.chip_size, steps.stride)

    def logits(self, block: StepBlock) -> torch.Tensor:
        """(n, C) of the wanted chips."""
        pixels = self.predictor.normalised(block.data, block.missing)
        share = float(block.wanted.mean())
        if self.shared is not None and share * saving(self.shared, max(block.wanted.shape)) > 1:
            logits = self.shared.logits(pixels, block.wanted)
            self.predictor.advance(len(logits))
            return logits
        return self.single.logits(pixels, block.wanted)


def choose_evaluation(
    network: Classifier, header: ModelHeader, stride: int, over: Window, reporter: Reporter
) -> tuple[int, SharedEvaluator | None]:
    """How many steps a block has a side, and what shares work between their chips, where that is possible and quicker.

    What is chosen, and why, goes to the log.
    """
    bands, size = len(header.band_names), header.chip_size
    side = block_side(stride, BLOCK_PIXELS)
    while side > 1 and bands * ((side - 1) * stride + size) ** 2 > VALUES_AT_ONCE:
        side //= 2
    if stride >= size:
        return side, None  # chips have nothing in common
    layers = layers_of(network)
    if layers is None:
        reporter.log(
            f"Each chip goes through the network by itself: {header.architecture} is no plain chain of convolutions "
            "and pooling, so that overlapping chips share no work without changing the result."
        )
        return side, None
    shared = SharedEvaluator(layers, size, stride)
    tried = min(side, 2 ** math.ceil(math.log2(max(over.width, over.height))))
    while tried > 1 and shared.values(tried, bands) > VALUES_AT_ONCE:
        tried //= 2
    if not is_worthwhile(shared, tried):
        reporter.log(
            "Each chip goes through the network by itself: with this network and stride, overlapping chips have too "
            f"little in common (sharing would save {saving(shared, tried):.1f} times the multiplications)."
        )
        return side, None
    reporter.log(
        f"Overlapping chips share their work: {saving(shared, tried):.0f} times fewer multiplications than chip by "
        "chip, with the same result."
    )
    return tried, shared
