"""Feature maps and class activation over a raster.

Layers that look so far and no further go over the raster in tiles, see network_tiles.py and class_maps.py. What a
classifier says of a class, it says of a chip: there, and where layers look at all that they are shown or depend on the
chip size, maps of overlapping chips are blended, see blending.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch

from ..chips.features import Area
from ..config import ActivationMapsConfig
from ..drafts import check_writable
from ..errors import InputError
from ..events import Reporter, Stage
from ..models.header import ModelHeader
from ..models.networks import Segmenter
from ..models.normalisation import Normaliser
from ..raster_io import crs_text
from ..training.device import choose_device, describe_device, explain_memory
from ..windows import Window
from .blending import USUAL_OVERLAP, ChipBlender
from .checks import bands_text, compare_with_training, nodata_values, open_for
from .class_maps import ClassChips, ClassTiles, weigh
from .grad_cam import chip_activation, enlarged
from .network_tiles import FeatureTiles, spacing
from .outcome import number_of
from .outputs import check_not_input, limit_cache
from .pipeline import read_ahead, reading_thread
from .regions import MapSource, Region, RegionReader, spread
from .segment import PROBABILITY_SHARE, output_window
from .step_outputs import SMALLEST_BLOCK
from .steps import Steps
from .style import write_ramp_qml
from .taps import Tap
from .tiling import round_tile_size
from .writer import TiledRaster

# Tiles in which the weights of channels are looked for, at most, spread over the raster.
WEIGHT_TILES = 48
# The share of the progress that this gets.
WEIGHT_SHARE = 0.3
# From nothing over yellow to red, so that the image below shows where there is no activation.
HEAT = ((0.0, "#ffffb2", 0), (0.25, "#fecc5c", 120), (0.5, "#fd8d3c", 180), (1.0, "#bd0026", 230))


class ActivationRaster:
    """One raster on its way through a network that is listened to.

    Args:
        config: With `input` and `output`.
        tap: The network; on the device of the job from here on.
        header: Of its model file.
        target: The class whose activation is wanted; None for feature maps.

    Raises:
        InputError: The raster does not suit the model, or its part lies elsewhere.
        ResourceError: The device is not there.
    """

    def __init__(
        self, config: ActivationMapsConfig, tap: Tap, header: ModelHeader, target: int | None, reporter: Reporter
    ) -> None:
        self.config, self.tap, self.header, self.target, self.reporter = config, tap, header, target, reporter
        source = cast(str, config.input)
        self.output = cast(str, config.output)
        self.raster = open_for(header, source, config.input_crs, config.bands, reporter)
        self.info = self.raster.info
        check_not_input({"OUTPUT": self.output}, self.raster, config.model)
        area = Area(config.area, self.info.grid) if config.area else None
        self.window = output_window(self.info, config.extent, area)
        compare_with_training(self.raster, self.window, header, reporter)
        self.device = choose_device(config.device, reporter)
        tap.network.to(self.device)
        self.normalise = Normaliser(header.mean, header.std, self.device)

    def write(self) -> int:
        """Write the raster; gives the number of its bands.

        Raises:
            InputError: There is no data.
            ResourceError: The raster cannot be written, or memory is not enough.
            Cancelled: The user asked for the end, or is gone.
        """
        what = "Feature maps"
        if self.target is not None:
            what = f'Activation of "{self.header.classes.names[self.target]}"'
        self.reporter.log(
            f"{what} at {self.tap.title} of {self.header.architecture} over {self.window.width} × "
            f"{self.window.height} of {self.info.size_text} in {crs_text(self.info.crs)}, on "
            f"{describe_device(self.device)}."
        )
        source, unit, names = self._source()
        units = Steps(unit, unit, self.info.grid)
        area = Area(self.config.area, units.coarse) if self.config.area else None
        reader = RegionReader(self.raster, nodata_values(self.info, self.header), units, area, source)
        cells = units.over(self.window)
        tile_size = round_tile_size(min(self.config.tile_size, max(self.window.width, self.window.height)))
        side = max(1, tile_size // unit)
        blocks = list(units.blocks(cells, side))
        outer = source.outer(reader.tile_of(blocks[0]))
        limit_cache(self.raster, outer.height)
        doing = f"tiles of {outer.width} × {outer.height} pixels in {bands_text(len(self.info.bands))}"
        with explain_memory(self.device, doing, "Halve TILE_SIZE or BATCH_SIZE."):
            begin = self._weigh(source, reader, blocks) if isinstance(source, (ClassTiles, ClassChips)) else 0.0
            self._write(source, reader, blocks, max(side, SMALLEST_BLOCK), cells, names, begin)
        return len(names)

    def _source(self) -> tuple[MapSource, int, list[str]]:
        """What makes the maps, the pixels that a value stands for, and the names of the bands."""
        tap, config, target = self.tap, self.config, self.target
        bands, size = len(self.header.band_names), self.header.chip_size
        stride = config.stride or max(1, size // USUAL_OVERLAP)
        steps = Steps(size, stride, self.info.grid)
        if target is not None:
            names = [self._class_name(target)]
            if isinstance(tap.network, Segmenter) and not self.header.whole_window:
                return ClassTiles(tap, self.normalise, config.halo, target), 1, names
            self._tell_chips(steps)
            if isinstance(tap.network, Segmenter):
                return ClassChips(tap, steps, self.normalise, target, config.batch_size), 1, names
            return ChipBlender(steps, self.normalise, self._chip_activation, 1, config.batch_size), 1, names
        unit = spacing(tap, bands, self.device)
        found = tap.maps(torch.zeros(1, bands, size, size, device=self.device))
        channels = min(config.channels, found.shape[1])
        self.reporter.log(
            f"{tap.title[0].upper()}{tap.title[1:]}: {found.shape[1]} channels of {found.shape[2]} × {found.shape[3]} "
            f"for a chip of {size} × {size}; the first {channels} are written."
        )
        if config.channels > channels:
            self.reporter.log(f"CHANNELS is {config.channels}, and the layer has no more than {channels}.")
        names = [f"channel {number}" for number in range(1, channels + 1)]
        if unit is not None:
            self.reporter.log(f"A value stands for {unit} × {unit} pixels.")
            return FeatureTiles(tap, self.normalise, config.halo, unit, channels), unit, names
        self._tell_chips(steps)
        return ChipBlender(steps, self.normalise, self._chip_maps, channels, config.batch_size), 1, names

    def _class_name(self, target: int) -> str:
        return f"activation of {self.header.classes.names[target]}"

    def _tell_chips(self, steps: Steps) -> None:
        self.reporter.log(
            f"Chips of {steps.chip_size} pixels every {steps.stride} are blended, each with most weight in its middle."
        )
        if steps.stride > steps.chip_size:
            self.reporter.warning(
                f"STRIDE is {steps.stride} and chips are {steps.chip_size} pixels: the ground between them gets no "
                f"value. Give {steps.chip_size} or less."
            )

    def _chip_activation(self, chips: torch.Tensor) -> torch.Tensor:
        """(N, B, S, S) → (N, 1, S, S)."""
        return self._enlarged(chip_activation(self.tap, chips, self.target)[0][:, None])

    def _chip_maps(self, chips: torch.Tensor) -> torch.Tensor:
        """(N, B, S, S) → (N, K, S, S)."""
        return self._enlarged(self.tap.maps(chips)[:, : self.config.channels])

    def _enlarged(self, maps: torch.Tensor) -> torch.Tensor:
        size = self.header.chip_size
        covered = self.tap.covers(size)
        return enlarged(maps, (covered, covered), (size, size))

    def _weigh(self, source: ClassTiles | ClassChips, reader: RegionReader, blocks: list[Window]) -> float:
        """Let the channels be weighed; gives how much of the job is done then."""
        chosen = list(spread(blocks, WEIGHT_TILES))
        stage = Stage(self.reporter, len(chosen), "Weighing the channels", 0, WEIGHT_SHARE)
        pixels = weigh(source, self._regions(reader, chosen, stage))
        some = "" if len(chosen) == len(blocks) else f" of {len(blocks)}, spread over the raster"
        tiles = number_of(len(chosen), "tile")
        self.reporter.log(f"The channels are weighed in {tiles}{some}: {number_of(pixels, 'pixel')} of the class.")
        if not pixels:
            self.reporter.warning("The network sees the class nowhere in these tiles; all pixels are weighed instead.")
        return WEIGHT_SHARE

    def _regions(self, reader: RegionReader, blocks: list[Window], stage: Stage) -> Iterator[Region]:
        for block in blocks:
            region = reader.read(block)[1]
            if region.shown.any():
                yield region
            stage.advance()

    def _write(
        self, source: MapSource, reader: RegionReader, blocks: list[Window], side: int, cells: Window,
        names: list[str], begin: float,
    ) -> None:  # fmt: skip
        check_writable(self.output, int(cells.width * cells.height * 4 * len(names) * PROBABILITY_SHARE))
        like = dataclasses.replace(self.info, grid=reader.units.coarse)
        options = ("INTERLEAVE=BAND", "PREDICTOR=3")
        highest = -np.inf
        with TiledRaster(self.output, like, cells, np.dtype(np.float32), np.nan, names, side, options) as target:
            stage = Stage(self.reporter, len(blocks), "Mapping", begin, 1)
            with reading_thread() as thread:
                for block, region in read_ahead(thread, reader.read, blocks):
                    if not region.shown.any():
                        stage.advance()
                    else:
                        values = source.values(region, stage.advance)
                        values[:, ~region.shown] = np.nan
                        if np.isfinite(values).any():
                            highest = max(highest, float(np.nanmax(values)))
                            target.write(block, values)
            if not np.isfinite(highest):
                raise InputError(
                    f"{self.info.path} has no data in the area to map.",
                    "Choose another raster, extent or area; check the raster's nodata value.",
                )
            target.close()
            if self.target is not None:
                self._style(target, highest)
            target.publish()

    def _style(self, target: TiledRaster, highest: float) -> None:
        write_ramp_qml(target.draft.path.with_suffix(".qml"), 0.0, max(highest, 1e-6), HEAT)
        name = self.header.classes.names[self.target] if self.target is not None else ""
        if highest <= 0:
            self.reporter.warning(f'Nothing in the raster speaks for "{name}": its activation is 0 everywhere.')
        else:
            self.reporter.log(f'The activation of "{name}" reaches {highest:.3g}.')
