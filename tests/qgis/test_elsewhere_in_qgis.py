"""Layers whose files lead to a server, which neither Terrazzo nor QGIS for it may ask."""

import pytest
import tile_server
from conftest import Listener
from osgeo import gdal
from qgis.core import QgsProcessingContext, QgsProcessingFeatureSourceDefinition, QgsRasterLayer


@pytest.fixture
def server():
    gdal.VSICurlClearCache()
    with tile_server.serving() as found:
        yield found


def virtual(path, server):
    path.write_text(
        '<VRTDataset rasterXSize="320" rasterYSize="256"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>/vsicurl/{server.address}/{path.stem}.tif</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return str(path)


def features(path, server):
    path.write_text(
        "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>"
        f"/vsicurl/{server.address}/{path.stem}.geojson</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    return str(path)


def refused(provider, name, **given):
    fine, message = provider.algorithm(name).create().checkParameterValues(given, QgsProcessingContext())
    assert not fine
    return message


def test_no_parameter_takes_a_file_that_leads_to_a_server(provider, server, scene, classifier, tmp_path):
    raster, vector = virtual(tmp_path / "a.vrt", server), features(tmp_path / "b.vrt", server)
    chips = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "OUTPUT": str(tmp_path / "chips")}
    polygons = {**chips, "LABEL_RASTERS": None, "LABELS": vector}
    (tmp_path / "images").mkdir()
    virtual(tmp_path / "images" / "c.vrt", server)
    mapping = {"MODEL": classifier, "OUTPUT": str(tmp_path / "map.tif")}
    for name, given in (
        ("exportchips", {**chips, "INPUT": [raster]}),
        ("exportchips", {**chips, "INPUT": [], "INPUT_FOLDER": str(tmp_path / "images")}),
        ("exportchips", {**chips, "LABEL_RASTERS": [raster]}),
        ("exportchips", {**chips, "AREA": vector}),
        ("exportchips", polygons),
        ("exportchips", {**polygons, "LABELS": f"{vector}|layername=a"}),
        ("exportchips", {**polygons, "LABELS": QgsProcessingFeatureSourceDefinition(vector, False)}),
        ("exportchips", {**chips, "EXTENT": vector}),
        ("classifyscenes", {**mapping, "INPUT": raster}),
        ("classifyscenes", {**mapping, "INPUT": scene[0], "AREA": vector}),
        ("classifyfeatures", {**mapping, "INPUT": scene[0], "FEATURES": vector}),
    ):
        assert "leads to a server (127.0.0.1:" in refused(provider, name, **given), (name, given)
    assert server.asked == []


def test_a_layer_of_the_project_that_leads_to_a_server_is_refused(provider, server, scene, tmp_path):
    text = (tmp_path / "a.vrt", virtual(tmp_path / "a.vrt", server))[0].read_text()
    for source in (str(tmp_path / "a.vrt"), text):
        layer = QgsRasterLayer(source, "of a stranger", "gdal", QgsRasterLayer.LayerOptions(loadDefaultStyle=False))
        server.asked.clear()
        given = {"INPUT": [layer], "TASK": "unlabelled", "OUTPUT": str(tmp_path / "chips")}
        assert "leads to a server (127.0.0.1:" in refused(provider, "exportchips", **given)
        assert server.asked == []


def test_the_server_of_a_raster_is_named(run, server, scene, tmp_path):
    with open(scene[0], "rb") as file:
        content = file.read()
    server.files["/a.tif"] = content
    heard = Listener()
    layer = QgsRasterLayer(f"/vsicurl/{server.address}/a.tif", "remote", "gdal")
    given = {"INPUT": [layer], "TASK": "unlabelled", "CHIP_SIZE": 64, "OUTPUT": str(tmp_path / "chips")}
    run("exportchips", heard, **given)
    assert any(f"is read from the server {server.address[7:]}" in text for text in heard.infos)
