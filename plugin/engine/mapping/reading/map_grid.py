"""A map on other pixels than those that are read: on the input's own, where it is read at another pixel size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...config import SegmentRasterConfig
from ...errors import InputError, NothingToMap
from ...events import Reporter
from ...models.header import ModelHeader
from ...rasters.images import open_image
from ...rasters.raster_io import RasterInfo
from ...rasters.resampled import NEAREST, find_taps
from ...windows import Grid, Window, tiles
from .checks import open_for

# Pixels a side of what is written at a time: a tile may cover many more pixels of the map than it has itself.
SIDE = 2048


def input_pixels(config: SegmentRasterConfig, header: ModelHeader) -> RasterInfo | None:
    """Return the raster with its own pixels, on which the map is to be written; None for those that are read.

    Args:
        config: Settings of the job.
        header: Header of the model file.

    Raises:
        InputError: The raster is rotated, so that no map has its pixels, or it cannot be opened.
    """
    if config.map_grid == "read":
        return None
    if not open_image(config.input, config.input_crs).look_at().upright:
        raise InputError(
            f"MAP_GRID is input, but {config.input} is rotated against its CRS, or placed by ground control points; "
            "maps are north-up.",
            "Set MAP_GRID to read, or warp the raster to north-up first.",
        )
    return open_for(header, config.input, config.input_crs, config.bands, Reporter(), None, config.more).info


class MapGrid:
    """The pixels of a map, each of which takes the values of the nearest pixel that is read.

    Where the pixels that are read end a part of a pixel before the raster, the last ones count to its edge.

    Args:
        info: The raster whose pixels the map has.
        read: The grid that is read, with the same axes.
        window: The part of that grid to map.

    Attributes:
        info: See above.
        window: The part of the raster that the map covers.

    Raises:
        NothingToMap: No pixel is in the part to map.
    """

    def __init__(self, info: RasterInfo, read: Grid, window: Window) -> None:
        own = info.grid
        self.info = info
        self._rows = _nearest((own.top - read.top) / read.step_y, own.step_y / read.step_y, own.height, read.height)
        self._cols = _nearest((own.left - read.left) / read.step_x, own.step_x / read.step_x, own.width, read.width)
        self.window = self._shown(window)
        if self.window.empty:
            raise NothingToMap(
                f"The part to map is smaller than a pixel of {info.path}.",
                "Choose a larger part, or set MAP_GRID to read.",
            )

    def parts(self, window: Window) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        """Yield parts of the map that together show a window of the pixels read.

        Args:
            window: The window.

        Yields:
            Window of the map's pixels, and the row and the column of each of them in `window`.
        """
        for part in tiles(self._shown(window), SIDE):
            rows = self._rows[part.row_off : part.row_end] - window.row_off
            yield part, rows, self._cols[part.col_off : part.col_end] - window.col_off

    def _shown(self, window: Window) -> Window:
        """The pixels that take their values from a window."""
        row, row_end = np.searchsorted(self._rows, [window.row_off, window.row_end]).tolist()
        col, col_end = np.searchsorted(self._cols, [window.col_off, window.col_end]).tolist()
        return Window(col, row, col_end - col, row_end - row)


def _nearest(start: float, scale: float, count: int, size: int) -> np.ndarray:
    return find_taps(NEAREST, start, scale, count, size).nearest
