"""Rasters of shares, such as probabilities, and of numbers that a model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...rasters.raster_io import RasterInfo
from ...windows import Window
from ..answers.numbers import RAMP, Moments
from ..pipeline.finished import Finished
from ..settings import BYTE_NODATA, BYTE_STEPS
from . import style
from .map_raster import NUMBERS, Form, MapRaster, Take

BYTE_SHARES = ("INTERLEAVE=BAND", "PREDICTOR=2")


class ShareRaster(MapRaster):
    """A raster of shares from 0 to 1, such as probabilities, with its statistics.

    Takes (N, bands, rows, cols) values as `answers.measures.stored` returns them.

    Args:
        path, like, window, names, tile_size, take, form: As for `MapRaster`.
        kind: One of `SHARE_TYPES`.
        styled: Whether a style for its only band is written beside it.
    """

    def __init__(
        self, path: str, like: RasterInfo, window: Window, names: Sequence[str], tile_size: int, take: Take,
        kind: str = "float32", form: Form | None = None, styled: bool = False,
    ) -> None:  # fmt: skip
        self._styled, self._moments = styled, [Moments() for _ in names]
        self.scale = 1 / BYTE_STEPS if kind == "uint8" else None
        dtype: np.dtype[Any] = np.dtype(np.uint8 if kind == "uint8" else np.float32)
        nodata = BYTE_NODATA if kind == "uint8" else np.nan
        options: tuple[str, ...] = BYTE_SHARES if kind == "uint8" else NUMBERS
        # GDAL (3.6 at least) copies half floats to a COG only now and then, so there they stay floats of fewer digits.
        if kind == "float16" and not (form or Form()).cog:
            options = (*NUMBERS, "NBITS=16")
        super().__init__(path, like, window, dtype, nodata, names, tile_size, take, options, form)

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`."""
        if values.dtype == np.float16:
            values = values.astype(np.float32)  # GDAL cuts the surplus digits off, which are 0
        if wanted is not None:
            values[:, ~wanted] = self.nodata
        known = values != self.nodata if values.dtype == np.uint8 else np.isfinite(values)
        for moments, one, there in zip(self._moments, values, known):
            moments.add(one[there])
        super().write_tile(window, None, values)

    def _complete(self) -> None:
        for band, moments in zip(self.bands, self._moments):
            if moments.count:
                band.SetStatistics(*moments.figures.values())
        super()._complete()

    def _style(self, path: Path) -> None:
        if self._styled:
            style.write_ramp_qml(path, 0.0, 1.0, [(share, color, 255) for share, color in RAMP])


class NumberRaster(MapRaster):
    """A raster of numbers, NaN for nodata, with its statistics, and styled with a colour ramp.

    The values taken are (N, 1, rows, cols) float32; where they are not finite, the network gives no answer.
    """

    def __init__(
        self, path: str, like: RasterInfo, window: Window, tile_size: int, take: Take,
        form: Form | None = None,
    ) -> None:  # fmt: skip
        dtype = np.dtype(np.float32)
        super().__init__(path, like, window, dtype, np.nan, ["prediction"], tile_size, take, NUMBERS, form)
        self.unanswered = 0  # wanted pixels without a number
        self.moments = Moments()  # of these numbers

    @property
    def mapped(self) -> int:
        """The number of pixels with a number."""
        return self.moments.count

    @property
    def finished(self) -> Finished:
        """What its file says."""
        return Finished(self.facts or {}, [self.mapped], self.size - self.mapped, statistics=self.statistics)

    @property
    def statistics(self) -> dict[str, float]:
        """Minimum, maximum, mean and standard deviation; of at least one pixel."""
        return self.moments.figures

    def write_tile(self, window: Window, wanted: np.ndarray | None, values: np.ndarray) -> None:
        """As `MapRaster.write_tile`; adds up the statistics."""
        known = np.isfinite(values[0]) if wanted is None else np.isfinite(values[0]) & wanted
        values[0][~known] = np.nan
        self.unanswered += (known.size if wanted is None else np.count_nonzero(wanted)) - np.count_nonzero(known)
        self.moments.add(values[0][known])
        super().write_tile(window, None, values)

    def _complete(self) -> None:
        self.bands[0].SetStatistics(*self.statistics.values())
        super()._complete()

    def _style(self, path: Path) -> None:
        """A ramp over what lies within two standard deviations of the mean."""
        found = self.statistics
        low = max(found["minimum"], found["mean"] - 2 * found["std"])
        high = min(found["maximum"], found["mean"] + 2 * found["std"])
        style.write_ramp_qml(path, low, high, [(share, color, 255) for share, color in RAMP])
