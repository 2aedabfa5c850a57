"""What is written of a classifier's answers over a raster: rasters whose pixels are the steps, and a grid."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack

import numpy as np

from ..classes import IGNORE_INDEX
from ..config import ClassifyScenesConfig
from ..drafts import check_writable, publish
from ..events import Reporter
from ..raster_io import RasterInfo
from ..vector_files import keeps_style
from ..windows import Window
from .answers import Answers, has_numbers
from .layer_style import grid_style, marked, why_not_beside
from .segment import CLASS_SHARE, PROBABILITY_SHARE
from .step_reader import StepBlock
from .tables import SCENE_LAYER, Table, squares
from .writer import ClassRaster, MembersRaster, ProbabilityRaster

# GeoTIFF blocks are at least this large, however few steps are calculated at once.
SMALLEST_BLOCK = 128
MANY_POLYGONS = 1_000_000
GRID_BYTES = 250  # of a polygon with its answers, in a GeoPackage


def check_space(config: ClassifyScenesConfig, over: Window, answers: Answers, reporter: Reporter) -> None:
    """Whether what will be written fits on the disk; a word where it will be a great many polygons.

    Raises:
        ResourceError: It does not, or nothing can be written there.
    """
    size, classes = over.width * over.height, len(answers.classes)
    needed = {
        config.output: size * (classes if answers.several else 1) * CLASS_SHARE,
        config.probabilities: size * classes * 4 * PROBABILITY_SHARE,
        config.grid: size * (GRID_BYTES + 10 * classes),
    }
    total = sum(count for path, count in needed.items() if path)
    for path in needed:
        if path:
            check_writable(path, int(total))
    if config.grid and size > MANY_POLYGONS:
        reporter.warning(
            f"The grid will have up to {size:,} polygons, which is slow to write and to draw. Give a larger STRIDE, or "
            "a raster as OUTPUT instead."
        )
    why_not = _why_no_sidecar(config)
    if why_not is not None:
        reporter.log(
            f"No style is written beside {config.grid}: {why_not}. A GeoPackage would hold its style in itself."
        )


def _why_no_sidecar(config: ClassifyScenesConfig) -> str | None:
    """Why the grid gets no style beside it; None where it does, or where it needs none there."""
    if not config.grid or keeps_style(config.grid):
        return None
    return why_not_beside(config.grid, (config.output, config.probabilities))


class StepOutputs:
    """All that is written of the answers; published together."""

    def __init__(
        self, config: ClassifyScenesConfig, like: RasterInfo, over: Window, answers: Answers, side: int,
        stack: ExitStack,
    ) -> None:  # fmt: skip
        self.answers, self.like = answers, like
        self.counts = np.zeros(len(answers.classes), np.int64)
        self.answered = 0
        self.unanswered = 0  # steps for which the network gives no numbers
        common = like, over, answers.classes, max(side, SMALLEST_BLOCK)
        self.values: ClassRaster | None = None
        self.members: MembersRaster | None = None
        self.shares: ProbabilityRaster | None = None
        self.grid: Table | None = None
        self.sidecar: str | None = None
        if config.output and answers.several:
            self.members = stack.enter_context(MembersRaster(config.output, *common))
        elif config.output:
            self.values = stack.enter_context(ClassRaster(config.output, *common))
        if config.probabilities:
            self.shares = stack.enter_context(ProbabilityRaster(config.probabilities, *common))
        if config.grid:
            style = grid_style(answers)
            self.grid = stack.enter_context(Table(config.grid, SCENE_LAYER, answers.fields(), like.crs, style))
            if not keeps_style(config.grid) and _why_no_sidecar(config) is None:
                self.sidecar = marked(style, config.grid)

    def write(self, block: StepBlock, shares: np.ndarray) -> None:
        """Write the (n, C) probabilities of the steps that a block wants, and what follows from them."""
        known = has_numbers(shares)
        if not known.all():
            wanted = block.wanted.copy()
            wanted[block.wanted] = known
            block, shares = dataclasses.replace(block, wanted=wanted), shares[known]
            self.unanswered += int(np.count_nonzero(~known))
        members = self.answers.members(shares)  # (n, C)
        self.counts += members.sum(axis=0)
        self.answered += len(shares)
        if self.values is not None:
            indices = np.full(block.wanted.shape, IGNORE_INDEX, np.uint8)
            indices[block.wanted] = self.answers.decide(shares)
            self.values.write_indices(block.steps, indices)
        if self.members is not None:
            shown = np.full((len(self.counts), *block.wanted.shape), MembersRaster.NODATA, np.uint8)
            shown[:, block.wanted] = members.T
            self.members.write(block.steps, shown)
        if self.shares is not None:
            found = np.full((len(self.counts), *block.wanted.shape), np.nan, np.float32)
            found[:, block.wanted] = shares.T
            self.shares.write(block.steps, found)
        if self.grid is not None:
            self.grid.add(self.answers.rows(shares), squares(self.like.grid, block.steps, block.wanted))

    def publish(self) -> None:
        """Finish all files, then give them their names."""
        if self.values is not None:
            self.values.finish(self.counts)
        if self.members is not None:
            self.members.finish()
        if self.shares is not None:
            self.shares.close()
        if self.grid is not None:
            self.grid.close()
            if self.sidecar is not None:
                self.grid.draft.path.with_suffix(".qml").write_text(self.sidecar, encoding="utf-8")
        outputs = (self.shares, self.grid, self.values, self.members)
        publish(*(output.draft for output in outputs if output is not None))
