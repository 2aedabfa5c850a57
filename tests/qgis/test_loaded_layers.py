"""Names and styles of results in the project; results that are not written are not loaded."""

from pathlib import Path

import numpy as np
import processing
import pytest
import synthetic
from conftest import Listener
from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsApplication,
    QgsProcessingOutputLayerDefinition,
    QgsRasterLayer,
    QgsSingleBandGrayRenderer,
    QgsVectorLayer,
)
from qgis.core import QgsProcessingContext as Context


@pytest.fixture
def classify(project, classifier, scene, monkeypatch):
    """Runs `classifyscenes` as the dialog does; gives the layers that came into the project, from the top down."""
    from terrazzo.processing_provider.algorithm import WorkerAlgorithm

    def run_worker(algorithm, settings, reporter):
        """The rasters alone, which nothing here looks into."""
        outputs = {name: settings[name] for name in ("output", "probabilities", "grid", "table")}
        for path in filter(None, outputs.values()):
            synthetic.write_raster(path, np.full((4, 4), 0.5, np.float32))
        return {**outputs, "classes": []}

    monkeypatch.setattr(WorkerAlgorithm, "run_worker", run_worker)
    image = QgsRasterLayer(scene[0], "scene 6")
    project.addMapLayer(image)

    def classify(**outputs):
        given = {"INPUT": image.id(), "MODEL": classifier, "DEVICE": "cpu", **outputs}
        listener = Heard()
        processing.runAndLoadResults("terrazzo:classifyscenes", given, feedback=listener)
        QgsApplication.processEvents()  # the place in the legend comes after all is loaded
        assert not listener.errors
        return [node for node in project.layerTreeRoot().findLayers() if node.layerId() != image.id()]

    return classify


class Heard(Listener):
    """Keeps what is said in red."""

    def __init__(self):
        super().__init__()
        self.errors = []

    def reportError(self, error, fatalError=False):
        self.errors.append(error)


@pytest.mark.parametrize("files", [("a.tif", "b.tif"), ("b.tif", "a.tif")])
def test_layers_are_called_by_image_and_model_and_probabilities_wait_below(classify, tmp_path, files):
    nodes = classify(OUTPUT=str(tmp_path / files[0]), PROBABILITIES=str(tmp_path / files[1]))
    assert [node.name() for node in nodes] == ["scene 6: m", "scene 6: m, probabilities"]
    assert [node.isVisible() for node in nodes] == [True, False]
    renderer = nodes[1].layer().renderer()
    assert isinstance(renderer, QgsSingleBandGrayRenderer) and renderer.grayBand() == 1
    stretch = renderer.contrastEnhancement()
    assert (stretch.minimumValue(), stretch.maximumValue()) == (0, 1)


def test_probabilities_that_are_wished_alone_are_seen(classify, tmp_path):
    (node,) = classify(PROBABILITIES=str(tmp_path / "shares.tif"))
    assert node.name() == "scene 6: m, probabilities" and node.isVisible()


def test_a_name_that_was_given_stays(classify, project, tmp_path):
    named = QgsProcessingOutputLayerDefinition(str(tmp_path / "map.tif"), project)
    named.destinationName = "my map"  # as a model names its outputs
    nodes = classify(OUTPUT=named, PROBABILITIES=str(tmp_path / "shares.tif"))
    assert [node.name() for node in nodes] == ["my map", "scene 6: m, probabilities"]


def test_files_name_the_layers_where_the_user_wants_that(project):
    from terrazzo.processing_provider.showing import entitle

    source, context, name = "/mine/of_2021.tif", Context(), ProcessingConfig.PREFER_FILENAME_AS_LAYER_NAME
    context.addLayerToLoadOnCompletion(source, Context.LayerDetails("Class raster", project, "OUTPUT"))
    entitle(source, "scene 6: m", {"OUTPUT": source}, context)
    before, names = ProcessingConfig.getSetting(name), []
    try:
        for wanted in (False, True):
            ProcessingConfig.setSettingValue(name, wanted)
            layer = QgsRasterLayer(source, "")
            context.layerToLoadOnCompletionDetails(source).setOutputLayerName(layer)
            names.append(layer.name())
    finally:
        ProcessingConfig.setSettingValue(name, before)
    assert names == ["scene 6: m", "of_2021"]


def test_what_a_batch_does_not_ask_for_and_what_is_not_written_is_no_layer_to_load(classify, project, tmp_path):
    empty = QgsProcessingOutputLayerDefinition("", project)  # an empty cell of the batch's table
    nodes = classify(OUTPUT=str(tmp_path / "map.tif"), PROBABILITIES=empty, GRID=empty, TABLE="TEMPORARY_OUTPUT")
    assert [node.name() for node in nodes] == ["scene 6: m"]


def test_footprints_are_called_by_their_dataset(run, project, scene, tmp_path):
    given = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "CHIP_SIZE": 64}
    for output in (str(tmp_path / "land cover"), "TEMPORARY_OUTPUT"):
        processing.runAndLoadResults("terrazzo:exportchips", {**given, "OUTPUT": output}, feedback=Listener())
    assert sorted(layer.name() for layer in project.mapLayers().values()) == ["Chip footprints", "land cover: chips"]


def test_footprints_are_so_even_where_layers_are_called_by_files_which_is_chips_in_all_datasets(provider, project):
    context = Context()
    context.setProject(project)
    source = provider.algorithm("exportchips").show_footprints("/mine/land cover", context)
    layer = QgsVectorLayer(source, "", "ogr")
    context.layerToLoadOnCompletionDetails(source).setOutputLayerName(layer)
    assert layer.name() == "land cover: chips"


@pytest.mark.parametrize(
    ("folder", "name"),
    [("image_chips", "image"), ("image_chips_2", "image_2"), ("land cover", "land cover"), ("chips", "")],
)
def test_a_dataset_is_called_without_the_word_that_dialogs_append(folder, name):
    from terrazzo.processing_provider.layer_names import dataset_name

    assert dataset_name(f"/mine/{folder}") == name


def test_a_temporary_model_gives_no_name(provider, tmp_path):
    from qgis.core import QgsProcessingUtils
    from terrazzo.processing_provider.layer_names import answer_name

    assert answer_name("scene6", str(tmp_path / "landcover.safetensors")) == "scene6: landcover"
    temporary = Path(QgsProcessingUtils.tempFolder()) / "x" / "OUTPUT.safetensors"
    assert answer_name("scene6", str(temporary)) == "scene6: map"
