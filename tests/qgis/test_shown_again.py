"""Layers of the project whose file was rewritten show its new content."""

import threading
from pathlib import Path

import numpy as np
import processing
import pytest
import synthetic
from conftest import Listener, polygon_layer
from qgis.core import (
    QgsApplication,
    QgsCategorizedSymbolRenderer,
    QgsFillSymbol,
    QgsPalettedRasterRenderer,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor


def paletted(layer, names, color="#102030"):
    """A renderer of classes."""
    rows = [QgsPalettedRasterRenderer.Class(value, QColor(color), name) for value, name in names.items()]
    return QgsPalettedRasterRenderer(layer.dataProvider(), 1, rows)


def write_map(path, data, names):
    """A class raster under its final name at once, with its style beside it."""
    hidden = path.with_name(".new.tif")
    synthetic.write_raster(hidden, np.asarray(data, np.uint8))
    hidden.replace(path)
    layer = QgsRasterLayer(str(path), "map")
    layer.setRenderer(paletted(layer, names))
    layer.saveNamedStyle(str(path.with_suffix(".qml")))


def block(layer):
    """The values of a raster layer, as its provider reads them."""
    provider = layer.dataProvider()
    found = provider.block(1, layer.extent(), provider.xSize(), provider.ySize())
    return [[found.value(row, col) for col in range(provider.xSize())] for row in range(provider.ySize())]


def legend(layer):
    return {int(entry.value): (entry.label, entry.color.name()) for entry in layer.renderer().classes()}


def test_a_map_written_again_is_shown_with_its_values_place_and_size(project, tmp_path):
    from terrazzo.processing_provider.looks import SavedStyle
    from terrazzo.processing_provider.showing import show_again

    path = tmp_path / "map.tif"
    write_map(path, np.full((4, 6), 1), {1: "a", 2: "b"})
    layers = [QgsRasterLayer(str(path), "map"), QgsRasterLayer(str(path), "again")]
    other = QgsRasterLayer(synthetic.write_raster(tmp_path / "other.tif", np.ones((4, 4), np.uint8)), "other")
    project.addMapLayers([*layers, other])
    assert block(layers[0])[0][0] == 1
    write_map(path, np.full((8, 3), 2), {1: "a", 2: "b"})
    told = []
    other.dataSourceChanged.connect(lambda: told.append("other"))
    layers[0].repaintRequested.connect(lambda *_: told.append("map"))
    show_again([str(path), 5, None, "no file"], {str(path): SavedStyle()})
    for layer in layers:
        assert block(layer) == [[2] * 3] * 8
        assert (layer.width(), layer.height(), layer.extent().width(), layer.extent().height()) == (3, 8, 3, 8)
    assert "map" in told and "other" not in told


def test_a_users_own_colours_stay_while_the_classes_are_the_same(project, tmp_path):
    from terrazzo.processing_provider.looks import SavedStyle
    from terrazzo.processing_provider.showing import show_again

    path = tmp_path / "map.tif"
    write_map(path, np.full((4, 4), 1), {1: "water", 2: "wood"})
    layer = QgsRasterLayer(str(path), "map")
    project.addMapLayer(layer)
    layer.setRenderer(paletted(layer, {1: "water", 2: "wood", 3: "my own"}, "#ff0000"))
    layer.setOpacity(0.5)
    write_map(path, np.full((4, 4), 2), {1: "water", 2: "wood"})
    show_again([str(path)], {str(path): SavedStyle()})
    assert legend(layer)[1] == ("water", "#ff0000") and layer.opacity() == 0.5 and block(layer)[0][0] == 2
    write_map(path, np.full((4, 4), 2), {1: "wood", 2: "water"})
    show_again([str(path)], {str(path): SavedStyle()})
    assert legend(layer) == {1: ("wood", "#102030"), 2: ("water", "#102030")}


def export(run, scene, folder, **parameters):
    given = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "OUTPUT": str(folder), "OVERWRITE": True}
    return run("exportchips", **{**given, **parameters})


def test_footprints_of_a_dataset_written_again_are_the_new_ones(run, scene, project, tmp_path):
    found = export(run, scene, tmp_path / "chips", CHIP_SIZE=64)
    layer = QgsVectorLayer(found["FOOTPRINTS"], "chips", "ogr")
    whole = QgsVectorLayer(str(tmp_path / "chips/chips.gpkg"), "by its file", "ogr")
    chip = QgsRasterLayer(str(tmp_path / "chips/images/0000000.tif"), "a chip")
    project.addMapLayers([layer, whole, chip])
    layer.selectAll()
    assert layer.featureCount() == 20 and chip.width() == 64
    export(run, scene, tmp_path / "chips", CHIP_SIZE=32, EXTENT="400000,400128,5499872,5500000")
    for shown in (layer, whole):
        assert shown.featureCount() == len(list(shown.getFeatures())) == 16
        assert {feature["side"] for feature in shown.getFeatures()} == {32}
        assert round(shown.extent().width()) == 128
    assert layer.selectedFeatureCount() == 0
    assert chip.width() == 32


def test_results_that_are_loaded_again_keep_the_users_style(run, scene, project, tmp_path):
    given = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "OUTPUT": str(tmp_path / "chips"), "OVERWRITE": True}
    for size, count in ((64, 20), (32, 80)):
        processing.runAndLoadResults("terrazzo:exportchips", {**given, "CHIP_SIZE": size}, feedback=Listener())
        for layer in project.mapLayers().values():
            assert layer.featureCount() == count
        first = next(iter(project.mapLayers().values()))
        if size == 64:
            symbol = QgsFillSymbol.createSimple({"color": "#ff00ff"})
            rows = [QgsRendererCategory(split, symbol.clone(), split) for split in ("training", "validation", "test")]
            first.setRenderer(QgsCategorizedSymbolRenderer("split", rows))
    assert first.renderer().categories()[0].symbol().color().name() == "#ff00ff"


def test_from_another_thread_layers_are_reloaded_on_the_main_one(project, tmp_path):
    from terrazzo.processing_provider.looks import Look
    from terrazzo.processing_provider.showing import show_again

    threads = []

    class Told(Look):
        def draw(self, layer):
            threads.append(threading.current_thread())

    path = tmp_path / "map.tif"
    write_map(path, np.full((4, 4), 1), {1: "a"})
    layer = QgsRasterLayer(str(path), "map")
    project.addMapLayer(layer)
    write_map(path, np.full((4, 4), 2), {1: "a"})
    thread = threading.Thread(target=show_again, args=([str(path)], {str(path): Told()}))
    thread.start()
    thread.join()
    assert threads == []
    QgsApplication.processEvents()
    assert threads == [threading.main_thread()] and block(layer)[0][0] == 2


def test_a_model_on_a_task_shows_its_results_again(run, scene, project, tmp_path):
    found = export(run, scene, tmp_path / "chips", CHIP_SIZE=64)
    layer = QgsVectorLayer(found["FOOTPRINTS"], "chips", "ogr")
    project.addMapLayer(layer)
    model = QgsProcessingModelAlgorithm("again", "tests")
    child = QgsProcessingModelChildAlgorithm("terrazzo:exportchips")
    fixed = {"INPUT": scene[0], "LABEL_RASTERS": scene[1], "CHIP_SIZE": 32, "OUTPUT": str(tmp_path / "chips"),
             "OVERWRITE": True}  # fmt: skip
    for name, value in fixed.items():
        child.addParameterSources(name, [QgsProcessingModelChildParameterSource.fromStaticValue(value)])
    model.addChildAlgorithm(child)
    context, listener, ended = QgsProcessingContext(), Listener(), []
    context.setProject(project)
    task = QgsProcessingAlgRunnerTask(model, {}, context, listener)
    task.executed.connect(lambda fine, results: ended.append(fine))
    QgsApplication.taskManager().addTask(task)
    while not ended:
        QgsApplication.processEvents()
    QgsApplication.processEvents()
    assert ended == [True], listener.warnings
    assert layer.featureCount() == len(list(layer.getFeatures())) == 80


def test_a_layer_that_is_being_edited_is_left_alone(run, scene, project, tmp_path):
    found = export(run, scene, tmp_path / "chips", CHIP_SIZE=64)
    layer = QgsVectorLayer(found["FOOTPRINTS"], "chips", "ogr")
    project.addMapLayer(layer)
    layer.startEditing()
    layer.changeAttributeValue(1, layer.fields().lookupField("split"), "test")
    export(run, scene, tmp_path / "chips", CHIP_SIZE=32)
    assert layer.isEditable() and layer.getFeature(1)["split"] == "test"
    layer.rollBack()


def test_where_open_files_cannot_be_replaced_it_is_said_before_the_work(run, scene, project, tmp_path, monkeypatch):
    from terrazzo.processing_provider import places

    found = export(run, scene, tmp_path / "chips", CHIP_SIZE=64)
    project.addMapLayer(QgsVectorLayer(found["FOOTPRINTS"], "my chips", "ogr"))
    monkeypatch.setattr(places, "REPLACES_OPEN_FILES", False)
    with pytest.raises(QgsProcessingException, match='open in the project as the layer "my chips", and Windows'):
        export(run, scene, tmp_path / "chips", CHIP_SIZE=32)
    assert Path(export(run, scene, tmp_path / "others", CHIP_SIZE=32)["OUTPUT"]).is_dir()


def test_features_classified_again_are_the_new_ones(run, scene, project, classifier, tmp_path):
    places = polygon_layer([("a", 150, 118, 170, 138), ("b", 8, 60, 30, 75)])
    given = {"INPUT": scene[0], "MODEL": classifier, "DEVICE": "cpu", "OUTPUT": str(tmp_path / "out.gpkg")}
    found = run("classifyfeatures", FEATURES=places, **given)["OUTPUT"]
    layer = QgsVectorLayer(found, "out", "ogr")
    project.addMapLayer(layer)
    assert layer.featureCount() == 2
    layer.setRenderer(QgsCategorizedSymbolRenderer("predicted_value", []))  # that knows none of the classes
    run("classifyfeatures", FEATURES=polygon_layer([("c", 150, 118, 170, 138)]), **given)
    assert [feature["class"] for feature in layer.getFeatures()] == ["c"]
    assert layer.renderer().classAttribute() == "predicted_value" and len(layer.renderer().categories()) > 1


def test_a_map_and_a_grid_made_again_are_the_new_ones(run, scene, project, classifier, tmp_path):
    given = {"INPUT": scene[0], "MODEL": classifier, "DEVICE": "cpu", "OUTPUT": str(tmp_path / "map.tif"),
             "GRID": str(tmp_path / "grid.gpkg")}  # fmt: skip
    run("classifyscenes", **given)
    layer, grid = QgsRasterLayer(given["OUTPUT"], "map"), QgsVectorLayer(given["GRID"], "grid", "ogr")
    project.addMapLayers([layer, grid])
    assert (layer.width(), layer.height(), grid.featureCount()) == (20, 16, 320)
    run("classifyscenes", STRIDE=32, EXTENT="400000,400160,5499744,5500000", **given)
    fresh = QgsRasterLayer(given["OUTPUT"], "fresh")
    assert block(layer) == block(fresh) and (layer.width(), layer.height()) == (5, 8)
    assert layer.extent() == fresh.extent()
    assert grid.featureCount() == len(list(grid.getFeatures())) == 40
    assert grid.extent() == QgsVectorLayer(given["GRID"], "fresh", "ogr").extent()
    assert grid.renderer().classAttribute() == "value" and len(layer.renderer().classes()) == 3
