"""A classifier of numbers in QGIS: trained, and mapped as a raster, a grid and a field of features."""

import numpy as np
import pytest
from conftest import Listener, polygon_layer
from osgeo import gdal
from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
    QgsProject,
    QgsVectorLayer,
)


@pytest.fixture(scope="module")
def numbers(provider, worker_python, scene, tmp_path_factory):
    """What the training of a model of numbers gives: of the first band of the scene, by its mean."""
    import processing

    folder = tmp_path_factory.mktemp("numbers")
    band = str(folder / "band.tif")
    gdal.Translate(band, scene[0], bandList=[1], outputType=gdal.GDT_Float32)
    chips = {"INPUT": scene[0], "LABEL_RASTERS": band, "TASK": "chip_regression", "CHIP_SIZE": 16,
             "OUTPUT": str(folder / "chips")}  # fmt: skip
    processing.run("terrazzo:exportchips", chips, feedback=Listener())
    given = {"CHIPS": str(folder / "chips"), "ARCHITECTURE": "lecture_cnn", "FILTERS": "8,8", "EPOCHS": 12,
             "DEVICE": "cpu", "OUTPUT": str(folder / "m.safetensors")}  # fmt: skip
    return processing.run("terrazzo:trainclassifier", given, feedback=Listener())


def colours_of(layer):
    """The labels of the ranges of a layer's colours."""
    return [row.label() for row in layer.renderer().ranges()]


def test_the_figures_of_a_model_of_numbers_are_outputs(numbers):
    assert numbers["TEST_R2"] > 0.5 and numbers["TEST_RMSE"] > 0 and numbers["TEST_OVERALL_ACCURACY"] is None


def test_numbers_become_a_raster_and_a_grid(run, numbers, scene, tmp_path):
    given = {"INPUT": scene[0], "MODEL": numbers["OUTPUT"], "DEVICE": "cpu", "OUTPUT": str(tmp_path / "map.tif")}
    found = run("classifyscenes", **given, GRID=str(tmp_path / "grid.gpkg"))
    values = gdal.Open(found["OUTPUT"]).ReadAsArray()
    means = gdal.Open(scene[0]).ReadAsArray()[0].reshape(16, 16, 20, 16).mean(axis=(1, 3))
    assert values.dtype == np.float32 and np.corrcoef(values.ravel(), means.ravel())[0, 1] > 0.7
    grid = QgsVectorLayer(found["GRID"], "grid", "ogr")
    grid.loadDefaultStyle()
    assert len(colours_of(grid)) == 5 and grid.renderer().classAttribute() == "value"
    with pytest.raises(QgsProcessingException, match="predicts numbers, which have neither classes"):
        run("classifyscenes", **given, THRESHOLD=0.5)


def test_features_get_a_field_of_numbers(provider, numbers, scene, tmp_path):
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    output = QgsProcessingOutputLayerDefinition(str(tmp_path / "out.gpkg"), QgsProject.instance())
    places = polygon_layer([("a", 150, 120, 170, 140), ("far", 5000, 5000, 5010, 5010)])
    given = {"INPUT": scene[0], "FEATURES": places, "MODEL": numbers["OUTPUT"], "DEVICE": "cpu", "OUTPUT": output}
    found, fine = provider.algorithm("classifyfeatures").create().run(given, context, Listener())
    assert fine
    layer = QgsProcessingUtils.mapLayerFromString(found["OUTPUT"], context)
    near, far = (feature["predicted_value"] for feature in layer.getFeatures())
    assert 0 < near < 255 and not far
    details = context.layerToLoadOnCompletionDetails(found["OUTPUT"])
    details.postProcessor().postProcessLayer(layer, context, Listener())
    assert colours_of(layer)[0].startswith("below ") and layer.renderer().classAttribute() == "predicted_value"
