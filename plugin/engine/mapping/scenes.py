"""The job of `classifyscenes`: raster and classifier → one answer per step; folder of photographs → a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch

from .. import ranks
from ..classes import IGNORE_INDEX
from ..config import ClassifyScenesConfig
from ..drafts import check_writable
from ..errors import InputError, not_none
from ..events import Reporter, Stage
from ..models.model_file import load_classifier
from ..rasters.raster_io import RasterInfo
from ..torchrun import own_rank
from ..vector_files import keeps_style
from ..windows import Window
from .answers import Answered, Answers, Numbers, Tally, known_answers
from .checks import bands_text
from .class_files import ClassFile, class_files, finish_with
from .classifier_source import choose_step_source
from .early_checks import check_answers, check_scene_outputs, check_source
from .fingerprint import facts_of
from .ground import ground_of
from .keeping import SHARED, Keeper, Taker, Unit, kept_beside, plan_units, share_out
from .layer_style import grid_style, marked, why_not_beside
from .loading import load_all
from .logits import shares
from .measures import MEASURES, Scores, stored
from .opening import open_for_mapping
from .outcome import class_areas, number_of, tell_tally, tell_unanswered
from .phases import Phases
from .photographs import classify_photographs
from .pieces import Piece
from .pipeline import FileSink, Sink
from .reading import Batch, TileReader
from .refining import plan_refinement
from .steps import Steps
from .tables import SCENE_LAYER, AnswerTable, squares
from .writer import (
    CLASS_SHARE,
    PROBABILITY_SHARE,
    SMALLEST_BLOCK,
    ClassRaster,
    Form,
    MembersRaster,
    NumberRaster,
    ShareRaster,
)

MANY_POLYGONS = 1_000_000
GRID_BYTES = 250  # per polygon with its answers, in a GeoPackage


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
    size, stride = header.chip_size, config.stride or header.chip_size
    steps = Steps(size, stride, opened.info.grid)
    over, like = steps.over(opened.window), steps.described(opened.info)
    if not rank.number:
        _check_space(config, over, answers, reporter)
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
    source, side = choose_step_source(models, opened.device, config.averaging, config.batch_size, steps, over, reporter)
    mirrored = config.edges == "mirror"
    reader = TileReader(opened.raster, steps, config.area, mirrored, config.min_valid_share)
    doing = f"{config.batch_size} chips of {size} × {size} pixels in {bands_text(len(header.band_names))}"
    place, count = next(filter(None, outputs.values())), over.width * over.height
    facts, example = partial(facts_of, config, opened.device), np.zeros((1, header.outputs, 1, 1), np.float32)
    with ExitStack() as stack:
        kept = stack.enter_context(kept_beside(place, config.resume, facts, count, [example], reporter))
        kept.plan(count)

        def planned() -> Iterator[Unit]:
            return plan_units(steps.blocks(over, side), source.outer)

        rows = source.outer(Window(0, 0, side, side)).height
        at_work = partial(opened.at_work, rows, doing, "Halve BATCH_SIZE.")
        if rank.count > 1:
            with at_work():
                taking = Keeper(kept, reader.read, source.values, [Taker(partial(shares, answers=answers))])
                share_out(taking, planned, 1, reporter)
            if rank.number:
                return {}
        form = Form.of(config.rasters, Phases(reporter))
        sinks, classes, made = _files(config, like, over, answers, max(side, SMALLEST_BLOCK), form, stack)
        stage = Stage(reporter, count, "Classifying", SHARED if rank.count > 1 else 0.0, form.phases.begin)
        tally = Tally(answers)
        with at_work():
            Keeper(kept, reader.read, source.values, [_Answering(answers, [tally, *sinks])]).run(planned(), stage)
        tell_unanswered(reporter, "step", tally.unanswered, tally.answered)
        if not tally.answered:
            kept.forget()  # resuming would not help
            raise _nothing(config, over, steps)
        finish_with(sinks, made, over)
    seconds, hectares = time.monotonic() - begun, None
    if classes is not None:
        tally.counts, hectares = classes.counts, classes.hectares
    tell_tally(reporter, "step", tally, seconds, like, hectares)
    return {
        "output": config.output,
        "probabilities": config.probabilities,
        **{name: getattr(config.measures, name) for name in config.measures.declared()},
        "polygons": config.regions.polygons,
        "areas": config.areas,
        "grid": config.grid,
        "table": None,
        "several": answers.several,
        **class_areas(like, header.classes, tally.counts, hectares),
        **tally.statistics,
        "answered": tally.answered,
        "seconds": seconds,
    }


def _files(
    config: ClassifyScenesConfig,
    like: RasterInfo,
    over: Window,
    answers: Answers,
    tile_size: int,
    form: Form,
    stack: ExitStack,
) -> tuple[list[FileSink[Batch | Piece, Answered]], ClassRaster | None, list[ClassFile]]:
    """Open the sinks that write the answers; also returns the raster of classes, if any, and what follows from it."""

    def numbers(found: Answered) -> np.ndarray:
        return found.laid_out(found.shares, np.nan)

    def classes(found: Answered) -> np.ndarray:
        return found.laid_out(answers.decide(found.shares), IGNORE_INDEX)

    def members(found: Answered) -> np.ndarray:
        return found.laid_out(answers.members(found.shares).astype(np.uint8), MembersRaster.NODATA)

    def measured(name: str, found: Answered) -> np.ndarray:
        values = torch.from_numpy(found.shares)
        if name in MEASURES:
            values = MEASURES[name](Scores(values.log()))
        return stored(torch.from_numpy(found.laid_out(values.numpy(), np.nan)), kind)

    common = like, over, answers.classes, tile_size
    files: list[FileSink[Batch | Piece, Answered]] = []
    kind = config.rasters.probability_type
    for name, path in {"probabilities": config.probabilities, **config.measures.wanted()}.items():
        if path:
            take = partial(measured, name)
            names = answers.classes.names if name == "probabilities" else [name]
            raster = ShareRaster(path, like, over, names, tile_size, take, kind, form, name in MEASURES)
            files.append(stack.enter_context(raster))
    if config.grid:
        files.append(stack.enter_context(_Grid(config, answers, like)))
    if config.output and isinstance(answers, Numbers):
        files.append(stack.enter_context(NumberRaster(config.output, like, over, tile_size, numbers, form)))
    elif config.output and answers.several:
        files.append(stack.enter_context(MembersRaster(config.output, *common, members, form)))
    elif config.output:
        refinement = plan_refinement(config.refining, ground_of(like, over), over._replace(col_off=0, row_off=0))
        target = stack.enter_context(ClassRaster(config.output, *common, classes, form, refinement))
        refinement.tell(form.phases.reporter)
        return [*files, target], target, class_files(config, target, stack)
    return files, None, []


class _Answering:
    """A `Sink` of the answers of the network, which can be kept, and from which others take what they need.

    Args:
        answers: How they are read.
        sinks: The others.
    """

    def __init__(self, answers: Answers, sinks: Sequence[Sink[Batch | Piece, Answered]]) -> None:
        self.answers, self.sinks = answers, sinks

    def take(self, logits: torch.Tensor) -> np.ndarray:
        """As `Sink.take`: (1, C, rows, cols)."""
        return shares(logits, self.answers)

    def write(self, work: Batch | Piece, taken: np.ndarray) -> None:
        """As `Sink.write`."""
        found = Answered.of(np.moveaxis(taken, 1, -1)[work.asked], work.asked)
        for sink in self.sinks:
            sink.write(work, sink.take(found))


class _Grid(AnswerTable):
    """A layer with one polygon per step, with its answer."""

    def __init__(self, config: ClassifyScenesConfig, answers: Answers, like: RasterInfo) -> None:
        self.like, style, path = like, grid_style(answers), not_none(config.grid)
        super().__init__(path, SCENE_LAYER, answers, crs=like.crs, style=style)
        beside = not keeps_style(path) and _why_no_sidecar(config) is None
        self.sidecar = marked(style, path) if beside else None

    def write(self, batch: Batch | Piece, found: Answered) -> None:
        """As `Sink.write`."""
        polygons = squares(self.like.grid, batch.tiles[0].core, found.known[0])
        self.add(self.answers.rows(found.shares), polygons)

    def finish(self) -> None:
        """As `FileSink.finish`; also writes the QGIS style beside the file if it belongs there."""
        super().finish()
        if self.sidecar is not None:
            self.draft.path.with_suffix(".qml").write_text(self.sidecar, encoding="utf-8")


def _check_space(config: ClassifyScenesConfig, over: Window, answers: Answers, reporter: Reporter) -> None:
    """Check that the outputs fit on the disk, and warn if there will be very many polygons.

    Raises:
        ResourceError: They do not fit, or a folder is not writable.
    """
    size, classes, copies = over.width * over.height, len(answers.classes), config.rasters.copies()
    passes = 2 * bool(config.refining.given())  # each reads one temporary raster and writes another
    share = size * np.dtype(config.rasters.probability_type).itemsize * PROBABILITY_SHARE * copies
    needed: dict[str | None, float] = {
        config.output: size * (classes * copies if answers.several else copies + passes) * CLASS_SHARE
        if not isinstance(answers, Numbers)
        else size * 4 * PROBABILITY_SHARE * copies,
        config.probabilities: share * classes,
        **dict.fromkeys(config.measures.wanted().values(), share),
        config.grid: size * (GRID_BYTES + 10 * classes),
        config.regions.polygons: 0,  # depends on the map
        config.areas: 0,
    }
    total = sum(count for path, count in needed.items() if path)
    for path in needed:
        if path:
            check_writable(path, int(total))
    if config.grid and size > MANY_POLYGONS:
        reporter.warning(
            f"The grid will have up to {size:,} polygons, which are slow to write and to draw. Give a larger STRIDE, "
            "or write a raster as OUTPUT instead."
        )
    why_not = _why_no_sidecar(config)
    if why_not is not None:
        reporter.log(f"No style is written beside {config.grid}: {why_not}. A GeoPackage can contain its style.")


def _why_no_sidecar(config: ClassifyScenesConfig) -> str | None:
    """Return why the grid gets no style beside it; None if it does, or needs none."""
    if not config.grid or keeps_style(config.grid):
        return None
    return why_not_beside(config.grid, (config.output, config.probabilities, *config.measures.wanted().values()))


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
