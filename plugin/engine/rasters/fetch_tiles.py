"""Fetches a part of a web layer into a GeoTIFF; runs in a process of its own, which can be ended while it waits.

The tiles come from a server that may be broken, overloaded or malicious: GDAL gets no driver but those for the few
formats that such servers use, and texts of the server are cut.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from queue import SimpleQueue
from typing import Any, Optional

import numpy as np
from osgeo import gdal

from ..config import FetchTilesConfig
from ..drafts import claim, publish
from ..errors import InputError, ResourceError
from ..events import Reporter, Stage
from ..files import check_space
from ..strangers.texts import parse_xml
from ..threads import work_ahead
from ..windows import Grid, Window, count_tiles
from . import web_layer
from .opening import NAME_ITEM
from .raster_io import grid_of, spatial_reference
from .tile_cache import TileCache
from .touched_tiles import touched_tiles

CONNECTIONS = 2
# Seconds between tries of a tile: about a minute in all, as long as most limits of requests last.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# A tile that is no image may be the message of a limit, so it is asked for again, but not as often.
WAITS_FOR_IMAGE = 2
MISSING = (204, 404, 410)
BUSY = (0, 408, 425, 429, 500, 502, 503, 504)
DENIED = (401, 402, 403, 407)
# Formats of tiles; WMTS needs VRT until its levels are known.
DRIVERS = ("WMS", "GTiff", "PNG", "JPEG", "WEBP", "GIF")
CREATION = ("TILED=YES", "BLOCKXSIZE=256", "BLOCKYSIZE=256", "BIGTIFF=IF_SAFER", "SPARSE_OK=TRUE", "ALPHA=YES")
ADDRESS = re.compile(r"https?://\S+")
LONGEST_ANSWER = 200  # letters of a server's message


def fetch_tiles(config: FetchTilesConfig, reporter: Reporter) -> dict[str, Any]:
    """Write the pixels of a web layer around a place as a GeoTIFF of red, green, blue and alpha.

    Places for which the server has no tile are transparent.

    Returns:
        output (path), tiles, missing (numbers).

    Raises:
        InputError: The layer cannot be used, there are too many tiles, or the server has none at that place.
        ResourceError: The server does not answer, limits requests or answers with something else; the disk is full.
        Cancelled: The user cancelled the job.
    """
    layer = config.layer
    web_layer.check_url(layer)
    web_layer.check_headers(layer)
    with _headers(layer.headers):
        return _fetch(config, reporter)


def _fetch(config: FetchTilesConfig, reporter: Reporter) -> dict[str, Any]:
    layer = config.layer
    host = web_layer.host_of(layer.url)
    text = _description(config)
    with _few_drivers():
        dataset = _opened(text, layer.title, host)
        grid, side = grid_of(dataset), dataset.GetRasterBand(1).GetBlockSize()[0]
        del dataset
    left, bottom, right, top = config.extent
    window = _whole_tiles(grid.window_of((left, bottom, right, top)), side).intersection(grid.window)
    tiles = _wanted(config, grid, window, side)
    with claim(config.output) as draft, _few_drivers():
        check_space(config.output, len(tiles) * side * side * web_layer.BANDS)
        reporter.log(
            f"Fetching {web_layer.amount_text(layer, len(tiles))}: {window.width} × {window.height} pixels of "
            f"{grid.step_x:.6g}. Its terms of use apply."
        )
        fetcher = _Fetcher(text, layer.title, host, reporter, _kept(config), grid)
        target = _create(str(draft.fresh()), layer.crs_wkt, grid.part(window))
        target.SetMetadataItem(NAME_ITEM, web_layer.shown_name(layer, grid.step_x))
        missing = 0
        stage = Stage(reporter, len(tiles), f"Fetching tiles from {host}")
        with closing(work_ahead(fetcher.fetch, tiles, stage, CONNECTIONS, 4 * CONNECTIONS)) as fetched:
            for tile, data in fetched:
                if data is None:
                    missing += 1
                else:
                    target.WriteArray(data, tile.col_off - window.col_off, tile.row_off - window.row_off)
        target.FlushCache()
        del target
        if fetcher.reused:
            reporter.log(f"{fetcher.reused:,} of them were kept from earlier jobs, in {config.tile_cache}.")
        if missing == len(tiles):
            raise InputError(
                f'{host} has no tile of the web layer "{layer.title}" at that place and pixel size.',
                "Choose another EXTENT, or a larger PIXEL_SIZE.",
            )
        if missing:
            reporter.warning(f"{host} has no tile for {missing:,} of {len(tiles):,} places, which have no data.")
        publish(draft)
    return {"output": config.output, "tiles": len(tiles), "missing": missing}


@contextmanager
def _headers(headers: Sequence[str]) -> Iterator[None]:
    """Inside, GDAL adds headers to its requests; it reads them from a file, which is one in memory."""
    file = f"/vsimem/headers_{os.getpid()}_{id(headers)}"
    gdal.FileFromMemBuffer(file, "".join(f"{header}\r\n" for header in headers).encode("ascii"))
    gdal.SetConfigOption("GDAL_HTTP_HEADER_FILE", file if headers else None)
    try:
        yield
    finally:
        gdal.SetConfigOption("GDAL_HTTP_HEADER_FILE", None)
        gdal.Unlink(file)


def _wanted(config: FetchTilesConfig, grid: Grid, window: Window, side: int) -> list[Window]:
    """The tiles to fetch, each as the part of it that is in a window of whole tiles.

    Raises:
        InputError: There are none, or too many.
    """
    layer, part = config.layer, grid.part(window)
    if config.near is None or window.empty:
        count = count_tiles(window, side)
        web_layer.check_amount(layer, count, config.max_tiles)
        places = np.argwhere(np.ones((-(-window.height // side), -(-window.width // side)), bool))
    else:
        features = config.near, config.near_layer
        places = touched_tiles(*features, part, layer.crs_wkt, side, config.margin, config.max_tiles)
        web_layer.check_amount(layer, len(places), config.max_tiles)
    if not len(places):
        raise InputError(f'The web layer "{layer.title}" has nothing at that place.', "Choose another EXTENT.")
    corners = (places * side + (window.row_off, window.col_off)).tolist()
    return [Window(col, row, side, side).intersection(window) for row, col in corners]


def _description(config: FetchTilesConfig) -> str:
    """The description of the level to fetch, for GDAL's driver WMS."""
    layer, agent = config.layer, config.agent
    if layer.service == "xyz":
        return web_layer.xyz_text(layer, config.fetched_size, agent)
    if layer.service == "wms":
        return web_layer.wms_text(layer, web_layer.grid_around(layer, config.fetched_size, config.extent), agent)
    return _level_of_wmts(config)


def _level_of_wmts(config: FetchTilesConfig) -> str:
    """The description of the level of a WMTS layer that has the pixel size to fetch."""
    layer, host = config.layer, web_layer.host_of(config.layer.url)
    text = web_layer.wmts_text(layer, config.agent)
    with _few_drivers("WMTS", "VRT"):
        whole = _opened(text, layer.title, host)
        sizes = [grid_of(whole).step_x]
        band, across = whole.GetRasterBand(1), whole.RasterXSize
        sizes += [sizes[0] * across / band.GetOverview(place).XSize for place in range(band.GetOverviewCount())]
        place = min(range(len(sizes)), key=lambda place: abs(math.log(sizes[place] / config.fetched_size)))
        level = whole if place == 0 else band.GetOverview(place - 1).GetDataset()
        virtual = level.GetMetadata("xml:VRT")[0]
    for source in parse_xml(virtual.encode()).iter("SourceFilename"):
        found = (source.text or "").strip()
        if found.startswith("<GDAL_WMS"):
            return found
    raise InputError(f'GDAL cannot read the tiles of the web layer "{layer.title}".', "Use another layer.")


def _opened(text: str, title: str, host: str) -> gdal.Dataset:
    try:
        return gdal.OpenEx(text, gdal.OF_RASTER | gdal.OF_VERBOSE_ERROR)
    except RuntimeError as error:
        raise ResourceError(
            f'The web layer "{title}" of {host} cannot be opened ({_said(error)}).',
            "Check that QGIS can show it, and try again.",
        ) from None


def _said(error: RuntimeError) -> str:
    """An error of GDAL without addresses, which may hold keys."""
    return ADDRESS.sub("…", str(error)).strip()[:LONGEST_ANSWER]


def _kept(config: FetchTilesConfig) -> Optional[TileCache]:
    """The tiles of the layer that are kept; None if none shall be."""
    if config.tile_cache is None or not config.keep_tiles:
        return None
    known = {name: value for name, value in config.layer.to_json().items() if name not in ("title", "resolutions")}
    return TileCache(config.tile_cache, json.dumps(known, sort_keys=True), config.keep_tiles)


@contextmanager
def _few_drivers(*more: str) -> Iterator[None]:
    """Inside, GDAL knows only the drivers for tiles, and those named."""
    every = [gdal.GetDriver(place) for place in range(gdal.GetDriverCount())]
    names = {driver.ShortName for driver in every}
    lacking = [name for name in ("WMS", *more) if gdal.GetDriverByName(name) is None and name not in names]
    if lacking:
        raise ResourceError(
            f"GDAL has no driver {lacking[0]}, which reads web layers.",
            "Save the layer as a GeoTIFF in QGIS, and use that.",
        )
    unwanted = [driver for driver in every if driver.ShortName not in (*DRIVERS, *more)]
    for driver in unwanted:
        driver.Deregister()
    try:
        yield
    finally:
        for driver in unwanted:
            driver.Register()


def _whole_tiles(window: Window, side: int) -> Window:
    """The tiles that a window touches, as a window."""
    col, row = window.col_off // side * side, window.row_off // side * side
    width, height = (-(-(end - begin) // side) * side for begin, end in ((col, window.col_end), (row, window.row_end)))
    return Window(col, row, width if window.width else 0, height if window.height else 0)


def _create(path: str, crs: str, grid: Grid) -> gdal.Dataset:
    target = gdal.GetDriverByName("GTiff").Create(
        path, grid.width, grid.height, web_layer.BANDS, gdal.GDT_Byte, list(CREATION)
    )
    target.SetSpatialRef(spatial_reference(crs))
    target.SetGeoTransform(grid.geotransform(grid.window))
    return target


class _Connection:
    """A connection to the server, whose tiles pass through a cache of GDAL's driver in memory.

    Args:
        text, title, host: As of `_Fetcher`.
        folder: Of that cache.
    """

    def __init__(self, text: str, title: str, host: str, folder: str) -> None:
        self.folder = folder
        self.dataset = _opened(web_layer.with_cache(text, folder), title, host)

    def read(self, tile: Window, kept: Optional[tuple[str, bytes]]) -> tuple[np.ndarray, Optional[tuple[str, bytes]]]:
        """Read a tile, from bytes that were kept or else from the server.

        Returns:
            (4, H, W), and the name and bytes of the tile if it came from the server.

        Raises:
            RuntimeError: The server has no such tile, or answers with something else.
        """
        if kept is not None:
            gdal.FileFromMemBuffer(f"{self.folder}/{kept[0]}", kept[1])
        try:
            data = self.dataset.ReadAsArray(*tile)
            known = (".", "..", kept and kept[0])
            names = [name for name in gdal.ReadDir(self.folder) or [] if name not in known]
            return data, (names[0], self._bytes_of(names[0])) if names else None
        finally:
            for name in gdal.ReadDir(self.folder) or []:
                gdal.Unlink(f"{self.folder}/{name}")

    def _bytes_of(self, name: str) -> bytes:
        path = f"{self.folder}/{name}"
        file = gdal.VSIFOpenL(path, "rb")
        try:
            return bytes(gdal.VSIFReadL(1, gdal.VSIStatL(path).size, file))
        finally:
            gdal.VSIFCloseL(file)


class _Fetcher:
    """Fetches tiles, on several threads with a connection each.

    Args:
        text: GDAL's description of the layer.
        title: Its name.
        host: Its server.
        reporter: Receives notes on a server that is slow or limits requests.
        cache: Where tiles are kept; None for nowhere.
        grid: Pixels of the layer.
    """

    def __init__(
        self, text: str, title: str, host: str, reporter: Reporter, cache: Optional[TileCache], grid: Grid
    ) -> None:
        self.text, self.title, self.host, self.reporter = text, title, host, reporter
        self.cache, self.grid = cache, grid
        self.idle: SimpleQueue[_Connection] = SimpleQueue()
        for number in range(CONNECTIONS):
            self.idle.put(_Connection(text, title, host, f"/vsimem/{os.getpid()}_{id(self)}_{number}"))
        self.lock = threading.Lock()
        self.told: set[int] = set()
        self.reused = 0

    def fetch(self, tile: Window) -> Optional[np.ndarray]:
        """(4, H, W), or None if the server has no such tile.

        Raises:
            ResourceError: The server answers with something else, also after several tries.
        """
        place = self._place(tile)
        kept = self.cache.get(place) if self.cache is not None else None
        connection = self.idle.get()
        try:
            for number, seconds in enumerate((*WAITS, None)):
                try:
                    data, raw = connection.read(tile, kept)
                    if self.cache is not None and raw is not None:
                        self.cache.put(place, *raw)
                    elif kept is not None:
                        with self.lock:
                            self.reused += 1
                    return data
                except RuntimeError as error:
                    status, kept = _status(error), None
                    if status in MISSING:
                        return None
                    last = seconds is None or (status is None and number >= WAITS_FOR_IMAGE)
                    if last or (status is not None and status not in BUSY):
                        raise self._explained(status) from None
                self._wait(status, seconds or 0.0)
        finally:
            self.idle.put(connection)
        return None

    def _place(self, tile: Window) -> str:
        """Where a tile is, in its pixels from the origin of the CRS: the same whatever part of the layer is fetched."""
        left, step_x, _, top, _, step_y = self.grid.geotransform(tile)
        return f"{step_x:.9g} {left / step_x:.2f} {top / step_y:.2f}"

    def _wait(self, status: Optional[int], seconds: float) -> None:
        with self.lock:
            if (status or 0) not in self.told:
                self.told.add(status or 0)
                self.reporter.log(f"{self.host} {_words(status)}; the tile is asked for again, more and more slowly.")
        waiting = threading.Event()
        while seconds > 0 and not waiting.wait(min(seconds, 0.1)):
            self.reporter.check_wanted()
            seconds -= 0.1

    def _explained(self, status: Optional[int]) -> ResourceError:
        problem = f'{self.host} {_words(status)} for a tile of the web layer "{self.title}"'
        if status is None:
            remedy = (
                "Its limit may be reached, or the size of its tiles be another than QGIS's settings of the layer say."
            )
            return ResourceError(f"{problem}.", remedy)
        if status in DENIED:
            return ResourceError(f"{problem}.", "Check the key in its address, and the provider's terms of use.")
        return ResourceError(f"{problem}.", "Try again later, or with a smaller EXTENT.")


def _status(error: RuntimeError) -> Optional[int]:
    """The HTTP status that GDAL names; 0 for no answer, None if there was an answer that is no image."""
    found = re.search(r"HTTP status code: (\d+)", str(error))
    return int(found[1]) if found else None


def _words(status: Optional[int]) -> str:
    if status is None:
        return "answers with something that is no image of the right size"
    if status == 0:
        return f"cannot be reached, or does not answer within {web_layer.TIMEOUT} seconds"
    if status == 429:
        return "limits the number of requests (HTTP status 429)"
    return f"answers with HTTP status {status}"
