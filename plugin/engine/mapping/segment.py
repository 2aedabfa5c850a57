"""The job of `segmentraster`: raster and model file → class raster, and probabilities if wanted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import ranks
from ..config import SegmentRasterConfig
from ..device import choose_device
from ..errors import InputError, not_none
from ..events import Reporter, readable_time
from ..models.header import ModelHeader
from ..models.model_file import load_model
from ..models.networks import Segmenter
from ..rasters.raster_io import RasterInfo, RasterReader
from ..torchrun import own_rank
from .answers.measures import MEASURES, Scores
from .answers.outcome import class_areas, number_of
from .early_checks import check_answers, check_segmentation_outputs
from .outputs.segmented_files import SegmentedFiles, scored, takes_of
from .pipeline.calculation import Calculation
from .pipeline.fingerprint import LATER, differences, facts_of
from .pipeline.finished import Finished, read_finished
from .pipeline.keeping import kept_beside, plan_units
from .reading.checks import bands_text
from .reading.opening import Opened, open_for_mapping
from .reading.steps import Steps
from .reading.tile_reader import ColumnReader
from .separate import map_each
from .sources.loading import Model, load_all
from .sources.segmenter import choose_source
from .sources.source import pinned_reading

# What is kept of the answers depends on these settings.
DECIDED = ("min_confidence", "probability_type")


def segment_raster(config: SegmentRasterConfig, reporter: Reporter) -> dict[str, Any]:
    """Map a raster with a trained network, tile by tile, in memory that does not depend on the raster's size.

    Several rasters are one map, or with `config.combine` "separate" a map each, for which the models are loaded once.

    Args:
        config: Settings of the job.
        reporter: Receives progress and log lines.

    Returns:
        input, output, probabilities, confidence, entropy, margin, disagreement, polygons, areas (paths; all but the
        first two may be None), classes (value, name, pixels, area and hectares of each), area_unit (of the area on the
        plane of the CRS, such as "metre", for square metres; None if it has no units of length), nodata_pixels,
        seconds; for a model of numbers also statistics (minimum, maximum, mean, std). {} for all ranks but the first.
        Of several maps those of the first, and as `more` a list of the same for each of the others.

    Raises:
        InputError: The raster, the model or a setting cannot be used, or there is nothing to map.
        ResourceError: An output cannot be written, the device does not exist, or memory is insufficient.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    if config.combine == "separate" and own_rank().count > 1:
        raise InputError("COMBINE is separate, but several ranks map one raster together.", "Start a job per raster.")
    ranks.join(torch.device("cpu"))
    models, header = load_all(load_model, config.models, reporter)
    check_answers(config, header)

    if config.combine != "separate":
        return _map(config, models, header, reporter)

    def map_one(one: SegmentRasterConfig, part: Reporter) -> dict[str, Any]:
        written = [name for name in one.outputs() if one.to_json()[name]]
        facts = facts_of(one, choose_device(one.device), LATER, **{"the results": written})
        earlier = _earlier(one, header, facts, part) if one.resume else None
        return earlier or _map(one, models, header, part, facts)

    return map_each(config, map_one, reporter)


def _earlier(
    config: SegmentRasterConfig, header: ModelHeader, facts: dict[str, Any], reporter: Reporter
) -> dict[str, Any] | None:
    """Return the result of an interrupted job of several rasters for one of them; None if it is to be made.

    Args:
        config: Settings for this raster.
        header: Header of the model file.
        facts: What the map follows from.
        reporter: Receives log lines.
    """
    if not Path(config.output).exists():
        return None
    missing = [path for path in config.results(config.to_json()) if not Path(path).exists()]
    if missing:
        reporter.log(f"{config.output} is replaced, because {', '.join(missing)} is not there.")
        return None
    rasters = [config.output, *filter(None, (config.probabilities, *config.measures.wanted().values()))]
    found = {path: read_finished(path) for path in rasters}
    for path, said in found.items():
        if said is None:
            reporter.log(f"{config.output} is replaced, because {path} does not say that this job has made it.")
            return None
        different = differences(said.facts, facts)
        if different:
            why = f"{path} is not what this job would make: different are {', '.join(different)}"
            reporter.log(f"{config.output} is replaced, because {why}.")
            return None
    reporter.log(f"{config.output} is there already, made by the same job, and is kept.")
    return _result(config, RasterReader(config.output).info, header, not_none(found[config.output]), 0.0)


def _map(
    config: SegmentRasterConfig, models: Sequence[Model[Segmenter]], header: ModelHeader, reporter: Reporter,
    told: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Map a raster; `told` is what the file of the map is to say of its making."""
    begun = time.monotonic()
    outputs = check_segmentation_outputs(config, header)
    opened = open_for_mapping(config, header, outputs, reporter)
    _tell_plan(config, header, opened, reporter)
    with ExitStack() as stack:
        calculation, rows = _calculation(config, models, header, opened, reporter, stack)
        if not calculation.share(takes_of(config, header).values(), reporter):
            return {}
        files = SegmentedFiles(config, header, opened, rows, reporter, stack)
        for raster in files.rasters:
            raster.facts = told
        calculation.make(files.sinks, "Mapping", files.phases.begin, reporter)
        if not files.target.mapped:
            calculation.kept.forget()  # resuming would not help
        files.check_mapped(opened)
        files.finish()
    seconds, shown = time.monotonic() - begun, opened.shown[0]
    reporter.log(
        f"Mapped {number_of(files.target.mapped, 'pixel')} in {readable_time(seconds)}: {files.summary(shown)}."
    )
    return _result(config, shown, header, files.target.finished, seconds)


def _tell_plan(config: SegmentRasterConfig, header: ModelHeader, opened: Opened, reporter: Reporter) -> None:
    """Describe what will be mapped, and how."""
    reporter.log(f"Mapping {opened} with {header.architecture} and {header.encoder} on {opened.device_text}.")
    if opened.map_grid is not None:
        shown, part = opened.shown
        reporter.log(f"The map has the pixels of {shown.path}: {part.width} × {part.height} of {shown.size_text}.")
    times = config.averaging.times
    if times > 1:
        reporter.log(f"Each tile is seen {times} times, mirrored, turned or in other sizes; the mean counts.")


def _calculation(
    config: SegmentRasterConfig, models: Sequence[Model[Segmenter]], header: ModelHeader, opened: Opened,
    reporter: Reporter, stack: ExitStack,
) -> tuple[Calculation[Scores], int]:  # fmt: skip
    """Return how the map is calculated, and the height of its tiles; what is kept is closed at the end of `stack`."""
    reader = ColumnReader(opened.raster, Steps(1, 1, opened.info.grid), config.area)
    takes = takes_of(config, header)
    single = Scores(torch.zeros(1, header.outputs, 1, 1), torch.zeros(1, 1, 1, 1))
    facts = partial(facts_of, config, opened.device, DECIDED, **{"the rasters to write": [*takes]})
    examples = [take(single).read() for take in takes.values()]
    size = opened.window.width * opened.window.height
    kept = stack.enter_context(kept_beside(config.output, config.resume, facts, size, examples, reporter))
    source, tiling = choose_source(models, opened, reader, config, reporter, kept.decisions)
    kept.plan(tiling.pixels)
    outer = source.outer(next(tiling.cores()))
    doing = (
        f"tiles of {outer.width} × {outer.height} pixels in {bands_text(len(opened.info.bands))}, {tiling.at_once} at "
        "a time"
    )
    remedy = "Set TILE_SIZE to 512." if tiling.in_columns else "Halve TILE_SIZE or BATCH_SIZE."
    calculation = Calculation(
        kept, lambda: plan_units(tiling.cores(), source.outer, tiling.at_once),
        pinned_reading(reader.read, opened.device), scored(source.values, header.outputs),
        partial(opened.at_work, outer.height, doing, remedy), tiling.in_turn(own_rank().count),
    )  # fmt: skip
    return calculation, tiling.height


def _result(
    config: SegmentRasterConfig, info: RasterInfo, header: ModelHeader, finished: Finished, seconds: float
) -> dict[str, Any]:
    """The result of a raster; see `segment_raster`."""
    numbers = {} if finished.statistics is None else {"statistics": finished.statistics}
    return {
        "input": config.input,
        "output": config.output,
        "probabilities": config.probabilities,
        **{name: config.measures.wanted().get(name) for name in MEASURES},
        "polygons": config.regions.polygons,
        "areas": config.areas,
        **class_areas(info, header.classes, finished.pixels, finished.hectares),
        **numbers,
        "nodata_pixels": finished.nodata,
        "seconds": seconds,
    }
