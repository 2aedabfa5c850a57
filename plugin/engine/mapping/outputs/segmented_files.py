"""The files that `segmentraster` writes: their sinks, and what follows when all pixels are mapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...config import SegmentRasterConfig
from ...device import Later
from ...drafts import check_writable
from ...errors import InputError, NothingToMap, ResourceError, not_none
from ...events import Reporter
from ...models.header import ModelHeader
from ...rasters.raster_io import RasterInfo
from ...windows import Window
from ..answers.logits import in_units
from ..answers.measures import MEASURES, Scores, all_classes, stored, sure_classes
from ..answers.outcome import number_of, shares_text, tell_unanswered
from ..pipeline.loop import Advance, Sink
from ..pipeline.pieces import Piece
from ..reading.opening import Opened
from ..reading.tile_reader import Batch
from .class_files import ClassFile, class_files, finish_with
from .class_rasters import ClassRaster
from .ground import ground_of
from .map_raster import PROBABILITY_SHARE, Form, MapRaster, class_share
from .names import segmentation_outputs
from .number_rasters import NumberRaster, ShareRaster
from .on_map_grid import OnMapGrid
from .phases import Phases
from .refining import plan_refinement

# Turns what the network says of a batch into what a raster is written from.
_Take = Callable[[Scores], Later]


class SegmentedFiles:
    """The results of a job, closed at the end of `stack`.

    Args:
        config: Settings of the job.
        header: Header of the model file.
        opened: The raster.
        tile_size: Size of the tiles that will be written.
        reporter: Receives progress and log lines.
        stack: Closes the files.

    Raises:
        InputError: A setting cannot be used.
        ResourceError: A file cannot be written.
    """

    def __init__(
        self, config: SegmentRasterConfig, header: ModelHeader, opened: Opened, tile_size: int, reporter: Reporter,
        stack: ExitStack,
    ) -> None:  # fmt: skip
        self.config, self.reporter, self.phases = config, reporter, Phases(reporter)
        (info, window), classes, self._grid = opened.shown, header.classes, opened.map_grid
        form = Form.of(config.rasters, self.phases)
        outputs = segmentation_outputs(config)
        _check_space(outputs, config, window, header)
        self._window = window
        self.rasters: list[MapRaster] = []
        self._made: list[ClassFile] = []
        self.target: ClassRaster | NumberRaster
        takes = takes_of(config, header)
        decide = takes.pop("output")
        if header.target is not None:
            self.target = stack.enter_context(NumberRaster(config.output, info, window, tile_size, decide, form))
            self.rasters.append(self.target)
            return
        paths = {"probabilities": config.probabilities, **config.measures.wanted()}
        for name, take in takes.items():
            names, kind = classes.names if name == "probabilities" else [name], config.rasters.probability_type
            shares = ShareRaster(
                not_none(paths[name]), info, window, names, tile_size, take, kind, form, styled=name in MEASURES
            )
            self.rasters.append(stack.enter_context(shares))
        refinement = plan_refinement(config.refining, ground_of(info, window), Window(0, 0, *window[2:]))
        raster = ClassRaster(config.output, info, window, classes, tile_size, decide, form, refinement)
        self.target = stack.enter_context(raster)
        self.rasters.append(raster)
        self._made = class_files(config, raster, stack)
        refinement.tell(reporter)

    @property
    def sinks(self) -> Sequence[Sink[Batch | Piece, Scores]]:
        """What receives the map, in the order of `takes_of`."""
        return self.rasters if self._grid is None else [OnMapGrid(raster, self._grid) for raster in self.rasters]

    def check_mapped(self, opened: Opened) -> None:
        """Report the pixels that have no class or number, although they have data.

        Args:
            opened: The raster, for messages.

        Raises:
            InputError: No pixel has one.
            NothingToMap: No pixel has data.
        """
        target = self.target
        if isinstance(target, ClassRaster) and target.unsure:
            problem = f"{number_of(target.unsure, 'pixel')} have a lower confidence than MIN_CONFIDENCE"
            if not target.mapped:
                raise InputError(f"All {problem}.", "Give a smaller MIN_CONFIDENCE.")
            self.reporter.log(f"{problem} and get no class.")
        tell_unanswered(self.reporter, "pixel", target.unanswered, target.mapped)
        if not target.mapped:
            raise NothingToMap(
                f"{opened.info.path} has no data in the area to map: all of its {opened.window.width} × "
                f"{opened.window.height} pixels are nodata or masked.",
                "Choose another raster, extent or area; check the raster's nodata value.",
            )

    def summary(self, info: RasterInfo) -> str:
        """Describe the map: its numbers, or the shares of its classes.

        Args:
            info: The raster whose pixels it has.
        """
        target = self.target
        if isinstance(target, NumberRaster):
            return str(target.moments)
        return shares_text(target.classes, target.counts, target.mapped, info, target.hectares)

    def finish(self) -> None:
        """Complete all files, then publish them.

        Raises:
            ResourceError: The disk is full or no longer available.
            Cancelled: The user cancelled the job, or QGIS has ended.
        """
        finish_with(self.rasters, self._made, self._window)


def takes_of(config: SegmentRasterConfig, header: ModelHeader) -> dict[str, _Take]:
    """Return what each raster takes of the `Scores` of a batch, by its setting, in the order of the sinks."""
    if header.target is not None:
        return {"output": _in_units(header.target)}
    wanted = {"probabilities": config.probabilities, **config.measures.wanted()}
    kind, least = config.rasters.probability_type, config.refining.min_confidence
    takes: dict[str, _Take] = {
        name: partial(_shares, MEASURES.get(name), kind) for name, path in wanted.items() if path
    }
    takes["output"] = partial(sure_classes, least=least) if least else all_classes
    return takes


def scored(values: Callable[[Batch, Advance], torch.Tensor], outputs: int) -> Callable[[Batch, Advance], Scores]:
    """Turn a source's values, of which the first `outputs` are logits, into what the sinks of this module take."""

    def found(batch: Batch, advance: Advance) -> Scores:
        both = values(batch, advance)
        return Scores(both[:, :outputs], both[:, outputs:] if both.shape[1] > outputs else None)

    return found


def _shares(measure: Callable[[Scores], torch.Tensor] | None, kind: str, scores: Scores) -> Later:
    """Return (N, K, H, W) as stored: probabilities, or a measure of them."""
    return stored(scores.probabilities if measure is None else measure(scores), kind)


def _check_space(
    outputs: dict[str, str | None], config: SegmentRasterConfig, window: Window, header: ModelHeader
) -> None:
    """Check that the results fit on the disk.

    Raises:
        ResourceError: They do not fit, or a folder is not writable.
    """
    table, copies = header.classes, config.rasters.copies()
    share = np.dtype(config.rasters.probability_type).itemsize * PROBABILITY_SHARE * copies
    a_pixel = dict.fromkeys(outputs, share)
    a_pixel["PROBABILITIES"] = share * len(table)
    a_pixel["POLYGONS"] = a_pixel["AREAS"] = 0  # depends on the map
    a_pixel["OUTPUT"] = 4 * PROBABILITY_SHARE * copies
    if header.target is None:
        passes = 2 * bool(config.refining.given())  # each reads one temporary raster and writes another
        a_pixel["OUTPUT"] = table.mask_dtype(table.free_value()).itemsize * class_share(config.rasters, passes)
    size = window.width * window.height
    needed = sum(int(size * a_pixel[name]) for name, path in outputs.items() if path)
    for path in outputs.values():
        if path:
            check_writable(path, needed)
            if Path(path).is_dir():
                raise ResourceError(f"{path} is a folder.", "Give the name of a file.")


def _in_units(target: dict[str, float]) -> _Take:
    """Return what turns standardised values (N, 1, H, W) into float32 in the units of the target."""
    return lambda scores: Later(in_units(scores.logits, target))
