"""The bands of several rasters on one grid, read as one raster."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np

from ..windows import Window
from .raster_io import AS_MEASURED, RasterInfo, RasterReader, Scale


class StackReader(RasterReader):
    """Reads windows of bands from several rasters.

    Each band keeps its own nodata value. Where a raster without nodata values is masked, the whole stack is: its mask
    is the intersection of all masks.

    Args:
        base: The raster that defines the grid.
        parts: Readers on that grid; the bands of the first come first.
        name: The name of the stack in messages.
        numbers: The band numbers shown to the user.
        band_names: The names of the bands.
    """

    def __init__(
        self,
        base: RasterReader,
        parts: list[RasterReader],
        name: str,
        numbers: tuple[int, ...],
        band_names: tuple[str, ...],
    ) -> None:
        self.name, self.source = name, base.source
        self.base, self.parts = base, parts
        self._masks = list({reader.source: reader for reader in (base, *parts)}.values())
        self.info = RasterInfo(
            path=name,
            grid=base.info.grid,
            bands=numbers,
            band_names=band_names,
            dtype=np.result_type(*{part.info.dtype for part in parts}),
            nodata=tuple(value for part in parts for value in part.info.nodata),
            crs=base.info.crs,
            scales=_joined_scales(parts),
        )

    def files(self) -> list[str]:
        """The files of all rasters."""
        return [file for reader in (self.base, *self.parts) for file in reader.files()]

    def close(self) -> None:
        """Close all files."""
        for reader in (self.base, *self.parts):
            reader.close()

    def read(self, window: Window, out: Optional[np.ndarray] = None) -> np.ndarray:
        """Read a window: (C, H, W) in a data type that can hold the values of all bands."""
        if out is None:
            out = self.buffer(window)
        begin = 0
        for part in self.parts:
            end = begin + len(part.info.bands)
            part.read(window, out[begin:end])
            begin = end
        return out

    def read_marked(self, window: Window, out: Optional[np.ndarray] = None) -> tuple[np.ndarray, Optional[np.ndarray]]:
        """Read a window, and mark its missing values; see `RasterReader`."""
        if out is None:
            out = self.buffer(window)
        missing = np.zeros(out.shape, bool)
        begin = 0
        for part in self.parts:
            end = begin + len(part.info.bands)
            _, gaps = part.read_marked(window, out[begin:end])
            if gaps is not None:
                missing[begin:end] = gaps
            begin = end
        return out, missing if missing.any() else None

    def shown(self, window: Window) -> Optional[np.ndarray]:
        """(H, W) bool, true where the masks of all rasters are not 0; None for all pixels."""
        found: Optional[np.ndarray] = None
        for reader in self._masks:
            shown = reader.shown(window)
            if shown is not None:
                found = shown if found is None else found & shown
        return found

    def cache_bytes(self, rows: int) -> int:
        """The bytes of cache for all rasters; see `RasterReader`."""
        return sum(part.cache_bytes(rows) for part in self.parts)


def _joined_scales(parts: list[RasterReader]) -> tuple[Scale, ...]:
    if not any(part.info.scales for part in parts):
        return ()
    return tuple(scale for part in parts for scale in part.info.scales or (AS_MEASURED,) * len(part.info.bands))


def stack_names(rasters: list[RasterInfo]) -> list[str]:
    """Distinct band names for several rasters; the file name is added to names that are ambiguous or generic."""
    plain = [name for info in rasters for name in info.band_names]
    names: list[str] = []
    for info in rasters:
        stem = Path(info.path).stem or info.path
        for number, name in zip(info.bands, info.band_names):
            generic = name == f"band {number}"
            if generic and len(info.bands) == 1:
                name = stem
            elif generic or plain.count(name) > 1:
                name = f"{stem} {name}"
            while name in names:
                name += " (2)"
            names.append(name)
    return names
