"""Names and colours of classes are read from a style beside a file; nothing else of it is loaded."""

import time

import pytest
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsEditorWidgetSetup,
    QgsFeature,
    QgsGeometry,
    QgsMapLayer,
    QgsPalettedRasterRenderer,
    QgsProcessingContext,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsRuleBasedRenderer,
    QgsSymbol,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

KINDS = ("Polygon", "LineString", "Point")


def saved(tmp_path, kind="Polygon", ending="gpkg"):
    """A layer in a file, with the fields text and number."""
    memory = QgsVectorLayer(f"{kind}?crs=EPSG:32633&field=text:string&field=number:integer", "x", "memory")
    feature = QgsFeature(memory.fields())
    shapes = {"Polygon": "POLYGON((0 0,1 0,1 1,0 0))", "LineString": "LINESTRING(0 0,1 1)", "Point": "POINT(0 0)"}
    feature.setGeometry(QgsGeometry.fromWkt(shapes[kind]))
    memory.dataProvider().addFeature(feature)  # an empty GeoJSON has no kind of geometry
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = {"gpkg": "GPKG", "geojson": "GeoJSON"}[ending]
    path = tmp_path / f"x.{ending}"
    QgsVectorFileWriter.writeAsVectorFormatV3(memory, str(path), QgsProcessingContext().transformContext(), options)
    return QgsVectorLayer(str(path), "x", "ogr")


def symbol(layer, color):
    found = QgsSymbol.defaultSymbol(layer.geometryType())
    found.setColor(QColor(color))
    return found


@pytest.fixture
def styles_of(provider, monkeypatch):
    """What is known of a field of a layer that is opened by its path."""
    from terrazzo.processing_provider.class_styles import LayerStyle

    options = QgsVectorLayer.LayerOptions(loadDefaultStyle=False)

    def refuse(*_):
        raise AssertionError("QGIS would load the whole style")

    def read(layer, name):
        with monkeypatch.context() as patched:
            patched.setattr(QgsMapLayer, "loadDefaultStyle", refuse)
            patched.setattr(QgsVectorLayer, "loadDefaultStyle", refuse)
            opened = QgsVectorLayer(layer.source(), "x", "ogr", options)  # as Processing opens it
            known = LayerStyle.of(opened, QgsProcessingContext()).field(name)
        return {text: known.of([text])[text] for text in ("wald", "1", "2", "7")}

    return read


@pytest.mark.parametrize("kind", KINDS)
def test_categories_have_the_names_and_colours_of_the_legend(styles_of, tmp_path, kind):
    layer = saved(tmp_path, kind, "geojson")
    categories = [
        QgsRendererCategory("wald", symbol(layer, "#11aa33"), "Forest"),
        QgsRendererCategory(["1", "2"], symbol(layer, "#aa1133"), "Together"),
    ]
    layer.setRenderer(QgsCategorizedSymbolRenderer("text", categories))
    layer.saveNamedStyle(str(tmp_path / "x.qml"))
    found = styles_of(layer, "text")
    assert found == {"wald": ("Forest", "#11aa33"), "1": ("", "#aa1133"), "2": ("", "#aa1133"), "7": ("", None)}


def test_rules_and_value_maps_name_classes(styles_of, tmp_path):
    layer = saved(tmp_path, ending="geojson")
    root = QgsRuleBasedRenderer.Rule(None)
    root.appendChild(QgsRuleBasedRenderer.Rule(symbol(layer, "#0000ff"), 0, 0, '"number" = 1', "Water"))
    root.appendChild(QgsRuleBasedRenderer.Rule(symbol(layer, "#00ff00"), 0, 0, '"number" > 1', "Others"))
    layer.setRenderer(QgsRuleBasedRenderer(root))
    layer.setEditorWidgetSetup(1, QgsEditorWidgetSetup("ValueMap", {"map": [{"Meadow": "2"}, {"Water, too": "1"}]}))
    layer.saveNamedStyle(str(tmp_path / "x.qml"))
    assert styles_of(layer, "number") == {
        "wald": ("", None), "1": ("Water", "#0000ff"), "2": ("Meadow", None), "7": ("", None)
    }  # fmt: skip


def test_the_default_style_in_a_geopackage_counts(styles_of, tmp_path):
    layer = saved(tmp_path)
    for color, is_default in (("#111111", False), ("#222222", True), ("#333333", False)):
        layer.setRenderer(
            QgsCategorizedSymbolRenderer("text", [QgsRendererCategory("wald", symbol(layer, color), "Forest")])
        )
        layer.saveStyleToDatabase(color, "", is_default, "")
    assert styles_of(layer, "text")["wald"] == ("Forest", "#222222")


def test_a_palette_names_the_values_of_a_raster(provider, tmp_path, monkeypatch):
    import numpy as np
    from osgeo import gdal
    from terrazzo.processing_provider.class_styles import raster_classes

    raster = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "x.tif"), 4, 4, 1)
    raster.GetRasterBand(1).WriteArray(np.arange(16, dtype=np.uint8).reshape(4, 4) % 3)
    raster = None
    layer = QgsRasterLayer(str(tmp_path / "x.tif"), "x")
    classes = [QgsPalettedRasterRenderer.Class(value, QColor(color), name)
               for value, color, name in ((0, "#101010", "Rock"), (2, "#20ff20", "Grass"))]  # fmt: skip
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, classes))
    layer.saveNamedStyle(str(tmp_path / "x.qml"))
    monkeypatch.setattr(QgsMapLayer, "loadDefaultStyle", lambda *_: 1 / 0)
    opened = QgsRasterLayer(str(tmp_path / "x.tif"), "x", "gdal", QgsRasterLayer.LayerOptions(loadDefaultStyle=False))
    assert raster_classes([opened], QgsProcessingContext()) == [[0, "Rock", "#101010"], [2, "Grass", "#20ff20"]]


@pytest.mark.parametrize(
    "text",
    [
        "no style",
        '<!DOCTYPE qgis [<!ENTITY a "aaaa">]><qgis>&a;</qgis>',
        '<qgis><renderer-v2 type="categorizedSymbol" attr="text"><categories>'
        + "<category/>" * 20_000
        + "</categories></renderer-v2></qgis>",
        "<qgis>" + "<a>" * 300_000,
        "<qgis><renderer-v2>" + "<symbols>" * 100_000 + "</symbols>" * 100_000 + "</renderer-v2></qgis>",
    ],
    ids=["no XML", "entities", "many classes", "not closed", "deep"],
)
def test_a_hostile_style_is_no_style_and_takes_no_time(styles_of, tmp_path, text):
    layer = saved(tmp_path, ending="geojson")
    (tmp_path / "x.qml").write_text(text)
    begun = time.monotonic()
    assert styles_of(layer, "text")["wald"] == ("", None)
    assert time.monotonic() - begun < 5
