"""Classifiers in QGIS: rasters, grids, features of any layer, photographs, and activation maps."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import synthetic
from conftest import BOTTOM, CLASSIFIER_CHIP, LEFT, Listener, leftovers, polygon_layer, said
from osgeo import gdal, ogr, osr
from qgis.core import (
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
    QgsProject,
    QgsVectorLayer,
    QgsWkbTypes,
)

SIZE = CLASSIFIER_CHIP


@pytest.fixture(scope="module")
def model(classifier):
    """The path of a model file."""
    return classifier


def pixels(path):
    return gdal.Open(str(path)).ReadAsArray()


def truth(scene, stride):
    """The class in the middle of each step."""
    middle = stride // 2
    return pixels(scene[1])[middle::stride, middle::stride]


TITLES = {"probability_1": "water", "probability_2": "field", "probability_3": "forest"}


def aliases(layer):
    """What people read in the place of the names of fields."""
    fields = layer.fields()
    return {field.name(): layer.attributeAlias(place) for place, field in enumerate(fields) if field.alias()}


def test_scenes_become_a_raster_and_a_grid(run, model, scene, tmp_path):
    found = run("classifyscenes", INPUT=scene[0], MODEL=model, DEVICE="cpu", OUTPUT=str(tmp_path / "map.tif"),
                GRID=str(tmp_path / "grid.gpkg"), POLYGONS=str(tmp_path / "regions.gpkg"))  # fmt: skip
    values = pixels(found["OUTPUT"])
    known = truth(scene, SIZE)
    assert values.shape == known.shape == (16, 20)
    assert (values == known)[known > 0].mean() > 0.7
    grid = QgsVectorLayer(found["GRID"], "grid", "ogr")
    assert grid.featureCount() == 320 and grid.crs().authid() == "EPSG:32633"
    grid.loadDefaultStyle()
    assert [category.label() for category in grid.renderer().categories()] == [
        "water", "field", "forest", "no class",
    ]  # fmt: skip
    assert aliases(grid) == TITLES
    assert found["PROBABILITIES"] is None and found["TABLE"] is None
    regions = QgsVectorLayer(f"{found['POLYGONS']}|layername=polygons", "regions")
    sizes = {row["class"]: 0.0 for row in regions.getFeatures()}
    for row in regions.getFeatures():
        sizes[row["class"]] += row["hectares"]
    assert json.loads(found["CLASS_HECTARES"]) == pytest.approx({"water": 0.0, "field": 0.0, "forest": 0.0, **sizes})
    assert leftovers(tmp_path) == ["grid.gpkg", "map.qml", "map.tif", "map.tif.aux.xml", "regions.gpkg"]


def test_dense_scenes_of_a_part_are_added_to_the_project(provider, model, scene, tmp_path):
    from qgis.core import QgsApplication

    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    grid = QgsProcessingOutputLayerDefinition(str(tmp_path / "grid.gpkg"), QgsProject.instance())
    area = polygon_layer([("x", 100, 100, 140, 130)])
    given = {"INPUT": scene[0], "MODEL": model, "STRIDE": 4, "AREA": area, "DEVICE": "cpu", "GRID": grid}
    listener, ended = Listener(), []
    task = QgsProcessingAlgRunnerTask(provider.algorithm("classifyscenes").create(), given, context, listener)
    task.executed.connect(lambda fine, results: ended.append((fine, results)))
    QgsApplication.taskManager().addTask(task)
    while not ended:
        QgsApplication.processEvents()
    assert ended[0][0], listener.warnings
    assert any("share computations" in text or "processed separately" in text for text in listener.infos)
    found = ended[0][1]
    assert found["OUTPUT"] is None and list(context.layersToLoadOnCompletion()) == [found["GRID"]]
    layer = QgsProcessingUtils.mapLayerFromString(found["GRID"], context)
    details = context.layerToLoadOnCompletionDetails(found["GRID"])
    details.postProcessor().postProcessLayer(layer, context, Listener())
    assert layer.renderer().classAttribute() == "value" and layer.featureCount() == 10 * 8
    assert aliases(layer) == TITLES


@pytest.fixture
def places(scene):
    """Polygons in the middle of a class each, one where the scene ends, one beyond; in another CRS than the scene."""
    return polygon_layer([("water", 150, 118, 170, 138), ("field", 8, 60, 30, 75), ("none", 318, 10, 330, 20),
                          ("far", 9000, 10, 9010, 20)])  # fmt: skip


def rows(layer):
    names = [field.name() for field in layer.fields()]
    return [dict(zip(names, feature.attributes())) for feature in layer.getFeatures()]


def test_features_keep_their_fields_and_get_their_classes(run, model, scene, places, tmp_path):
    found = run("classifyfeatures", INPUT=scene[0], FEATURES=places, MODEL=model, DEVICE="cpu",
                OUTPUT=str(tmp_path / "out.gpkg"))["OUTPUT"]  # fmt: skip
    layer = QgsVectorLayer(found, "out", "ogr")
    table = rows(layer)
    assert [row["class"] for row in table] == ["water", "field", "none", "far"]
    assert [row["note"] for row in table] == ["note"] * 4
    assert table[0]["predicted_class"] == "water" and table[0]["predicted_value"] == 1
    shares = [table[0][f"predicted_probability_{value}"] for value in (1, 2, 3)]
    assert sum(shares) == pytest.approx(1, abs=1e-4) and table[0]["predicted_confidence"] == max(shares)
    assert table[2]["predicted_class"] and not table[3]["predicted_class"]
    geometries = [feature.geometry().asWkt(0) for feature in layer.getFeatures()]
    assert geometries == [f.geometry().asWkt(0).replace("Polygon", "Polygon") for f in places.getFeatures()]


def test_selected_features_of_another_crs_and_unsaved_ones_are_classified(run, model, scene, tmp_path):
    from qgis.core import QgsCoordinateTransform, QgsFeature, QgsGeometry, QgsPointXY

    layer = QgsVectorLayer("Point?crs=EPSG:4326&field=predicted_value:string", "places", "memory")
    utm = polygon_layer([]).crs()
    to_degrees = QgsCoordinateTransform(utm, layer.crs(), QgsProject.instance().transformContext())
    layer.startEditing()
    for x, y in ((160, 128), (19, 67), (50, 20)):
        feature = QgsFeature(layer.fields())
        feature.setAttributes(["own"])
        feature.setGeometry(QgsGeometry.fromPointXY(to_degrees.transform(QgsPointXY(LEFT + x, BOTTOM + y))))
        layer.addFeature(feature)  # not saved: their ids are negative
    ids = sorted((feature.id() for feature in layer.getFeatures()), reverse=True)
    assert max(ids) < 0
    layer.selectByIds(ids[:2])
    QgsProject.instance().addMapLayer(layer)
    try:
        chosen = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
        found = run("classifyfeatures", INPUT=scene[0], FEATURES=chosen, MODEL=model, DEVICE="cpu",
                    OUTPUT="memory:")["OUTPUT"]  # fmt: skip
        table = rows(found)
        assert len(table) == 2 and [row["predicted_value"] for row in table] == ["own", "own"]
        # A field of that name is there already.
        assert table[0]["predicted_value_2"] == 1 and found.crs().authid() == "EPSG:4326"
        assert found.wkbType() == QgsWkbTypes.Type.Point
    finally:
        layer.rollBack()
        QgsProject.instance().removeMapLayer(layer.id())


def test_classified_features_are_drawn_in_their_classes_colours(provider, model, scene, places, tmp_path):
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    output = QgsProcessingOutputLayerDefinition(str(tmp_path / "out.gpkg"), QgsProject.instance())
    given = {"INPUT": scene[0], "FEATURES": places, "MODEL": model, "DEVICE": "cpu", "PREFIX": "", "OUTPUT": output}
    found, fine = provider.algorithm("classifyfeatures").create().run(given, context, Listener())
    assert fine
    layer = QgsProcessingUtils.mapLayerFromString(found["OUTPUT"], context)
    details = context.layerToLoadOnCompletionDetails(found["OUTPUT"])
    details.postProcessor().postProcessLayer(layer, context, Listener())
    assert layer.renderer().classAttribute() == "value_2"
    assert aliases(layer) == {f"{name}_2": title for name, title in TITLES.items()}
    labels = [category.label() for category in layer.renderer().categories()]
    assert labels == ["water", "field", "forest", "no class"]
    assert layer.fields().names()[-6:] == [
        f"{name}_2" for name in ("value", "class", "confidence", "probability_1", "probability_2", "probability_3")
    ]


def test_photographs_become_a_table(qgis_process, worker_python, model, scene, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, col, row in (("a", 152, 120), ("b", 10, 180)):
        gdal.Translate(str(folder / f"{name}.png"), scene[0], format="PNG", srcWin=[col, row, SIZE, SIZE])
    found = qgis_process("terrazzo:classifyscenes", INPUT_FOLDER=folder, MODEL=model, DEVICE="cpu",
                         TABLE=tmp_path / "t.csv")  # fmt: skip
    source = ogr.Open(found["TABLE"])
    assert next((feature["file"], feature["class"]) for feature in source.GetLayer(0)) == ("a.png", "water")
    assert not found.get("OUTPUT")
    found = qgis_process("terrazzo:activationmaps", INPUT_FOLDER=folder, MODEL=model, DEVICE="cpu",
                         PICTURES=tmp_path / "pictures")  # fmt: skip
    assert leftovers(Path(found["PICTURES"])) == ["a.png.png", "answers.csv", "b.png.png"]


def test_a_network_shows_what_it_looks_at(run, model, scene, tmp_path):
    found = run("activationmaps", INPUT=scene[0], MODEL=model, TARGET_CLASS="water", DEVICE="cpu",
                OUTPUT=str(tmp_path / "cam.tif"))  # fmt: skip
    values = pixels(found["OUTPUT"])
    assert values.shape == (256, 320) and np.isfinite(values).all() and values.min() >= 0
    listener = Listener()
    found = run("activationmaps", listener, INPUT=scene[0], MODEL=model, KIND="feature_maps", LAYER="features.0",
                CHANNELS=3, DEVICE="cpu", OUTPUT=str(tmp_path / "maps.tif"))  # fmt: skip
    assert pixels(found["OUTPUT"]).shape == (3, 128, 160)
    assert "features.0" in "".join(listener.infos)
    found = run("activationmaps", MODEL=model, KIND="filters", PICTURE=str(tmp_path / "f.png"))
    assert found["PICTURE"] and found["OUTPUT"] is None and (tmp_path / "f.png").stat().st_size > 1000
    assert leftovers(tmp_path) == ["cam.qml", "cam.tif", "f.png", "maps.tif"]


def test_cancelling_takes_a_moment_and_leaves_nothing(provider, model, scene, tmp_path):
    """Of all that would be written, hidden files as well, and earlier results stay as they were."""
    (tmp_path / "map.tif").write_text("from an earlier run")
    cancelled = []

    def cancel(text):
        if text.startswith("Classifying") and "pixels" not in text and not cancelled:
            cancelled.append(time.monotonic())
            listener.cancel()

    listener = Listener(on_text=cancel)
    given = {"INPUT": scene[0], "MODEL": model, "STRIDE": 1, "DEVICE": "cpu", "OUTPUT": str(tmp_path / "map.tif"),
             "PROBABILITIES": str(tmp_path / "p.tif"), "GRID": str(tmp_path / "grid.gpkg")}  # fmt: skip
    context = QgsProcessingContext()
    found, _ = provider.algorithm("classifyscenes").create().run(given, context, listener)
    assert cancelled and time.monotonic() - cancelled[0] < 2 and found == {}
    assert leftovers(tmp_path) == ["map.tif"] and (tmp_path / "map.tif").read_text() == "from an earlier run"


@pytest.mark.parametrize(
    ("algorithm", "change", "words"),
    [
        ("classifyscenes", {"INPUT": None}, "Neither INPUT nor INPUT_FOLDER"),
        ("classifyscenes", {"OUTPUT": None}, "No output is given"),
        ("classifyscenes", {"INPUT": None, "INPUT_FOLDER": "here"}, "no TABLE to write"),
        (
            "classifyscenes",
            {"INPUT": None, "INPUT_FOLDER": "here", "EXTENT": "0,1,0,1"},
            "EXTENT is given with a folder",
        ),
        ("classifyscenes", {"MODEL": "/no/model.safetensors"}, "There is no model file"),
        ("classifyscenes", {"BANDS": "1,2"}, "BANDS has 2 bands, but the model needs 3"),
        ("classifyfeatures", {"FEATURES": None}, "FEATURES"),
        ("activationmaps", {}, "no TARGET_CLASS is given. Give one of 1 water, 2 field, 3 forest"),
        ("activationmaps", {"TARGET_CLASS": "9"}, "no such class"),
        ("activationmaps", {"KIND": "filters"}, "no PICTURE is given"),
    ],
)
def test_bad_input_is_refused_in_words(provider, run, model, scene, places, tmp_path, algorithm, change, words):
    output = tmp_path / "out"
    output.mkdir()
    given = {"INPUT": scene[0], "MODEL": model, "OUTPUT": str(output / "out.tif"), "DEVICE": "cpu"}
    if algorithm == "classifyfeatures":
        given |= {"FEATURES": places, "OUTPUT": str(output / "out.gpkg")}
    if change.get("INPUT_FOLDER"):
        change = {**change, "INPUT_FOLDER": str(tmp_path)}
    with pytest.raises(QgsProcessingException) as error:
        run(algorithm, **{**given, **change})
    assert said(provider, algorithm, words) in str(error.value)
    assert leftovers(output) == []


def test_features_in_collections_are_classified_where_they_lie(run, model, scene, tmp_path):
    path = str(tmp_path / "collections.gpkg")
    target = gdal.GetDriverByName("GPKG").Create(path, 0, 0, 0, gdal.GDT_Unknown)
    layer = target.CreateLayer("mixed", synthetic.reference(4326), ogr.wkbUnknown)
    move = osr.CoordinateTransformation(synthetic.reference(synthetic.UTM), synthetic.reference(4326))
    square = synthetic.rectangle(LEFT + 150, BOTTOM + 118, LEFT + 170, BOTTOM + 138)
    geometry = ogr.CreateGeometryFromWkt(f"GEOMETRYCOLLECTION({square})")
    geometry.Transform(move)
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetGeometry(geometry)
    layer.CreateFeature(feature)
    feature = layer = target = None
    found = run("classifyfeatures", INPUT=scene[0], FEATURES=path, MODEL=model, DEVICE="cpu",
                OUTPUT=str(tmp_path / "out.gpkg"))["OUTPUT"]  # fmt: skip
    written = QgsVectorLayer(found, "out", "ogr")
    assert [row["predicted_class"] for row in rows(written)] == ["water"]
    assert written.dataProvider().crs().authid() == "EPSG:4326"
