"""The job of `segmentraster`: raster and model file → class raster, and probabilities if wanted."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..config import SegmentRasterConfig
from ..drafts import check_writable
from ..errors import InputError, ResourceError
from ..events import Reporter, Stage, readable_time
from ..models.header import ModelHeader
from ..models.model_file import load_model
from ..models.networks import calibrated, likeliest
from ..models.normalisation import Normaliser
from ..windows import Window, tiles
from .checks import bands_text
from .early_checks import check_probabilities
from .opening import Opened, open_for_mapping
from .outcome import class_areas, number_of, shares_text, tell_unanswered
from .outputs import check_rasters
from .pipeline import finish, run
from .reading import TileReader
from .sources import USUAL_OVERLAP, ChipSource, Source, TileSource, WindowSource
from .steps import Steps
from .tiling import plan_tiles, round_tile_size
from .writer import CLASS_SHARE, PROBABILITY_SHARE, ClassRaster, MapRaster, NumberRaster, ProbabilityRaster, Take

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
        output and probabilities (paths; the latter may be None), classes (value, name, pixels and area of each),
        area_unit (such as "metre", for square metres; None if the CRS has no units of length), nodata_pixels, seconds;
        for a model of numbers also statistics (minimum, maximum, mean, std).

    Raises:
        InputError: The raster, the model or a setting cannot be used, or there is nothing to map.
        ResourceError: An output cannot be written, the device does not exist, or memory is insufficient.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    begun = time.monotonic()
    outputs = {"OUTPUT": config.output, "PROBABILITIES": config.probabilities}
    check_rasters(outputs)
    network, header = load_model(config.model)
    check_probabilities(config, header)
    opened = open_for_mapping(config, header, outputs, reporter)
    info, window, classes = opened.info, opened.window, header.classes
    _check_space(config, window, header)
    reporter.log(f"Mapping {opened} with {header.architecture} and {header.encoder} on {opened.device_text}.")
    source, least, at_once = _choose_source(network, header, opened, config)
    if header.whole_window:
        reporter.log(
            f"This network looks at its whole window, so it maps windows of {header.chip_size} × {header.chip_size} "
            "pixels, as in training, which overlap and are blended."
        )
    tile_size = round_tile_size(min(max(config.tile_size, least), max(window.width, window.height)))
    side = source.outer(Window(0, 0, tile_size, tile_size)).height
    reader = TileReader(opened.raster, opened.nodata, Steps(1, 1, info.grid), config.area)
    planned = plan_tiles(tiles(window, tile_size), source.outer, at_once)
    stage = Stage(reporter, window.width * window.height, "Mapping")
    doing = f"tiles of {side} × {side} pixels in {bands_text(len(info.bands))}, {at_once} at a time"
    with ExitStack() as stack:
        common = info, window, classes, tile_size
        target: ClassRaster | NumberRaster
        if header.target is None:
            target = stack.enter_context(ClassRaster(config.output, *common, _classes))
        else:
            take = _in_units(header.target["mean"], header.target["std"])
            target = stack.enter_context(NumberRaster(config.output, info, window, tile_size, take))
        sinks: list[MapRaster] = [target]
        if config.probabilities:
            sinks.insert(0, stack.enter_context(ProbabilityRaster(config.probabilities, *common, _probabilities)))
        with opened.at_work(side, doing, "Halve TILE_SIZE or BATCH_SIZE."):
            run(planned, reader.read, source.values, sinks, stage)
        mapped = target.mapped
        tell_unanswered(reporter, "pixel", target.unanswered, mapped)
        if not mapped:
            raise InputError(
                f"{config.input} has no data in the area to map: all of its {window.width} × {window.height} pixels "
                "are nodata or masked.",
                "Choose another raster, extent or area; check the raster's nodata value.",
            )
        finish(sinks)
    seconds = time.monotonic() - begun
    if isinstance(target, NumberRaster):
        found: dict[str, Any] = {**class_areas(info, classes, []), "statistics": target.statistics}
        shown = "{minimum:.3g} to {maximum:.3g}, mean {mean:.3g}".format(**target.statistics)
    else:
        found = class_areas(info, classes, target.counts)
        shown = shares_text(classes, target.counts, mapped, info)
    reporter.log(f"Mapped {number_of(mapped, 'pixel')} in {readable_time(seconds)}: {shown}.")
    return {
        "output": config.output,
        "probabilities": config.probabilities,
        **found,
        "nodata_pixels": window.width * window.height - mapped,
        "seconds": seconds,
    }


def _choose_source(
    network: nn.Module, header: ModelHeader, opened: Opened, config: SegmentRasterConfig
) -> tuple[Source, int, int]:
    """Return the source of the logits, the smallest useful tile size, and the number of tiles per batch."""
    network = network.to(opened.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    normalise = Normaliser(header.mean, header.std, opened.device)

    def logits(images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = network(images.contiguous(memory_format=torch.channels_last))
        return calibrated(found.float(), header)

    if not header.whole_window:
        return TileSource(logits, normalise, config.halo), 1, config.batch_size
    size = header.chip_size
    steps = Steps(size, max(1, size // USUAL_OVERLAP), opened.info.grid)
    batch = config.batch_size * max(1, WINDOWS_AT_ONCE**2 // size**2)
    kind = WindowSource if header.target is None else ChipSource  # numbers are blended as they are
    return kind(steps, normalise, logits, header.outputs, batch), WINDOWS_ACROSS * size, 1


def _classes(logits: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) logits → (N, H, W) uint8 class indices, `IGNORE_INDEX` where logits are NaN or infinite."""
    found: np.ndarray = likeliest(logits).cpu().numpy()
    return found


def _probabilities(logits: torch.Tensor) -> np.ndarray:
    """(N, C, H, W) logits → float32 probabilities of the same shape."""
    found: np.ndarray = logits.softmax(1).cpu().numpy()
    return found


def _in_units(mean: float, std: float) -> Take:
    """Return what turns standardised values (N, 1, H, W) into float32 in the units of the target."""

    def take(values: torch.Tensor) -> np.ndarray:
        found: np.ndarray = (values * std + mean).cpu().numpy()
        return found

    return take


def _check_space(config: SegmentRasterConfig, window: Window, header: ModelHeader) -> None:
    size, table = window.width * window.height, header.classes
    if header.target is None:
        needed = int(size * table.mask_dtype(table.free_value()).itemsize * CLASS_SHARE)
    else:
        needed = int(size * 4 * PROBABILITY_SHARE)
    if config.probabilities:
        needed += int(size * len(table) * 4 * PROBABILITY_SHARE)
        check_writable(config.probabilities, needed)
    check_writable(config.output, needed)
    for path in (config.output, config.probabilities):
        if path and Path(path).is_dir():
            raise ResourceError(f"{path} is a folder.", "Give the name of a file.")
