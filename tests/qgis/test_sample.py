"""The sample layers: copied, shown with names and colours, and sufficient for a first map."""

from pathlib import Path

import pytest
from qgis.core import QgsProject


class Bar:
    def __init__(self):
        self.said = []

    def pushMessage(self, *words):
        self.said.append(words[1])


class Window:
    """What of QGIS's interface is asked for."""

    def __init__(self):
        self.bar = Bar()

    def messageBar(self):
        return self.bar


def test_the_sample_is_copied_once_and_never_over_what_is_there(provider, tmp_path):
    from terrazzo.plugin.gui.sample import IMAGE, LABELS, SAMPLE, copy_sample

    folder = copy_sample(tmp_path)
    assert {path.name for path in folder.iterdir()} == {path.name for path in SAMPLE.iterdir()} >= {IMAGE, LABELS}
    (folder / LABELS).write_text("changed")
    (folder / IMAGE).unlink()
    copy_sample(tmp_path)
    assert (folder / LABELS).read_text() == "changed" and (folder / IMAGE).exists()
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < 1e6


def test_its_layers_show_classes_and_cover_two_thirds_of_the_image(provider, tmp_path):
    from terrazzo.plugin.gui.sample import copy_sample, layers

    image, labels = layers(copy_sample(tmp_path))
    assert image.isValid() and labels.isValid() and image.crs() == labels.crs()
    assert image.bandCount() == 3
    classes = labels.uniqueValues(labels.fields().lookupField("landcover"))
    assert classes == {category.value() for category in labels.renderer().categories()} and len(classes) == 6
    assert 0.6 < labels.extent().width() / image.extent().width() < 0.75


@pytest.mark.parametrize("there", [False, True])
def test_where_nothing_can_be_written_a_sentence_says_so(provider, tmp_path, there):
    from terrazzo.plugin.gui.sample import FOLDER, show

    parent = tmp_path / "none"
    if there:
        parent.mkdir()
        (parent / FOLDER).touch()
    window = Window()
    show(window, Path(parent))
    assert len(window.bar.said) == 1 and "Choose another folder" in window.bar.said[0]
    assert not QgsProject.instance().mapLayers()


def test_the_project_gets_both_layers_and_results_will_lie_above_them(provider, tmp_path):
    from qgis.gui import QgsMessageBar
    from terrazzo.plugin.gui.sample import show

    class Whole(Window):
        active = zoomed = None

        def __init__(self):
            self.bar = QgsMessageBar()

        def setActiveLayer(self, layer):
            self.active = layer.name()

        def zoomToActiveLayer(self):
            self.zoomed = self.active

    window = Whole()
    show(window, tmp_path)
    names = [node.name() for node in QgsProject.instance().layerTreeRoot().findLayers()]
    QgsProject.instance().removeAllMapLayers()
    assert names == ["landcover", "image"]
    assert (window.zoomed, window.active) == ("image", "landcover")  # above which QGIS puts what comes next
