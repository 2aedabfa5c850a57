"""Feature maps and class activation over a raster.

Layers with a limited receptive field are mapped tile by tile. In all other cases, the maps of overlapping chips are
blended: classifiers predict classes of chips, and some layers see their whole input or depend on the chip size. See
sources.py, and class_maps.py for segmentation networks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from ...config import ActivationMapsConfig
from ...device import Later
from ...drafts import check_writable
from ...errors import InputError
from ...events import Reporter, Stage
from ...models.header import ModelHeader
from ...models.networks import Segmenter
from ...models.normalisation import Normaliser
from ...windows import Window
from ..answers.outcome import number_of
from ..outputs.map_raster import NUMBERS, PROBABILITY_SHARE, SMALLEST_BLOCK, Form, MapRaster
from ..outputs.phases import Phases
from ..outputs.style import write_ramp_qml
from ..pipeline.calculation import Keeper
from ..pipeline.fingerprint import facts_of
from ..pipeline.keeping import Unit, kept_beside, plan_units
from ..pipeline.loop import Advance, finish, run
from ..reading.checks import bands_text
from ..reading.opening import Opened, open_for_mapping
from ..reading.steps import Steps
from ..reading.tile_reader import Batch, TileReader
from ..reading.tiling import round_tile_size
from ..sources.blended import USUAL_OVERLAP, ChipSource
from ..sources.source import Maps
from ..sources.tiles import TileSource
from .class_maps import ClassWeights
from .grad_cam import chip_activation, enlarged
from .taps import Tap, spacing

# Maximum number of tiles used to compute the weights of channels, spread over the raster.
WEIGHT_TILES = 48
# The share of the progress that this step gets.
WEIGHT_SHARE = 0.3
# Transparent over yellow to red, so that the image below is visible where there is no activation.
HEAT = ((0.0, "#ffffb2", 0), (0.25, "#fecc5c", 120), (0.5, "#fd8d3c", 180), (1.0, "#bd0026", 230))


def write_activation(
    config: ActivationMapsConfig, tap: Tap, header: ModelHeader, target: int | None, reporter: Reporter
) -> int:
    """Write feature maps, or the activation of a class, over a raster.

    Args:
        config: Settings with `input` and `output`.
        tap: The network; it is moved to the device of the job.
        header: Header of the model file.
        target: Index of the class whose activation is mapped; None for feature maps.
        reporter: Receives progress and log lines.

    Returns:
        The number of bands written.

    Raises:
        InputError: The raster does not fit the model, the part to map is outside it, or there is no data.
        ResourceError: The device does not exist, the raster cannot be written, or memory is insufficient.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    output = cast(str, config.output)
    opened = open_for_mapping(config, header, {"OUTPUT": output}, reporter)
    tap.network.to(opened.device)
    what = "Feature maps" if target is None else f'Activation of "{header.classes.names[target]}"'
    reporter.log(f"{what} at {tap.title} of {header.architecture} over {opened}, on {opened.device_text}.")
    maps = _Maker(config, tap, header, opened, reporter).make(target)
    source, unit = maps.source, maps.unit
    steps, window = Steps(unit, unit, opened.info.grid), opened.window
    reader = TileReader(opened.raster, steps, config.area)
    cells = steps.over(window)
    side = max(1, round_tile_size(min(config.tile_size, max(window.width, window.height))) // unit)
    planned = list(plan_units(steps.blocks(cells, side), source.outer))
    outer, count = planned[0].tiles.tiles[0].outer, cells.width * cells.height
    doing = f"tiles of {outer.width} × {outer.height} pixels in {bands_text(len(opened.info.bands))}"
    facts, example = partial(facts_of, config, opened.device), np.zeros((1, len(maps.names), 1, 1), np.float32)
    with (
        kept_beside(output, config.resume, facts, count, [example], reporter) as kept,
        opened.at_work(outer.height, doing, "Halve TILE_SIZE or BATCH_SIZE."),
    ):
        kept.plan(count)
        if maps.weights is not None:
            weigh = partial(_weigh, maps.weights, source, reader, planned, reporter)
            maps.weights.take(kept.decisions.settle("weights", weigh, maps.weights.fits), opened.device)
        check_writable(output, int(count * 4 * len(maps.names) * PROBABILITY_SHARE))
        like = dataclasses.replace(opened.info, grid=steps.coarse)
        form = Form.of(config.rasters, Phases(reporter))
        with _Raster(
            output, like, cells, np.dtype(np.float32), np.nan, maps.names, max(side, SMALLEST_BLOCK),
            Later, NUMBERS, form,
        ) as raster:  # fmt: skip
            raster.heat = target is not None
            start = 0 if maps.weights is None else WEIGHT_SHARE
            stage = Stage(reporter, count, "Mapping", start, form.phases.begin)
            Keeper(kept, reader.read, source.values, [raster]).run(planned, stage)
            if not np.isfinite(raster.highest):
                kept.forget()  # resuming would not help
                raise InputError(
                    f"{opened.info.path} has no data in the area to map.",
                    "Choose another raster, extent or area; check the raster's nodata value.",
                )
            finish([raster])
    if target is not None and raster.highest <= 0:
        name = header.classes.names[target]
        reporter.warning(f'The activation of "{name}" is 0 everywhere: nothing in the raster supports this class.')
    elif target is not None:
        reporter.log(f'The activation of "{header.classes.names[target]}" reaches {raster.highest:.3g}.')
    return len(maps.names)


@dataclass(frozen=True)
class _Making:
    """How a raster of maps is computed."""

    source: TileSource | ChipSource
    names: list[str]  # of the bands
    unit: int = 1  # pixels per value
    weights: ClassWeights | None = None  # computed in advance


class _Maker:
    """Chooses how the maps of a network are computed."""

    def __init__(
        self, config: ActivationMapsConfig, tap: Tap, header: ModelHeader, opened: Opened, reporter: Reporter
    ) -> None:
        self.config, self.tap, self.header, self.opened, self.reporter = config, tap, header, opened, reporter
        self.normalise = Normaliser(header.mean, header.std, opened.device)

    def make(self, target: int | None) -> _Making:
        """Return how the activation of a class is computed; how feature maps are, if `target` is None."""
        if target is None:
            return self._features()
        names = [f"activation of {self.header.classes.names[target]}"]
        if not isinstance(self.tap.network, Segmenter):
            return _Making(self._chips(lambda chips: self._chip_activation(chips, target), 1), names)
        weights = ClassWeights(self.tap, target, self._maps_of_a_chip().shape[1])
        if self.header.whole_window:
            return _Making(self._chips(weights.activation, 1), names, weights=weights)
        return _Making(TileSource(weights.activation, self.normalise, self.config.halo), names, weights=weights)

    def _features(self) -> _Making:
        tap, bands, size = self.tap, len(self.header.band_names), self.header.chip_size
        unit = spacing(tap, bands, self.opened.device)
        found = self._maps_of_a_chip()
        channels = min(self.config.channels, found.shape[1])
        self.reporter.log(
            f"{tap.title[0].upper()}{tap.title[1:]}: {found.shape[1]} channels of {found.shape[2]} × {found.shape[3]} "
            f"for a chip of {size} × {size}; the first {channels} are written."
        )
        if self.config.channels > channels:
            self.reporter.log(f"CHANNELS is {self.config.channels}, but the layer has only {channels}.")
        names = [f"channel {number}" for number in range(1, channels + 1)]
        if unit is None:
            return _Making(self._chips(lambda chips: self._enlarged(tap.maps(chips)[:, :channels]), channels), names)
        self.reporter.log(f"Each value stands for {unit} × {unit} pixels.")
        source = TileSource(lambda images: tap.maps(images)[:, :channels], self.normalise, self.config.halo, unit)
        return _Making(source, names, unit)

    def _maps_of_a_chip(self) -> torch.Tensor:
        """(1, F, h, w) maps of an image of the size of a chip."""
        size = self.header.chip_size
        return self.tap.maps(torch.zeros(1, len(self.header.band_names), size, size, device=self.opened.device))

    def _chips(self, maps: Maps, channels: int) -> ChipSource:
        size = self.header.chip_size
        stride = self.config.stride or max(1, size // USUAL_OVERLAP)
        self.reporter.log(f"Chips of {size} pixels every {stride} are blended, each weighted most at its centre.")
        if stride > size:
            self.reporter.warning(
                f"STRIDE is {stride} but chips are {size} pixels wide: the ground between them gets no value. Give "
                f"{size} or less."
            )
        steps = Steps(size, stride, self.opened.info.grid)
        return ChipSource(steps, self.normalise, maps, channels, self.config.batch_size)

    def _chip_activation(self, chips: torch.Tensor, target: int) -> torch.Tensor:
        """(N, B, S, S) → (N, 1, S, S)."""
        return self._enlarged(chip_activation(self.tap, chips, target)[0][:, None])

    def _enlarged(self, maps: torch.Tensor) -> torch.Tensor:
        size = self.header.chip_size
        covered = self.tap.covers(size)
        return enlarged(maps, (covered, covered), (size, size))


def _weigh(
    weights: ClassWeights, source: TileSource | ChipSource, reader: TileReader, planned: list[Unit], reporter: Reporter
) -> list[float]:
    """Return the weights of the channels, computed from some of the tiles, spread over the raster."""
    count = min(WEIGHT_TILES, len(planned))
    chosen = [planned[(2 * number + 1) * len(planned) // (2 * count)].tiles for number in range(count)]

    def look(batch: Batch, advance: Advance) -> None:
        weights.look(source, batch)
        advance(1)

    stage = Stage(reporter, sum(map(len, chosen)), "Computing the weights of the channels", 0, WEIGHT_SHARE)
    run(chosen, reader.read, look, [], stage)
    found, pixels = weights.settle()
    some = "" if count == len(planned) else f" of {len(planned)}, spread over the raster"
    reporter.log(
        f"The weights of the channels come from {number_of(count, 'tile')}{some}: {number_of(pixels, 'pixel')} of the "
        "class."
    )
    if not pixels:
        reporter.warning(
            "The network does not find the class in these tiles; the weights come from all pixels instead."
        )
    return found


class _Raster(MapRaster):
    """A raster of maps that keeps track of its highest value."""

    heat = False  # whether it is styled as class activation
    highest = -np.inf

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`; tiles without a value are not written."""
        if wanted is not None:
            values[:, ~wanted] = np.nan
        if np.isfinite(values).any():
            self.highest = max(self.highest, float(np.nanmax(values)))
            super().write_tile(window, None, values)

    def _style(self, path: Path) -> None:
        if self.heat:
            write_ramp_qml(path, 0.0, max(self.highest, 1e-6), HEAT)
