"""Opens the raster of a mapping job, matches it to the model, and chooses the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from osgeo import gdal

from ...chips.features import Area
from ...config import ActivationMapsConfig, ClassifyFeaturesConfig, ClassifyScenesConfig, SegmentRasterConfig
from ...device import choose_device, describe_device, explain_memory, keep_memory
from ...errors import NothingToMap, not_none
from ...events import Reporter
from ...models.header import ModelHeader
from ...rasters.block_cache import limited_cache
from ...rasters.raster_io import RasterInfo, RasterReader, crs_text
from ...windows import Window
from .checks import check_not_input, compare_with_training, open_for
from .map_grid import MapGrid, input_pixels

# For rasters on servers: further tries where one is busy, after 1, 2, 4 and 8 seconds, and an end to endless waiting.
REMOTE = {
    "GDAL_HTTP_MAX_RETRY": "4", "GDAL_HTTP_RETRY_DELAY": "1", "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1", "GDAL_HTTP_LOW_SPEED_TIME": "60",
}  # fmt: skip
# Before GDAL 3.7.3, its threads that decompress a raster can wait forever for one that is being written, and that one
# for them (https://github.com/OSGeo/gdal/pull/8561).
READS_BESIDE_WRITING = 3070300


@dataclass(frozen=True)
class Opened:
    """An opened raster, and what is needed to map it."""

    raster: RasterReader  # its bands are in the order of the model's, its values in the units of training
    window: Window  # pixels to map
    device: torch.device
    map_grid: MapGrid | None = None  # pixels of the map; None for those to map

    @property
    def info(self) -> RasterInfo:
        """Properties of the raster."""
        return self.raster.info

    @property
    def shown(self) -> tuple[RasterInfo, Window]:
        """The raster whose pixels the map has, and the part of it that the map covers."""
        return (self.info, self.window) if self.map_grid is None else (self.map_grid.info, self.map_grid.window)

    def __str__(self) -> str:
        return f"{self.window.width} × {self.window.height} of {self.info.size_text} in {crs_text(self.info.crs)}"

    @contextmanager
    def at_work(self, rows: int, doing: str, remedy: str) -> Iterator[None]:
        """Work in which windows of up to `rows` rows are read and go through the network.

        Args:
            rows: Height of the windows in pixels, which sets the size of GDAL's cache.
            doing: What is done, for the message of `explain_memory`.
            remedy: What to do if memory is insufficient.
        """
        keep_memory()
        with explain_memory(self.device, doing, remedy), limited_cache([self.raster], rows, in_worker=True):
            yield

    @property
    def device_text(self) -> str:
        """Describe the device."""
        return describe_device(self.device)


def open_for_mapping(
    config: SegmentRasterConfig | ClassifyScenesConfig | ClassifyFeaturesConfig | ActivationMapsConfig,
    header: ModelHeader, outputs: Mapping[str, str | None], reporter: Reporter,
) -> Opened:  # fmt: skip
    """Open the raster of a job for a model, with all checks and warnings that need no network.

    Args:
        config: Settings of the job.
        header: Header of the model file.
        outputs: Path of each output by parameter; None is not written.
        reporter: Receives log lines and warnings.

    Raises:
        InputError: The raster cannot be opened, does not fit the model, would be overwritten, or the part to map is
            outside it.
        ResourceError: The device does not exist.
    """
    gdal.SetConfigOption("GDAL_NUM_THREADS", "ALL_CPUS" if int(gdal.VersionInfo()) >= READS_BESIDE_WRITING else "1")
    for name, value in REMOTE.items():
        gdal.SetConfigOption(name, value)
    more = config.more if isinstance(config, SegmentRasterConfig) else ()
    raster = open_for(header, not_none(config.input), config.input_crs, config.bands, reporter, config.pixel_size, more)
    check_not_input(outputs, raster, config.models, [path for path, _ in more])
    window = raster.info.grid.window
    if not isinstance(config, ClassifyFeaturesConfig):
        window = _part(raster.info, config.extent, config.area)
    map_grid = _map_grid(config, header, raster, window) if isinstance(config, SegmentRasterConfig) else None
    compare_with_training(raster, window, header, reporter)
    return Opened(raster, window, choose_device(config.device, reporter), map_grid)


def _map_grid(config: SegmentRasterConfig, header: ModelHeader, raster: RasterReader, window: Window) -> MapGrid | None:
    """Return the pixels of the map; None for those that are read."""
    info = input_pixels(config, header)
    return None if info is None or info.grid == raster.info.grid else MapGrid(info, raster.info.grid, window)


def _part(info: RasterInfo, extent: tuple[float, ...] | None, area: str | None) -> Window:
    """Return the window of the raster that the map covers.

    Raises:
        InputError: It is empty.
    """
    window = info.grid.window
    around = Area(area, info.grid).polygons.extent if area else None
    for bounds, name in ((extent, "extent"), (around, "area of interest")):
        if bounds is None:
            continue
        left, bottom, right, top = bounds
        window = window.intersection(info.grid.window_of((left, bottom, right, top)))
        if window.empty:
            raise NothingToMap(
                f"The {name} {_bounds_text(bounds)} is outside {info.path}, which covers "
                f"{_bounds_text(info.grid.bounds)}.",
                f"Choose an {name} within the raster.",
            )
    return window


def _bounds_text(bounds: tuple[float, ...]) -> str:
    return f"{bounds[0]:.9g}, {bounds[1]:.9g} to {bounds[2]:.9g}, {bounds[3]:.9g}"
