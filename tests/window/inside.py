"""The script that `run.py` runs inside QGIS; "fine", or what went wrong, is written to WORK/outcome.txt."""

import os
import sys
import traceback
from pathlib import Path

import qgis.utils
from qgis.core import Qgis, QgsApplication, QgsPalettedRasterRenderer, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QApplication, QDockWidget, QMessageBox, QTextEdit
from qgis.utils import iface

WORK, PICTURES = Path(os.environ["WORK"]), Path(os.environ["PICTURES"])
TICK = 100  # milliseconds between two looks whether a step is done
PATIENCE = 120  # seconds that a step may take
complaints: list = []


def complain(kind, value, trace):
    """An error that nobody caught, anywhere in QGIS's Python."""
    complaints.append("".join(traceback.format_exception(kind, value, trace)))


def hear(text, tag, level):
    """A line of QGIS's log."""
    if level == Qgis.MessageLevel.Critical or "Traceback" in text:
        complaints.append(f"{tag}: {text}")


def grab(widget, name):
    """Keep a picture of a widget."""
    widget.grab().save(str(PICTURES / f"{name}.png"))


def dialogs():
    """The dialogs of algorithms that are open, by the algorithms' names."""
    found = [widget for widget in QApplication.topLevelWidgets() if hasattr(widget, "runAlgorithm")]
    return {widget.algorithm().name(): widget for widget in found if widget.isVisible()}


def open_from_toolbox(title):
    """Double-click an algorithm in the Toolbox."""
    toolbox = iface.mainWindow().findChild(QDockWidget, "ProcessingToolbox")
    toolbox.show()
    toolbox.searchBox.setText(title)
    tree = toolbox.algorithmTree
    tree.expandAll()
    pending = [tree.rootIndex()]
    while pending:
        parent = pending.pop()
        for row in range(tree.model().rowCount(parent)):
            index = tree.model().index(row, 0, parent)
            pending.append(index)
            if index.data() == title:
                tree.setCurrentIndex(index)
                QTimer.singleShot(0, toolbox.executeAlgorithm)  # returns only when the dialog is closed
                return
    raise AssertionError(f"The Toolbox has no “{title}”")


def work_through(title, name, parameters):
    """Open the dialog of an algorithm, fill it in, click Run, wait, and close it; gives the results."""
    open_from_toolbox(title)
    yield lambda: name in dialogs()
    dialog = dialogs()[name]
    ended = []
    dialog.algorithmFinished.connect(lambda fine, results: ended.append(fine))
    dialog.setParameters(parameters)
    dialog.runButton().click()
    yield lambda: ended
    yield lambda: True  # layers come a moment later
    grab(dialog, name)
    said = "\n".join(text.toPlainText() for text in dialog.findChildren(QTextEdit))
    assert ended == [True], f"{title}: {said}"
    results = dialog.results()
    dialog.close()
    yield lambda: name not in dialogs()
    return results


def steps():
    """Each `yield` waits until its function says that it is time."""
    from pyplugin_installer import instance

    instance().installFromZipFile(os.environ["ARCHIVE"])
    yield lambda: "terrazzo" in qgis.utils.active_plugins
    assert QgsApplication.processingRegistry().providerById("terrazzo") is not None
    assert WORK in Path(sys.modules["terrazzo"].__file__).parents
    image = QgsRasterLayer(os.environ["IMAGE"], "image")
    labels = QgsRasterLayer(os.environ["LABELS"], "labels")
    QgsProject.instance().addMapLayers([image, labels])

    chips, model = WORK / "chips", WORK / "model.safetensors"
    yield from work_through("Export training chips", "exportchips", {
        "INPUT": [image.id()], "LABEL_RASTERS": [labels.id()], "CHIP_SIZE": 64, "OUTPUT": str(chips),
    })  # fmt: skip
    yield from work_through("Train a segmentation network", "trainsegmenter", {
        "CHIPS": str(chips), "ENCODER": "mobilenet_v3_small", "PRETRAINED": "none", "EPOCHS": 1, "DEVICE": "cpu",
        "OUTPUT": str(model), "REPORT": "",
    })  # fmt: skip
    results = yield from work_through("Segment a raster", "segmentraster", {
        "INPUT": image.id(), "MODEL": str(model), "DEVICE": "cpu", "OUTPUT": str(WORK / "map.tif"),
    })  # fmt: skip
    shown = [layer for layer in QgsProject.instance().mapLayers().values() if layer.source() == results["OUTPUT"]]
    assert len(shown) == 1, f"{len(shown)} layers show {results['OUTPUT']}"
    renderer = shown[0].renderer()
    assert isinstance(renderer, QgsPalettedRasterRenderer) and len(renderer.classes()) > 1, type(renderer)
    tree = QgsProject.instance().layerTreeRoot()
    for layer in QgsProject.instance().mapLayers().values():
        tree.findLayer(layer).setItemVisibilityChecked(layer is shown[0])
    iface.mapCanvas().setExtent(image.extent())
    iface.mapCanvas().refresh()
    yield lambda: not iface.mapCanvas().isDrawing()
    grab(iface.mainWindow(), "map")
    assert not complaints


def walk(running, ready, waited=0.0):
    """Take the next step once it is time; QGIS works in between."""
    try:
        boxes = [box.text() for box in QApplication.topLevelWidgets() if isinstance(box, QMessageBox)]
        assert not boxes, f"QGIS asks: {boxes}"
        assert not complaints
        if not ready():
            assert waited < PATIENCE, f"Waited {PATIENCE} seconds in vain"
            QTimer.singleShot(TICK, lambda: walk(running, ready, waited + TICK / 1000))
            return
        following = next(running)
    except StopIteration:
        end("fine")
    except BaseException:
        end("\n".join([traceback.format_exc(), *complaints]))
    else:
        QTimer.singleShot(TICK, lambda: walk(running, following))


def end(outcome):
    """Leave QGIS as a person does, without saving the project; after a failure at once, whatever is open."""
    (WORK / "outcome.txt").write_text(outcome)
    if outcome != "fine":
        for number, widget in enumerate(widget for widget in QApplication.topLevelWidgets() if widget.isVisible()):
            grab(widget, f"failed{number}")
        os._exit(1)
    QgsProject.instance().clear()  # else QGIS asks about layers in a folder for temporary files
    iface.actionExit().trigger()


sys.excepthook = complain
QgsApplication.messageLog().messageReceived.connect(hear)
QTimer.singleShot(TICK, lambda: walk(steps(), iface.mainWindow().isVisible))
