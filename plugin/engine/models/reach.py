"""Whether what a network says of a place depends on all that it is shown, however far away.

Convolutions look so far and no further. Averages over the whole image (squeeze-and-excitation, pyramids of pooling,
group norm), attention and embeddings of positions look everywhere: such a network has learnt what chips look like as
a whole, and in tiles of another size it says something else.

No list of names tells them apart, but a trial: where one end of a long strip changes, does what is said of the other?
"""

from __future__ import annotations

import copy

import torch
from torch import nn

# Pixels. Most convolutional networks see 300 to 500 to each side, which the short strip shows at little cost; none
# that is used for images, dilated ones included, sees as far as the long one goes.
LENGTHS, WIDTH = (1024, 4096), 64
CHANGED, COMPARED = 16, 64  # the parts of a strip: the last sixteenth is changed, the first of 64 compared


@torch.inference_mode()
def sees_whole_window(network: nn.Module, bands: int) -> bool:
    """Whether the other end of an image of any length has a say in what comes out at this end.

    A convolutional network gives the same to the last bit, so any difference counts. A network that takes images of
    one size only sees all of them as well. A copy in float64 is tried, on the CPU, since not all devices have float64:
    what an average over the image adds may be lost in the rounding of float32, until the network has learned more.

    Args:
        network: (N, B, H, W) normalised bands → (N, F, h, w), of which each place stands for the image's there; in
            evaluation mode.
        bands: B.
    """
    network = copy.deepcopy(network).cpu().double()
    for length in LENGTHS:
        generator = torch.Generator().manual_seed(0)  # the job's own draws stay as they are
        strip = torch.randn(1, bands, length, WIDTH, generator=generator, dtype=torch.float64)
        other = strip.clone()
        other[:, :, -length // CHANGED :].mul_(10).add_(10)
        try:
            found, again = (network(image) for image in (strip, other))
        except (RuntimeError, AssertionError, ValueError):
            return True
        rows = max(1, found.shape[2] // COMPARED)
        if torch.equal(found[:, :, :rows], again[:, :, :rows]):
            return False
    return True
