"""Layers of tile and map servers as QGIS has them, from a server on this machine."""

import contextlib
import json
import tempfile
import time
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
import tile_server
from conftest import Listener, leftovers
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsAuthMethodConfig,
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingException,
    QgsRasterLayer,
    QgsRectangle,
    QgsSettings,
    QgsVectorLayer,
)
from terrazzo.plugin.engine.events import Reporter
from terrazzo.processing_provider.web_layers import _why_not
from tile_server import KEY, LEFT, SIZE, TOP


@pytest.fixture
def server():
    with tile_server.serving() as found:
        yield found


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The folder for caches."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("terrazzo.plugin.engine.files.cache_folder", lambda: folder)
    return folder


@pytest.fixture
def behind(tmp_path):
    """The path of the GeoTIFF that the server shows."""
    (tmp_path / "behind").mkdir()
    return tile_server.write_image(tmp_path / "behind" / "ground.tif")


def xyz(server, more=""):
    url = f"{server.address}/{{z}}/{{x}}/{{y}}.png?key={KEY}".replace("?", "%3F").replace("=", "%3D")
    return QgsRasterLayer(f"type=xyz&url={url}&zmin=0&zmax=19{more}", "ground", "wms")


def rectangle(left, top, right, bottom):
    """A rectangle in pixels of the image."""
    return QgsRectangle(LEFT + left * SIZE, TOP - bottom * SIZE, LEFT + right * SIZE, TOP - top * SIZE)


def extent(*pixels):
    """EXTENT, from pixels of the image."""
    found = rectangle(*pixels)
    return f"{found.xMinimum()!r},{found.xMaximum()!r},{found.yMinimum()!r},{found.yMaximum()!r} [EPSG:3857]"


def fields(*squares, epsg=3857):
    """A polygon layer of squares in pixels of the image."""
    layer = QgsVectorLayer(f"Polygon?crs=EPSG:{epsg}&field=class:string", "fields", "memory")
    features = []
    for place, square in enumerate(squares):
        feature = QgsFeature(layer.fields())
        feature.setAttributes([f"class {place % 2}"])
        feature.setGeometry(QgsGeometry.fromRect(rectangle(*square)))
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    layer.updateExtents()
    return layer


def chips(folder):
    """The pixels and the georeference of all chips."""
    found = [gdal.Open(str(path)) for path in sorted(Path(folder, "images").glob("*.tif"))]
    assert len(found) > 1
    return [(chip.ReadAsArray(), chip.GetGeoTransform()) for chip in found]


def same_chips(one, other):
    one, other = chips(one), chips(other)
    assert len(one) == len(other)
    for (data, place), (there, place_there) in zip(one, other):
        assert (data == there).all() and place == pytest.approx(place_there, abs=SIZE * 1e-4)


WHOLE = (128, 128, 768, 640)


def test_chips_of_a_web_layer_are_those_of_the_raster_behind_it(run, server, behind, tmp_path):
    labels = fields((150, 150, 400, 400), (420, 200, 700, 600))
    usual = {"LABELS": labels, "CLASS_FIELD": "class", "CHIP_SIZE": 64, "PIXEL_SIZE": 9.6}
    heard = Listener()
    found = run("exportchips", heard, INPUT=[xyz(server)], EXTENT=extent(*WHOLE), OUTPUT=str(tmp_path / "a"), **usual)
    assert {path.split("?")[0].split("/")[1] for path, _ in server.asked} == {"14"} and len(server.asked) == 9
    usual["PIXEL_SIZE"] = None
    run("exportchips", INPUT=[behind], EXTENT=extent(*WHOLE), OUTPUT=str(tmp_path / "b"), **usual)
    same_chips(found["OUTPUT"], tmp_path / "b")
    info = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert info["pixel_size"] == pytest.approx(SIZE)
    assert info["sources"][0]["raster"].startswith("ground (127.0.0.1:")
    told = json.dumps([heard.infos, heard.warnings, heard.texts])
    assert "Fetching 9 tiles (about 1 MB) from 127.0.0.1" in told
    for text in (
        told,
        *(path.read_bytes().decode("latin-1") for path in (tmp_path / "a").rglob("*") if path.is_file()),
    ):
        assert KEY not in text
    assert all("Terrazzo/" in headers["User-Agent"] for _, headers in server.asked)


def test_other_pixel_sizes_are_resampled_from_the_next_finer_level(run, server, behind, tmp_path):
    usual = {"TASK": "unlabelled", "CHIP_SIZE": 64, "PIXEL_SIZE": 2.5 * SIZE}
    run("exportchips", INPUT=[xyz(server, "&zmin=14")], AREA=fields(WHOLE), OUTPUT=str(tmp_path / "a"), **usual)
    assert {path.split("/")[1] for path, _ in server.asked} == {"14"}, "the server has no level of 2 pixels"
    run("exportchips", INPUT=[behind], EXTENT=extent(*WHOLE), OUTPUT=str(tmp_path / "b"), **usual)
    same_chips(tmp_path / "a", tmp_path / "b")


def test_a_web_layer_on_the_pixels_of_a_raster_in_another_crs(run, server, behind, tmp_path):
    gdal.Warp(str(tmp_path / "utm.tif"), behind, dstSRS="EPSG:32633", xRes=6, yRes=6, outputBounds=_middle(behind))
    usual = {"TASK": "unlabelled", "CHIP_SIZE": 64, "COMBINE": "stack"}
    for name, second in (("a", xyz(server)), ("b", behind)):
        place = f"{','.join(map(repr, np.array(_middle(behind))[[0, 2, 1, 3]].tolist()))} [EPSG:32633]"
        run(
            "exportchips", INPUT=[str(tmp_path / "utm.tif"), second], EXTENT=place, OUTPUT=str(tmp_path / name), **usual
        )
    for (data, _), (there, _) in zip(chips(tmp_path / "a"), chips(tmp_path / "b")):
        assert data.shape[0] == 6 and np.abs(data[3:].astype(int) - there[3:]).max() <= 1
    assert {path.split("/")[1] for path, _ in server.asked} == {"14"}


def _middle(path):
    """Bounds of the middle of the image in EPSG:32633."""
    warped = gdal.AutoCreateWarpedVRT(
        gdal.Open(path), None, gdal.Warp("", path, format="VRT", dstSRS="EPSG:32633").GetProjection()
    )
    left, step, _, top, _, down = warped.GetGeoTransform()
    x, y = left + step * warped.RasterXSize / 2, top + down * warped.RasterYSize / 2
    return (round(x) - 1500, round(y) - 1500, round(x) + 1500, round(y) + 1500)


def test_a_map_of_a_web_layer_is_that_of_the_raster_behind_it(run, server, behind, classifier, tmp_path):
    usual = {"MODEL": classifier, "DEVICE": "cpu", "EXTENT": extent(*WHOLE), "STRIDE": 8}
    run("classifyscenes", INPUT=behind, OUTPUT=str(tmp_path / "b.tif"), **usual)
    heard = Listener()
    run("classifyscenes", heard, INPUT=xyz(server), PIXEL_SIZE=9.6, OUTPUT=str(tmp_path / "a.tif"), **usual)
    one, other = gdal.Open(str(tmp_path / "a.tif")), gdal.Open(str(tmp_path / "b.tif"))
    assert (one.ReadAsArray() == other.ReadAsArray()).all() and len(np.unique(one.ReadAsArray())) > 1
    assert one.GetGeoTransform() == pytest.approx(other.GetGeoTransform(), abs=SIZE * 1e-4)
    assert KEY not in json.dumps([heard.infos, heard.warnings, heard.texts])


@pytest.fixture(scope="module")
def segmenter(provider, worker_python, dataset, tmp_path_factory):
    """A model file of a segmentation network, which has learned little."""
    import processing

    path = str(tmp_path_factory.mktemp("segmenter") / "model.safetensors")
    usual = {"ENCODER": "mobilenet_v3_small", "EPOCHS": 2, "BATCH_SIZE": 4, "DEVICE": "cpu"}
    processing.run("terrazzo:trainsegmenter", {"CHIPS": dataset, **usual, "OUTPUT": path}, feedback=Listener())
    return path


def test_a_web_layer_beside_a_raster_is_mapped_like_the_raster_behind_it(run, server, behind, segmenter, tmp_path):
    left = str(tmp_path / "left.tif")
    gdal.Translate(left, behind, srcWin=[0, 0, 400, 768])
    usual = {"MODEL": segmenter, "DEVICE": "cpu", "EXTENT": extent(*WHOLE), "TILE_SIZE": 256, "HALO": 32}
    for name, layer in (("file", behind), ("web", xyz(server))):
        (tmp_path / name).mkdir()
        heard = Listener()
        run("segmentraster", heard, INPUT=left, MORE_IMAGES=[layer], OUTPUT=str(tmp_path / name / "map.tif"), **usual)
        assert KEY not in json.dumps([heard.infos, heard.warnings, heard.texts])
    one, other = (gdal.Open(str(tmp_path / name / "map.tif")) for name in ("file", "web"))
    assert (one.ReadAsArray() == other.ReadAsArray()).all() and len(np.unique(one.ReadAsArray())) > 1
    assert one.GetGeoTransform() == pytest.approx(other.GetGeoTransform(), abs=SIZE * 1e-4)


def test_a_web_layer_beside_a_raster_has_its_pixels(provider, server, behind, segmenter, tmp_path):
    given = {"MODEL": segmenter, "INPUT": behind, "MORE_IMAGES": [xyz(server)], "OUTPUT": str(tmp_path / "map.tif")}
    assert "neither Extent (EXTENT) nor" in refused(provider, "segmentraster", **given)
    given["EXTENT"] = extent(*WHOLE)
    algorithm = provider.algorithm("segmentraster").create()
    settings = algorithm.read(given, QgsProcessingContext())
    assert settings["more_images"].sources[0].size == pytest.approx(SIZE) and settings["pixel_size"] is None
    assert "no Pixel size" in refused(provider, "segmentraster", COMBINE="separate", **given)
    each = algorithm.read({**given, "COMBINE": "separate", "PIXEL_SIZE": 2 * SIZE}, QgsProcessingContext())
    assert each["more_images"].sources[0].size == pytest.approx(2 * SIZE) and each["pixel_size"] == 2 * SIZE
    assert server.asked == []


def exported(run, tmp_path, layer, *listeners):
    run("exportchips", *listeners, INPUT=[layer], TASK="unlabelled", PIXEL_SIZE=9.6, CHIP_SIZE=64,
        EXTENT=extent(*WHOLE), OUTPUT=str(tmp_path / "chips"))  # fmt: skip


def secrets_seen():
    """Files in temporary folders of jobs and command lines of processes that show the key."""
    folders = Path(tempfile.gettempdir()).glob("terrazzo-*")
    places = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    places += Path("/proc").glob("[0-9]*/cmdline")
    found = []
    for place in places:
        with contextlib.suppress(OSError):
            if KEY.encode() in place.read_bytes():
                found.append(place)
    return found


def test_headers_and_logins_of_a_layer_are_passed_on(run, server, tmp_path):
    seen = []
    server.answer = lambda path: seen.extend(secrets_seen())
    heard = Listener()
    more = f"&http-header:referer=https://r.example/&http-header:X-Key={KEY}&username=jo&password={KEY}"
    exported(run, tmp_path, xyz(server, more), heard)
    login = b64encode(f"jo:{KEY}".encode()).decode()
    assert len(server.asked) == 9
    for _, headers in server.asked:
        assert (headers["X-Key"], headers["Authorization"]) == (KEY, f"Basic {login}")
        assert headers["Referer"] == "https://r.example/"
    assert seen == [] and KEY not in json.dumps([heard.infos, heard.warnings, heard.texts])


@pytest.fixture
def login(qgis_app):
    """Stores an authentication configuration; gives its id."""
    manager = QgsApplication.authManager()
    if manager.isDisabled() or not manager.setMasterPassword("master", True):
        pytest.skip("QGIS has no authentication database here")
    stored = []

    def store(method, **values):
        config = QgsAuthMethodConfig(method)
        config.setName(method)
        for name, value in values.items():
            config.setConfig(name, value)
        found = manager.storeAuthenticationConfig(config)
        assert found[0] if isinstance(found, tuple) else found
        stored.append(config.id())
        return config.id()

    yield store
    for authcfg in stored:
        manager.removeAuthenticationConfig(authcfg)


def test_a_login_in_the_authentication_database_is_passed_on(run, server, login, tmp_path):
    authcfg = login("Basic", username="jo", password=KEY)
    exported(run, tmp_path, xyz(server, f"&authcfg={authcfg}"))
    expected = f"Basic {b64encode(f'jo:{KEY}'.encode()).decode()}"
    assert len(server.asked) == 9 and {headers["Authorization"] for _, headers in server.asked} == {expected}


def test_a_login_that_cannot_be_passed_on_is_refused(provider, server, login, tmp_path):
    layer = xyz(server, f"&authcfg={login('PKI-Paths', certpath='a', keypath='b')}")
    given = {"INPUT": [layer], "TASK": "unlabelled", "PIXEL_SIZE": 9.6, "EXTENT": extent(*WHOLE)}
    text = refused(provider, "exportchips", OUTPUT=str(tmp_path / "chips"), **given)
    assert "is of the method PKI-Paths, which cannot be passed to" in text


def test_a_raster_on_a_server_is_read_with_its_login(run, server, login, behind, classifier, tmp_path):
    server.files["/a.tif"] = Path(behind).read_bytes()
    source = f"/vsicurl/{server.address}/a.tif authcfg='{login('Basic', username='jo', password=KEY)}'"
    layer, seen, heard = QgsRasterLayer(source, "remote", "gdal"), [], Listener()
    assert layer.isValid()
    server.asked.clear()
    server.answer = lambda path: seen.extend(secrets_seen())
    usual = {"MODEL": classifier, "DEVICE": "cpu", "EXTENT": extent(100, 100, 300, 300), "STRIDE": 8}
    run("classifyscenes", heard, INPUT=layer, OUTPUT=str(tmp_path / "a.tif"), **usual)
    expected = f"Basic {b64encode(f'jo:{KEY}'.encode()).decode()}"
    assert server.asked and {headers["Authorization"] for _, headers in server.asked} == {expected}
    assert seen == [] and KEY not in json.dumps([heard.infos, heard.warnings, heard.texts])
    assert KEY.encode() not in (tmp_path / "a.tif").read_bytes()
    layer = QgsRasterLayer(source, "remote", "gdal")
    run("exportchips", heard, INPUT=[layer], TASK="unlabelled", CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert KEY not in (tmp_path / "chips" / "dataset.json").read_text()
    assert KEY not in json.dumps([heard.infos, heard.warnings, heard.texts])


@pytest.fixture
def proxy(server):
    """QGIS's settings of a proxy, which is the server."""
    settings = QgsSettings()
    values = {"proxyEnabled": True, "proxyType": "HttpProxy", "proxyHost": "127.0.0.1", "proxyPort": server.server_port,
              "proxyUser": "jo", "proxyPassword": KEY}  # fmt: skip
    for name, value in values.items():
        settings.setValue(f"proxy/{name}", value)
    yield settings
    settings.remove("proxy")


def test_tiles_are_fetched_through_the_proxy_of_qgis(run, server, proxy, tmp_path):
    seen = []
    server.answer = lambda path: seen.extend(secrets_seen())
    server.login_wanted = True
    url = "type=xyz&url=http://tiles.example/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmin=0&zmax=19"
    exported(run, tmp_path, QgsRasterLayer(url, "ground", "wms"))
    served = [headers for path, headers in server.asked if headers["Proxy-Authorization"]]
    assert len(served) == 9 and all(path.startswith("http://tiles.example/14/") for path, _ in server.asked)
    assert {headers["Proxy-Authorization"] for headers in served} == {
        f"Basic {b64encode(f'jo:{KEY}'.encode()).decode()}"
    }
    assert seen == []


def test_hosts_without_proxy_are_asked_directly(run, server, proxy, tmp_path):
    proxy.setValue("proxy/proxyPort", 9)
    proxy.setValue("proxy/noProxyUrls", [f"{server.address}/"])
    exported(run, tmp_path, xyz(server))
    assert len(server.asked) == 9


def test_another_job_on_the_same_ground_asks_for_nothing(run, server, classifier, cache, tmp_path):
    usual = {"INPUT": xyz(server), "PIXEL_SIZE": 9.6}
    chips = {**usual, "INPUT": [xyz(server)], "TASK": "unlabelled", "CHIP_SIZE": 64, "EXTENT": extent(*WHOLE)}
    run("exportchips", OUTPUT=str(tmp_path / "a"), **chips)
    assert len(server.asked) == 9
    heard = Listener()
    part = extent(300, 300, 500, 400)
    run("classifyscenes", heard, MODEL=classifier, DEVICE="cpu", OUTPUT=str(tmp_path / "a.tif"), EXTENT=part, **usual)
    assert len(server.asked) == 9 and any("were kept from earlier jobs" in text for text in heard.infos)
    kept = [path for path in (cache / "tiles").rglob("*") if path.is_file()]
    assert len(kept) == 9
    for path in kept:
        assert KEY not in str(path) and KEY.encode() not in path.read_bytes()
    run("exportchips", OUTPUT=str(tmp_path / "b"), KEEP_TILES=0, **chips)
    assert len(server.asked) == 18
    same_chips(tmp_path / "a", tmp_path / "b")


# Of the image's 12 tiles, two in opposite corners.
CORNERS = (40, 40, 88, 88), (928, 672, 976, 720)


@pytest.mark.parametrize("more", [{"TASK": "unlabelled"}, {"ROTATIONS": [30.0]}, {"PIXEL_SIZE": 1.3 * SIZE}])
def test_chips_in_an_area_need_the_tiles_that_it_touches(run, server, behind, tmp_path, more):
    usual = {"LABELS": fields((0, 0, 500, 768), (500, 0, 1024, 768)), "CLASS_FIELD": "class", "CHIP_SIZE": 64,
             "PIXEL_SIZE": SIZE, "AREA": fields(*CORNERS), "EXTENT": extent(8, 8, 1016, 760), **more}  # fmt: skip
    if "TASK" in more:
        del usual["LABELS"], usual["CLASS_FIELD"]
    found = run("exportchips", INPUT=[xyz(server)], OUTPUT=str(tmp_path / "a"), **usual)
    assert len(server.asked) == 2, "of 12 tiles"
    run("exportchips", INPUT=[behind], OUTPUT=str(tmp_path / "b"), **usual)
    same_chips(found["OUTPUT"], tmp_path / "b")


def test_chips_of_an_unknown_size_need_all_tiles_around_the_area(run, server, tmp_path):
    labels = fields((20, 20, 80, 80), (940, 680, 1000, 740))
    run("exportchips", INPUT=[xyz(server)], OUTPUT=str(tmp_path / "a"), LABELS=labels, AREA=fields(*CORNERS),
        PIXEL_SIZE=SIZE, PLACEMENT="bounding_boxes", CHIP_SIZE=16)  # fmt: skip
    assert len(server.asked) == 12


def test_a_map_of_an_area_needs_the_tiles_that_it_touches(run, server, behind, classifier, tmp_path):
    usual = {"MODEL": classifier, "DEVICE": "cpu", "AREA": fields(*CORNERS), "STRIDE": 8,
             "EXTENT": extent(0, 0, 1024, 768)}  # fmt: skip
    run("classifyscenes", INPUT=behind, OUTPUT=str(tmp_path / "b.tif"), **usual)
    run("classifyscenes", INPUT=xyz(server), PIXEL_SIZE=SIZE, OUTPUT=str(tmp_path / "a.tif"), **usual)
    one, other = gdal.Open(str(tmp_path / "a.tif")), gdal.Open(str(tmp_path / "b.tif"))
    assert (one.ReadAsArray() == other.ReadAsArray()).all() and (one.ReadAsArray() != 0).any()
    assert len(server.asked) == 2, "of 12 tiles"


def test_a_web_layer_is_written_under_its_own_name(provider, server, tmp_path):
    layer = xyz(server)
    layer.setName("../Kataster 2024/a?b")
    given = {"INPUT": [layer, layer], "TASK": "unlabelled", "OUTPUT": str(tmp_path / "chips"), "PIXEL_SIZE": SIZE,
             "EXTENT": extent(300, 300, 400, 400)}  # fmt: skip
    settings = provider.algorithm("exportchips").create().read(given, QgsProcessingContext())
    paths = [Path(path) for path in settings["input"].write(tmp_path, Reporter())["input"]]
    assert [path.stem for path in paths] == ["Kataster_2024_a_b"] * 2, "results of several maps are named after files"
    assert all(path.is_file() and path.parent.parent == tmp_path for path in paths)


def test_tiles_of_an_area_are_counted_before_any_is_fetched(provider, server, tmp_path):
    far = fields((10, 10, 90, 90), (40_060, 30_070, 40_080, 30_090))
    given = {"INPUT": [xyz(server)], "TASK": "unlabelled", "OUTPUT": str(tmp_path / "chips"), "PIXEL_SIZE": SIZE,
             "CHIP_SIZE": 64}  # fmt: skip
    few = refused(provider, "exportchips", AREA=far, MAX_TILES=1, **given)
    assert "2 tiles (about 1 MB) from 127.0.0.1" in few and "(MAX_TILES) is 1" in few
    algorithm = provider.algorithm("exportchips").create()
    assert algorithm.checkParameterValues({**given, "AREA": far, "MAX_TILES": 2}, QgsProcessingContext()) == (True, "")
    assert server.asked == []


def test_features_get_the_pixels_around_them(provider, server, classifier, tmp_path):
    given = {"INPUT": xyz(server), "MODEL": classifier, "PIXEL_SIZE": SIZE, "OUTPUT": str(tmp_path / "a.gpkg"),
             "FEATURES": fields((150, 150, 200, 200), (300, 300, 330, 400))}  # fmt: skip
    part = provider.algorithm("classifyfeatures").create().read(given, QgsProcessingContext())["input"].sources[0]
    left, bottom, right, top = part.extent
    margin = 66  # half of the largest square and a chip of 16 pixels
    pixels = [(left - LEFT) / SIZE, (TOP - top) / SIZE, (right - LEFT) / SIZE, (TOP - bottom) / SIZE]
    assert pixels == pytest.approx([150 - margin, 150 - margin, 330 + margin, 400 + margin])


def test_mapping_takes_the_pixel_size_of_the_model_if_none_is_given(provider, server, classifier):
    given = {"INPUT": xyz(server), "MODEL": classifier, "EXTENT": extent(0, 0, 9, 9), "OUTPUT": "/tmp/none.tif"}
    algorithm = provider.algorithm("classifyscenes").create()
    settings = algorithm.read({**given}, QgsProcessingContext())
    part = settings["input"].sources[0]
    assert part.size == pytest.approx(SIZE / 16) and settings["pixel_size"] == pytest.approx(1.0)


def refused(provider, name, **given):
    """What the dialog says."""
    algorithm = provider.algorithm(name).create()
    fine, message = algorithm.checkParameterValues(given, QgsProcessingContext())
    assert not fine
    return message


def test_what_is_needed_is_said_before_anything_is_fetched(provider, server, tmp_path):
    given = {"INPUT": [xyz(server)], "TASK": "unlabelled", "OUTPUT": str(tmp_path / "chips")}
    assert "neither Extent (EXTENT) nor" in refused(provider, "exportchips", PIXEL_SIZE=9.6, **given)
    assert "no Pixel size (PIXEL_SIZE) is given" in refused(provider, "exportchips", EXTENT=extent(*WHOLE), **given)
    fine = {**given, "EXTENT": extent(0, 0, 768, 640)}
    assert "the smallest pixels" in refused(provider, "exportchips", PIXEL_SIZE=0.01, **fine)
    few = refused(provider, "exportchips", PIXEL_SIZE=9.6, MAX_TILES=8, **fine)
    assert "9 tiles (about 1 MB) from 127.0.0.1" in few and "(MAX_TILES) is 8" in few
    wide = {**given, "EXTENT": "-2000000,2000000,-1000000,1000000 [EPSG:3857]"}
    text = refused(provider, "exportchips", PIXEL_SIZE=19.1, **wide)
    assert "335,380 tiles" in text, text
    assert server.asked == [] and leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("type=xyz&url=ADDRESS/%7Bz%7D/%7Bx%7D/%7By%7D.png&authcfg=abc1234", "QGIS does not give out the auth"),
        ("type=xyz&url=ADDRESS/%7Bz%7D/%7Bx%7D/%7By%7D.png&http-header:x%20key=b", "that no header can have"),
        ("type=xyz&url=ADDRESS/%7Bz%7D/%7Bx%7D/%7By%7D.png&http-header:x-key=b%0D%0Ac:%20d", "that no header can have"),
        ("type=xyz&url=file:///etc/%7Bz%7D/%7Bx%7D/%7By%7D", "cannot be used"),
    ],
)
def test_layers_that_cannot_be_fetched_are_refused(provider, server, tmp_path, source, words):
    layer = QgsRasterLayer(source.replace("ADDRESS", server.address), "ground", "wms")
    assert layer.isValid()
    given = {"INPUT": [layer], "TASK": "unlabelled", "PIXEL_SIZE": 9.6, "EXTENT": extent(*WHOLE)}
    assert words in refused(provider, "exportchips", OUTPUT=str(tmp_path / "chips"), **given)
    assert server.asked == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tileDimensions": "Time=2020"}, "a choice of the server's pictures (Time=2020)"),
        ({"filter": 'a:"b" = 1'}, "is filtered"),
        ({"opacities": "255,99"}, "partly transparent"),
        ({"opacities": "255,255", "filter": "", "tileDimensions": "", "type": ""}, ""),
    ],
)
def test_settings_of_a_layer_that_change_its_pictures_are_not_passed_over(given, words):
    why = _why_not(given)
    assert words in why and bool(words) == bool(why)


def test_labels_are_not_taken_from_the_web(provider, server, scene, tmp_path):
    given = {"INPUT": [scene[0]], "LABEL_RASTERS": [xyz(server)], "OUTPUT": str(tmp_path / "chips")}
    assert "comes from the provider wms, not from a file" in refused(provider, "exportchips", **given)


def test_a_server_that_fails_ends_the_job_without_telling_the_key(run, server, tmp_path):
    server.answer = lambda path: (200, "text/html", b"<html>no</html>")
    heard = Listener()
    with pytest.raises(QgsProcessingException, match="answers with something that is no image") as raised:
        run("exportchips", heard, INPUT=[xyz(server)], TASK="unlabelled", PIXEL_SIZE=9.6, EXTENT=extent(*WHOLE),
            OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert KEY not in json.dumps([str(raised.value), heard.infos, heard.warnings, heard.texts])
    assert leftovers(tmp_path) == []


def test_a_job_that_waits_for_the_server_is_cancelled_at_once(run, server, tmp_path):
    server.answer, began = tile_server.slow(20), []

    def cancel(text):
        if "Fetching" in text and not began:
            began.append(time.monotonic())
            heard.cancel()

    heard = Listener(cancel)
    run("exportchips", heard, INPUT=[xyz(server)], TASK="unlabelled", PIXEL_SIZE=9.6, EXTENT=extent(*WHOLE),
        OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert began and time.monotonic() - began[0] < 2
    assert leftovers(tmp_path) == []


DESCRIPTION = """<GDAL_WMS><Service name="TMS"><ServerUrl>ADDRESS/${z}/${x}/${y}.png</ServerUrl></Service><DataWindow>
<UpperLeftX>-20037508.34</UpperLeftX><UpperLeftY>20037508.34</UpperLeftY><LowerRightX>20037508.34</LowerRightX>
<LowerRightY>-20037508.34</LowerRightY><TileLevel>19</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY>
<YOrigin>top</YOrigin></DataWindow><Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX>
<BlockSizeY>256</BlockSizeY><BandsCount>3</BandsCount></GDAL_WMS>"""


def test_a_description_of_tiles_for_gdal_is_a_web_layer(run, provider, server, behind, tmp_path):
    path = tmp_path / "tiles.xml"
    path.write_text(DESCRIPTION.replace("ADDRESS", server.address))
    usual = {"TASK": "unlabelled", "CHIP_SIZE": 64, "EXTENT": extent(*WHOLE)}
    run("exportchips", INPUT=[str(path)], PIXEL_SIZE=9.6, OUTPUT=str(tmp_path / "a"), **usual)
    run("exportchips", INPUT=[behind], OUTPUT=str(tmp_path / "b"), **usual)
    same_chips(tmp_path / "a", tmp_path / "b")
    given = {**usual, "INPUT": [str(path)], "PIXEL_SIZE": 9.6, "OUTPUT": str(tmp_path / "c")}
    for old, new, words in (
        (server.address, "/vsicurl/http://a.example", "cannot be used"),
        (">EPSG:3857<", ">EPSG:4326<", "other than XYZ tiles of the world"),
        ('name="TMS"', 'name="IIP"', "other than XYZ tiles of the world"),
    ):
        path.write_text(DESCRIPTION.replace("ADDRESS", server.address).replace(old, new))
        assert words in refused(provider, "exportchips", **given)
