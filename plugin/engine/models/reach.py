"""Tests how far a network looks: whether a prediction depends on the whole input, and on how much around a place.

Convolutions have a limited receptive field. Averages over the whole image (squeeze-and-excitation, pooling pyramids,
group norm), attention and position embeddings do not: such a network has learned how whole chips look, and predicts
something else in tiles of another size. So does one to which the position in the image matters: attention in windows
that start at the corner (Swin), interpolation with aligned corners.

Of all others it is measured how far they look in practice.

This is not decided by a list of names but by a test: does the prediction at one end of a long strip change with the
other end? Do predictions move with the strip?
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from ..precision import all_digits
from .networks import REFUSALS, STRIDE, Segmenter, likeliest

# In pixels. Most convolutional networks see 300 to 500 pixels to each side, which the short strip shows at low cost; no
# common network, including dilated ones, sees as far as half of the long one.
LENGTHS, WIDTH = (1024, 2048), 64
CHANGED, COMPARED = 16, 64  # parts of a strip: the last 1/16 is changed, the first 1/64 compared
MOVED = 32  # pixels; a multiple of all strides
# Half the context that is cut off, and the image that keeps it: nearly nothing depends on what is farther away.
MARGIN, CUT = 192, 384
SEEN = CUT + 2 * MARGIN
HALOS = tuple(range(0, MARGIN + 1, MOVED))
ROUNDING = 1e-4  # of the largest logit
# Numbers count as another answer if they differ by more than this, in standard deviations of the target.
ANOTHER = 0.1


@torch.inference_mode()
def sees_whole_window(network: nn.Module, bands: int) -> bool:
    """Return whether the output at a place depends on the far end of the image, or on its position in the image.

    Of the far end, a convolutional network is exactly independent, so any difference counts. A network that only takes
    images of one size sees all of them, too. The test runs on a copy in float64, on the CPU because not all devices
    have float64: in float32, the effect of an average over the image may be lost in rounding until the network has
    learned more.

    Args:
        network: (N, B, H, W) normalised bands → (N, F, h, w) on the same extent; in evaluation mode.
        bands: Number of bands B.
    """
    network = copy.deepcopy(network).cpu().double()
    for length in LENGTHS:
        generator = torch.Generator().manual_seed(0)  # leaves the job's own random numbers unchanged
        strip = torch.randn(1, bands, length, WIDTH, generator=generator, dtype=torch.float64)
        other = strip.clone()
        other[:, :, -length // CHANGED :].mul_(10).add_(10)
        try:
            found, again = (network(image) for image in (strip, other))
            rows = max(1, found.shape[2] // COMPARED)
            if not torch.equal(found[:, :, :rows], again[:, :, :rows]):
                continue
            if _follows(found, network(strip[:, :, MOVED:]), length):
                return False
        except REFUSALS:
            return True
    return True


def _follows(found: torch.Tensor, moved: torch.Tensor, length: int) -> bool:
    """Return whether the middle of a strip is the same, but for rounding, if the strip begins `MOVED` pixels later."""
    middle, rows = found.shape[2] // 2, max(1, found.shape[2] // COMPARED)
    there = middle - MOVED * found.shape[2] // length
    here, again = found[:, :, middle : middle + rows], moved[:, :, there : there + rows]
    return alike(here, again, 1e-9)


@torch.inference_mode()
@all_digits()
def decoder_reach(network: Segmenter, bands: int) -> int | None:
    """Return how far the decoder looks to each side in the features, in pixels of the image.

    Much less than the encoder, so that most of a halo is needed for the features only.

    Args:
        network: In evaluation mode.
        bands: Number of bands B.

    Returns:
        A multiple of `STRIDE`; None if it is `MARGIN` or more.
    """
    device = next(network.parameters()).device
    for reach in range(STRIDE, MARGIN, STRIDE):
        edge = reach + STRIDE
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(1, bands, 2 * edge + STRIDE, 2 * edge + STRIDE, generator=generator).to(device)
        inner = (..., slice(edge, edge + STRIDE), slice(edge, edge + STRIDE))
        try:
            whole, part = network(image)[inner], network(image, STRIDE)[inner]
        except REFUSALS:
            return None
        if alike(whole, part, ROUNDING):
            return reach
    return None


def alike(logits: torch.Tensor, others: torch.Tensor, share: float) -> bool:
    """Whether two answers are equal but for a share of the largest logit; answers that are no numbers never are."""
    largest = float(logits.abs().max())
    return math.isfinite(largest) and torch.allclose(logits, others, rtol=0, atol=share * largest)


def other_answers(logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """(N, C, …) logits of two networks or images → (N, …) bool, true where the class, or the number, is another, or
    where only one of them gives valid numbers.
    """
    found = likeliest(logits) != likeliest(others)
    return found | ((logits - others).abs()[:, 0] > ANOTHER) if logits.shape[1] == 1 else found


@torch.inference_mode()
@all_digits()
def seam_costs(logits: Callable[[torch.Tensor], torch.Tensor], images: Iterable[torch.Tensor]) -> tuple[float, ...]:
    """Measure how much of a map depends on how a raster is cut into tiles.

    Theory says how far a network can see; trained networks hardly use it, but the zeros with which convolutions pad an
    image that ends spread, too. So the answers in the middle of an image are compared with those without its margin.

    Args:
        logits: The network.
        images: (B, `SEEN`, `SEEN`) each, normalised.

    Returns:
        For each of `HALOS`, the number of pixels that get another answer, per pixel of a tile's edge. Of the first one,
        at least 1, unless nothing at all depends on a pixel's surroundings. Empty without images.
    """
    steps = torch.arange(CUT)
    steps = torch.minimum(steps, CUT - 1 - steps)
    distance = torch.minimum(steps[:, None], steps).flatten()
    changed, depends, count = torch.zeros(MARGIN, dtype=torch.float64), False, 0
    inner = slice(MARGIN, MARGIN + CUT)
    for image in images:
        whole, part = logits(image[None])[..., inner, inner], logits(image[None, :, inner, inner])
        other = other_answers(whole, part).flatten().cpu()
        changed += torch.bincount(distance[other], minlength=MARGIN)
        depends = depends or bool((whole - part).abs().max() > ROUNDING * whole.abs().max())
        count += 1
    if not count:
        return ()
    rates = changed / (count * torch.bincount(distance))  # of the pixels at each distance from the edge
    costs = [float(rates[halo:].sum()) for halo in HALOS]
    return (max(costs[0], 1.0 if depends else 0.0), *costs[1:])
