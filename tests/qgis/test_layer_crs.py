"""The CRS set for a layer in QGIS is used, whatever its file says."""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic
from conftest import CLASSIFIER_CHIP, LEFT, Listener, polygon_layer
from osgeo import gdal, osr
from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRasterLayer, QgsRasterRange, QgsVectorLayer

UTM = QgsCoordinateReferenceSystem("EPSG:32633")


@pytest.fixture(params=["without a CRS", "with another CRS"])
def misplaced(request, provider, scene, tmp_path):
    """The image and its labels as layers in the right CRS, of files with none or a wrong one."""
    layers = []
    for path in scene:
        copy = str(tmp_path / f"wrong_{Path(path).name}")
        gdal.Translate(copy, path)
        dataset = gdal.Open(copy, gdal.GA_Update)
        if request.param == "without a CRS":
            dataset.SetProjection("")
        else:
            dataset.SetSpatialRef(synthetic.reference(32632))
        del dataset
        layer = QgsRasterLayer(copy, Path(copy).stem)
        layer.setCrs(UTM)
        layers.append(layer)
    QgsProject.instance().addMapLayers(layers)
    yield [layer.id() for layer in layers]
    QgsProject.instance().removeMapLayers([layer.id() for layer in layers])


def masks(folder):
    """The labels of all chips at their places on the scene."""
    found = np.zeros((256, 320), np.uint8)
    for path in (Path(folder) / "labels").iterdir():
        chip = gdal.Open(str(path))
        left, _, _, top, _, _ = chip.GetGeoTransform()
        row, col = round(synthetic.TOP - top), round(left - LEFT)
        found[row : row + 64, col : col + 64] = chip.ReadAsArray()
    return found


def crs_of(path):
    reference = gdal.Open(str(path)).GetSpatialRef()
    return reference and reference.GetAuthorityCode(None)


def test_chips_lie_where_the_layers_do(run, misplaced, scene, land, tmp_path):
    image, labels = misplaced
    truth = gdal.Open(scene[1]).ReadAsArray()
    heard = Listener()
    found = run("exportchips", feedback=heard, INPUT=[image], LABEL_RASTERS=[labels], CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "rasters"))  # fmt: skip
    assert found["CHIPS_COUNT"] == 20 and (masks(found["OUTPUT"]) == truth).all()
    assert QgsVectorLayer(found["FOOTPRINTS"], "f", "ogr").crs().authid() == "EPSG:32633"
    assert not any("it has no CRS" in text or "warped" in text for text in heard.infos)
    info = json.loads((tmp_path / "rasters" / "dataset.json").read_text())
    assert info["sources"][0]["raster"] == str(tmp_path / "wrong_image.tif"), "which people know"
    found = run("exportchips", INPUT=[scene[0], image], COMBINE="stack", LABELS=land, CLASS_FIELD="class", CHIP_SIZE=64,
                EXTENT=f"{LEFT},{LEFT + 128},{synthetic.TOP - 128},{synthetic.TOP} [EPSG:32633]",
                OUTPUT=str(tmp_path / "stack"))  # fmt: skip
    assert found["CHIPS_COUNT"] == 4
    for path in (tmp_path / "stack" / "images").iterdir():
        data = gdal.Open(str(path)).ReadAsArray()
        assert (data[:3] == data[3:]).all() and crs_of(path) == "32633"


def test_maps_and_answers_lie_where_the_layer_does(run, misplaced, classifier, scene, tmp_path):
    image, _ = misplaced
    for layer, name in ((scene[0], "right"), (image, "wrong")):
        run("classifyscenes", INPUT=layer, MODEL=classifier, DEVICE="cpu", OUTPUT=str(tmp_path / f"{name}.tif"),
            GRID=str(tmp_path / f"{name}.gpkg"), AREA=polygon_layer([("x", 0, 0, 160, 256)]))  # fmt: skip
    right, wrong = (gdal.Open(str(tmp_path / f"{name}.tif")) for name in ("right", "wrong"))
    assert crs_of(tmp_path / "wrong.tif") == "32633" and wrong.GetGeoTransform() == right.GetGeoTransform()
    assert (wrong.ReadAsArray() == right.ReadAsArray()).all()
    assert QgsVectorLayer(str(tmp_path / "wrong.gpkg"), "g", "ogr").crs().authid() == "EPSG:32633"
    features = polygon_layer([("a", 20, 20, 40, 40), ("b", 200, 100, 220, 130)])
    found = run("classifyfeatures", INPUT=image, FEATURES=features, MODEL=classifier, DEVICE="cpu",
                OUTPUT=str(tmp_path / "features.gpkg"))  # fmt: skip
    answered = QgsVectorLayer(found["OUTPUT"], "f", "ogr")
    assert all(feature["class"] for feature in answered.getFeatures()) and answered.featureCount() == 2
    run("activationmaps", INPUT=image, MODEL=classifier, DEVICE="cpu", TARGET_CLASS="water",
        OUTPUT=str(tmp_path / "activation.tif"))  # fmt: skip
    assert crs_of(tmp_path / "activation.tif") == "32633" and CLASSIFIER_CHIP < 64


def test_the_files_crs_holds_where_the_layer_has_none(run, scene, tmp_path):
    layer = QgsRasterLayer(scene[0], "image")
    layer.setCrs(QgsCoordinateReferenceSystem())
    QgsProject.instance().addMapLayer(layer)
    found = run("exportchips", INPUT=[layer.id()], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, OUTPUT=str(tmp_path / "c"))
    QgsProject.instance().removeMapLayer(layer.id())
    assert QgsVectorLayer(found["FOOTPRINTS"], "f", "ogr").crs().authid() == "EPSG:32633"


def test_no_data_of_the_layer_alone_is_named(run, scene, tmp_path):
    layer = QgsRasterLayer(scene[0], "image")
    layer.dataProvider().setUserNoDataValue(1, [QgsRasterRange(0, 0)])
    heard = Listener()
    run("exportchips", feedback=heard, INPUT=[layer], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64,
        OUTPUT=str(tmp_path / "c"))  # fmt: skip
    (warning,) = [text for text in heard.warnings if "nodata" in text]
    assert 'The raster layer "image" has additional nodata values in QGIS' in warning


def test_heights_in_a_crs_change_neither_place_nor_value(run, scene, tmp_path):
    """In newer QGIS a layer keeps the heights of its CRS, in older it does not."""
    high = osr.SpatialReference()
    high.SetFromUserInput("EPSG:32633+5773")
    for name, path in (("image", scene[0]), ("labels", scene[1])):
        gdal.Translate(str(tmp_path / f"{name}.tif"), path)
        gdal.Open(str(tmp_path / f"{name}.tif"), gdal.GA_Update).SetSpatialRef(high)
    truth = gdal.Open(scene[1]).ReadAsArray()
    for image, labels in ((scene[0], tmp_path / "labels.tif"), (tmp_path / "image.tif", scene[1])):
        found = run("exportchips", INPUT=[str(image)], LABEL_RASTERS=[str(labels)], CHIP_SIZE=64,
                    OUTPUT=str(tmp_path / "chips"), OVERWRITE=True)  # fmt: skip
        assert (masks(found["OUTPUT"]) == truth).all()
    layer = polygon_layer([("a", 0, 0, 160, 256), ("b", 160, 0, 320, 256)])
    layer.setCrs(QgsCoordinateReferenceSystem.fromWkt(high.ExportToWkt(["FORMAT=WKT2_2019"])))
    found = run("exportchips", INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "features"))  # fmt: skip
    expected = np.where(np.indices(truth.shape)[1] < 160, 1, 2)
    assert (masks(found["OUTPUT"]) == expected).all()


def test_a_class_table_names_the_colours_of_a_label_picture(run, scene, tmp_path):
    truth = gdal.Open(scene[1]).ReadAsArray()
    colors = np.array([(0, 0, 0), (255, 0, 0), (255, 255, 0), (255, 0, 255)], np.uint8)
    picture = synthetic.write_raster(tmp_path / "p.tif", colors[truth].transpose(2, 0, 1), options=["PHOTOMETRIC=RGB"])
    table = ["#000000", "", "", "", "#FF0000", 5, "water", "", "#ffff00", 2, "field", "#00ff00"]
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[picture], CLASS_TABLE=table, CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    classes = json.loads((tmp_path / "chips" / "dataset.json").read_text())["classes"]
    assert [(row["value"], row["name"], row["color"]) for row in classes] == [
        (1, "#ff00ff", "#ff00ff"), (2, "field", "#00ff00"), (5, "water", "#ff0000"),
    ]  # fmt: skip
    assert (masks(found["OUTPUT"]) == np.array([0, 5, 2, 1])[truth]).all()
