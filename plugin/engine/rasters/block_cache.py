"""Size of GDAL's block cache while rasters are read."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from osgeo import gdal

from .raster_io import RasterReader

# A raster stored in strips is read across its full width for each window, so the cache should still hold the strips
# for the next window. Beyond the limit they are read again. Tiled rasters need little.
SMALLEST = 64 * 2**20
LARGEST = 512 * 2**20  # in a process of QGIS
LARGEST_IN_WORKER = 2**30


class _Wishes:
    """The cache sizes requested by the readers now active; the last to finish restores the original setting."""

    lock = threading.Lock()
    wanted: list[int] = []  # noqa: RUF012 (shared on purpose)
    before = 0


@contextmanager
def limited_cache(
    readers: Iterable[RasterReader], rows: int, in_worker: bool = False, least: int = SMALLEST
) -> Iterator[None]:
    """Limit GDAL's block cache while rasters are read; GDAL's default is 5 % of the machine's memory.

    Args:
        readers: The rasters to be read.
        rows: The largest height of a window, in pixels.
        in_worker: True in a process of our own; in QGIS the cache is never increased.
        least: Bytes that are needed in any case, for what is written.
    """
    needed = max([SMALLEST, least, *(reader.cache_bytes(rows) for reader in readers)])
    with _Wishes.lock:
        if not _Wishes.wanted:
            _Wishes.before = gdal.GetCacheMax()
        needed = min(needed, LARGEST_IN_WORKER if in_worker else min(LARGEST, _Wishes.before))
        _Wishes.wanted.append(needed)
        gdal.SetCacheMax(max(_Wishes.wanted))
    try:
        yield
    finally:
        with _Wishes.lock:
            _Wishes.wanted.remove(needed)
            gdal.SetCacheMax(max(_Wishes.wanted, default=_Wishes.before))
