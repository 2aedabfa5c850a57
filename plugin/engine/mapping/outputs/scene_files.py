"""The files that `classifyscenes` writes of a raster: their sinks, and what follows when all steps are answered."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import numpy as np
import torch

from ...classes import IGNORE_INDEX
from ...config import ClassifyScenesConfig
from ...device import Later
from ...drafts import check_writable
from ...errors import not_none
from ...events import Reporter
from ...rasters.raster_io import RasterInfo
from ...vector_files import keeps_style
from ...windows import Window
from ..answers.answers import Answered, Answers, Numbers, Tally
from ..answers.logits import taken
from ..answers.measures import MEASURES, Scores, stored
from ..pipeline.loop import FileSink, Sink
from ..pipeline.pieces import Piece
from ..reading.tile_reader import Batch
from .class_files import ClassFile, class_files, finish_with
from .class_rasters import ClassRaster, MembersRaster
from .ground import ground_of
from .layer_style import grid_style, marked, why_not_beside
from .map_raster import PROBABILITY_SHARE, SMALLEST_BLOCK, Form, class_share
from .number_rasters import NumberRaster, ShareRaster
from .phases import Phases
from .refining import plan_refinement
from .tables import SCENE_LAYER, AnswerTable, squares

MANY_POLYGONS = 1_000_000
GRID_BYTES = 250  # per polygon with its answers, in a GeoPackage


class SceneFiles:
    """The results of a job, closed at the end of `stack`; a `Sink` of the network's answers.

    What is taken of them can be kept; all files are made from that.

    Args:
        config: Settings of the job.
        answers: How the answers are read.
        like: The raster, as if its pixels were the steps.
        over: The steps to classify.
        side: Steps per side of the blocks that will be written.
        reporter: Receives progress and log lines.
        stack: Closes the files.

    Raises:
        InputError: A setting cannot be used.
        ResourceError: A file cannot be written.

    Attributes:
        phases: The work that follows when all steps are answered.
        tally: Counts the answers.
    """

    def __init__(
        self, config: ClassifyScenesConfig, answers: Answers, like: RasterInfo, over: Window, side: int,
        reporter: Reporter, stack: ExitStack,
    ) -> None:  # fmt: skip
        self.answers, self.phases, self.tally = answers, Phases(reporter), Tally(answers)
        self._over, self._kind = over, config.rasters.probability_type
        self._files: list[FileSink[Batch | Piece, Answered]] = []
        self._made: list[ClassFile] = []
        self._classes: ClassRaster | None = None
        form, tile_size = Form.of(config.rasters, self.phases), max(side, SMALLEST_BLOCK)
        common = like, over, answers.classes, tile_size
        for name, path in {"probabilities": config.probabilities, **config.measures.wanted()}.items():
            if path:
                names = answers.classes.names if name == "probabilities" else [name]
                take = partial(self._measured, name)
                raster = ShareRaster(path, like, over, names, tile_size, take, self._kind, form, name in MEASURES)
                self._files.append(stack.enter_context(raster))
        if config.grid:
            self._files.append(stack.enter_context(_Grid(config, answers, like)))
        if config.output and isinstance(answers, Numbers):
            numbers = NumberRaster(config.output, like, over, tile_size, self._numbers, form)
            self._files.append(stack.enter_context(numbers))
        elif config.output and answers.several:
            self._files.append(stack.enter_context(MembersRaster(config.output, *common, self._members, form)))
        elif config.output:
            refinement = plan_refinement(config.refining, ground_of(like, over), over._replace(col_off=0, row_off=0))
            self._classes = ClassRaster(config.output, *common, self._class_indices, form, refinement)
            self._files.append(stack.enter_context(self._classes))
            refinement.tell(reporter)
            self._made = class_files(config, self._classes, stack)

    def _numbers(self, found: Answered) -> np.ndarray:
        return found.laid_out(found.shares, np.nan)

    def _class_indices(self, found: Answered) -> np.ndarray:
        return found.laid_out(self.answers.decide(found.shares), IGNORE_INDEX)

    def _members(self, found: Answered) -> np.ndarray:
        return found.laid_out(self.answers.members(found.shares).astype(np.uint8), MembersRaster.NODATA)

    def _measured(self, name: str, found: Answered) -> np.ndarray:
        values = torch.from_numpy(found.shares)
        if name in MEASURES:
            values = MEASURES[name](Scores(values.log()))
        return stored(torch.from_numpy(found.laid_out(values.numpy(), np.nan)), self._kind).read()

    def take(self, logits: torch.Tensor) -> Later:
        """As `Sink.take`: (1, C, rows, cols)."""
        return taken(logits, self.answers)

    def write(self, work: Batch | Piece, taken: np.ndarray) -> None:
        """As `Sink.write`."""
        found = Answered.of(np.moveaxis(taken, 1, -1)[work.asked], work.asked)
        sinks: list[Sink[Batch | Piece, Answered]] = [self.tally, *self._files]
        for sink in sinks:
            sink.write(work, sink.take(found))

    @property
    def hectares(self) -> list[float] | None:
        """The area of each class on the ground; None if it is not known, or no raster of classes is written."""
        return None if self._classes is None else self._classes.hectares

    def finish(self) -> None:
        """Complete all files, then publish them; of a raster of classes, the tally then has its pixels.

        Raises:
            ResourceError: The disk is full or no longer available.
            Cancelled: The user cancelled the job, or QGIS has ended.
        """
        finish_with(self._files, self._made, self._over)
        if self._classes is not None:
            self.tally.counts = self._classes.counts


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


def check_space(config: ClassifyScenesConfig, over: Window, answers: Answers, reporter: Reporter) -> None:
    """Check that the outputs fit on the disk, and warn if there will be very many polygons.

    Raises:
        ResourceError: They do not fit, or a folder is not writable.
    """
    size, classes, copies = over.width * over.height, len(answers.classes), config.rasters.copies()
    passes = 2 * bool(config.refining.given())  # each reads one temporary raster and writes another
    share = size * np.dtype(config.rasters.probability_type).itemsize * PROBABILITY_SHARE * copies
    needed: dict[str | None, float] = {
        config.output: size
        * (classes * class_share(config.rasters) if answers.several else class_share(config.rasters, passes))
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
