"""Chips of other programs, in QGIS."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Listener, leftovers
from osgeo import gdal
from qgis.core import QgsProcessingContext, QgsProcessingException, QgsProject, QgsVectorLayer


@pytest.fixture
def photos(tmp_path):
    """A folder of photographs of two classes."""
    folder = tmp_path / "photos"
    for number in range(12):
        part = folder / ("forest" if number % 2 else "field")
        part.mkdir(parents=True, exist_ok=True)
        data = np.random.default_rng(number).integers(0, 255, (3, 32, 32), dtype=np.uint8)
        made = gdal.GetDriverByName("MEM").Create("", 32, 32, 3, gdal.GDT_Byte)
        made.WriteArray(data)
        gdal.GetDriverByName("JPEG").CreateCopy(str(part / f"{number}.jpg"), made).FlushCache()
    return str(folder)


def test_photographs_go_in_and_class_folders_come_out(run, photos, tmp_path):
    listener = Listener()
    found = run("importchips", listener, INPUT=photos, OUTPUT=str(tmp_path / "chips"))
    assert found["CHIPS_COUNT"] == 12 and found["TRAINING_CHIPS"] == 8
    assert found["VALIDATION_CHIPS"] + found["TEST_CHIPS"] == 4
    assert any("Classes: 1 field, 2 forest" in text for text in listener.infos)
    made = run("convertchips", CHIPS=found["OUTPUT"], FOLDER_FORMAT="imagenet", OUTPUT=str(tmp_path / "out"))
    assert made == {"OUTPUT": str(tmp_path / "out"), "CHIPS_COUNT": 12}
    assert len(list((tmp_path / "out").glob("*/forest/*.jpg"))) == 6
    again = run("importchips", INPUT=made["OUTPUT"], OUTPUT=str(tmp_path / "again"))
    assert [again[name] for name in ("TRAINING_CHIPS", "VALIDATION_CHIPS", "TEST_CHIPS")] == [
        found[name] for name in ("TRAINING_CHIPS", "VALIDATION_CHIPS", "TEST_CHIPS")
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for a Python is a shell script")
def test_a_crash_while_a_strangers_folder_is_read_costs_no_project(run, photos, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -SEGV $$\n")
    python.chmod(0o755)
    monkeypatch.setattr("terrazzo.plugin.worker_python.qgis_python", lambda: str(python))
    with pytest.raises(QgsProcessingException, match=r"SIGSEGV|signal 11"):
        run("importchips", INPUT=photos, OUTPUT=str(tmp_path / "chips"))
    assert not (tmp_path / "chips").exists()


def test_jobs_that_need_no_torch_run_without_a_worker_of_ours(run, photos, tmp_path, monkeypatch):
    def lack(*_):
        raise AssertionError("the worker's Python was asked for")

    monkeypatch.setattr("terrazzo.plugin.worker_python.require_python", lack)
    assert run("importchips", INPUT=photos, OUTPUT=str(tmp_path / "chips"))["CHIPS_COUNT"] == 12


def test_an_exported_dataset_goes_through_every_format(run, dataset, tmp_path):
    for kind in ("arcgis", "coco", "voc"):
        made = run("convertchips", CHIPS=dataset, FOLDER_FORMAT=kind, OUTPUT=str(tmp_path / kind))
        back = run("importchips", INPUT=made["OUTPUT"], OUTPUT=str(tmp_path / f"{kind}_back"))
        before, after = (
            json.loads((Path(folder) / "dataset.json").read_text()) for folder in (dataset, back["OUTPUT"])
        )
        for name in ("classes", "pixel_counts", "chip_counts", "label_nodata", "pixel_size"):
            assert before[name] == after[name], (kind, name)
        assert QgsVectorLayer(back["FOOTPRINTS"], "footprints", "ogr").crs().authid() == "EPSG:32633"


def test_footprints_of_imported_chips_are_loaded(provider, photos, tmp_path):
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    algorithm = provider.algorithm("importchips").create()
    found, fine = algorithm.run({"INPUT": photos, "OUTPUT": str(tmp_path / "chips")}, context, Listener())
    assert fine and found["FOOTPRINTS"] in context.layersToLoadOnCompletion()
    layer = QgsVectorLayer(found["FOOTPRINTS"], "footprints", "ogr")
    assert layer.featureCount() == 12 and layer.crs().description() == "Undefined Cartesian SRS"


def test_several_folds_are_a_setting(run, photos, tmp_path):
    found = run("importchips", INPUT=photos, FOLDS=3, TEST_SHARE=0, OUTPUT=str(tmp_path / "chips"))
    layer = QgsVectorLayer(found["FOOTPRINTS"], "footprints", "ogr")
    assert {feature["fold"] for feature in layer.getFeatures()} == {1, 2, 3}


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("importchips", {"INPUT": "{0}"}, "has no known chip format"),
        ("importchips", {"INPUT": "/no/such"}, "does not exist"),
        ("importchips", {"INPUT": "{1}", "SPLIT_METHOD": "areas"}, "Incorrect parameter value for SPLIT_METHOD"),
        ("importchips", {"INPUT": "{1}", "VALIDATION_SHARE": 0.6, "TEST_SHARE": 0.6}, "leave nothing for training"),
        ("convertchips", {"CHIPS": "{1}"}, "is not a chip dataset"),
        ("convertchips", {"CHIPS": "{2}", "FOLDER_FORMAT": "imagenet"}, "Convert it to arcgis or coco or voc"),
    ],
)
def test_what_cannot_be_used_is_said_and_leaves_nothing(run, dataset, photos, tmp_path, name, parameters, words):
    empty = tmp_path / "empty"
    empty.mkdir()
    before = leftovers(tmp_path)
    given = {
        key: value.format(empty, photos, dataset) if isinstance(value, str) else value
        for key, value in parameters.items()
    }
    with pytest.raises(QgsProcessingException, match=words):
        run(name, OUTPUT=str(tmp_path / "out"), **given)
    assert leftovers(tmp_path) == before


def test_a_cancelled_import_leaves_nothing(provider, photos, tmp_path):
    listener = Listener(on_text=lambda text: listener.cancel())
    parameters = {"INPUT": photos, "OUTPUT": str(tmp_path / "chips")}
    found, _ = provider.algorithm("importchips").create().run(parameters, QgsProcessingContext(), listener)
    assert found == {} and leftovers(tmp_path) == ["photos"]


def test_torch_stays_out_of_qgis(run, photos, tmp_path):
    run("importchips", INPUT=photos, OUTPUT=str(tmp_path / "chips"))
    assert "torch" not in sys.modules
