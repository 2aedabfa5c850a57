"""The source of a segmented map: tiles or blended windows, in one or several sizes, from one or several models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from ...config import SegmentRasterConfig
from ...device import working_memory
from ...errors import ResourceError
from ...events import Reporter
from ...models.networks import STRIDE, Segmenter
from ...models.normalisation import Normaliser
from ...windows import Window
from ..answers.measures import entropy
from ..pipeline.decisions import Decisions
from ..reading.opening import Opened
from ..reading.samples import Sample, samples
from ..reading.steps import Steps
from ..reading.tile_reader import TileReader
from ..reading.tiling import BLOCK_SIZE, USUAL_TILE, Tiling, round_tile_size
from .averaging import SYMMETRIES, kind_of, rescaled, symmetric
from .blended import USUAL_OVERLAP, ChipSource, WindowSource
from .columns import (
    NARROWEST,
    WORTHWHILE,
    choose_halo,
    divide,
    is_width,
    pixels_seen,
    touched_blocks,
    widest_columns,
    widths,
)
from .inference import Inference
from .layout import lay_out
from .loading import Model
from .means import MemberSource, mean_of
from .source import Source, normalised
from .strips import StripSource
from .tiles import TileSource

# Minimum side of a tile of a whole-window network in windows; otherwise most windows would be computed for several
# tiles.
WINDOWS_ACROSS = 4
# The windows of one batch have as many pixels as a tile of this side.
WINDOWS_AT_ONCE = 512

# The type of number is chosen by so many pixels, in squares of this side.
SAMPLED_PIXELS, SAMPLED = 2**20, 512


class Chosen(NamedTuple):
    """How a raster is segmented."""

    source: Source  # of logits, followed by the mean entropy of the models if their disagreement is wanted
    tiling: Tiling


class Network(NamedTuple):
    """A model, and what runs it."""

    model: Model[Segmenter]
    inference: Inference
    normalise: Normaliser
    decisions: Decisions


class Members(NamedTuple):
    """A source for each model, and the tiles that suit all of them."""

    sources: list[Source]
    tiling: Tiling


def choose_source(
    models: Sequence[Model[Segmenter]], opened: Opened, reader: TileReader, config: SegmentRasterConfig,
    reporter: Reporter, decisions: Decisions,
) -> Chosen:  # fmt: skip
    """Return the source of the mean of the models.

    Args:
        models: One, or those of an ensemble.
        opened: The raster.
        reader: Reads it.
        config: Settings of the job.
        reporter: Receives log lines.
        decisions: What is measured once for the map.

    Raises:
        InputError: The raster cannot be read.
        ResourceError: Memory is insufficient.
    """
    networks = [
        Network(
            model, Inference(model.network, model.header, opened.device, config.mixed_precision, reporter, part),
            Normaliser(model.header.mean, model.header.std, opened.device), part,
        )
        for model, part in ((model, decisions.part(str(number))) for number, model in enumerate(models, start=1))
    ]  # fmt: skip
    for one in networks:
        doing = "images with which the type of number is chosen"
        with opened.at_work(SAMPLED, doing, "Set MIXED_PRECISION to false."):
            one.inference.choose_type(partial(_examples, one, opened, reader))
    columns = _columns(networks, opened, config, reporter, decisions)
    if columns:
        chosen = _in_columns(networks, columns, opened, config, reporter)
    else:
        chosen = _in_tiles(networks, opened, reader, config, reporter)
    beside = _entropy if config.measures.disagreement else None
    return Chosen(mean_of(chosen.sources, kind_of(models[0].header), beside), chosen.tiling)


def _examples(network: Network, opened: Opened, reader: TileReader) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return (N, B, h, w) normalised images from all over the raster, and (N, h, w) bool, true where they have data;
    None if most of it has none.
    """
    header, part = network.model.header, opened.window
    side = header.chip_size if header.whole_window else SAMPLED
    count = min(max(1, SAMPLED_PIXELS // side**2), -(-part.width // side) * -(-part.height // side))
    found: list[Sample] = []
    for finer in range(3):  # if many parts have no data
        across = math.ceil(math.sqrt(count)) * 2**finer
        found = list(islice(samples(part, across, side, reader), count))
        if len(found) == count:
            break
    if not found:
        return None
    images = torch.cat([normalised(network.model.part(one), network.normalise) for one in found])
    return images, torch.from_numpy(np.concatenate([one.valid for one in found]))


def _columns(
    networks: Sequence[Network], opened: Opened, config: SegmentRasterConfig, reporter: Reporter, decisions: Decisions
) -> list[Window]:
    """Return the columns in which the networks run in strips; none if tiles suit the map better, or a network."""
    part, whole_window = opened.window, any(one.model.header.whole_window for one in networks)
    averaging = config.averaging
    as_it_is = averaging.times == 1 and averaging.scales[0] == 1
    if config.tile_size or not as_it_is or opened.device.type != "cpu" or whole_window:
        return []
    touched = touched_blocks(part, opened.info.grid, config.area)

    def choose() -> int:
        if pixels_seen(divide(part, NARROWEST, touched)) < WORTHWHILE:
            return 0
        memory = working_memory(opened.device) / len(networks)  # all keep their rows at the same time
        widest = []
        for one in networks:
            header, strips = one.model.header, one.inference.in_strips()
            if strips is None or not strips.reach:  # nothing to save
                return 0
            columns = widest_columns(strips, len(header.band_names), header.outputs, part.width, memory)
            if columns is None:
                reporter.log(
                    "The memory that the network needs in strips cannot be counted, so the map is made in tiles, which "
                    "takes longer."
                )
                return 0
            widest.append(columns)
        return min(widths(min(widest)), key=seen) if all(widest) else 0

    def seen(width: int) -> int:
        columns = divide(part, width, touched)
        return sum(pixels_seen(columns, _halo(one, columns, part, config)) for one in networks)

    width = decisions.settle("columns", choose, is_width)
    return divide(part, width, touched) if width else []


def _halo(network: Network, columns: Sequence[Window], part: Window, config: SegmentRasterConfig) -> int:
    return choose_halo(network.model.header.seams, columns, part) if config.halo is None else config.halo


def _in_columns(
    networks: Sequence[Network], columns: Sequence[Window], opened: Opened, config: SegmentRasterConfig,
    reporter: Reporter,
) -> Members:  # fmt: skip
    """Return sources that run in strips down some columns."""
    sources: list[Source] = []
    width = max(column.width for column in columns)
    for one in networks:
        halo = _halo(one, columns, opened.window, config)
        strips = one.inference.in_strips(halo) or one.inference.in_strips()
        if strips is None:
            raise ResourceError(
                "The interrupted map was made in strips, in which the network cannot be run now.",
                "Close other programs, because they may need the memory for that, or map without RESUME.",
            )
        source = StripSource(one.inference, strips, one.normalise, columns, halo, reporter.log)
        sources.append(MemberSource(source, one.model))
        reporter.log(f"The network runs in strips down columns of {width} pixels, with a halo of {halo}.")
    return Members(sources, Tiling(columns, width, BLOCK_SIZE, 1, True))


def _in_tiles(
    networks: Sequence[Network], opened: Opened, reader: TileReader, config: SegmentRasterConfig, reporter: Reporter
) -> Members:
    """Return sources that see tile by tile."""
    found = [_of_model(one, opened, reader, config, reporter) for one in networks]
    # The smallest tiles suit the memory; whole-window networks need a certain size.
    windows = [size for (_, size), one in zip(found, networks) if one.model.header.whole_window]
    size = max(windows) if windows else min(size for _, size in found)
    size = min(size, round_tile_size(max(opened.window.width, opened.window.height)))
    alone = len(networks) == 1 and len(config.averaging.scales) == 1 and not windows
    return Members(
        [source for source, _ in found], Tiling([opened.window], size, size, config.batch_size if alone else 1)
    )


def _of_model(
    network: Network, opened: Opened, reader: TileReader, config: SegmentRasterConfig, reporter: Reporter
) -> tuple[Source, int]:
    """Return the source of one model, which sees the raster in one or several sizes, and its tile size."""
    model, logits, normalise, decisions = network
    header, averaging = model.header, config.averaging
    kind = kind_of(header)
    maps = symmetric(logits, SYMMETRIES[averaging.test_time_augmentation], kind)
    if header.whole_window:
        size = header.chip_size
        reporter.log(
            f"{header.architecture} with {header.encoder} looks at its whole window, so it maps windows of {size} × "
            f"{size} pixels, as in training, which overlap and are blended."
        )
        tile_size = round_tile_size(max(config.tile_size or USUAL_TILE, WINDOWS_ACROSS * size))
        batch = config.batch_size * max(1, WINDOWS_AT_ONCE**2 // size**2)
        blended = WindowSource if header.target is None else ChipSource  # numbers are blended as they are

        def at_scale(scale: Fraction) -> Source:
            side = round(size / scale)
            steps = Steps(side, max(1, side // USUAL_OVERLAP), opened.info.grid)
            seen = maps if scale == 1 else rescaled(maps, lambda _: size, kind)
            return blended(steps, normalise, seen, header.outputs, batch)
    else:
        tile_size, halo = lay_out(logits, model, normalise, opened, reader, config, reporter, decisions)
        logits.leave_out(halo)
        logits.continue_edges()

        def at_scale(scale: Fraction) -> Source:
            seen = maps if scale == 1 else rescaled(maps, lambda side: int(side * scale), kind)
            wider, step = math.ceil(halo / min(1.0, float(scale))), STRIDE * scale.denominator
            return TileSource(seen, normalise, wider, tell=reporter.log, step=step)

    return MemberSource(mean_of([at_scale(scale) for scale in averaging.scales], kind), model), tile_size


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    return entropy(logits.softmax(1))
