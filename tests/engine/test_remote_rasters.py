"""Rasters on a server, read by GDAL in parts; the server is one on this machine, which can fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from osgeo import gdal
from synthetic import write_raster
from test_segment_raster import Threshold, expected, header, map_raster, noise, pixels

from plugin.engine.errors import InputError, without_key
from plugin.engine.mapping import segment
from plugin.engine.mapping.reading.opening import REMOTE
from plugin.engine.rasters import raster_io

KEY = "sig=secret&se=2026"


class Server(ThreadingHTTPServer):
    """Serves one raster in parts; `answers` maps the number of a request to a status, or ends all after one."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.paths, self.statuses, self.last = content, list[str](), dict[int, int](), 10**9


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, body: bool) -> None:
        server, number = self.server, len(self.server.paths)
        server.paths.append(self.path)
        status = 503 if number > server.last else server.statuses.get(number, 0)
        if status or not self.path.startswith("/a.tif?"):
            self.send_error(status or 404)
            return
        begin, end = 0, len(server.content) - 1
        wanted = self.headers.get("Range")
        if wanted:
            begin, _, until = (part for part in wanted.removeprefix("bytes=").partition("-"))  # type: ignore[assignment]
            begin, end = int(begin), min(end, int(until or end))
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin + 1))
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{end}/{len(server.content)}")
        self.end_headers()
        if body:
            self.wfile.write(server.content[begin : end + 1])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str, np.ndarray]]:
    """A server, the path of its raster as QGIS writes it, and the raster's values."""
    monkeypatch.setattr(segment, "load_model", lambda path: (Threshold(), header(1)))
    monkeypatch.setattr(raster_io, "WAITS", tuple(seconds / 100 for seconds in raster_io.WAITS))
    monkeypatch.setitem(REMOTE, "GDAL_HTTP_RETRY_DELAY", "0.01")
    data = noise(1300, 1800)
    path = write_raster(tmp_path / "local.tif", data, options=["TILED=YES", "COMPRESS=DEFLATE"])
    server = Server(Path(path).read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    gdal.VSICurlClearCache()
    yield server, f"/vsicurl/http://127.0.0.1:{server.server_port}/a.tif?{KEY}", data
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("busy", [False, True])
def test_a_map_of_a_raster_on_a_server_is_that_of_the_file(
    tmp_path: Path, remote: tuple[Server, str, np.ndarray], busy: bool
) -> None:
    server, path, data = remote
    heard = Heard()
    if busy:
        server.statuses = dict.fromkeys(range(6, 9), 503)
    map_raster(tmp_path, path, heard, tile_size=128)
    assert np.array_equal(pixels(tmp_path / "map.tif"), expected(data)) and len(server.paths) > 9
    assert not any("secret" in text for text in (*heard.logs, *heard.warnings))
    assert "secret" not in gdal.Info(str(tmp_path / "map.tif"))


def test_a_server_that_fails_in_the_middle_leaves_no_map(
    tmp_path: Path, remote: tuple[Server, str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, path, _ = remote

    class Ending(Threshold):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            server.last = -1
            gdal.VSICurlClearCache()
            return super().forward(images)

    monkeypatch.setattr(segment, "load_model", lambda path: (Ending(), header(1)))
    with pytest.raises(
        InputError, match=r"a\.tif\?… cannot be (read|opened) .* Check that the server answers"
    ) as error:
        map_raster(tmp_path, path, tile_size=64)
    assert "secret" not in str(error.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["local.tif"]


def test_a_server_that_does_not_know_the_raster_is_named_without_the_key(
    tmp_path: Path, remote: tuple[Server, str, np.ndarray]
) -> None:
    _, path, _ = remote
    with pytest.raises(InputError, match=r"b\.tif\?… cannot be opened") as error:
        map_raster(tmp_path, path.replace("a.tif", "b.tif"))
    assert "secret" not in str(error.value)


def test_addresses_lose_their_keys_and_other_texts_nothing() -> None:
    assert without_key("/vsicurl/https://h/a.tif?sig=1&b=2 failed?") == "/vsicurl/https://h/a.tif?… failed?"
    assert without_key("is /data/a?b.tif there?") == "is /data/a?b.tif there?"
