"""Tasks, placements and splits of an export, folders, and settings that contradict each other."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic
from conftest import BOTTOM, LEFT, Listener, leftovers, polygon_layer, said
from osgeo import gdal
from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsVectorLayer,
)


def info_of(folder):
    """The description of a dataset."""
    return json.loads((Path(folder) / "dataset.json").read_text())


def chips_of(found):
    """The features of a dataset's footprints."""
    return list(QgsVectorLayer(found["FOOTPRINTS"], "chips", "ogr").getFeatures())


def heights(values=((10, 0, 0, 160, 256), (20.5, 160, 0, 320, 256))):
    """Polygons with a number in the field `height`."""
    layer = QgsVectorLayer(f"Polygon?crs=EPSG:{synthetic.UTM}&field=height:double&field=name:string", "h", "memory")
    for value, left, bottom, right, top in values:
        feature = QgsFeature(layer.fields())
        feature.setAttributes([value, "x"])
        wkt = synthetic.rectangle(LEFT + left, BOTTOM + bottom, LEFT + right, BOTTOM + top)
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        layer.dataProvider().addFeatures([feature])
    layer.updateExtents()
    return layer


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_classes_of_whole_chips_come_from_the_same_labels(run, scene, land, tmp_path, task):
    found = run("exportchips", INPUT=[scene[0]], LABELS=land, CLASS_FIELD="class", TASK=task, CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    info = info_of(found["OUTPUT"])
    assert info["task"] == task and [row["name"] for row in info["classes"]] == ["field", "forest", "water"]
    assert {"2", "1", "3"} <= {value for chip in chips_of(found) for value in chip["classes"].split(",")}


def test_numbers_of_a_field_are_learned_by_regression(run, scene, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABELS=heights(), VALUE_FIELD="height", TASK="regression",
                CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    info = info_of(found["OUTPUT"])
    assert info["classes"] == [] and info["target"]["minimum"] == 10 and info["target"]["maximum"] == 20.5
    first = next(Path(found["OUTPUT"], "labels").iterdir())
    assert set(np.unique(gdal.Open(str(first)).ReadAsArray())) <= {np.float32(10), np.float32(20.5)}


def test_features_without_a_number_are_left_out_of_a_regression(run, scene, tmp_path):
    listener = Listener()
    layer = heights(((None, 0, 0, 100, 256), (float("nan"), 100, 0, 160, 256), (3, 160, 0, 320, 256)))
    found = run("exportchips", listener, INPUT=[scene[0]], LABELS=layer, VALUE_FIELD="height", TASK="regression",
                CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert '2 features of "h" left out: no value given.' in listener.warnings
    assert info_of(found["OUTPUT"])["target"]["mean"] == 3


def test_a_raster_of_numbers_is_learned_by_regression(run, scene, tmp_path):
    data = np.linspace(0, 1, 256 * 320, dtype=np.float32).reshape(256, 320)
    labels = synthetic.write_raster(tmp_path / "height.tif", data)
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[labels], TASK="regression", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert 0 <= info_of(found["OUTPUT"])["target"]["mean"] <= 1


@pytest.mark.parametrize(("placement", "numbers"), [("grid", {10, 15.25, 20.5}), ("features", {10, 20.5})])
def test_one_number_a_chip_is_the_mean_of_its_pixels_or_that_of_its_feature(
    run, scene, tmp_path, placement, numbers
):  # fmt: skip
    found = run("exportchips", INPUT=[scene[0]], LABELS=heights(), VALUE_FIELD="height", TASK="chip_regression",
                PLACEMENT=placement, CHIP_SIZE=64, STRIDE=32, OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    chips = chips_of(found)
    assert {json.loads(chip["target"])[1][0] for chip in chips} == numbers
    assert info_of(found["OUTPUT"])["task"] == "chip_regression" and not any(chip["label"] for chip in chips)


def test_chips_need_no_labels_when_asked_for_none(run, scene, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], TASK="unlabelled", CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert found["CHIPS_COUNT"] == 20
    assert not list(Path(found["OUTPUT"], "labels").glob("*"))


def test_unlabelled_chips_may_lie_around_features(run, scene, land, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABELS=land, TASK="unlabelled", PLACEMENT="features", CHIP_SIZE=64,
                CHIPS_PER_FEATURE=2, POSITION_JITTER=8, OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert found["CHIPS_COUNT"] == 6


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({"PLACEMENT": "features"}, 3),
        ({"PLACEMENT": "features", "ROTATIONS": "0, 90,180;270"}, 12),
        ({"PLACEMENT": "bounding_boxes", "BLACKEN": True}, 3),
        ({"ROTATIONS": "0,180"}, 40),
    ],
)
def test_chips_lie_where_they_are_wanted(run, scene, tmp_path, parameters, count):
    layer = polygon_layer([("a", 90, 90, 140, 140), ("b", 190, 90, 240, 140), ("a", 120, 170, 150, 190)])
    found = run("exportchips", INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64, BACKGROUND="class",
                **parameters, OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert found["CHIPS_COUNT"] == count


def test_random_chips_keep_their_distance(run, scene, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=32, PLACEMENT="random",
                RANDOM_CHIPS=30, MIN_DISTANCE=20, OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    centres = [chip.geometry().centroid().asPoint() for chip in chips_of(found)]
    assert 20 < len(centres) < 40
    assert min(a.distance(b) for a in centres for b in centres if a is not b) >= 19


@pytest.mark.parametrize(("name", "ending"), [("PNG", "png"), ("JPEG", "jpg"), ("GTiff", "tif")])
def test_images_have_the_format_that_was_chosen(run, scene, tmp_path, name, ending):
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, CHIP_FORMAT=name,
                COMPRESSION="lzw", OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    images = [path for path in Path(found["OUTPUT"], "images").iterdir() if path.suffix == f".{ending}"]
    assert len(images) == 20
    if name == "GTiff":
        assert gdal.Open(str(images[0])).GetMetadataItem("COMPRESSION", "IMAGE_STRUCTURE") == "LZW"


def test_another_pixel_size_makes_fewer_chips(run, scene, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, PIXEL_SIZE=2,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert info_of(found["OUTPUT"])["pixel_size"] == 2 and found["CHIPS_COUNT"] < 20


def test_chips_are_added_to_a_dataset_when_asked(run, scene, tmp_path):
    given = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "CHIP_SIZE": 64, "OUTPUT": str(tmp_path / "chips")}
    run("exportchips", **given)
    other = synthetic.write_scene(tmp_path / "other", left=synthetic.LEFT + 1000)
    found = run("exportchips", **{**given, "INPUT": [other[0]], "LABEL_RASTERS": [other[1]], "APPEND": True})
    assert found["CHIPS_COUNT"] == 40 and len(info_of(found["OUTPUT"])["sources"]) == 2


def test_an_export_that_was_cancelled_goes_on_where_it_was(run, provider, scene, tmp_path):
    listener = Listener(on_text=lambda text: listener.cancel() if text.startswith("Writing") else None)
    given = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "CHIP_SIZE": 16, "STRIDE": 8, "RESUME": True,
             "OUTPUT": str(tmp_path / "chips")}  # fmt: skip
    found, _ = provider.algorithm("exportchips").create().run(given, QgsProcessingContext(), listener)
    assert found == {} and len(leftovers(tmp_path)) == 1 and leftovers(tmp_path)[0].startswith(".")
    again = run("exportchips", **given)
    alone = run("exportchips", **{**given, "RESUME": False, "OUTPUT": str(tmp_path / "alone")})
    assert again["CHIPS_COUNT"] == alone["CHIPS_COUNT"]
    assert leftovers(tmp_path) == ["alone", "chips"]


# --- folders


@pytest.fixture
def folders(tmp_path):
    """Two images in one folder, and their label rasters in another, as another format."""
    for number, name in enumerate("ab"):
        made = synthetic.write_scene(tmp_path / name, left=synthetic.LEFT + 1000 * number)
        for path, kind in zip(made, ("images", "labels")):
            (tmp_path / kind).mkdir(exist_ok=True)
            copied = tmp_path / kind / f"{name}.{'tif' if kind == 'images' else 'tiff'}"
            shutil.copy(path, copied)
            if kind == "labels":
                shutil.copy(f"{path}.aux.xml", f"{copied}.aux.xml")  # the classes' names
    (tmp_path / "images" / "notes.txt").write_text("no raster")
    return str(tmp_path / "images"), str(tmp_path / "labels")


def test_a_folder_of_images_goes_with_a_folder_of_labels(run, folders, tmp_path):
    found = run("exportchips", INPUT_FOLDER=folders[0], LABEL_FOLDER=folders[1], CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    info = info_of(found["OUTPUT"])
    assert [Path(source["raster"]).name for source in info["sources"]] == ["a.tif", "b.tif"]
    assert [Path(source["labels"]).name for source in info["sources"]] == ["a.tiff", "b.tiff"]
    assert {row["name"] for row in info["classes"]} == {"water", "field", "forest"}
    assert found["CHIPS_COUNT"] == 40


def test_features_go_with_a_folder_of_images_too(run, folders, tmp_path):
    layer = polygon_layer([("a", 0, 0, 320, 256), ("b", 1000, 0, 1320, 256)])
    found = run("exportchips", INPUT_FOLDER=folders[0], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert np.sum(list(info_of(found["OUTPUT"])["pixel_counts"].values()), axis=0).tolist() == [81920, 81920]


def test_an_image_without_labels_in_the_folder_is_named(run, folders, tmp_path):
    Path(folders[1], "b.tiff").unlink()
    with pytest.raises(QgsProcessingException, match=r"holds no label raster named b for the image .*b\.tif"):
        run("exportchips", INPUT_FOLDER=folders[0], LABEL_FOLDER=folders[1], CHIP_SIZE=64,
            OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    shutil.copy(Path(folders[1], "a.tiff"), Path(folders[1], "b.tif"))
    shutil.copy(Path(folders[1], "a.tiff"), Path(folders[1], "b.tiff"))
    with pytest.raises(QgsProcessingException, match="holds 2 label rasters named b"):
        run("exportchips", INPUT_FOLDER=folders[0], LABEL_FOLDER=folders[1], CHIP_SIZE=64,
            OUTPUT=str(tmp_path / "chips"))  # fmt: skip


def test_a_folder_without_rasters_is_an_error(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(QgsProcessingException, match="holds no rasters"):
        run("exportchips", INPUT_FOLDER=str(tmp_path / "empty"), TASK="unlabelled", OUTPUT=str(tmp_path / "chips"))


def test_rasters_of_several_zones_are_brought_to_the_first(run, scene, tmp_path):
    other = str(tmp_path / "zone34.tif")
    gdal.Warp(other, scene[0], dstSRS="EPSG:32634", xRes=1, yRes=1)
    layer = polygon_layer([("a", -50, -50, 160, 300), ("b", 160, -50, 400, 300)])
    found = run("exportchips", INPUT=[scene[0], other], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert len(info_of(found["OUTPUT"])["sources"]) == 2


def test_a_stack_has_the_bands_of_all(run, scene, tmp_path):
    surface = synthetic.write_raster(tmp_path / "dsm.tif", np.full((128, 160), 7, np.float32), step=2)
    found = run("exportchips", INPUT=[scene[0], surface], LABEL_RASTERS=[scene[1]], COMBINE="stack", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert len(info_of(found["OUTPUT"])["band_names"]) == 4


# --- what does not go together


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"INPUT": None}, "No image is given"),
        ({"INPUT_FOLDER": "/tmp"}, "INPUT and INPUT_FOLDER are both given"),
        ({"LABEL_RASTERS": ["{labels}"]}, "LABELS and LABEL_RASTERS are given together"),
        ({"TASK": "unlabelled"}, "TASK is unlabelled, but LABELS are given"),
        ({"TASK": "regression"}, "TASK is regression, but no VALUE_FIELD is given"),
        ({"TASK": "regression", "VALUE_FIELD": "note"}, "TASK is regression, but CLASS_FIELD is given"),
        ({"TASK": "regression", "VALUE_FIELD": "note", "CLASS_FIELD": None}, "The field note of the layer"),
        ({"VALUE_FIELD": "note"}, "VALUE_FIELD is note, but TASK is segmentation"),
        ({"BLACKEN": True}, "BLACKEN is set, but PLACEMENT is grid"),
        ({"LABELS": None, "LABEL_RASTERS": ["{labels}"], "PLACEMENT": "features"}, "no features are given"),
        ({"LABELS": None, "TASK": "unlabelled", "PLACEMENT": "bounding_boxes"}, "no features are given"),
        ({"OVERLAP_RULE": "field"}, "no PRIORITY_FIELD is given"),
        ({"PRIORITY_FIELD": "note"}, "PRIORITY_FIELD is note, but OVERLAP_RULE is order"),
        ({"OVERLAP_RULE": "field", "PRIORITY_FIELD": "rank"}, "has no field rank"),
        ({"OVERLAP_RULE": "field", "PRIORITY_FIELD": "note"}, "The field note of the layer"),
        ({"SPLIT_METHOD": "areas"}, "SPLIT_METHOD is areas, but no SPLIT_AREAS are given"),
        ({"SPLIT_AREAS": "{land}"}, "SPLIT_AREAS are given, but SPLIT_METHOD is blocks"),
        ({"CLASS_TABLE": [1, 2, "", ""], "CLASS_FILE": "{table}"}, "CLASS_TABLE and CLASS_FILE are both given"),
        ({"ROTATIONS": "0,north"}, 'ROTATIONS is "0,north"'),
        ({"FOLDS": 1}, "FOLDS is 1"),
        ({"BUFFER": -1}, "BUFFER is -1"),
        (
            {"LABELS": None, "LABEL_RASTERS": ["{labels}", "{labels}"], "COMBINE": "stack"},
            "which makes one image on the pixels",
        ),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_runs(provider, scene, land, tmp_path, change, words):
    (tmp_path / "table.csv").write_text("value,class\n")
    stand_ins = {"{labels}": scene[1], "{land}": land, "{table}": str(tmp_path / "table.csv")}
    given = {"INPUT": [scene[0]], "LABELS": land, "CLASS_FIELD": "class", "CHIP_SIZE": 64,
             "OUTPUT": str(tmp_path / "chips")}  # fmt: skip
    for name, value in change.items():
        alone = value[0] if isinstance(value, list) else value
        known = stand_ins.get(alone) if isinstance(alone, str) else None
        given[name] = value if known is None else [known] * len(value) if isinstance(value, list) else known
    algorithm, context = provider.algorithm("exportchips").create(), QgsProcessingContext()
    fine, message = algorithm.checkParameterValues(given, context)
    assert not fine and said(provider, "exportchips", words) in message
    # Models do not ask that; QGIS tells there what `prepareAlgorithm` raises.
    feedback = QgsProcessingFeedback(False)
    assert not algorithm.prepare(given, context, feedback)
    assert said(provider, "exportchips", words) in feedback.textLog()
    assert leftovers(tmp_path) == ["table.csv"]
