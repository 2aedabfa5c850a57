"""Classifiers in QGIS: errors reported in the open dialog, and protection of the user's data."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CLASSIFIER_CHIP, Listener, leftovers, polygon_layer, said
from osgeo import gdal
from qgis.core import (
    QgsFeature,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
    QgsProject,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

SIZE = CLASSIFIER_CHIP


@pytest.fixture(scope="module")
def model(classifier):
    """The path of a model file."""
    return classifier


@pytest.fixture(scope="module")
def segmenter(model):
    """A header that says "segmentation"; nobody gets as far as the weights."""
    path = Path(model).with_name("s.safetensors")
    text = Path(model).read_bytes()
    old, new = b'\\"task\\": \\"classification\\"', b'\\"task\\": \\"segmentation\\"  '
    assert text.count(old) == 1
    path.write_bytes(text.replace(old, new))
    return str(path)


def save(layer, path, name=""):
    """Write a layer to a file, beside what that holds."""
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.layerName = name or Path(path).stem
    options.driverName = QgsVectorFileWriter.driverForExtension(Path(path).suffix)
    if Path(path).exists():
        options.actionOnExistingFile = QgsVectorFileWriter.ActionOnExistingFile.CreateOrOverwriteLayer
    transform = QgsProject.instance().transformContext()
    assert not QgsVectorFileWriter.writeAsVectorFormatV3(layer, str(path), transform, options)[0]
    return str(path)


def places():
    """Two polygons on the scene, two far away, one without a place."""
    layer = polygon_layer([("a", 150, 118, 170, 138), ("b", 8, 60, 30, 75), ("c", 9000, 0, 9010, 9), ("d", 9, 9, 9, 9),
                           ("e", 9000, 50, 9010, 59)])  # fmt: skip
    ids = [feature.id() for feature in layer.getFeatures()]
    from qgis.core import QgsGeometry

    layer.dataProvider().changeGeometryValues({ids[3]: QgsGeometry()})
    return layer


# --- features


def test_features_without_a_class_are_counted_and_the_folder_is_made(run, model, scene, tmp_path):
    listener = Listener()
    output = tmp_path / "new" / "deep" / "out.gpkg"
    run("classifyfeatures", listener, INPUT=scene[0], FEATURES=places(), MODEL=model, DEVICE="cpu", OUTPUT=str(output))
    assert QgsVectorLayer(str(output)).featureCount() == 5
    assert (
        "3 of 5 features get no class: they lie outside the image or where it has no data, or have no geometry."
        in listener.warnings
    )


@pytest.mark.parametrize("ending", [".gpkg", ".shp"])
def test_a_failure_while_writing_leaves_no_half_layer(run, model, scene, tmp_path, monkeypatch, ending):
    from terrazzo.processing_provider import classifyfeatures

    made = []

    def fail(fields):
        made.append(QgsFeature(fields))
        if len(made) == 3:
            raise QgsProcessingException("the disk is gone")
        return made[-1]

    monkeypatch.setattr(classifyfeatures, "QgsFeature", fail)
    given = {"INPUT": scene[0], "FEATURES": places(), "MODEL": model, "DEVICE": "cpu"}
    with pytest.raises(QgsProcessingException, match="the disk is gone"):
        run("classifyfeatures", Listener(), **given, OUTPUT=str(tmp_path / f"out{ending}"))
    assert len(made) == 3 and leftovers(tmp_path) == []
    file = save(places(), tmp_path / f"out{ending}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    made.clear()
    with pytest.raises(QgsProcessingException, match="the disk is gone"):
        run("classifyfeatures", Listener(), **given, OUTPUT=file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def fields_of(file, layer):
    return QgsVectorLayer(f"{file}|layername={layer}", layer, "ogr").fields().names()


def test_a_table_joins_a_geopackage_as_a_whole_or_not_at_all(run, model, scene, tmp_path, monkeypatch):
    from terrazzo.processing_provider import classifyfeatures

    file = save(places(), tmp_path / "user.gpkg", "places")
    save(places(), file, "answers")
    output = f"ogr:dbname='{file}' table=\"answers\" (geom)"
    given = {"INPUT": scene[0], "FEATURES": places(), "MODEL": model, "DEVICE": "cpu", "OUTPUT": output}

    def fail(fields):
        raise QgsProcessingException("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(classifyfeatures, "QgsFeature", fail)
        with pytest.raises(QgsProcessingException, match="the disk is gone"):
            run("classifyfeatures", Listener(), **given)
    earlier = fields_of(file, "answers")
    assert "predicted_class" not in earlier and leftovers(tmp_path) == ["user.gpkg"]
    opened = QgsVectorLayer(f"{file}|layername=places", "places", "ogr")  # as in a project
    run("classifyfeatures", Listener(), **given)
    assert "predicted_class" in fields_of(file, "answers") and fields_of(file, "places") == earlier
    assert QgsVectorLayer(f"{file}|layername=answers", "a", "ogr").featureCount() == opened.featureCount() == 5
    assert [path for path in leftovers(tmp_path) if "partial" in path] == []


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from osgeo import gdal
import conftest
from pathlib import Path
from terrazzo.processing_provider.sinks import _copy_table
gdal.UseExceptions()
gdal.Dataset.CommitTransaction = lambda self: os.kill(os.getpid(), 9)
_copy_table(Path(sys.argv[2]), Path(sys.argv[3]), "answers")
"""


def test_a_kill_leaves_the_earlier_table(tmp_path):
    target, source = save(places(), tmp_path / "user.gpkg", "answers"), save(polygon_layer([]), tmp_path / "new.gpkg")
    code = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), source, target], check=False, cwd=tmp_path
    ).returncode
    assert code == -9
    assert QgsVectorLayer(f"{target}|layername=answers", "a", "ogr").featureCount() == 5


def test_a_layer_that_is_written_hidden_is_loaded_by_its_own_name(provider, model, scene, tmp_path):
    output = str(tmp_path / "out")  # to which QGIS adds an ending
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    given = {"INPUT": scene[0], "FEATURES": places(), "MODEL": model, "DEVICE": "cpu",
             "OUTPUT": QgsProcessingOutputLayerDefinition(output, QgsProject.instance())}  # fmt: skip
    found, fine = provider.algorithm("classifyfeatures").create().run(given, context, Listener())
    assert fine and found["OUTPUT"].partition("|")[0] == f"{output}.gpkg" and leftovers(tmp_path) == ["out.gpkg"]
    assert list(context.layersToLoadOnCompletion()) == [found["OUTPUT"]]
    details = context.layerToLoadOnCompletionDetails(found["OUTPUT"])
    assert details.name == "land: m" and details.outputName == "OUTPUT"
    assert details.postProcessor() is not None


def test_a_second_job_for_a_layer_is_told_before_the_work(run, model, scene, tmp_path):
    from terrazzo.plugin.engine.drafts import Draft

    other = Draft(tmp_path / "out.gpkg", keep=False)  # as another process would hold it
    listener = Listener()
    with pytest.raises(QgsProcessingException, match="is being written by another job"):
        run("classifyfeatures", listener, INPUT=scene[0], FEATURES=places(), MODEL=model, DEVICE="cpu",
            OUTPUT=str(tmp_path / "out.gpkg"))  # fmt: skip
    assert not any("Classifying" in text for text in listener.infos)
    other.end()
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said_before_the_work(run, model, scene, tmp_path):
    (tmp_path / "file").write_text("no folder")
    listener = Listener()
    with pytest.raises(QgsProcessingException, match="cannot be written"):
        run("classifyfeatures", listener, INPUT=scene[0], FEATURES=places(), MODEL=model, DEVICE="cpu",
            OUTPUT=str(tmp_path / "file" / "out.gpkg"))  # fmt: skip
    assert not any("Classifying" in text for text in listener.infos)


def test_a_memory_layer_has_titles_and_one_suffix_where_names_clash(run, model, scene):
    layer = places()
    from qgis.core import QgsField
    from terrazzo.processing_provider.field_types import INTEGER

    layer.dataProvider().addAttributes([QgsField(name, INTEGER) for name in ("Predicted_Value", "predicted_class_2")])
    layer.updateFields()
    listener = Listener()
    found = run("classifyfeatures", listener, INPUT=scene[0], FEATURES=layer, MODEL=model, DEVICE="cpu",
                OUTPUT="memory:")["OUTPUT"]  # fmt: skip
    added = found.fields().names()[4:]
    assert added[:3] == ["predicted_value_3", "predicted_class_3", "predicted_confidence_3"]
    assert all(name.endswith("_3") for name in added) and len(added) == 6
    shown = [found.attributeAlias(found.fields().indexFromName(name)) for name in added]
    assert shown == ["", "", "", "water", "field", "forest"]
    assert any("so the new fields end in _3" in text for text in listener.infos)


def test_the_names_that_a_shapefile_cuts_are_told(run, model, scene, tmp_path):
    listener = Listener()
    run("classifyfeatures", listener, INPUT=scene[0], FEATURES=places(), MODEL=model, DEVICE="cpu",
        OUTPUT=str(tmp_path / "out.shp"))  # fmt: skip
    assert any("to 10 bytes" in text and "predicted_confidence" in text for text in listener.warnings)


# --- nothing of the user's is lost


def check(provider, name, **given):
    return provider.algorithm(name).checkParameterValues(given, QgsProcessingContext())


def test_features_are_not_replaced_by_their_answers(provider, model, scene, tmp_path):
    file = save(places(), tmp_path / "user.gpkg", "places")
    given = {"INPUT": scene[0], "MODEL": model, "FEATURES": file}
    fine, text = check(provider, "classifyfeatures", OUTPUT=file, **given)
    assert not fine and said(provider, "classifyfeatures", "is the file that FEATURES is read from") in text
    layer = QgsVectorLayer(file, "user", "ogr")
    QgsProject.instance().addMapLayer(layer)
    chosen = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    try:
        fine, text = provider.algorithm("classifyfeatures").checkParameterValues(
            {**given, "FEATURES": chosen, "OUTPUT": file}, context
        )
        assert not fine and said(provider, "classifyfeatures", "is the file that FEATURES is read from") in text
    finally:
        QgsProject.instance().removeMapLayer(layer.id())
    table = f"ogr:dbname='{file}' table=\"{{}}\" (geom)"
    fine, text = check(provider, "classifyfeatures", OUTPUT=table.format("places"), **given)
    assert not fine and said(provider, "classifyfeatures", "is the file that FEATURES is read from") in text
    assert check(provider, "classifyfeatures", OUTPUT=table.format("answers"), **given)[0]


def test_a_geopackage_with_other_layers_is_not_replaced(provider, model, scene, tmp_path):
    file = save(places(), tmp_path / "user.gpkg", "places")
    save(places(), file, "roads")
    for name, given in (
        ("classifyscenes", {"GRID": file}),
        ("classifyfeatures", {"FEATURES": places(), "OUTPUT": file}),
    ):
        fine, text = check(provider, name, INPUT=scene[0], MODEL=model, **given)
        assert not fine and "with other data (places, roads)" in text


@pytest.mark.parametrize("ending", ["gpkg", "geojson"])
def test_the_area_is_not_replaced_by_the_grid(provider, model, scene, tmp_path, ending):
    file = save(polygon_layer([("x", 100, 100, 140, 130)]), tmp_path / f"area.{ending}")
    fine, text = check(provider, "classifyscenes", INPUT=scene[0], MODEL=model, AREA=file, GRID=file)
    words = "is the file that AREA is read from, which would be lost"
    assert not fine and said(provider, "classifyscenes", words) in text


def test_a_grid_lies_beside_a_raster_of_its_name_and_is_styled_when_opened_by_hand(run, model, scene, tmp_path):
    image = str(shutil.copy(scene[0], tmp_path / "q.tif"))
    (tmp_path / "q.qml").write_text("the user's")
    run("classifyscenes", INPUT=image, MODEL=model, DEVICE="cpu", GRID=str(tmp_path / "q.gpkg"))
    assert (tmp_path / "q.qml").read_text() == "the user's"
    found = run("classifyscenes", INPUT=image, MODEL=model, DEVICE="cpu", OUTPUT=str(tmp_path / "o.tif"),
                GRID=str(tmp_path / "o.gpkg"))  # fmt: skip
    grid = QgsVectorLayer(found["GRID"], "grid", "ogr")
    labels = [(category.label(), category.symbol().color().name()) for category in grid.renderer().categories()]
    assert [label for label, _ in labels] == ["water", "field", "forest", "no class"]
    assert grid.renderer().categories()[3].symbol().symbolLayer(0).brushStyle() == 0
    assert grid.attributeAlias(grid.fields().indexFromName("probability_3")) == "forest"
    left = set(leftovers(tmp_path)) - {"q.tif.aux.xml"}  # QGIS's own
    assert left == {"o.gpkg", "o.qml", "o.tif", "o.tif.aux.xml", "q.gpkg", "q.qml", "q.tif"}


def seen(provider, output, **given):
    """What people see of a layer of `classifyscenes` in the project: its legend, and titles of fields."""
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    given = {"DEVICE": "cpu", **given}
    given[output] = QgsProcessingOutputLayerDefinition(given[output], QgsProject.instance())
    found, fine = provider.algorithm("classifyscenes").create().run(given, context, Listener())
    assert fine
    layer = QgsProcessingUtils.mapLayerFromString(found[output], context)
    context.layerToLoadOnCompletionDetails(found[output]).postProcessor().postProcessLayer(layer, context, Listener())
    legend = [category.label() for category in layer.renderer().categories()] if layer.isSpatial() else []
    return legend, [layer.attributeAlias(place) for place in range(layer.fields().count())][-3:]


def test_a_grid_is_drawn_in_its_own_style_where_another_lies_beside_it(provider, model, scene, tmp_path):
    (tmp_path / "g.qml").write_text("the user's")
    found = seen(provider, "GRID", INPUT=scene[0], MODEL=model, GRID=str(tmp_path / "g.geojson"))
    assert found == (["water", "field", "forest", "no class"], ["water", "field", "forest"])
    assert (tmp_path / "g.qml").read_text() == "the user's"


def test_a_table_of_photographs_has_titles(provider, model, scene, tmp_path):
    gdal.Translate(str(tmp_path / "a.png"), scene[0], format="PNG", srcWin=[0, 0, SIZE, SIZE])
    found = seen(provider, "TABLE", INPUT_FOLDER=str(tmp_path), MODEL=model, TABLE=str(tmp_path / "t.csv"))
    assert found == ([], ["water", "field", "forest"])


# --- what is known at once


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("classifyscenes", {"BANDS": "1,2,9"}, "Band 9 does not exist"),
        ("classifyscenes", {"DEVICE": "foo"}, 'DEVICE is "foo"'),
        ("classifyscenes", {"OUTPUT": "/no/out.png"}, "Use the extension .tif"),
        ("classifyscenes", {"OUTPUT": "INPUT"}, "is the raster to be mapped"),
        ("classifyscenes", {"PROBABILITIES": "/no/out.tif"}, "are both /no/out.tif"),
        ("classifyscenes", {"GRID": "/no/grid.shp"}, "Use the extension .gpkg"),
        ("classifyscenes", {"STRIDE": "1.5"}, "STRIDE is 1.5. Give a whole number"),
        ("classifyscenes", {"MODEL": "segmenter"}, "Use “Segment a raster” with it"),
        ("classifyscenes", {"INPUT": None, "INPUT_FOLDER": "/no/such", "TABLE": "/no/t.csv"}, "which is not a folder"),
        ("classifyscenes", {"INPUT": None, "INPUT_FOLDER": "empty", "TABLE": "/no/t.csv"}, "contains no images"),
        ("classifyscenes", {"INPUT": None, "INPUT_FOLDER": "empty", "TABLE": "/no/t.xlsx"}, "extension .gpkg"),
        ("classifyfeatures", {"DEVICE": "foo"}, 'DEVICE is "foo"'),
        ("classifyfeatures", {"BANDS": "1,2,9"}, "Band 9 does not exist"),
        ("classifyfeatures", {"MODEL": "segmenter"}, "Use “Segment a raster” with it"),
        ("segmentraster", {}, "Use “Classify scenes” with it"),
        ("segmentraster", {"MODEL": "segmenter", "OUTPUT": "INPUT"}, "is the raster to be mapped"),
        ("segmentraster", {"MODEL": "segmenter", "BANDS": "7,8,9"}, "Band 7 does not exist"),
        ("segmentraster", {"MODEL": "segmenter", "BATCH_SIZE": 1.5}, "BATCH_SIZE is 1.5. Give a whole number"),
        ("activationmaps", {"TARGET_CLASS": "lake"}, "no such class"),
        ("activationmaps", {"TARGET_CLASS": "water", "OUTPUT": "INPUT"}, "is the raster to be mapped"),
        ("activationmaps", {"TARGET_CLASS": "water", "OUTPUT": "/no/a.png"}, "Use the extension .tif"),
        ("activationmaps", {"KIND": "filters", "PICTURE": "/no/a.svg"}, "Use the extension .png"),
        (
            "activationmaps",
            {"INPUT": None, "INPUT_FOLDER": "empty", "KIND": "feature_maps", "PICTURES": "/no/new"},
            "Feature maps of photographs",
        ),
        (
            "activationmaps",
            {"INPUT": None, "INPUT_FOLDER": "empty", "MODEL": "segmenter", "PICTURES": "/no/new"},
            "Photographs need a classifier, but the model is for segmentation",
        ),
        ("activationmaps", {"INPUT": None, "INPUT_FOLDER": "empty", "PICTURES": "/no/new"}, "contains no images"),
    ],
)
def test_faults_are_told_in_the_open_dialog(provider, model, segmenter, scene, tmp_path, name, change, words):
    usual = {"INPUT": scene[0], "MODEL": model, "OUTPUT": "/no/out.tif"}
    if name == "classifyfeatures":
        usual |= {"FEATURES": places(), "OUTPUT": "/no/out.gpkg"}
    known = {"segmenter": segmenter, "empty": str(tmp_path), "INPUT": scene[0]}
    given = {**usual, **{key: known.get(value, value) for key, value in change.items() if value is not None}}
    given = {key: value for key, value in given.items() if change.get(key, "") is not None}
    fine, text = check(provider, name, **given)
    assert not fine and said(provider, name, words) in text
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("classifyscenes", {"OUTPUT": "TEMPORARY_OUTPUT", "GRID": "TEMPORARY_OUTPUT"}),
        ("classifyfeatures", {"OUTPUT": "TEMPORARY_OUTPUT"}),
        ("classifyfeatures", {"OUTPUT": "memory:"}),
        ("activationmaps", {"OUTPUT": "TEMPORARY_OUTPUT", "TARGET_CLASS": "water"}),
    ],
)
def test_a_dialog_that_writes_to_temporary_files_is_fine(provider, model, scene, name, outputs):
    features = {"FEATURES": places()} if name == "classifyfeatures" else {}
    assert check(provider, name, INPUT=scene[0], MODEL=model, **features, **outputs)[0]


def test_an_image_read_by_gdal_alone_is_fine(provider, model, scene, tmp_path):
    image = str(tmp_path / "i.vrt")
    gdal.Translate(image, scene[0], format="VRT")
    fine, text = check(provider, "classifyscenes", INPUT=image, MODEL=model, OUTPUT=scene[0])
    assert not fine and "is the raster to be mapped" in text
