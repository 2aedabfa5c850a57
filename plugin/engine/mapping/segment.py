"""The job behind `segmentraster`: raster + model file → class raster, and probabilities where wanted."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..chips.features import Area
from ..classes import ClassTable
from ..config import SegmentRasterConfig
from ..drafts import check_writable, publish
from ..errors import InputError, ResourceError
from ..events import Reporter, Stage, readable_time
from ..models.model_file import load_model
from ..raster_io import RasterInfo, crs_text
from ..training.device import choose_device, describe_device, explain_memory
from ..windows import Window, count_tiles
from .checks import bands_text, compare_with_training, nodata_values, open_for
from .outcome import class_areas, number_of, shares_text, tell_unanswered
from .outputs import check_not_input, check_rasters, limit_cache
from .pipeline import Mapper
from .predictor import choose_predictor
from .reading import TileReader
from .tiling import plan_batches, plan_tiles, round_tile_size
from .writer import ClassRaster, ProbabilityRaster

# The share of its size that a written raster needs at most on the disk, by experience with DEFLATE.
CLASS_SHARE, PROBABILITY_SHARE = 0.1, 0.5


def segment_raster(config: SegmentRasterConfig, reporter: Reporter) -> dict[str, Any]:
    """Map a raster with a trained network, in tiles, in memory that does not depend on the raster's size.

    Returns:
        output and probabilities (paths; the latter may be None), classes (for each value, name, pixels, area),
        area_unit (such as "metre", of which areas are squares; None where the CRS has none), nodata_pixels, seconds.

    Raises:
        InputError: The raster, the model or a setting cannot be used, or there is nothing to map.
        ResourceError: An output cannot be written, the device is not there, or memory is not enough.
        Cancelled: The user asked for the end, or is gone.
    """
    begun = time.monotonic()
    outputs = {"OUTPUT": config.output, "PROBABILITIES": config.probabilities}
    check_rasters(outputs)
    network, header = load_model(config.model)
    raster = open_for(header, config.input, config.input_crs, config.bands, reporter)
    info, bands = raster.info, raster.info.bands
    check_not_input(outputs, raster, config.model)
    area = Area(config.area, info.grid) if config.area else None
    window = output_window(info, config.extent, area)
    _check_space(config, window, header.classes)
    compare_with_training(raster, window, header, reporter)
    device = choose_device(config.device, reporter)
    reporter.log(
        f"Mapping {window.width} × {window.height} of {info.size_text} in {crs_text(info.crs)} with "
        f"{header.architecture} and {header.encoder} on {describe_device(device)}."
    )
    predictor = choose_predictor(network, header, device, config, info.grid)
    if header.whole_window:
        reporter.log(
            f"This network looks at its whole window, so it is mapped in windows of {header.chip_size} × "
            f"{header.chip_size} pixels, as it was trained, that overlap and are blended."
        )
    tile_size = round_tile_size(min(max(config.tile_size, predictor.least), max(window.width, window.height)))
    side = predictor.outer(Window(0, 0, tile_size, tile_size)).height
    limit_cache(raster, side)
    reader = TileReader(raster, nodata_values(info, header), area)
    batches = plan_batches(plan_tiles(window, tile_size, predictor.outer), predictor.tiles_at_once)
    stage = Stage(reporter, count_tiles(window, tile_size), "Mapping")
    doing = f"tiles of {side} × {side} pixels in {bands_text(len(bands))}, {predictor.tiles_at_once} at a time"
    with ExitStack() as stack:
        target = stack.enter_context(ClassRaster(config.output, info, window, header.classes, tile_size))
        shares = None
        if config.probabilities:
            shares = ProbabilityRaster(config.probabilities, info, window, header.classes, tile_size)
            stack.enter_context(shares)
        with explain_memory(device, doing, "Halve TILE_SIZE or BATCH_SIZE."):
            mapper = Mapper(predictor, target, shares)
            pixels = mapper.run(reader, batches, stage)
        tell_unanswered(reporter, "pixel", mapper.unanswered, int(pixels.sum()))
        if not pixels.any():
            raise InputError(
                f"{config.input} has no data in the area to map: all of its {window.width} × {window.height} pixels "
                "are nodata or masked.",
                "Choose another raster, extent or area; check the raster's nodata value.",
            )
        target.finish(pixels)
        if shares is not None:
            shares.close()
        publish(*(raster.draft for raster in (shares, target) if raster is not None))
    seconds = time.monotonic() - begun
    mapped = int(pixels.sum())
    shown = shares_text(header.classes, pixels, mapped, info)
    reporter.log(f"Mapped {number_of(mapped, 'pixel')} in {readable_time(seconds)}: {shown}.")
    return {
        "output": config.output,
        "probabilities": config.probabilities,
        **class_areas(info, header.classes, pixels),
        "nodata_pixels": window.width * window.height - mapped,
        "seconds": seconds,
    }


def output_window(info: RasterInfo, extent: tuple[float, ...] | None, area: Area | None) -> Window:
    """The pixels of the raster that the map covers.

    Raises:
        InputError: There are none.
    """
    window = info.grid.window
    for bounds, name in ((extent, "extent"), (area.polygons.extent if area else None, "area of interest")):
        if bounds is None:
            continue
        left, bottom, right, top = bounds
        window = window.intersection(info.grid.window_of((left, bottom, right, top)))
        if window.empty:
            raise InputError(
                f"The {name} {_bounds_text(bounds)} does not lie on {info.path}, which covers "
                f"{_bounds_text(info.grid.bounds)}.",
                f"Choose an {name} on the raster.",
            )
    return window


def _bounds_text(bounds: tuple[float, ...]) -> str:
    return f"{bounds[0]:.9g}, {bounds[1]:.9g} to {bounds[2]:.9g}, {bounds[3]:.9g}"


def _check_space(config: SegmentRasterConfig, window: Window, table: ClassTable) -> None:
    size = window.width * window.height
    needed = int(size * table.mask_dtype(table.free_value()).itemsize * CLASS_SHARE)
    if config.probabilities:
        needed += int(size * len(table) * 4 * PROBABILITY_SHARE)
        check_writable(config.probabilities, needed)
    check_writable(config.output, needed)
    for path in (config.output, config.probabilities):
        if path and Path(path).is_dir():
            raise ResourceError(f"{path} is a folder.", "Give the name of a file.")
