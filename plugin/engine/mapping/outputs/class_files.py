"""The files that follow from a finished raster of classes: polygons of its regions, and the areas of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Union

from ...config import ClassifyScenesConfig, SegmentRasterConfig
from ...drafts import publish
from ...rasters.block_cache import limited_cache
from ...windows import Window
from ..pipeline.loop import FileSink
from .area_table import AreaTable
from .class_rasters import ClassRaster
from .polygons import PolygonsFile

# Rows of blocks that GDAL keeps while it reads and writes a finished raster line by line.
CACHED_ROWS = 4 * 512

ClassFile = Union[PolygonsFile, AreaTable]


def class_files(
    config: SegmentRasterConfig | ClassifyScenesConfig, raster: ClassRaster, stack: ExitStack
) -> list[ClassFile]:
    """Create the files that the settings ask for; they are to be finished after the raster.

    Args:
        config: Settings of the job.
        raster: The raster of classes.
        stack: Closes the files.

    Raises:
        InputError: A setting cannot be used.
        ResourceError: A file cannot be created.
    """
    files: list[ClassFile] = []
    if config.regions.polygons:
        files.append(PolygonsFile(config.regions.polygons, raster, config.regions, config.refining))
        stack.enter_context(files[-1])
    if config.areas:
        files.append(AreaTable(config.areas, raster))
        stack.enter_context(files[-1])
    return files


def finish_with(sinks: Sequence[FileSink[Any, Any]], files: Sequence[ClassFile], window: Window) -> None:
    """Complete the files of a job, then publish them together.

    Args:
        sinks: Written while the raster was mapped.
        files: Follow from one of them.
        window: What is mapped.

    Raises:
        ResourceError: The disk is full or no longer available.
        Cancelled: The user cancelled the job, or QGIS has ended.
    """
    with limited_cache([], CACHED_ROWS, in_worker=True, least=CACHED_ROWS * window.width):
        for file in (*sinks, *files):
            file.finish()
        publish(*(file.draft for file in (*files, *sinks)))
