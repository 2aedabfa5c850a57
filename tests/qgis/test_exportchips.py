"""From layers of every kind to a chip dataset."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import processing
import pytest
import synthetic
from conftest import BOTTOM, LEFT, Listener, leftovers, polygon_layer, said
from osgeo import gdal
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsPalettedRasterRenderer,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingParameterDefinition,
    QgsProject,
    QgsRasterLayer,
    QgsRendererCategory,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.core import QgsProcessingModelChildParameterSource as Source
from qgis.PyQt.QtGui import QColor


def classes_of(folder):
    """Value → (name, colour) of a dataset's classes."""
    info = json.loads((Path(folder) / "dataset.json").read_text())
    return {row["value"]: (row["name"], row["color"]) for row in info["classes"]}


def pixels_of(folder):
    """Value → labelled pixels, over all splits."""
    info = json.loads((Path(folder) / "dataset.json").read_text())
    sums = np.sum(list(info["pixel_counts"].values()), axis=0)
    return {row["value"]: int(count) for row, count in zip(info["classes"], sums)}


def test_texts_become_values_in_the_order_of_their_names(run, scene, land, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABELS=land, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert found["OUTPUT"] == str(tmp_path / "chips")
    assert found["CHIPS_COUNT"] == 20
    assert found["TRAINING_CHIPS"] + found["VALIDATION_CHIPS"] + found["TEST_CHIPS"] == 20
    assert {value: name for value, (name, _) in classes_of(found["OUTPUT"]).items()} == {
        1: "field", 2: "forest", 3: "water",
    }  # fmt: skip
    assert pixels_of(found["OUTPUT"]) == {1: 120 * 256, 2: 120 * 256, 3: 80 * 256}
    footprints = QgsVectorLayer(found["FOOTPRINTS"], "footprints", "ogr")
    assert footprints.isValid() and footprints.featureCount() == 20


def test_names_and_colours_come_from_the_categories(run, scene, tmp_path):
    layer = polygon_layer([(7, 0, 0, 160, 256), (9, 160, 0, 320, 256)], kind="integer")
    style = [(7, "Wald", "#004400"), (9, "Wasser", "#0000ff"), ("", "all others", "#ff0000")]
    layer.setRenderer(QgsCategorizedSymbolRenderer("class", [
        QgsRendererCategory(value, QgsFillSymbol.createSimple({"color": color}), name) for value, name, color in style
    ]))  # fmt: skip
    found = run("exportchips", INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert classes_of(found["OUTPUT"]) == {7: ("Wald", "#004400"), 9: ("Wasser", "#0000ff")}
    QgsProject.instance().addMapLayer(layer, False)
    layer.selectAll()
    source = QgsProcessingFeatureSourceDefinition(layer.id(), selectedFeaturesOnly=True)
    found = run("exportchips", INPUT=[scene[0]], LABELS=source, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "selected"))  # fmt: skip
    assert classes_of(found["OUTPUT"]) == {7: ("Wald", "#004400"), 9: ("Wasser", "#0000ff")}


def test_categories_of_another_field_name_nothing(run, scene, land, tmp_path):
    symbol = QgsFillSymbol.createSimple({"color": "#123456"})
    land.setRenderer(QgsCategorizedSymbolRenderer("note", [QgsRendererCategory("note", symbol, "wrong")]))
    found = run("exportchips", INPUT=[scene[0]], LABELS=land, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert [name for name, _ in classes_of(found["OUTPUT"]).values()] == ["field", "forest", "water"]


def test_without_a_class_field_polygons_are_one_class_named_like_the_layer(run, scene, tmp_path):
    layer = polygon_layer([("a", 30, 30, 100, 100), ("b", 200, 100, 300, 200)])
    found = run("exportchips", INPUT=[scene[0]], LABELS=layer, CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert {value: name for value, (name, _) in classes_of(found["OUTPUT"]).items()} == {0: "background", 1: "land"}
    assert pixels_of(found["OUTPUT"])[1] == 70 * 70 + 100 * 100


def test_only_selected_polygons_count_when_asked(run, scene, land, tmp_path):
    land.selectByExpression("class != 'water'")
    source = QgsProcessingFeatureSourceDefinition(land.id(), selectedFeaturesOnly=True)
    QgsProject.instance().addMapLayer(land, False)
    found = run("exportchips", INPUT=[scene[0]], LABELS=source, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert pixels_of(found["OUTPUT"]) == {1: 120 * 256, 2: 120 * 256}


def test_polygons_in_another_crs_land_on_the_same_pixels(run, scene, land, tmp_path):
    moved = processing.run("native:reprojectlayer", {
        "INPUT": land, "TARGET_CRS": QgsCoordinateReferenceSystem("EPSG:4326"), "OUTPUT": "memory:",
    })["OUTPUT"]  # fmt: skip
    found = run("exportchips", INPUT=[scene[0]], LABELS=moved, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert pixels_of(found["OUTPUT"]) == pytest.approx({1: 120 * 256, 2: 120 * 256, 3: 80 * 256}, rel=0.02)


def test_a_later_polygon_wins_where_they_overlap(run, scene, tmp_path):
    layer = polygon_layer([(1, 0, 0, 320, 256), (2, 0, 0, 160, 256), (1, 0, 0, 80, 256)], kind="integer")
    found = run("exportchips", INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert pixels_of(found["OUTPUT"]) == {1: 240 * 256, 2: 80 * 256}


def test_polygons_without_class_are_counted_in_a_warning(run, scene, tmp_path):
    layer = polygon_layer([(None, 0, 0, 100, 256), (1, 100, 0, 200, 256), (2, 200, 0, 320, 256)], kind="integer")
    listener = Listener()
    found = run("exportchips", listener, INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert '1 feature of "land" left out: no class given.' in listener.warnings
    assert set(pixels_of(found["OUTPUT"])) == {1, 2}


def test_invalid_polygons_are_mended_and_hopeless_ones_named(run, scene, tmp_path):
    layer = polygon_layer([(1, 0, 0, 160, 256), (2, 160, 0, 320, 128)], kind="integer")
    x, y = LEFT, BOTTOM
    corners = ((160, 128), (320, 256), (320, 128), (160, 256), (160, 128))
    bow_tie = f"POLYGON(({','.join(f'{x + right} {y + up}' for right, up in corners)}))"
    flat = f"POLYGON(({x} {y},{x + 50} {y + 50},{x} {y},{x} {y}))"
    for wkt in (bow_tie, flat):
        feature = QgsFeature(layer.fields())
        feature.setAttributes([2, ""])
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        layer.dataProvider().addFeatures([feature])
    listener = Listener()
    found = run("exportchips", listener, INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert any("1 feature of" in text and "feature id 4" in text for text in listener.warnings), listener.warnings
    assert pixels_of(found["OUTPUT"])[2] == pytest.approx(160 * 128 * 1.5, rel=0.02)


def test_a_layer_without_crs_is_taken_as_the_rasters_with_a_warning(run, scene, land, tmp_path):
    land.setCrs(QgsCoordinateReferenceSystem())
    listener = Listener()
    run("exportchips", listener, INPUT=[scene[0]], LABELS=land, CLASS_FIELD="class", CHIP_SIZE=64,
        OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert any('"land" has no CRS' in text for text in listener.warnings)


def test_label_rasters_bring_names_and_colours_of_the_file(run, scene, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert classes_of(found["OUTPUT"]) == {value: (name, color) for value, name, color in synthetic.CLASSES}


def test_label_rasters_bring_names_and_colours_of_the_style_first(run, scene, tmp_path):
    layer = QgsRasterLayer(scene[1], "labels")
    entries = [
        QgsPalettedRasterRenderer.Class(1, QColor("#0102ff"), "See"),
        QgsPalettedRasterRenderer.Class(2, QColor("#aabb00"), "2"),
    ]
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, entries))
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[layer], CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert classes_of(found["OUTPUT"]) == {
        1: ("See", "#0102ff"), 2: ("field", "#aabb00"), 3: ("forest", "#116622"),
    }  # fmt: skip


def test_a_path_of_a_label_raster_brings_the_style_beside_it(run, scene, tmp_path):
    labels = str(tmp_path / "labels.tif")
    gdal.GetDriverByName("GTiff").CreateCopy(labels, gdal.Open(scene[1]))
    layer = QgsRasterLayer(labels, "labels")
    entries = [QgsPalettedRasterRenderer.Class(1, QColor("#0102ff"), "See")]
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, entries))
    layer.saveNamedStyle(str(tmp_path / "labels.qml"))
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[labels], CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert classes_of(found["OUTPUT"])[1] == ("See", "#0102ff")


def test_a_plain_layer_of_no_project_has_no_colour_of_its_own(run, scene, tmp_path):
    # QGIS draws lots for it; the engine's palette gives the same colour each time.
    layer = polygon_layer([("a", 30, 30, 100, 100)])
    layer.renderer().symbol().setColor(QColor("#123456"))
    found = run("exportchips", INPUT=[scene[0]], LABELS=layer, CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert classes_of(found["OUTPUT"])[1][1] != "#123456"


def test_extent_and_area_leave_the_rest_out(run, scene, land, tmp_path):
    extent = f"{LEFT},{LEFT + 128},{BOTTOM},{BOTTOM + 256} [EPSG:{synthetic.UTM}]"
    area = polygon_layer([("x", 0, 0, 320, 64)])
    found = run("exportchips", INPUT=[scene[0]], LABELS=land, CLASS_FIELD="class", CHIP_SIZE=64, EXTENT=extent,
                AREA=area, OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert pixels_of(found["OUTPUT"]) == {1: 8 * 64, 2: 120 * 64}


def test_bands_are_chosen_in_words(run, scene, tmp_path):
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], BANDS="3, 1-2", CHIP_SIZE=64,
                OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert json.loads((Path(found["OUTPUT"]) / "dataset.json").read_text())["bands"] == [3, 1, 2]


def test_footprints_are_loaded_and_coloured_by_split(provider, scene, tmp_path):
    context, listener = QgsProcessingContext(), Listener()
    context.setProject(QgsProject.instance())
    algorithm = provider.algorithm("exportchips").create()
    parameters = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "CHIP_SIZE": 64, "OUTPUT": str(tmp_path / "chips")}
    found, fine = algorithm.run(parameters, context, listener)
    assert fine
    details = context.layersToLoadOnCompletion()[found["FOOTPRINTS"]]
    layer = QgsVectorLayer(found["FOOTPRINTS"], "footprints", "ogr")
    details.postProcessor().postProcessLayer(layer, context, listener)
    assert layer.renderer().classAttribute() == "split"
    assert {category.value() for category in layer.renderer().categories()} == {"training", "validation", "test"}


def test_a_temporary_folder_will_do(run, scene):
    found = run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, OUTPUT="TEMPORARY_OUTPUT")
    assert (Path(found["OUTPUT"]) / "dataset.json").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CLASS_FIELD": "klass"}, "has no field klass. Its fields are: class, note"),
        ({"LABELS": None}, "No labels are given"),
        ({"INPUT": ["/no/such.tif"]}, "Entry 1 of INPUT (/no/such.tif) is not a raster"),
        ({"INPUT": []}, "No image is given"),
        ({"CHIP_SIZE": 512}, "larger than the raster"),
        ({"CHIP_SIZE": 3}, "CHIP_SIZE is 3. Give a number from 8 to 8192"),
        ({"BANDS": "1,x"}, 'BANDS is "1,x". Give band numbers'),
        ({"BANDS": "9"}, "Band 9 does not exist"),
        ({"OUTPUT": "/proc/nothing/chips"}, "cannot be written"),
    ],
)
def test_bad_input_is_refused_in_words_and_leaves_nothing(provider, run, scene, land, tmp_path, change, words):
    given = {"INPUT": [scene[0]], "LABELS": land, "CLASS_FIELD": "class", "CHIP_SIZE": 64}
    with pytest.raises(QgsProcessingException) as error:
        run("exportchips", **{**given, "OUTPUT": str(tmp_path / "chips"), **change})
    assert said(provider, "exportchips", words) in str(error.value)
    assert leftovers(tmp_path) == []


def test_polygons_elsewhere_are_an_error_that_names_both_places(run, scene, tmp_path):
    layer = polygon_layer([("a", 5000, 0, 5100, 100)])
    with pytest.raises(
        QgsProcessingException, match=r"do not overlap the raster: they are at x 405000 to 405100.*EPSG:32633"
    ):
        run("exportchips", INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
            OUTPUT=str(tmp_path / "chips"))  # fmt: skip
    assert leftovers(tmp_path) == []


def test_an_area_of_lines_is_refused_in_words(run, scene, land, tmp_path):
    layer = QgsVectorLayer("LineString?crs=EPSG:32633&field=class:string", "roads", "memory")
    with pytest.raises(QgsProcessingException, match=r'"roads" holds no polygons .its geometry type is LineString'):
        run("exportchips", INPUT=[scene[0]], LABELS=land, AREA=layer, OUTPUT=str(tmp_path / "chips"))


def test_broken_numbers_are_no_classes(run, scene, tmp_path):
    layer = polygon_layer([(1.5, 0, 0, 320, 256)], kind="double")
    with pytest.raises(QgsProcessingException, match=r"The class field class holds 1\.5 \(feature id 1\)"):
        run("exportchips", INPUT=[scene[0]], LABELS=layer, CLASS_FIELD="class", CHIP_SIZE=64,
            OUTPUT=str(tmp_path / "chips"))  # fmt: skip


def test_a_raster_without_data_is_an_error(run, land, tmp_path):
    empty = synthetic.write_raster(tmp_path / "empty.tif", np.zeros((1, 256, 320), np.uint8), nodata=0)
    with pytest.raises(QgsProcessingException, match="all pixels are nodata"):
        run("exportchips", INPUT=[empty], LABELS=land, CLASS_FIELD="class", CHIP_SIZE=64,
            OUTPUT=str(tmp_path / "chips"))  # fmt: skip


def test_a_cancelled_export_leaves_nothing(provider, scene, tmp_path):
    listener = Listener(on_text=lambda text: listener.cancel())
    parameters = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "CHIP_SIZE": 16, "STRIDE": 4,
                  "OUTPUT": str(tmp_path / "chips")}  # fmt: skip
    found, _ = provider.algorithm("exportchips").create().run(parameters, QgsProcessingContext(), listener)
    assert found == {}
    assert leftovers(tmp_path) == []


def test_other_plugins_keep_their_gdal_errors(run, scene, tmp_path):
    from osgeo import gdal, ogr, osr

    for module in (osr, ogr, gdal):
        module.DontUseExceptions()
    try:
        run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
        assert not (gdal.GetUseExceptions() or ogr.GetUseExceptions() or osr.GetUseExceptions())
    finally:
        for module in (gdal, ogr, osr):
            module.UseExceptions()


def test_torch_stays_out_of_qgis(run, scene, tmp_path):
    run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert "torch" not in sys.modules


def test_a_dataset_that_holds_the_labels_is_not_replaced(provider, run, scene, land, tmp_path):
    chips = str(tmp_path / "chips")
    run("exportchips", INPUT=scene[0], LABELS=land, CLASS_FIELD="class", CHIP_SIZE=32, OUTPUT=chips)
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    file = str(tmp_path / "chips" / "land.gpkg")
    transform = QgsProject.instance().transformContext()
    assert not QgsVectorFileWriter.writeAsVectorFormatV3(land, file, transform, options)[0]
    given = {"INPUT": scene[0], "LABELS": file, "CLASS_FIELD": "class", "CHIP_SIZE": 32, "OUTPUT": chips}
    fine, text = provider.algorithm("exportchips").checkParameterValues(
        {**given, "OVERWRITE": True}, QgsProcessingContext()
    )
    assert not fine and "holds the file that Label features (LABELS) is read from, which would be lost" in text
    run("exportchips", **given, APPEND=True)
    assert Path(file).exists()


def test_a_model_may_give_a_folder_in_the_place_of_images(provider, scene, tmp_path):
    shutil.copy(scene[0], tmp_path)
    child = QgsProcessingModelChildAlgorithm("terrazzo:exportchips")
    child.setChildId("export")
    given = {"INPUT_FOLDER": str(tmp_path), "CHIP_SIZE": 64, "TASK": "unlabelled"}
    for row in child.algorithm().parameterDefinitions():
        if row.name() in given:
            child.addParameterSources(row.name(), [Source.fromStaticValue(given[row.name()])])
        elif row.name() == "INPUT":  # as a model holds it that was saved when it was marked as optional
            child.addParameterSources("INPUT", [Source.fromStaticValue(None)])
        elif not row.isDestination() and not row.flags() & QgsProcessingParameterDefinition.Flag.FlagOptional:
            child.addParameterSources(row.name(), [Source.fromStaticValue(row.defaultValue())])
    model = QgsProcessingModelAlgorithm("folder")
    model.addChildAlgorithm(child)
    assert model.validate() == (True, [])
    found, fine = model.run({}, QgsProcessingContext(), Listener())
    assert fine and found["CHILD_RESULTS"]["export"]["CHIPS_COUNT"] == 20
