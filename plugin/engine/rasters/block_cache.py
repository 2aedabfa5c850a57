"""How much GDAL keeps of the rasters that it reads: enough, and no more for a larger raster."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from osgeo import gdal

from .raster_io import RasterReader

# A raster in strips is read across its whole width for each window, so the next window should find the strips again;
# beyond the limit they are read anew, and memory stays what it is. For one in blocks a little is enough.
SMALLEST, LARGEST = 64 * 2**20, 512 * 2**20


class _Wishes:
    """What those who read now want to be kept; QGIS's own setting comes back with the last of them."""

    lock = threading.Lock()
    wanted: list[int] = []  # noqa: RUF012 (shared on purpose)
    before = 0


@contextmanager
def limited_cache(readers: Iterable[RasterReader], rows: int, largest: int | None = None) -> Iterator[None]:
    """Bound GDAL's cache of blocks while rasters are read; by default it takes a twentieth of the machine's memory.

    Args:
        readers: The rasters.
        rows: How many rows a window has at most.
        largest: What may be kept, where the process is ours; None = `LARGEST`, and no more than it is set to.
    """
    needed = max([SMALLEST, *(reader.cache_bytes(rows) for reader in readers)])
    with _Wishes.lock:
        if not _Wishes.wanted:
            _Wishes.before = gdal.GetCacheMax()
        needed = min(needed, min(LARGEST, _Wishes.before) if largest is None else largest)
        _Wishes.wanted.append(needed)
        gdal.SetCacheMax(max(_Wishes.wanted))
    try:
        yield
    finally:
        with _Wishes.lock:
            _Wishes.wanted.remove(needed)
            gdal.SetCacheMax(max(_Wishes.wanted, default=_Wishes.before))
