"""Label features of every geometry and from every kind of layer."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import processing
import pytest
import synthetic
from conftest import BOTTOM, HEIGHT, LEFT, WIDTH, Listener, polygon_layer
from osgeo import gdal, ogr, osr
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProject,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from terrazzo.plugin.engine.events import Reporter

HALVES = [("field", 0, 0, 160, 256), ("water", 160, 0, 320, 256)]


@pytest.fixture
def pixels(run, scene, tmp_path):
    """Exports label features of the scene's ground; gives the labelled pixels of each class name."""

    def pixels(labels, listener=None, **parameters):
        given = {"CLASS_FIELD": "class", "CHIP_SIZE": 64, "OUTPUT": str(tmp_path / "chips"), "OVERWRITE": True}
        found = run("exportchips", listener or Listener(), INPUT=[scene[0]], LABELS=labels, **{**given, **parameters})
        info = json.loads((Path(found["OUTPUT"]) / "dataset.json").read_text())
        sums = np.sum(list(info["pixel_counts"].values()), axis=0)
        return {row["name"]: int(count) for row, count in zip(info["classes"], sums)}

    return pixels


def layer_of(kind, features, fields="field=class:string", epsg=synthetic.UTM):
    """A memory layer of (WKT in metres of the scene, attributes)."""
    layer = QgsVectorLayer(f"{kind}?crs=EPSG:{epsg}&{fields}", "marks", "memory")
    made = []
    for wkt, *values in features:
        geometry = QgsGeometry.fromWkt(wkt)
        geometry.translate(LEFT, BOTTOM)
        feature = QgsFeature(layer.fields())
        feature.setAttributes(values)
        feature.setGeometry(geometry)
        made.append(feature)
    assert layer.dataProvider().addFeatures(made)[0]
    layer.updateExtents()
    return layer


def saved(layer, path, driver="GPKG", **options):
    """A layer as a file."""
    save = QgsVectorFileWriter.SaveVectorOptions()
    save.driverName, save.layerName = driver, "land"
    for name, value in options.items():
        setattr(save, name, value)
    context = QgsProject.instance().transformContext()
    assert QgsVectorFileWriter.writeAsVectorFormatV3(layer, str(path), context, save)[0] == 0
    return str(path)


def test_points_label_the_pixel_that_they_lie_in(pixels):
    points = [(f"POINT({x} {y})", name) for x, y, name in ((10.5, 10.5, "a"), (200.5, 99.5, "b"), (20.5, 30.5, "b"))]
    assert pixels(layer_of("Point", points)) == {"a": 1, "b": 2}


def test_a_buffer_around_points_and_lines_is_in_map_units_and_spares_polygons(pixels):
    points = [("POINT(50 50)", "a"), ("POINT(200 200)", "b")]
    found = pixels(layer_of("Point", points), BUFFER=20)
    assert found == {"a": pytest.approx(np.pi * 400, rel=0.02), "b": pytest.approx(np.pi * 400, rel=0.02)}
    lines = [("LINESTRING(20 100, 120 100)", "a"), ("MULTILINESTRING((20 200, 120 200), (200 200, 300 200))", "b")]
    found = pixels(layer_of("MultiLineString", lines), BUFFER=10)
    assert found["a"] == pytest.approx(2000 + np.pi * 100, rel=0.02)
    assert found["b"] == pytest.approx(2 * (2000 + np.pi * 100), rel=0.02)
    assert pixels(polygon_layer(HALVES), BUFFER=10) == {"field": 160 * 256, "water": 160 * 256}


def test_a_buffer_is_in_units_of_the_raster_when_the_layer_is_in_degrees(pixels):
    layer = layer_of("Point", [("POINT(100 100)", "a"), ("POINT(220 100)", "b")])
    moved = processing.run("native:reprojectlayer", {
        "INPUT": layer, "TARGET_CRS": QgsCoordinateReferenceSystem("EPSG:4326"), "OUTPUT": "memory:",
    })["OUTPUT"]  # fmt: skip
    assert pixels(moved, BUFFER=20)["a"] == pytest.approx(np.pi * 400, rel=0.02)


def test_a_point_beside_the_image_reaches_into_it_by_its_buffer(pixels):
    points = [("POINT(-10 128)", "a"), ("POINT(100 100)", "b")]
    assert pixels(layer_of("Point", points), BUFFER=20)["a"] > 200


def test_a_polygon_may_have_parts_holes_and_curves(pixels):
    parts = "MULTIPOLYGON(((0 0,100 0,100 100,0 100,0 0),(10 10,90 10,90 90,10 90,10 10)),((200 0,220 0,220 50,200 0)))"
    circle = "CURVEPOLYGON(CIRCULARSTRING(200 200, 250 250, 300 200, 250 150, 200 200))"
    layer = layer_of("MultiPolygon", [(parts, "a")])
    curves = layer_of("CurvePolygon", [(circle, "round"), ("CURVEPOLYGON((0 0,50 0,50 50,0 50,0 0))", "square")])
    assert pixels(layer, BACKGROUND="class")["a"] == pytest.approx(100 * 100 - 80 * 80 + 500, abs=30)
    found = pixels(curves)
    assert found == {"round": pytest.approx(np.pi * 2500, rel=0.01), "square": 2500}


def test_a_mixed_layer_gives_what_it_has(pixels, tmp_path):
    path = str(tmp_path / "mixed.gpkg")
    target = gdal.GetDriverByName("GPKG").Create(path, 0, 0, 0, gdal.GDT_Unknown)
    layer = target.CreateLayer("mixed", synthetic.reference(synthetic.UTM), ogr.wkbUnknown)
    layer.CreateField(ogr.FieldDefn("class", ogr.OFTString))
    x, y = LEFT, BOTTOM
    for name, wkt in (
        ("area", synthetic.rectangle(x, y, x + 50, y + 50)),
        ("line", f"LINESTRING({x + 100} {y + 20.5},{x + 200} {y + 20.5})"),
        ("spot", f"POINT({x + 250.5} {y + 20.5})"),
        ("heap", f"GEOMETRYCOLLECTION({synthetic.rectangle(x, y + 100, x + 10, y + 110)},POINT({x + 30} {y + 30}))"),
        ("hole", None),
    ):
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetField("class", name)
        if wkt:
            feature.SetGeometry(ogr.CreateGeometryFromWkt(wkt))
        layer.CreateFeature(feature)
    feature = layer = target = None
    listener = Listener()
    found = pixels(path, listener)
    assert found["area"] == 2500 and found["heap"] == 100 and found["spot"] == 1
    assert found["line"] == pytest.approx(100, abs=2)
    # Without a geometry a feature meets no extent, so that nobody asks for it where an index does the search.
    assert [text for text in listener.warnings if "left out" in text and "feature id 5" not in text] == []


def test_the_later_feature_wins_also_when_it_was_never_saved(pixels):
    layer = polygon_layer([("a", 0, 0, 320, 256)])
    layer.startEditing()
    for name, right in (("b", 200), ("c", 100)):
        feature = QgsFeature(layer.fields())
        feature.setAttributes([name, ""])
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(LEFT, BOTTOM, LEFT + right, BOTTOM + 256)))
        layer.addFeature(feature)
    QgsProject.instance().addMapLayer(layer, False)
    try:
        assert pixels(layer.id()) == {"a": 120 * 256, "b": 100 * 256, "c": 100 * 256}
    finally:
        layer.rollBack()
        QgsProject.instance().removeMapLayer(layer.id())


def test_features_win_by_a_field_or_by_their_size(pixels):
    squares = [("small", 0, 0, 50, 50), ("large", 0, 0, 100, 100), ("middle", 25, 0, 100, 50)]
    layer = polygon_layer(squares)
    assert pixels(layer) == {"small": 0, "large": 100 * 100 - 75 * 50, "middle": 75 * 50}
    assert pixels(layer, OVERLAP_RULE="smaller") == {
        "small": 2500, "middle": 50 * 50, "large": 100 * 100 - 100 * 50,
    }  # fmt: skip
    ranked = layer_of(
        "Polygon",
        [(synthetic.rectangle(*square), name, rank) for (name, *square), rank in zip(squares, (7.5, -1, None))],
        "field=class:string&field=rank:double",
    )
    assert pixels(ranked, OVERLAP_RULE="field", PRIORITY_FIELD="rank") == {"small": 2500, "large": 7500, "middle": 0}


def test_chips_tell_the_feature_that_they_were_cut_for_by_its_id(run, scene, tmp_path):
    layer = layer_of("Point", [("POINT(50 50)", "a"), ("POINT(200 100)", "b"), ("POINT(260 200)", "a")])
    found = run("exportchips", INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=32, BUFFER=5,
                PLACEMENT="features", TASK="classification", OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    chips = {chip["feature"]: chip for chip in QgsVectorLayer(found["FOOTPRINTS"], "chips", "ogr").getFeatures()}
    points = {feature.id(): feature for feature in layer.getFeatures()}
    assert sorted(chips) == sorted(points) == [1, 2, 3]
    for number, chip in chips.items():
        assert chip.geometry().contains(points[number].geometry())
        assert chip["classes"] == {"a": "1", "b": "2"}[points[number]["class"]]


@pytest.mark.parametrize("kind", ["GPKG", "filtered", "SpatiaLite", "ESRI Shapefile", "GeoJSON", "view"])
def test_layers_of_every_kind_give_the_same_chips(pixels, tmp_path, kind):
    memory = polygon_layer([*HALVES, ("ruins", 0, 0, 10, 10)])
    if kind == "filtered":
        layer = QgsVectorLayer(f"{saved(memory, tmp_path / 'land.gpkg')}|layername=land", "land", "ogr")
        assert layer.setSubsetString("\"class\" <> 'ruins'")
    elif kind == "SpatiaLite":
        path = saved(memory, tmp_path / "land.sqlite", "SQLite", datasourceOptions=["SPATIALITE=YES"])
        layer = QgsVectorLayer(f"dbname='{path}' table=\"land\" (geometry) sql=\"class\" <> 'ruins'", "l", "spatialite")
    elif kind == "view":
        path = saved(memory, tmp_path / "land.gpkg")
        layer = QgsVectorLayer(f"{path}|subset=SELECT * FROM land WHERE class <> 'ruins'", "land", "ogr")
    else:
        ending = {"GPKG": "gpkg", "ESRI Shapefile": "shp", "GeoJSON": "geojson"}[kind]
        path = saved(memory, tmp_path / f"land.{ending}", kind)
        layer = QgsVectorLayer(path, "land", "ogr")
        layer.selectByExpression("class <> 'ruins'")
        QgsProject.instance().addMapLayer(layer, False)
    assert layer.isValid()
    source = layer
    if layer.selectedFeatureCount():
        source = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
    found = pixels(source)
    assert found == pytest.approx({"field": 160 * 256, "water": 160 * 256}, rel=0.01)


def test_a_small_part_of_a_large_layer_gives_what_all_of_it_would(pixels):
    rng = np.random.default_rng(0)
    squares = []
    for number in range(3000):
        x, y = rng.uniform(-2000, 2000, 2)
        squares.append((f"class {number % 3}", x, y, x + 60, y + 60))
    layer = polygon_layer(squares)
    near = [square for square in squares if -60 < square[1] < WIDTH and -60 < square[2] < HEIGHT]
    assert 0 < len(near) < 100
    assert pixels(layer) == pixels(polygon_layer(near))


def test_a_class_field_of_dates_holds_texts(pixels):
    rows = [(synthetic.rectangle(*box[1:]), day) for box, day in zip(HALVES, ("2024-05-01", "2024-06-01"))]
    layer = layer_of("Polygon", [], "field=class:date")
    made = []
    for wkt, day in rows:
        feature = QgsFeature(layer.fields())
        feature.setAttribute(0, day)
        geometry = QgsGeometry.fromWkt(wkt)
        geometry.translate(LEFT, BOTTOM)
        feature.setGeometry(geometry)
        made.append(feature)
    layer.dataProvider().addFeatures(made)
    layer.updateExtents()
    assert pixels(layer) == {"2024-05-01": 160 * 256, "2024-06-01": 160 * 256}


def test_labels_without_geometries_are_refused_in_words(pixels):
    table = QgsVectorLayer("NoGeometry?field=class:string", "table", "memory")
    with pytest.raises(QgsProcessingException, match=r'"table" holds no places on the ground'):
        pixels(table)


def test_a_polygon_beyond_the_world_is_named(pixels):
    layer = polygon_layer(HALVES, epsg=4326)  # metres taken for degrees
    said = "2 with no geometry or one that is not usable in the raster's CRS|do not overlap the raster"
    with pytest.raises(QgsProcessingException, match=said):  # as PROJ's versions differ
        pixels(layer)


def test_ids_that_would_lose_their_order_are_refused(pixels, tmp_path):
    path = saved(polygon_layer(HALVES), tmp_path / "land.gpkg")
    source = gdal.OpenEx(path, gdal.OF_VECTOR | gdal.OF_UPDATE)
    source.ExecuteSQL(f"UPDATE land SET fid = {2**60} WHERE fid = 2")
    source = None
    with pytest.raises(QgsProcessingException, match=f"A feature has the id {2**60}"):
        pixels(f"{path}|layername=land")


class Meter(Reporter):
    """Measures the memory of this process, in MB, whenever it is asked whether to stop."""

    def __init__(self):
        self.sizes = []

    def cancel_requested(self):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        return False


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells its memory this way")
def test_memory_does_not_grow_with_the_features(provider, scene, tmp_path):
    path, count, corners = tmp_path / "many.gpkg", 8000, 1000
    target = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
    layer = target.CreateLayer("many", synthetic.reference(synthetic.UTM), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("class", ogr.OFTInteger))
    layer.StartTransaction()
    angles = np.linspace(0, 2 * np.pi, corners)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    circle[-1] = circle[0]
    for number in range(count):
        ring = circle + np.array([LEFT + number % WIDTH, BOTTOM + number // WIDTH])
        wkb = struct.pack("<BIII", 1, 3, 1, corners) + ring.astype("<f8").tobytes()
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetField(0, number % 3)
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkb(wkb))
        layer.CreateFeature(feature)
    layer.CommitTransaction()
    feature = layer = target = None
    assert path.stat().st_size > 120e6
    algorithm, context = provider.algorithm("exportchips").create(), QgsProcessingContext()
    context.setProject(QgsProject.instance())
    source = algorithm.read({"INPUT": [scene[0]], "LABELS": str(path), "CLASS_FIELD": "class"}, context)["labels"]
    meter = Meter()
    found = source.write(tmp_path, meter)
    assert len(meter.sizes) == count // 500
    assert max(meter.sizes) - meter.sizes[0] < 30
    assert [value for value, _, _ in found["classes"]] == [0, 1, 2]
    assert gdal.OpenEx(found["labels"]).GetLayer(0).GetFeatureCount() == count


BOW_TIE = "POLYGON((0 0, 100 100, 100 0, 0 100, 0 0))"


def collections(tmp_path, epsg=4326):
    """A file of polygons and geometry collections in degrees, as unions and OpenStreetMap have them."""
    path = str(tmp_path / "collections.gpkg")
    target = gdal.GetDriverByName("GPKG").Create(path, 0, 0, 0, gdal.GDT_Unknown)
    layer = target.CreateLayer("mixed", synthetic.reference(epsg), ogr.wkbUnknown)
    layer.CreateField(ogr.FieldDefn("class", ogr.OFTString))
    square = "POLYGON(({0} {1},{2} {1},{2} {3},{0} {3},{0} {1}))".format
    move = osr.CoordinateTransformation(synthetic.reference(synthetic.UTM), synthetic.reference(epsg))
    for name, wkt in (
        ("a", f"GEOMETRYCOLLECTION({square(0, 0, 64, 128)})"),
        ("b", f"GEOMETRYCOLLECTION(GEOMETRYCOLLECTION({square(64, 0, 128, 128)}),POINT(200 200),LINESTRING(0 0,9 9))"),
        ("c", square(128, 0, 192, 128)),
    ):
        geometry = ogr.CreateGeometryFromWkt(wkt)
        for part in parts_of(geometry):
            for number in range(part.GetPointCount()):
                x, y = part.GetPoint_2D(number)
                part.SetPoint_2D(number, LEFT + x, BOTTOM + y)
        geometry.Transform(move)
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetField("class", name)
        feature.SetGeometry(geometry)
        layer.CreateFeature(feature)
    return path


def parts_of(geometry):
    """The rings, lines and points of a geometry of OGR."""
    if not geometry.GetGeometryCount():
        return [geometry]
    return [part for place in range(geometry.GetGeometryCount()) for part in parts_of(geometry.GetGeometryRef(place))]


def test_polygons_in_collections_are_used_where_they_lie(pixels, tmp_path):
    listener = Listener()
    found = pixels(collections(tmp_path), listener)
    assert found == pytest.approx({"a": 64 * 128, "b": 64 * 128, "c": 64 * 128}, rel=0.02)
    assert [text for text in listener.warnings if "CRS" in text] == []
    assert [text for text in listener.infos if "used in part: the polygons of a geometry collection" in text] != []


def test_collections_elsewhere_are_told_with_the_place_where_they_lie(pixels, tmp_path):
    path = collections(tmp_path)
    source = gdal.OpenEx(path, gdal.OF_VECTOR | gdal.OF_UPDATE)
    source.GetLayer(0).DeleteFeature(3)
    for number in (1, 2):
        feature = source.GetLayer(0).GetFeature(number)
        feature.SetGeometry(ogr.CreateGeometryFromWkt(f"GEOMETRYCOLLECTION(POLYGON(({number} 1,5 1,5 2,{number} 1)))"))
        source.GetLayer(0).SetFeature(feature)
    feature = source = None
    with pytest.raises(QgsProcessingException, match=r"they are at x 1 to [0-9.]+, y 1 to [0-9.]+ in EPSG:4326"):
        pixels(path)


def test_a_layer_whose_place_nobody_knows_is_told_without_numbers(provider):
    from terrazzo.processing_provider.coordinates import place_text

    assert place_text(QgsRectangle(), QgsCoordinateReferenceSystem()) == "an unknown place in an unknown CRS"
    assert "inf" not in place_text(QgsRectangle(0, 0, float("inf"), 1), QgsCoordinateReferenceSystem("EPSG:4326"))


def test_odd_geometries_are_counted_and_mended(pixels):
    overlapping = "MULTIPOLYGON(((200 0,260 0,260 60,200 60,200 0)),((230 30,290 30,290 90,230 90,230 30)))"
    layer = layer_of("Polygon", [(BOW_TIE, "tie"), (overlapping, "both"), ("POLYGON((0 200,50 200,0 200))", "line")])
    feature = QgsFeature(layer.fields())
    feature.setAttributes(["none"])
    layer.dataProvider().addFeatures([feature])
    listener = Listener()
    found = pixels(layer, listener)
    assert found["tie"] == pytest.approx(5000, rel=0.02)
    assert found["both"] == 2 * 3600 - 900
    repaired = "repaired: the polygon crosses itself or is invalid in another way"
    assert f'2 features of "marks" {repaired} (feature id 1, 2).' in listener.infos
    assert any('1 feature of "marks" left out: no geometry (feature id 4)' in text for text in listener.warnings)
    assert any("left out: the geometry gives no" in text and "feature id 3" in text for text in listener.warnings)


def test_a_buffer_reaches_around_the_lines_of_a_collection(pixels):
    layer = layer_of("GeometryCollection", [
        ("GEOMETRYCOLLECTION(LINESTRING(20 100,120 100),POINT(300 20))", "a"),
        ("GEOMETRYCOLLECTION(POINT(200 200))", "b"),
    ])  # fmt: skip
    found = pixels(layer, BUFFER=10)
    assert found["a"] == pytest.approx(2000 + np.pi * 100, rel=0.02)
    assert found["b"] == pytest.approx(np.pi * 100, rel=0.05)


@pytest.mark.parametrize("suffix", ["Z", "M", "ZM"])
def test_heights_and_measures_change_nothing(pixels, suffix):
    point = {"Z": " 5", "M": " 5", "ZM": " 5 5"}[suffix]
    corners = ((0, 0), (50, 0), (50, 40), (0, 40), (0, 0))
    ring = ",".join(f"{x} {y}{point}" for x, y in corners)
    layer = layer_of(f"Polygon{suffix}", [(f"Polygon{suffix} (({ring}))", "a")])
    assert pixels(layer, BACKGROUND="class")["a"] == 2000


def test_areas_in_collections_are_used_too(pixels, tmp_path):
    found = pixels(polygon_layer(HALVES), AREA=collections(tmp_path))
    assert found == pytest.approx({"field": 160 * 128, "water": 32 * 128}, rel=0.02)
