"""The job of `segmentraster`: raster and model file → class raster, and probabilities if wanted."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

from ..config import SegmentRasterConfig
from ..errors import InputError
from ..events import Reporter, Stage, readable_time
from ..models.header import ModelHeader
from ..models.model_file import load_model
from ..models.networks import STRIDE, Segmenter
from ..models.normalisation import Normaliser
from ..windows import Window, tiles
from .averaging import SYMMETRIES, kind_of, rescaled, symmetric
from .checks import bands_text
from .early_checks import check_answers, check_segmentation_outputs
from .inference import Inference
from .layout import lay_out
from .mean_source import Aligned, MeanSource
from .measures import MEASURES
from .opening import Opened, open_for_mapping
from .outcome import class_areas, number_of, shares_text, tell_unanswered
from .pipeline import run
from .reading import TileReader
from .segmented_files import SegmentedFiles, scored
from .sources import USUAL_OVERLAP, ChipSource, Source, TileSource, WindowSource, pinned_reading
from .steps import Steps
from .tiling import USUAL_TILE, plan_tiles, round_tile_size
from .writer import NumberRaster

# Minimum side of a tile of a whole-window network in windows; otherwise most windows would be computed for several
# tiles.
WINDOWS_ACROSS = 4
# The windows of one batch have as many pixels as a tile of this side.
WINDOWS_AT_ONCE = 512


def segment_raster(config: SegmentRasterConfig, reporter: Reporter) -> dict[str, Any]:
    """Map a raster with a trained network, tile by tile, in memory that does not depend on the raster's size.

    Args:
        config: Settings of the job.
        reporter: Receives progress and log lines.

    Returns:
        output, probabilities, confidence, entropy, margin, polygons, areas (paths; all but the first may be None),
        classes (value, name, pixels, area and hectares of each), area_unit (of the area on the plane of the CRS, such
        as "metre", for square metres; None if it has no units of length), nodata_pixels, seconds;
        for a model of numbers also statistics (minimum, maximum, mean, std).

    Raises:
        InputError: The raster, the model or a setting cannot be used, or there is nothing to map.
        ResourceError: An output cannot be written, the device does not exist, or memory is insufficient.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    begun = time.monotonic()
    network, header = load_model(config.model)
    check_answers(config, header)
    outputs = check_segmentation_outputs(config, header)
    opened = open_for_mapping(config, header, outputs, reporter)
    info, window, classes = opened.info, opened.window, header.classes
    reporter.log(f"Mapping {opened} with {header.architecture} and {header.encoder} on {opened.device_text}.")
    times = config.averaging.times
    if times > 1:
        reporter.log(f"Each tile is seen {times} times, mirrored, turned or in other sizes; the mean counts.")
    reader = TileReader(opened.raster, opened.nodata, Steps(1, 1, info.grid), config.area)
    source, tile_size, at_once = _choose_source(network, header, opened, reader, config, reporter)
    tile_size = min(tile_size, round_tile_size(max(window.width, window.height)))
    side = source.outer(Window(0, 0, tile_size, tile_size)).height
    planned = plan_tiles(tiles(window, tile_size), source.outer, at_once)
    doing = f"tiles of {side} × {side} pixels in {bands_text(len(info.bands))}, {at_once} at a time"
    with ExitStack() as stack:
        files = SegmentedFiles(config, header, opened, tile_size, reporter, stack)
        stage = Stage(reporter, window.width * window.height, "Mapping", end=files.phases.begin)
        with opened.at_work(side, doing, "Halve TILE_SIZE or BATCH_SIZE."):
            run(planned, pinned_reading(reader.read, opened.device), scored(source.values), files.sinks, stage)
        target = files.target
        files.tell_unsure()
        tell_unanswered(reporter, "pixel", target.unanswered, target.mapped)
        if not target.mapped:
            raise InputError(
                f"{config.input} has no data in the area to map: all of its {window.width} × {window.height} pixels "
                "are nodata or masked.",
                "Choose another raster, extent or area; check the raster's nodata value.",
            )
        files.finish()
    seconds = time.monotonic() - begun
    if isinstance(target, NumberRaster):
        found: dict[str, Any] = {**class_areas(info, classes, []), "statistics": target.statistics}
        shown = str(target.moments)
    else:
        found = class_areas(info, classes, target.counts, target.hectares)
        shown = shares_text(classes, target.counts, target.mapped, info)
    reporter.log(f"Mapped {number_of(target.mapped, 'pixel')} in {readable_time(seconds)}: {shown}.")
    return {
        "output": config.output,
        "probabilities": config.probabilities,
        **{name: config.measures.wanted().get(name) for name in MEASURES},
        "polygons": config.regions.polygons,
        "areas": config.areas,
        **found,
        "nodata_pixels": window.width * window.height - target.mapped,
        "seconds": seconds,
    }


def _choose_source(
    network: Segmenter, header: ModelHeader, opened: Opened, reader: TileReader, config: SegmentRasterConfig,
    reporter: Reporter,
) -> tuple[Source, int, int]:  # fmt: skip
    """Return the source of the logits, the tile size, and the number of tiles per batch."""
    logits = Inference(network, header, opened.device, config.mixed_precision, reporter)
    normalise = Normaliser(header.mean, header.std, opened.device)
    kind, averaging = kind_of(header), config.averaging
    maps = symmetric(logits, SYMMETRIES[averaging.test_time_augmentation], kind)
    if header.whole_window:
        size = header.chip_size
        reporter.log(
            f"This network looks at its whole window, so it maps windows of {size} × {size} pixels, as in training, "
            "which overlap and are blended."
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
        tile_size, halo = lay_out(logits, header, normalise, opened, reader, config, reporter)

        def at_scale(scale: Fraction) -> Source:
            if scale == 1:
                return TileSource(maps, normalise, halo, tell=reporter.log)
            seen = rescaled(maps, lambda side: int(side * scale), kind)
            wider = math.ceil(halo / min(1.0, float(scale)))
            return Aligned(TileSource(seen, normalise, wider, tell=reporter.log), STRIDE * scale.denominator)

    sources = [at_scale(scale) for scale in averaging.scales]
    if len(sources) > 1:
        return MeanSource(sources, kind), tile_size, 1
    return sources[0], tile_size, 1 if header.whole_window else config.batch_size
