"""What jobs of mapping check of the names they are given, and how much of a raster GDAL keeps for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from osgeo import gdal

from ..errors import InputError
from ..raster_io import RasterReader

RASTER_ENDINGS = {".tif": "GeoTIFF", ".tiff": "GeoTIFF"}
# What GDAL may keep of blocks. A raster in strips is read across its whole width for each tile, so the next tile of
# the row should find them again; beyond the limit they are read anew, and memory stays what it is.
CACHE_BYTES, LARGEST_CACHE_BYTES = 128 * 2**20, 2**30


def check_not_input(outputs: Mapping[str, str | None], files: Iterable[str]) -> None:
    """Refuse to write over the raster, or over a file that it is made of."""
    there = [file for file in files if Path(file).exists()]
    for name, path in outputs.items():
        if path and Path(path).exists() and any(Path(path).samefile(file) for file in there):
            raise InputError(f"{name} {path} is the raster to be mapped.", "Give the result another name.")


def limit_cache(raster: RasterReader, rows: int) -> None:
    """Let GDAL keep one row of tiles of a raster in strips, within limits; for one in blocks a little is enough."""
    info = raster.info
    needed = 0
    if raster.dataset.GetRasterBand(1).GetBlockSize()[0] == info.grid.width:
        needed = int(1.5 * info.grid.width * rows * raster.dataset.RasterCount * info.dtype.itemsize)
    gdal.SetCacheMax(min(max(needed, CACHE_BYTES), LARGEST_CACHE_BYTES))
    gdal.SetConfigOption("GDAL_NUM_THREADS", "ALL_CPUS")
