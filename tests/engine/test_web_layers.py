"""Web layers: which tiles are fetched, from a server on this machine, and what is said where that fails."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tile_server
from heard import Heard
from osgeo import gdal, ogr
from synthetic import reference, write_raster
from tile_server import COLS, FIRST_COL, FIRST_ROW, KEY, LEFT, ROWS, SIDE, SIZE, TOP, TileServer

from plugin.engine.config import FetchTilesConfig, WebLayer
from plugin.engine.errors import Cancelled, EngineError, InputError, ResourceError
from plugin.engine.rasters import fetch_tiles as fetching
from plugin.engine.rasters import tile_cache, web_layer
from plugin.engine.rasters.tile_cache import TileCache
from plugin.engine.rasters.touched_tiles import touched_tiles
from plugin.engine.rasters.web_layer import fitting_size, grid_around, tiles_in, zoom_sizes
from plugin.engine.windows import Grid

# The image without some pixels on each side.
MARGINS = 30, 50, 20, 70  # left, top, right, bottom


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TileServer]:
    monkeypatch.setattr(fetching, "WAITS", (0.02, 0.02, 0.02))
    with tile_server.serving() as found:
        yield found


def bounds() -> tuple[float, float, float, float]:
    left, top, right, bottom = MARGINS
    return (
        LEFT + left * SIZE,
        TOP - (ROWS * SIDE - bottom) * SIZE,
        LEFT + (COLS * SIDE - right) * SIZE,
        TOP - top * SIZE,
    )


def config(server: TileServer, path: Path, **values: Any) -> FetchTilesConfig:
    usual = {
        "output": str(path / "tiles.tif"), "title": "ground", "service": "xyz", "extent": bounds(),
        "url": f"{server.address}/{{z}}/{{x}}/{{y}}.png?key={KEY}", "resolutions": zoom_sizes(0, 19, 256),
        "fetched_size": SIZE, "agent": "T/1", "crs_wkt": reference(3857).ExportToWkt(),
    }  # fmt: skip
    return FetchTilesConfig.from_json({**usual, **values})


SERVICES = {
    "xyz": {},
    "wms": {"service": "wms", "url": "ADDRESS/wms?key=geheim-7", "layers": "ground", "resolutions": ()},
    "wmts": {"service": "wmts", "url": "ADDRESS/wmts.xml", "layers": "ground", "matrix_set": "world"},
}


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_fetched_is_the_image_behind_the_tiles(server: TileServer, tmp_path: Path, service: str) -> None:
    values = {
        name: value.replace("ADDRESS", server.address) if name == "url" else value
        for name, value in SERVICES[service].items()
    }
    if service == "wms":  # the server counts from the image's corner, this layer from the origin of its CRS
        shift = (LEFT / SIZE) % 1, (-TOP / SIZE) % 1
        assert max(abs(np.round(shift) - shift)) < 1e-3
    heard = Heard()
    found = fetching.fetch_tiles(config(server, tmp_path, **values), heard)
    raster = gdal.Open(found["output"])
    data = raster.ReadAsArray()
    assert (data[:3] == tile_server.image()).all() and (data[3] == 255).all()
    left, step, _, top, _, down = raster.GetGeoTransform()
    assert (left, top) == pytest.approx((LEFT, TOP), abs=SIZE * 1e-4) and (step, down) == pytest.approx((SIZE, -SIZE))
    assert raster.GetSpatialRef().GetAuthorityCode(None) == "3857"
    assert found["missing"] == 0 and "127.0.0.1" in heard.logs[0]
    assert {headers["User-Agent"] for _, headers in server.asked} == {"T/1"}
    told = json.dumps([heard.logs, heard.warnings, raster.GetMetadata_Dict()])
    assert KEY not in told and "/wms" not in told


def test_a_level_is_chosen_by_the_pixel_size(server: TileServer, tmp_path: Path) -> None:
    layer = WebLayer(title="ground", url="http://a.example/", resolutions=zoom_sizes(3, 18, 256))
    at_17, at_18 = zoom_sizes(17, 18, 256)
    assert [fitting_size(layer, size) for size in (at_17, 1.2, 0.6, 1.0, 1.5)] == [at_17, at_17, at_18, at_18, at_17]
    assert fitting_size(layer, 0.59) == at_18
    with pytest.raises(
        InputError, match=r"PIXEL_SIZE is 0.3, but the smallest pixels .* are 0.597164 units of EPSG:3857"
    ):
        fitting_size(layer, 0.3)
    assert fitting_size(WebLayer(service="wms"), 0.123) == 0.123, "such a server draws any size"


def test_tiles_are_counted_before_any_is_fetched(server: TileServer, tmp_path: Path) -> None:
    layer = WebLayer(title="ground", url=f"{server.address}/{{z}}/{{x}}/{{y}}.png", resolutions=zoom_sizes(0, 19, 256))
    grid = grid_around(layer, SIZE, bounds())
    assert tiles_in(layer, grid) == COLS * ROWS and (grid.width, grid.height) == (COLS * SIDE, ROWS * SIDE)
    with pytest.raises(InputError, match=r"12 tiles \(about 1 MB\) from 127.* would be fetched, but MAX_TILES is 11"):
        fetching.fetch_tiles(config(server, tmp_path, max_tiles=11), Heard())
    assert server.asked == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="has nothing at x 30000000 to"):
        grid_around(layer, SIZE, (3e7, 0, 4e7, 1))


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "/vsicurl/http://a.example/{z}/{x}/{y}.png", "http:///a/{z}", "ftp://a.example/{z}",
        "http://a.example/{z}\n/{x}", "http://a.example/${version}/{x}", "http://a.example/{file}", "http://[", "",
        "<GDAL_WMS/>", "http://a.example/{z} {x}",
    ],
)  # fmt: skip
def test_only_addresses_of_servers_are_asked(server: TileServer, tmp_path: Path, url: str) -> None:
    for service in SERVICES:
        with pytest.raises(InputError, match='The address of the web layer "ground" cannot be used'):
            fetching.fetch_tiles(config(server, tmp_path, service=service, url=url), Heard())


def test_texts_of_a_layer_cannot_add_to_the_description() -> None:
    layer = WebLayer(title="a", url='http://a.example/{x}?<a>&b="]]>', layers="</Layers><ServerUrl>", crs_code="EPSG:1")
    for text in (
        web_layer.xyz_text(layer, SIZE, "a"),
        web_layer.wms_text(layer, grid_around(layer, 1, (0, 0, 9, 9)), "a"),
    ):
        assert text.count("<ServerUrl>") == 1 and "?&lt;a&gt;&amp;b=" in text


@pytest.mark.parametrize(
    ("answer", "error", "words", "tries"),
    [
        ((403, "text/html", b"no"), ResourceError, "answers with HTTP status 403 .*Check the key", 1),
        ((400, "text/html", b"no"), ResourceError, "answers with HTTP status 400", 1),
        ((429, "text/html", b"slowly"), ResourceError, "limits the number of requests", 4),
        ((503, "text/html", b"busy"), ResourceError, "answers with HTTP status 503", 4),
        ((200, "text/html", b"<html>Limit of the day</html>"), ResourceError, "no image of the right size for", 3),
        ((200, "image/png", tile_server.png(np.zeros((3, 128, 128), np.uint8))), ResourceError, "no image of the", 3),
        ((200, "image/png", tile_server.png(np.zeros((3, 256, 256), np.uint8))[:900]), ResourceError, "no image", 3),
        ((404, "text/plain", b""), InputError, "has no tile of the web layer", 1),
    ],
)  # fmt: skip
def test_a_server_that_does_not_answer_with_tiles_is_explained(
    server: TileServer, tmp_path: Path, answer: Any, error: type[EngineError], words: str, tries: int
) -> None:
    server.answer = lambda path: answer
    inside = (LEFT + 9 * SIZE, TOP - 20 * SIZE, LEFT + 20 * SIZE, TOP - 9 * SIZE)  # of one tile
    with pytest.raises(error, match=words) as raised:
        fetching.fetch_tiles(config(server, tmp_path, extent=inside), Heard())
    assert "GDAL" not in str(raised.value), "whose words say nothing of the cause"
    assert len(server.asked) == tries and KEY not in str(raised.value) and "127.0.0.1" in str(raised.value)
    assert list(tmp_path.iterdir()) == [], "nothing half-written remains"
    assert gdal.GetDriverByName("VRT") is not None, "GDAL has all its drivers again"


def test_a_server_that_limits_requests_for_a_while_is_waited_for(server: TileServer, tmp_path: Path) -> None:
    left = [3]

    def answer(path: str) -> tile_server.Answer:
        left[0] -= 1
        return (429, "text/plain", b"slowly") if left[0] >= 0 else None

    server.answer, heard = answer, Heard()
    found = fetching.fetch_tiles(config(server, tmp_path), heard)
    assert (gdal.Open(found["output"]).ReadAsArray()[:3] == tile_server.image()).all()
    assert len([text for text in heard.logs if "limits the number of requests" in text]) == 1


def test_tiles_that_the_server_lacks_have_no_data(server: TileServer, tmp_path: Path) -> None:
    lacking = f"/14/{FIRST_COL + 1}/{FIRST_ROW + 1}.png"
    server.answer, heard = lambda path: (404, "text/plain", b"") if path.startswith(lacking) else None, Heard()
    found = fetching.fetch_tiles(config(server, tmp_path), heard)
    *_, alpha = gdal.Open(found["output"]).ReadAsArray()
    hidden = slice(SIDE, 2 * SIDE), slice(SIDE, 2 * SIDE)
    assert (alpha[hidden] == 0).all() and (alpha == 0).sum() == SIDE**2
    assert found["missing"] == 1 and "has no tile for 1 of 12 places" in heard.warnings[0]


def test_a_cancelled_job_leaves_nothing(server: TileServer, tmp_path: Path) -> None:
    server.answer = tile_server.slow(0.05)
    with pytest.raises(Cancelled):
        fetching.fetch_tiles(config(server, tmp_path), Heard(cancel_after=1))
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_two_tiles_are_asked_for_at_once(server: TileServer, tmp_path: Path) -> None:
    lock, open_now, most = threading.Lock(), [0], [0]

    def answer(path: str) -> tile_server.Answer:
        with lock:
            open_now[0] += 1
            most[0] = max(most[0], open_now[0])
        time.sleep(0.03)
        with lock:
            open_now[0] -= 1
        return None

    server.answer = answer
    fetching.fetch_tiles(config(server, tmp_path), Heard())
    assert most[0] == 2 and len(server.asked) == len({path for path, _ in server.asked}) == COLS * ROWS


@pytest.mark.parametrize(("place", "of_tile"), [("{-y}", lambda y: 2**14 - 1 - y), ("{q}", None)])
def test_other_ways_to_number_tiles(server: TileServer, tmp_path: Path, place: str, of_tile: Any) -> None:
    asked: list[str] = []

    def answer(path: str) -> tile_server.Answer:
        asked.append(path)
        if of_tile is not None:
            x, y = map(int, path.strip("/").split("/"))
            return server.usual(f"/14/{x}/{of_tile(y)}.png")
        digits = path.strip("/")
        x, y = (int("".join(str(int(digit) >> bit & 1) for digit in digits), 2) for bit in (0, 1))
        return server.usual(f"/{len(digits)}/{x}/{y}.png")

    server.answer = answer
    url = f"{server.address}/{place}" if of_tile is None else f"{server.address}/{{x}}/{place}"
    found = fetching.fetch_tiles(config(server, tmp_path, url=url), Heard())
    assert (gdal.Open(found["output"]).ReadAsArray()[:3] == tile_server.image()).all()


def test_no_answer_of_a_server_can_name_files_of_this_computer(server: TileServer, tmp_path: Path) -> None:
    secret = write_raster(tmp_path / "secret.tif", np.full((3, SIDE, SIDE), 77, np.uint8))
    text = gdal.Translate("", secret, format="VRT").GetMetadata("xml:VRT")[0].replace("secret.tif", secret)
    text = text.replace('relativeToVRT="1"', 'relativeToVRT="0"').replace(f"{tmp_path}/{tmp_path}", str(tmp_path))
    server.answer = lambda path: (200, "text/xml", text.encode())
    with pytest.raises(ResourceError, match="no image"):
        fetching.fetch_tiles(config(server, tmp_path), Heard())


def test_a_server_that_is_not_there_is_named(server: TileServer, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"127.0.0.1:9 cannot be reached"):
        fetching.fetch_tiles(config(server, tmp_path, url="http://127.0.0.1:9/{z}/{x}/{y}.png"), Heard())


def places(path: Path, boxes: Sequence[tuple[float, float, float, float]], epsg: int = 3857) -> str:
    """A GeoPackage of triangles: the lower left halves of rectangles in pixels of the image."""
    opened = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
    layer = opened.CreateLayer("area", reference(epsg), ogr.wkbPolygon)
    for left, top, right, bottom in boxes:
        corners = [(left, top), (left, bottom), (right, bottom), (left, top)]
        ring = ", ".join(f"{LEFT + x * SIZE} {TOP - y * SIZE}" for x, y in corners)
        geometry = ogr.CreateGeometryFromWkt(f"POLYGON (({ring}))")
        geometry.AssignSpatialReference(reference(3857))
        geometry.TransformTo(reference(epsg))
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(geometry)
        layer.CreateFeature(feature)
    return str(path)


@pytest.mark.parametrize("epsg", [3857, 4326, 32633])
def test_only_tiles_near_features_are_fetched(server: TileServer, tmp_path: Path, epsg: int) -> None:
    near = places(tmp_path / "area.gpkg", [(20, 160, 580, 720), (950, 40, 960, 50)], epsg)
    values = {"near": near, "near_layer": "area", "margin": 10 * SIZE}
    found = fetching.fetch_tiles(config(server, tmp_path, **values), Heard())
    rows_and_cols = sorted((int(path[4:].split("/")[1][:4]), int(path[4:].split("/")[0])) for path, _ in server.asked)
    expected = [(0, 0), (0, 3), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert rows_and_cols == [(FIRST_ROW + row, FIRST_COL + col) for row, col in expected] and found["tiles"] == 7
    data = gdal.Open(found["output"]).ReadAsArray()
    for row in range(ROWS):
        for col in range(COLS):
            part = np.s_[:, row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE]
            if (row, col) in expected:
                assert (data[part][:3] == tile_server.image()[part]).all() and (data[part][3] == 255).all()
            else:
                assert not data[part].any()
    with pytest.raises(InputError, match=r"7 tiles \(about 1 MB\) from 127.* would be fetched, but MAX_TILES is 6"):
        fetching.fetch_tiles(config(server, tmp_path, **values, max_tiles=6), Heard())
    assert len(server.asked) == 7


def test_touched_tiles_are_those_within_the_margin(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 200 * SIDE, (40, 2))
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, rng.integers(1, 3 * SIDE, (40, 2)))]
    near = places(tmp_path / "area.gpkg", boxes)
    grid = Grid(LEFT, TOP, SIZE, -SIZE, 210 * SIDE, 205 * SIDE + 7)
    margin = 60.0
    found = set(map(tuple, touched_tiles(near, "area", grid, reference(3857).ExportToWkt(), SIDE, margin * SIZE, 1)))
    opened = ogr.Open(near)
    shapes = [feature.GetGeometryRef().Clone() for feature in opened.GetLayer(0)]
    strict, generous = set(), set()
    for shape in shapes:
        left, right, bottom, top = shape.GetEnvelope()
        for row in range(int((TOP - top) / SIZE / SIDE) - 1, int((TOP - bottom) / SIZE / SIDE) + 2):
            for col in range(int((left - LEFT) / SIZE / SIDE) - 1, int((right - LEFT) / SIZE / SIDE) + 2):
                x, y = LEFT + col * SIDE * SIZE, TOP - row * SIDE * SIZE
                side = SIDE * SIZE
                ring = f"{x} {y}, {x + side} {y}, {x + side} {y - side}, {x} {y - side}, {x} {y}"
                away = shape.Distance(ogr.CreateGeometryFromWkt(f"POLYGON (({ring}))")) / SIZE
                if row >= 0 and col >= 0:
                    strict |= {(row, col)} if away < margin else set()
                    generous |= {(row, col)} if away < margin * 2**0.5 + 2 * 2**0.5 * SIDE / 8 else set()
    assert strict <= found <= generous and len(strict) > 100 and len(found) < 1.3 * len(strict)
    wide = grid._replace(width=70_000 * SIDE)
    with pytest.raises(InputError, match="lie up to 17,920,000 pixels apart"):
        touched_tiles(near, "area", wide, "", SIDE, 0, 1)


def stored(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("service", SERVICES)
def test_a_second_job_takes_the_tiles_of_the_first(server: TileServer, tmp_path: Path, service: str) -> None:
    values: dict[str, Any] = {"tile_cache": str(tmp_path / "tiles"), "keep_tiles": 7, **SERVICES[service]}
    if "url" in values:
        values["url"] = values["url"].replace("ADDRESS", server.address)
    first = gdal.Open(fetching.fetch_tiles(config(server, tmp_path, **values), Heard())["output"]).ReadAsArray()
    count, heard = len(server.asked), Heard()
    left, bottom, right, top = bounds()
    fetching.fetch_tiles(config(server, tmp_path, **values, output=str(tmp_path / "b.tif")), heard)
    again = gdal.Open(str(tmp_path / "b.tif")).ReadAsArray()
    assert (again == first).all() and any("12 of them were kept from earlier jobs" in text for text in heard.logs)
    assert len(server.asked) - count == (1 if service == "wmts" else 0), "of WMTS, the levels"
    part = (left + 300 * SIZE, bottom + 200 * SIZE, right - 200 * SIZE, top)
    found = fetching.fetch_tiles(config(server, tmp_path, **values, extent=part), Heard())
    assert 1 < found["tiles"] < 12 and len(server.asked) - count == (2 if service == "wmts" else 0)
    for path in stored(tmp_path / "tiles"):
        assert KEY not in str(path) and KEY.encode() not in path.read_bytes() and b"127.0.0.1" not in path.read_bytes()


@pytest.mark.parametrize("more", [{"url": "/{z}/{x}/{y}.png?key=other"}, {"referer": "https://a.example/"},
                                  {"keep_tiles": 0}])  # fmt: skip
def test_tiles_of_other_layers_are_not_taken(server: TileServer, tmp_path: Path, more: dict[str, Any]) -> None:
    values = {"tile_cache": str(tmp_path / "tiles"), "keep_tiles": 7}
    fetching.fetch_tiles(config(server, tmp_path, **values), Heard())
    more = {name: f"{server.address}{value}" if name == "url" else value for name, value in more.items()}
    fetching.fetch_tiles(config(server, tmp_path, **{**values, **more}), Heard())
    assert len(server.asked) == 24


def test_tiles_that_are_old_damaged_or_half_written_are_fetched_again(server: TileServer, tmp_path: Path) -> None:
    values = {"tile_cache": str(tmp_path / "tiles"), "keep_tiles": 7}
    wanted = config(server, tmp_path, **values)
    fetching.fetch_tiles(wanted, Heard())
    files = stored(tmp_path / "tiles")
    assert len(files) == 12
    day = 24 * 3600
    for path, age in zip(files[:3], (6.9, 7.1, 8)):
        os.utime(path, (time.time() - age * day,) * 2)
    files[3].write_bytes(files[3].read_bytes()[:-1])
    files[4].write_bytes(b"")
    content = bytearray(files[5].read_bytes())
    content[400] ^= 1
    files[5].write_bytes(content)
    partial = files[6].with_name(f".{files[6].name}.1-1.partial")
    partial.write_bytes(files[6].read_bytes()[:900])
    os.utime(partial, (time.time() - 2 * day,) * 2)
    found = fetching.fetch_tiles(wanted, Heard())
    assert (gdal.Open(found["output"]).ReadAsArray()[:3] == tile_server.image()).all()
    assert len(server.asked) == 12 + 5 and len(stored(tmp_path / "tiles")) == 12


def test_places_without_a_tile_may_have_one_later(server: TileServer, tmp_path: Path) -> None:
    values = {"tile_cache": str(tmp_path / "tiles"), "keep_tiles": 7}
    lacking = f"/14/{FIRST_COL + 1}/{FIRST_ROW + 1}.png"
    server.answer = lambda path: (404, "text/plain", b"") if path.startswith(lacking) else None
    assert fetching.fetch_tiles(config(server, tmp_path, **values), Heard())["missing"] == 1
    server.answer, heard = lambda path: None, Heard()
    assert fetching.fetch_tiles(config(server, tmp_path, **values), heard)["missing"] == 0
    assert len(server.asked) == 13 and any("11 of them were kept" in text for text in heard.logs)


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_kept_tiles_are_the_users_alone_and_lie_in_their_own_places(tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    cache = TileCache(str(folder), "a", 7)
    cache.put("0", "name", b"0")
    cache.put("1", "name", b"1")
    modes = {path: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    assert set(modes.values()) == {0o700, 0o600}
    zero, one = cache._path("0"), cache._path("1")
    one.write_bytes(zero.read_bytes())
    assert cache.get("0") == ("name", b"0") and cache.get("1") is None, "a tile fits no other place"


@pytest.mark.skipif(os.name == "nt", reason="links of POSIX")
def test_links_in_the_folder_of_tiles_lead_to_no_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, mine = TileCache(str(tmp_path / "tiles"), "a", 7), tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").write_bytes(b"old")
    os.utime(mine / "photo.jpg", (1, 1))
    path = cache._path("0")
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(tile_cache, "_numbers", iter(range(9)))
    path.with_name(f".{path.name}.{os.getpid()}-0.partial").symlink_to(mine / "photo.jpg")
    cache.put("0", "name", b"tile")
    (tmp_path / "tiles" / "zz").symlink_to(mine)
    TileCache(str(tmp_path / "tiles"), "a", 7)
    assert (mine / "photo.jpg").read_bytes() == b"old" and cache.get("0") is None


def test_answers_that_are_no_tiles_are_not_kept(server: TileServer, tmp_path: Path) -> None:
    values = {"tile_cache": str(tmp_path / "tiles"), "keep_tiles": 7}
    server.answer = lambda path: (200, "text/html", b"<html>Limit of the day</html>")
    with pytest.raises(ResourceError):
        fetching.fetch_tiles(config(server, tmp_path, **values), Heard())
    server.answer = lambda path: None
    found = fetching.fetch_tiles(config(server, tmp_path, **values), Heard())
    assert (gdal.Open(found["output"]).ReadAsArray()[:3] == tile_server.image()).all()


def test_the_oldest_tiles_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_cache, "MOST_BYTES", 100_000)
    cache = TileCache(str(tmp_path), "a", 7)
    for number in range(300):
        cache.put(str(number), "name", bytes(1000))
        assert sum(path.stat().st_size for path in stored(tmp_path)) <= 110_000
        for path in stored(tmp_path):
            os.utime(path, (path.stat().st_mtime - 60,) * 2)
    assert cache.get("299") == ("name", bytes(1000)) and cache.get("0") is None
    assert TileCache(str(tmp_path), "b", 7).get("299") is None


def test_jobs_that_keep_the_same_tiles_at_a_time_do_no_harm(tmp_path: Path) -> None:
    caches = [TileCache(str(tmp_path), "a", 7) for _ in range(4)]
    wrong: list[Any] = []

    def work(cache: TileCache, fill: int) -> None:
        for number in range(200):
            cache.put(str(number % 7), "name", bytes([fill]) * 20_000)
            found = cache.get(str(number % 7))
            if found is not None and (found[0] != "name" or len(set(found[1])) != 1 or len(found[1]) != 20_000):
                wrong.append(found)
            if number % 50 == 0:
                cache.trim()

    threads = [threading.Thread(target=work, args=(cache, fill)) for fill, cache in enumerate(caches)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(stored(tmp_path)) == 7


def test_a_folder_that_cannot_be_written_is_no_error(server: TileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    values = {"tile_cache": str(tmp_path / "file" / "tiles"), "keep_tiles": 7}
    assert fetching.fetch_tiles(config(server, tmp_path, **values), Heard())["missing"] == 0
