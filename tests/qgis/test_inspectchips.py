"""`inspectchips` in QGIS: the report, its numbers, and the layer of chips to look at."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Listener, leftovers
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProject,
    QgsVectorLayer,
)

NUMBERS = ("CHIPS_COUNT", "TRAINING_CHIPS", "VALIDATION_CHIPS", "TEST_CHIPS", "CLASSES_COUNT", "DUPLICATES_COUNT",
           "LEAKS_COUNT", "SUSPICIOUS_COUNT", "NODATA_SHARE")  # fmt: skip


@pytest.fixture
def spoiled(dataset, tmp_path):
    """A copy of the dataset in which a chip is black."""
    folder = Path(shutil.copytree(dataset, tmp_path / "chips"))
    source = gdal.Open(str(sorted((folder / "images").iterdir())[0]), gdal.GA_Update)
    source.WriteArray(np.zeros((source.RasterCount, source.RasterYSize, source.RasterXSize), np.uint8))
    source.FlushCache()
    return str(folder)


def test_numbers_report_and_layer_come_out(run, worker_python, spoiled, tmp_path):
    listener = Listener()
    found = run("inspectchips", listener, CHIPS=spoiled, REPORT=str(tmp_path / "r.html"),
                SUSPECTS=str(tmp_path / "s.gpkg"))  # fmt: skip
    assert all(found[name] is not None for name in NUMBERS)
    assert found["CHIPS_COUNT"] == found["TRAINING_CHIPS"] + found["VALIDATION_CHIPS"] + found["TEST_CHIPS"]
    assert (found["CLASSES_COUNT"], found["SUSPICIOUS_COUNT"], found["LEAKS_COUNT"]) == (3, 1, 0)
    assert any("Images with a single value" in text for text in listener.warnings)
    assert "Images with a single value" in Path(found["REPORT"]).read_text(encoding="utf-8")
    layer = QgsVectorLayer(found["SUSPECTS"], "suspects", "ogr")
    assert layer.isValid() and layer.crs().authid() == "EPSG:32633"
    assert [feature["reason"] for feature in layer.getFeatures()] == ["constant"]
    assert leftovers(tmp_path) == ["chips", "r.html", "s.gpkg"]


def test_the_layer_is_optional_and_temporary_outputs_work(run, worker_python, dataset):
    found = run("inspectchips", CHIPS=dataset, REPORT="TEMPORARY_OUTPUT", MAX_CHIPS=3)
    assert found["SUSPECTS"] is None and Path(found["REPORT"]).suffix == ".html"
    found = run("inspectchips", CHIPS=dataset, REPORT="TEMPORARY_OUTPUT", SUSPECTS="TEMPORARY_OUTPUT")
    assert QgsVectorLayer(found["SUSPECTS"], "suspects", "ogr").isValid()


def test_a_folder_that_is_no_dataset_is_refused_before_anything_starts(run, worker_python, tmp_path):
    with pytest.raises(QgsProcessingException, match=r"no readable dataset\.json"):
        run("inspectchips", CHIPS=str(tmp_path), REPORT=str(tmp_path / "r.html"))
    assert leftovers(tmp_path) == []


def test_cancelling_ends_at_once_and_leaves_nothing(provider, worker_python, dataset, tmp_path):
    algorithm = provider.algorithm("inspectchips").create()
    listener = Listener()
    listener.on_text = lambda text: listener.cancel()
    context = QgsProcessingContext()
    parameters = {"CHIPS": dataset, "REPORT": str(tmp_path / "r.html"), "SUSPECTS": str(tmp_path / "s.gpkg")}
    assert algorithm.run(parameters, context, listener)[0] == {}
    assert leftovers(tmp_path) == []


def test_the_layer_is_drawn_as_outlines_by_reason(provider, worker_python, spoiled, tmp_path):
    context, listener = QgsProcessingContext(), Listener()
    context.setProject(QgsProject.instance())
    details = QgsProcessingContext.LayerDetails("suspects", QgsProject.instance(), "SUSPECTS")
    path = str(tmp_path / "s.gpkg")
    context.addLayerToLoadOnCompletion(path, details)
    algorithm = provider.algorithm("inspectchips").create()
    found, worked = algorithm.run(
        {"CHIPS": spoiled, "REPORT": str(tmp_path / "r.html"), "SUSPECTS": path}, context, listener
    )
    assert worked
    layer = QgsVectorLayer(found["SUSPECTS"], "suspects", "ogr")
    context.layerToLoadOnCompletionDetails(path).postProcessor().postProcessLayer(layer, context, listener)
    renderer = layer.renderer()
    assert renderer.type() == "categorizedSymbol" and renderer.classAttribute() == "reason"
    assert [category.value() for category in renderer.categories()] == ["constant"]


def test_it_runs_headless(qgis_process, worker_python, dataset, tmp_path):
    outputs = {"REPORT": tmp_path / "r.html", "SUSPECTS": tmp_path / "s.csv"}
    found = qgis_process("terrazzo:inspectchips", CHIPS=dataset, **outputs)
    assert found["CHIPS_COUNT"] > 0 and Path(found["REPORT"]).is_file() and Path(found["SUSPECTS"]).is_file()


def test_the_report_draws_splits_as_the_project_does(provider):
    from terrazzo.processing_provider.looks import SPLIT_COLORS

    text = (Path(__file__).resolve().parents[2] / "plugin/engine/inspection/charts.py").read_text()
    for split, color in SPLIT_COLORS.items():
        assert f'"{split}": "#{bytes(map(int, color.split(","))).hex()}"' in text


def test_the_desktop_is_offered_kinds_of_layers_that_are_one_file(provider):
    assert provider.supportedOutputVectorLayerExtensions() == ["gpkg", "geojson", "csv"]
    assert QgsApplication.processingRegistry().providerById("terrazzo").defaultVectorFileExtension() == "gpkg"
