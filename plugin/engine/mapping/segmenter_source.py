"""The source of a segmented map: tiles or blended windows, in one or several sizes, from one or several models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch

from ..config import SegmentRasterConfig
from ..events import Reporter
from ..models.networks import STRIDE, Segmenter
from ..models.normalisation import Normaliser
from .averaging import SYMMETRIES, kind_of, rescaled, symmetric
from .decisions import Decisions
from .inference import Inference
from .layout import lay_out
from .loading import Model
from .mean_source import MemberSource, mean_of
from .measures import entropy
from .opening import Opened
from .reading import TileReader
from .sources import USUAL_OVERLAP, ChipSource, Source, TileSource, WindowSource
from .steps import Steps
from .tiling import USUAL_TILE, round_tile_size

# Minimum side of a tile of a whole-window network in windows; otherwise most windows would be computed for several
# tiles.
WINDOWS_ACROSS = 4
# The windows of one batch have as many pixels as a tile of this side.
WINDOWS_AT_ONCE = 512


class Chosen(NamedTuple):
    """How a raster is segmented."""

    source: Source  # of logits, followed by the mean entropy of the models if their disagreement is wanted
    tile_size: int
    at_once: int  # tiles per batch


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
    kind, scales = kind_of(models[0].header), config.averaging.scales
    beside = _entropy if config.measures.disagreement else None
    chosen = [
        _of_model(model, opened, reader, config, reporter, decisions.part(str(number)))
        for number, model in enumerate(models, start=1)
    ]
    source = mean_of([one.source for one in chosen], kind, beside)
    alone = len(models) == 1 and len(scales) == 1
    # The smallest tiles suit the memory; whole-window networks need a certain size.
    windows = [one.tile_size for one, model in zip(chosen, models) if model.header.whole_window]
    tile_size = max(windows) if windows else min(one.tile_size for one in chosen)
    return Chosen(source, tile_size, chosen[0].at_once if alone else 1)


def _of_model(
    model: Model[Segmenter], opened: Opened, reader: TileReader, config: SegmentRasterConfig, reporter: Reporter,
    decisions: Decisions,
) -> Chosen:  # fmt: skip
    """Return the source of one model, which sees the raster in one or several sizes."""
    header, averaging = model.header, config.averaging
    logits = Inference(model.network, header, opened.device, config.mixed_precision, reporter, decisions)
    normalise = Normaliser(header.mean, header.std, opened.device)
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

    source = MemberSource(mean_of([at_scale(scale) for scale in averaging.scales], kind), model)
    return Chosen(source, tile_size, 1 if header.whole_window else config.batch_size)


def _entropy(logits: torch.Tensor) -> torch.Tensor:
    return entropy(logits.softmax(1))
