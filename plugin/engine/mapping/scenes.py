"""The job of `classifyscenes`: raster and classifier → one answer per step; folder of photographs → a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch

from .. import ranks
from ..config import ClassifyScenesConfig
from ..errors import InputError
from ..events import Reporter
from ..models.classifier_network import Classifier
from ..models.header import ModelHeader
from ..models.model_file import load_classifier
from ..torchrun import own_rank
from ..windows import Window
from .answers.answers import Answers, known_answers
from .answers.logits import taken
from .answers.outcome import class_areas, number_of, tell_tally, tell_unanswered
from .early_checks import check_answers, check_scene_outputs, check_source
from .outputs.scene_files import SceneFiles, check_space
from .photographs import classify_photographs
from .pipeline.calculation import Calculation
from .pipeline.fingerprint import facts_of
from .pipeline.keeping import kept_beside, plan_units
from .reading.checks import bands_text
from .reading.opening import Opened, open_for_mapping
from .reading.steps import Steps
from .reading.tile_reader import TileReader
from .sources.classifier import choose_step_source
from .sources.loading import Model, load_all


def classify_scenes(config: ClassifyScenesConfig, reporter: Reporter) -> dict[str, Any]:
    """Give each step over a raster, or each photograph of a folder, its class or number, in memory that does not grow
    with either.

    Args:
        config: Settings of the job.
        reporter: Receives progress and log lines.

    Returns:
        output, probabilities, confidence, entropy, margin, polygons, areas, grid, table (paths; None if not written),
        several (whether a chip may have several classes), classes (value, name, pixels = steps or photographs, area
        and, where OUTPUT is a class raster, hectares of each; none for a model of numbers), area_unit, statistics (of
        the numbers: minimum, maximum, mean, std; only for such a model), answered, seconds. {} for all ranks but the
        first.

    Raises:
        InputError: The raster, the folder, the model or a setting cannot be used, or there is nothing to classify.
        ResourceError: An output cannot be written, the device does not exist, or memory is insufficient.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    check_source(config)
    rank = own_rank()
    if config.input_folder:
        if rank.count > 1:
            raise InputError("Photographs are classified by a single process.", "Start one rank, or one per folder.")
        return classify_photographs(config, reporter)
    begun = time.monotonic()
    ranks.join(torch.device("cpu"))
    models, header = load_all(load_classifier, config.models, reporter)
    check_answers(config, header)
    outputs = check_scene_outputs(config, header)
    answers = Answers.of(header, config.threshold)
    opened = open_for_mapping(config, header, outputs, reporter)
    steps = Steps(header.chip_size, config.stride or header.chip_size, opened.info.grid)
    over, like = steps.over(opened.window), steps.described(opened.info)
    if not rank.number:
        check_space(config, over, answers, reporter)
    _tell_plan(config, header, opened, steps, over, reporter)
    with ExitStack() as stack:
        place = next(filter(None, outputs.values()))
        calculation, side = _calculation(config, models, header, opened, steps, over, place, reporter, stack)
        if not calculation.share([partial(taken, answers=answers)], reporter):
            return {}
        files = SceneFiles(config, answers, like, over, side, reporter, stack)
        calculation.make([files], "Classifying", files.phases.begin, reporter)
        tally = files.tally
        tell_unanswered(reporter, "step", tally.unanswered, tally.answered)
        if not tally.answered:
            calculation.kept.forget()  # resuming would not help
            raise _nothing(config, over, steps)
        files.finish()
    seconds = time.monotonic() - begun
    tell_tally(reporter, "step", tally, seconds, like, files.hectares)
    return {
        "output": config.output,
        "probabilities": config.probabilities,
        **{name: getattr(config.measures, name) for name in config.measures.declared()},
        "polygons": config.regions.polygons,
        "areas": config.areas,
        "grid": config.grid,
        "table": None,
        "several": answers.several,
        **class_areas(like, header.classes, tally.counts, files.hectares),
        **tally.statistics,
        "answered": tally.answered,
        "seconds": seconds,
    }


def _tell_plan(
    config: ClassifyScenesConfig, header: ModelHeader, opened: Opened, steps: Steps, over: Window, reporter: Reporter
) -> None:
    """Describe what will be classified, and how."""
    size, stride = steps.chip_size, steps.stride
    reporter.log(
        f"Classifying {opened} with {header.architecture} on {opened.device_text}: chips of {size} pixels every "
        f"{stride}, {number_of(over.width * over.height, 'step')}."
    )
    if stride > size:
        reporter.warning(
            f"STRIDE is {stride} but chips are {size} pixels wide: {100 * (1 - (size / stride) ** 2):.0f} % of the "
            f"ground is not seen. To see all of it, give {size} or less."
        )
    reporter.log(known_answers(header, config.threshold))


def _calculation(
    config: ClassifyScenesConfig, models: Sequence[Model[Classifier]], header: ModelHeader, opened: Opened,
    steps: Steps, over: Window, place: str, reporter: Reporter, stack: ExitStack,
) -> tuple[Calculation[torch.Tensor], int]:  # fmt: skip
    """Return how the answers are calculated, and the number of steps per side of a block.

    What is kept lies beside `place`, and is closed at the end of `stack`.
    """
    source, side = choose_step_source(models, opened.device, config.averaging, config.batch_size, steps, over, reporter)
    reader = TileReader(opened.raster, steps, config.area, config.edges == "mirror", config.min_valid_share)
    facts, example = partial(facts_of, config, opened.device), np.zeros((1, header.outputs, 1, 1), np.float32)
    count, size = over.width * over.height, steps.chip_size
    kept = stack.enter_context(kept_beside(place, config.resume, facts, count, [example], reporter))
    kept.plan(count)
    doing = f"{config.batch_size} chips of {size} × {size} pixels in {bands_text(len(header.band_names))}"
    rows = source.outer(Window(0, 0, side, side)).height
    calculation = Calculation(
        kept, lambda: plan_units(steps.blocks(over, side), source.outer), reader.read, source.values,
        partial(opened.at_work, rows, doing, "Halve BATCH_SIZE."),
    )  # fmt: skip
    return calculation, side


def _nothing(config: ClassifyScenesConfig, over: Window, steps: Steps) -> InputError:
    reasons = ["its pixels are nodata or masked", "are outside the area"] if config.area else ["it has no data"]
    if config.edges != "mirror":
        reasons.append("chips extend beyond it")
    if steps.stride > steps.chip_size:
        reasons.append(f"at STRIDE {steps.stride} no chip covers it")
    return InputError(
        f"No step over {config.input} gets an answer: all of {over.width} × {over.height} steps are left out "
        f"({' or '.join(reasons)}).",
        "Choose another raster, extent or area; give a smaller MIN_VALID_SHARE or EDGES=mirror.",
    )
