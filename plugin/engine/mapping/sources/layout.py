"""Chooses the tiles of a map from the free memory, and the halo from what the network looks at."""

from __future__ import annotations

from collections.abc import Callable

from ...config import SegmentRasterConfig
from ...device import working_memory
from ...events import Reporter
from ...models.cost import need_per_pixel
from ...models.networks import Segmenter
from ...models.normalisation import Normaliser
from ...models.reach import HALOS, SEEN, seam_costs
from ..pipeline.decisions import Decisions
from ..reading.opening import Opened
from ..reading.samples import samples
from ..reading.tile_reader import TileReader
from ..reading.tiling import Layout, choose_layout, is_layout
from .inference import Inference
from .loading import Model
from .source import normalised

# The network's reach is measured in a window in the middle of each of so many parts along each side of the raster. That
# takes the time of 12 megapixels, which a raster of fewer pixels than `SMALL` does not repay. Fewer places do not do:
# where a network is sure, it looks at little, and most pixels that change lie in a third of the places.
PLACES, SMALL = 4, 8000**2
# Not all operations of PyTorch and cuDNN support tensors with more values.
LARGEST_TENSOR = 2**31 - 1


def lay_out(
    network: Inference, model: Model[Segmenter], normalise: Normaliser, opened: Opened, reader: TileReader,
    config: SegmentRasterConfig, reporter: Reporter, decisions: Decisions,
) -> Layout:  # fmt: skip
    """Return tile size and halo for a network with a limited receptive field.

    Args:
        network: The network.
        model: Its header, and its bands of the raster.
        normalise: Normalises its bands.
        opened: The raster.
        reader: Reads it.
        config: Settings of the job; what the user gives there is not changed.
        reporter: Receives log lines.
        decisions: Holds the layout if it was chosen before.

    Raises:
        InputError: The raster cannot be read.
        ResourceError: Memory is insufficient.
    """

    def choose() -> list[int]:
        return list(_chosen(network, model, normalise, opened, reader, config, reporter))

    layout = Layout(*decisions.settle("layout", choose, is_layout))
    reporter.log(f"Tiles of {layout.tile_size} × {layout.tile_size} pixels with a halo of {layout.halo}.")
    return layout


def _chosen(
    network: Inference, model: Model[Segmenter], normalise: Normaliser, opened: Opened, reader: TileReader,
    config: SegmentRasterConfig, reporter: Reporter,
) -> Layout:  # fmt: skip
    header, window = model.header, opened.window
    at_once = config.batch_size * max(1.0, *map(float, config.averaging.scales)) ** 2
    memory = working_memory(opened.device) / at_once
    need = need_per_pixel(network.network, len(header.band_names))
    needed = memory_of(network, need.memory, header.outputs, config.averaging.times)
    pixels = LARGEST_TENSOR / at_once / need.largest
    seams, given = header.seams, (config.tile_size, config.halo)
    if config.halo is None and not seams and window.width * window.height >= SMALL:
        with opened.at_work(SEEN, f"an image of {SEEN} × {SEEN} pixels", "Choose cpu as DEVICE."):
            images = samples(window, PLACES, SEEN, reader)
            seams = seam_costs(network.logits, (normalised(model.part(image), normalise)[0] for image in images))
        if seams:
            reporter.log("How far the network looks is measured, because its model file does not say.")

    def fits(layout: Layout) -> bool:
        return needed(layout) <= memory and (layout.tile_size + 2 * layout.halo) ** 2 < pixels

    waits = window.width * window.height if opened.device.type == "cuda" else None
    return choose_layout(seams, fits, *given, waits)


def memory_of(network: Inference, whole: float, outputs: int, times: int) -> Callable[[Layout], float]:
    """Return what estimates the bytes that a tile needs at a time.

    The encoder sees the whole halo, but the decoder, which needs more memory in most networks, only a part of it.

    Args:
        network: The network.
        whole: What it needs for each pixel that encoder and decoder see, in bytes.
        outputs: Logits per pixel.
        times: How often it sees each tile.
    """
    bands, inner = len(network.header.band_names), whole
    if network.unneeded_of(HALOS[-1]):
        inner = need_per_pixel(network.network, bands, 1 / 4).memory
    decoder = (whole - inner) / (1 - (1 / 2) ** 2)  # per pixel that it sees
    # The image as read and normalised; the logits that are averaged; and those, calibrated and for the sinks, for which
    # there is what the network needed before.
    beside, logits = 8 * bands + (8 * outputs if times > 1 else 0), 12 * outputs

    def needed(layout: Layout) -> float:
        side = layout.tile_size + 2 * layout.halo
        seen = side - 2 * network.unneeded_of(layout.halo)
        return max((whole - decoder) * side**2 + decoder * seen**2, logits * side**2) + beside * side**2

    return needed
