"""Chips divided again, also by the user's areas."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import polygon_layer, said
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingException,
    QgsVectorLayer,
)

# Borders along the edges of chips of 64 pixels.
THREE = [("train", 0, 0, 192, 256), ("Validation", 192, 0, 256, 256), ("test", 256, 0, 320, 256)]


@pytest.fixture
def chips(dataset, tmp_path):
    """A copy of a dataset of 20 chips."""
    shutil.copytree(dataset, tmp_path / "chips")
    return str(tmp_path / "chips")


def split_of(folder):
    """(column, row) of a chip → its split."""
    layer = QgsVectorLayer(f"{folder}/chips.gpkg|layername=chips", "chips", "ogr")
    return {(chip["col_off"], chip["row_off"]): chip["split"] for chip in layer.getFeatures()}


def test_a_dataset_is_divided_anew_in_place(run, chips):
    images = sorted(path.name for path in Path(chips, "images").iterdir())
    found = run("splitchips", CHIPS=chips, TEST_SHARE=0, VALIDATION_SHARE=0.5, SEED=3)
    assert found["DATASET"] == chips and found["CHIPS_COUNT"] == 20
    assert found["TEST_CHIPS"] == 0 and found["TRAINING_CHIPS"] + found["VALIDATION_CHIPS"] == 20
    assert found["VALIDATION_CHIPS"] > 5
    assert json.loads(Path(chips, "dataset.json").read_text())["split"]["validation_share"] == 0.5
    assert sorted(path.name for path in Path(chips, "images").iterdir()) == images
    assert QgsVectorLayer(found["FOOTPRINTS"], "chips", "ogr").featureCount() == 20


def test_areas_name_the_splits(run, chips):
    found = run("splitchips", CHIPS=chips, SPLIT_METHOD="areas", SPLIT_AREAS=polygon_layer(THREE), SPLIT_FIELD="class")
    assert (found["TRAINING_CHIPS"], found["VALIDATION_CHIPS"], found["TEST_CHIPS"]) == (12, 4, 4)
    for (column, _), split in split_of(chips).items():
        assert split == ("training" if column < 192 else "validation" if column < 256 else "test")


def test_chips_of_no_split_are_drawn_in_grey(run, chips):
    from terrazzo.processing_provider.looks import FootprintStyle

    found = run("splitchips", CHIPS=chips, SPLIT_METHOD="areas", SPLIT_AREAS=polygon_layer(THREE[:2]),
                SPLIT_FIELD="class")  # fmt: skip
    layer = QgsVectorLayer(found["FOOTPRINTS"], "chips", "ogr")
    FootprintStyle().draw(layer)
    colors = {category.value(): category.symbol().color().name() for category in layer.renderer().categories()}
    assert list(colors) == ["training", "validation", "test", "none"] and colors["none"] == "#8c8c8c"


def test_areas_in_another_crs_are_brought_to_the_chips(run, chips):
    import processing

    wide = [(name, left - (left == 0), -1, right + (right == 320), 257) for name, left, _, right, _ in THREE]
    areas = processing.run("native:reprojectlayer", {
        "INPUT": polygon_layer(wide), "TARGET_CRS": QgsCoordinateReferenceSystem("EPSG:3857"), "OUTPUT": "memory:",
    })["OUTPUT"]  # fmt: skip
    run("splitchips", CHIPS=chips, SPLIT_METHOD="areas", SPLIT_AREAS=areas, SPLIT_FIELD="class")
    # What the reprojection moves over a border by a millimetre lies in no area; the chips inside are where they were.
    assert set(split_of(chips).values()) <= {"training", "validation", "test", "none"}
    assert split_of(chips)[(0, 64)] == "training"


@pytest.mark.parametrize("kind", ["string", "integer", "each"])
def test_other_areas_are_dealt_out(run, chips, kind):
    names = {"string": ("north", "south"), "integer": (17, 4), "each": (1, 1)}[kind]
    squares = [(names[number % 2], 64 * number, 0, 64 * number + 64, 256) for number in range(5)]
    areas = polygon_layer(squares, kind="string" if kind == "string" else "integer")
    found = run("splitchips", CHIPS=chips, SPLIT_METHOD="areas", SPLIT_AREAS=areas, VALIDATION_SHARE=0.3, TEST_SHARE=0,
                SPLIT_FIELD=None if kind == "each" else "class")  # fmt: skip
    assert found["TRAINING_CHIPS"] and found["VALIDATION_CHIPS"]
    columns = {}
    for (column, _), split in split_of(chips).items():
        columns.setdefault(column, set()).add(split)
    assert all(len(splits) == 1 for splits in columns.values())
    if kind != "each":
        assert columns[0] == columns[128] == columns[256] != columns[64] == columns[192]


def test_areas_without_a_name_are_left_out(run, chips):
    from conftest import Listener

    listener = Listener()
    areas = polygon_layer([*THREE[:2], (None, 256, 0, 320, 256)])
    found = run("splitchips", listener, CHIPS=chips, SPLIT_METHOD="areas", SPLIT_AREAS=areas, SPLIT_FIELD="class")
    assert '1 feature of "land" left out: no area given.' in listener.warnings
    assert found["TEST_CHIPS"] == 0 and found["TRAINING_CHIPS"] == 12


def test_splits_and_other_names_do_not_mix(run, chips):
    before = Path(chips, "dataset.json").read_bytes()
    areas = polygon_layer([*THREE[:2], ("tset", 256, 0, 320, 256)])
    words = r"names of splits \(train, Validation\) as well as other names \(tset\)"
    with pytest.raises(QgsProcessingException, match=words):
        run("splitchips", CHIPS=chips, SPLIT_METHOD="areas", SPLIT_AREAS=areas, SPLIT_FIELD="class")
    assert Path(chips, "dataset.json").read_bytes() == before


def test_chips_are_dealt_into_folds(run, chips):
    found = run("splitchips", CHIPS=chips, SPLIT_METHOD="random", FOLDS=4, TEST_SHARE=0.2)
    layer = QgsVectorLayer(found["FOOTPRINTS"], "chips", "ogr")
    folds = [chip["fold"] for chip in layer.getFeatures()]
    assert {fold for fold in folds if fold} == {1, 2, 3, 4}
    assert found["TEST_CHIPS"] == 4


def test_the_same_areas_divide_an_export(run, scene, tmp_path):
    areas = polygon_layer(THREE)
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, SPLIT_METHOD="areas",
                SPLIT_AREAS=areas, SPLIT_FIELD="class", OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert (found["TRAINING_CHIPS"], found["VALIDATION_CHIPS"], found["TEST_CHIPS"]) == (12, 4, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CHIPS": "{empty}"}, "is not a chip dataset"),
        ({"SPLIT_METHOD": "areas"}, "no SPLIT_AREAS are given"),
        ({"SPLIT_METHOD": "areas", "SPLIT_AREAS": "{lines}"}, '"roads" holds no polygons'),
        ({"SPLIT_METHOD": "areas", "SPLIT_AREAS": "{away}"}, "do not overlap"),
        ({"SPLIT_METHOD": "areas", "SPLIT_AREAS": "{three}", "SPLIT_FIELD": "split"}, "has no field split"),
        ({"VALIDATION_SHARE": 0.6, "TEST_SHARE": 0.6}, "leave nothing for training"),
        ({"BLOCK_SIZE": 32}, "smaller than a chip"),
    ],
)
def test_what_cannot_be_done_changes_nothing(provider, run, chips, tmp_path, change, words):
    (tmp_path / "empty").mkdir()
    stand_ins = {
        "{empty}": str(tmp_path / "empty"), "{three}": polygon_layer(THREE),
        "{lines}": QgsVectorLayer("LineString?crs=EPSG:32633", "roads", "memory"),
        "{away}": polygon_layer([("test", 5000, 0, 5100, 100)]),
    }  # fmt: skip
    before = {path.name: path.read_bytes() for path in Path(chips).iterdir() if path.is_file()}
    given = {name: stand_ins.get(value, value) for name, value in change.items()}
    with pytest.raises(QgsProcessingException, match=re.escape(said(provider, "splitchips", words))):
        run("splitchips", **{"CHIPS": chips, **given})
    assert {path.name: path.read_bytes() for path in Path(chips).iterdir() if path.is_file()} == before
