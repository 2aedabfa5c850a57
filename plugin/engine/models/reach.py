"""Tests whether a network's prediction for a place depends on its whole input, however far away.

Convolutions have a limited receptive field. Averages over the whole image (squeeze-and-excitation, pooling pyramids,
group norm), attention and position embeddings do not: such a network has learned how whole chips look, and predicts
something else in tiles of another size. So does one to which the position in the image matters: attention in windows
that start at the corner (Swin), interpolation with aligned corners.

This is not decided by a list of names but by a test: does the prediction at one end of a long strip change with the
other end? Do predictions move with the strip?
"""

from __future__ import annotations

import copy

import torch
from torch import nn

# In pixels. Most convolutional networks see 300 to 500 pixels to each side, which the short strip shows at low cost; no
# common network, including dilated ones, sees as far as half of the long one.
LENGTHS, WIDTH = (1024, 2048), 64
CHANGED, COMPARED = 16, 64  # parts of a strip: the last 1/16 is changed, the first 1/64 compared
MOVED = 32  # pixels; a multiple of all strides


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
        except (RuntimeError, AssertionError, ValueError):
            return True
    return True


def _follows(found: torch.Tensor, moved: torch.Tensor, length: int) -> bool:
    """Return whether the middle of a strip is the same, but for rounding, if the strip begins `MOVED` pixels later."""
    middle, rows = found.shape[2] // 2, max(1, found.shape[2] // COMPARED)
    there = middle - MOVED * found.shape[2] // length
    here, again = found[:, :, middle : middle + rows], moved[:, :, there : there + rows]
    return torch.allclose(here, again, rtol=0, atol=1e-9 * float(here.abs().max()))
