"""A server of map tiles on this machine: XYZ, WMS and WMTS of a made image, slow or failing where a test wants it."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Optional
from urllib.parse import parse_qs, urlsplit

import numpy as np

HALF = 20037508.342789244
ZOOM, SIDE = 14, 256
SIZE = 2 * HALF / (SIDE * 2**ZOOM)  # metres of a pixel
FIRST_COL, FIRST_ROW = 8650, 5480  # the tile at the upper left corner of the image
COLS, ROWS = 4, 3  # tiles of the image
LEFT, TOP = FIRST_COL * SIDE * SIZE - HALF, HALF - FIRST_ROW * SIDE * SIZE
KEY = "geheim-7"

# What a test wants for a request: None for the usual answer, or (status, type, body).
Answer = Optional[tuple[int, str, bytes]]


def image() -> np.ndarray:
    """(3, H, W) uint8 of the ground that the server shows."""
    row, col = np.mgrid[: ROWS * SIDE, : COLS * SIDE]
    texture = np.random.default_rng(5).integers(0, 40, row.shape)
    return np.stack([row // 5 + texture, col // 6 + texture, (row // 32 + col // 32) % 2 * 150 + texture]).astype(
        np.uint8
    )


def write_image(path: Any) -> str:
    """Write the image as a GeoTIFF; gives its path."""
    from synthetic import write_raster

    return write_raster(path, image(), LEFT, TOP, SIZE, 3857)


def png(data: np.ndarray) -> bytes:
    """A PNG of (3, H, W) data; without GDAL, from which a job takes its driver."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    _, height, width = data.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), data.transpose(1, 2, 0).reshape(height, -1)], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


CAPABILITIES = f"""<?xml version="1.0" encoding="UTF-8"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
 xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0"><Contents><Layer><ows:Title>ground</ows:Title>
<ows:Identifier>ground</ows:Identifier><Style isDefault="true"><ows:Identifier>default</ows:Identifier></Style>
<Format>image/png</Format><TileMatrixSetLink><TileMatrixSet>world</TileMatrixSet></TileMatrixSetLink>
<ResourceURL format="image/png" resourceType="tile"
 template="ADDRESS/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.png?key={KEY}"/></Layer>
<TileMatrixSet><ows:Identifier>world</ows:Identifier><ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>
MATRICES</TileMatrixSet></Contents></Capabilities>"""


def capabilities(address: str) -> bytes:
    """The levels 12 to 15 as WMTS."""
    matrices = "".join(
        f"<TileMatrix><ows:Identifier>{zoom}</ows:Identifier><ScaleDenominator>"
        f"{2 * HALF / (SIDE * 2**zoom) / 0.00028!r}</ScaleDenominator><TopLeftCorner>{-HALF!r} {HALF!r}</TopLeftCorner>"
        f"<TileWidth>{SIDE}</TileWidth><TileHeight>{SIDE}</TileHeight><MatrixWidth>{2**zoom}</MatrixWidth>"
        f"<MatrixHeight>{2**zoom}</MatrixHeight></TileMatrix>"
        for zoom in range(12, 16)
    )
    return CAPABILITIES.replace("ADDRESS", address).replace("MATRICES", matrices).encode()


class TileServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        answer: Gives the answer to a path that is not the usual one; may wait.
        asked: (path, headers) of all requests.
        files: Contents of other paths.
        login_wanted: Whether it is a proxy that asks for a login.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ground = image()
        self.answer: Callable[[str], Answer] = lambda path: None
        self.asked: list[tuple[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.login_wanted = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def usual(self, path: str) -> tuple[int, str, bytes]:
        parts = urlsplit(path)
        query = {name.upper(): values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path in self.files:
            return 200, "application/octet-stream", self.files[parts.path]
        if parts.path == "/wmts.xml":
            return 200, "text/xml", capabilities(self.address)
        if query.get("REQUEST") == "GetMap":
            left, _, _, top = map(float, query["BBOX"].split(","))
            col, row = round((left - LEFT) / SIZE), round((TOP - top) / SIZE)
            return self._shown(row, col, int(query["HEIGHT"]), int(query["WIDTH"]))
        try:
            zoom, x, y = map(int, parts.path.removesuffix(".png").strip("/").split("/"))
        except ValueError:
            return 404, "text/plain", b"no such thing"
        if zoom != ZOOM:
            return 404, "text/plain", b"no such level"
        return self._shown((y - FIRST_ROW) * SIDE, (x - FIRST_COL) * SIDE, SIDE, SIDE)

    def _shown(self, row: int, col: int, height: int, width: int) -> tuple[int, str, bytes]:
        if row < 0 or col < 0:
            return 404, "text/plain", b"nothing here"
        part = self.ground[:, row : row + height, col : col + width]
        if part.shape[1:] != (height, width):
            return 404, "text/plain", b"nothing here"
        return 200, "image/png", png(part)


class _Handler(BaseHTTPRequestHandler):
    server: TileServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers))
        status, kind, body = self.server.answer(self.path) or self.server.usual(self.path)
        refused = self.server.login_wanted and not self.headers["Proxy-Authorization"]
        if refused:
            status, kind, body = 407, "text/plain", b"who are you?"
        whole, wanted = len(body), self.headers.get("Range")
        if wanted and status == 200:
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            body, status = body[int(begin) : int(end or whole) + 1], 206
        try:
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {begin}-{int(begin) + len(body) - 1}/{whole}")
            if refused:
                self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
        except OSError:
            pass  # nobody waits any more

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[TileServer]:
    """A running server."""
    with TileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()


@contextmanager
def serving_elsewhere() -> Iterator[str]:
    """The address of a server that runs in a process of its own, which ends with this one."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def slow(seconds: float) -> Callable[[str], Answer]:
    """The usual answers, late."""

    def answer(path: str) -> Answer:
        time.sleep(seconds)
        return None

    return answer


if __name__ == "__main__":
    with serving() as found:
        print(found.address, flush=True)
        sys.stdin.read()
