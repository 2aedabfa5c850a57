"""Pictures of the plugin in the QGIS desktop, to look at: run inside QGIS, with a screen or a virtual one.

    QGIS_PLUGINPATH=… xvfb-run -s "-screen 0 1600x1000x24" qgis --profiles-path … --code tests/screenshots.py

Environment: SHOTS (folder for the pictures), IMAGE, LABELS, FIELD (the user's layers), MODEL (a trained model file).
The plugin must be enabled in the profile. QGIS ends by itself.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import processing
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QDockWidget, QLineEdit, QTreeView, QWidget
from qgis.utils import iface, plugins

SHOTS = Path(os.environ["SHOTS"])
SETTLE = 1500  # milliseconds for the canvas and dialogs to be drawn


def grab(widget: QWidget, name: str) -> None:
    """Save what a widget shows."""
    widget.grab().save(str(SHOTS / f"{name}.png"))


def dialog(algorithm: str, parameters: dict[str, object], width: int = 1150, height: int = 900) -> QWidget:
    """An algorithm's dialog, shown."""
    made = processing.createAlgorithmDialog(f"terrazzo:{algorithm}", parameters)
    made.resize(width, height)
    made.show()
    return made


def finished(opened: QWidget) -> bool:
    """Whether a dialog's algorithm has ended."""
    return opened.results() is not None and bool(opened.results())


def steps() -> Iterator[Callable[[], bool] | None]:
    """Each `yield` waits: for a moment, or until its function says that it is time."""
    window = iface.mainWindow()
    window.showNormal()
    window.resize(1500, 950)
    image = QgsRasterLayer(os.environ["IMAGE"], "image")
    labels = QgsVectorLayer(os.environ["LABELS"], "labels", "ogr")
    QgsProject.instance().addMapLayers([image, labels])
    iface.mapCanvas().setExtent(image.extent())
    toolbox = window.findChild(QDockWidget, "ProcessingToolbox")
    toolbox.show()
    toolbox.resize(380, 800)
    toolbox.findChild(QLineEdit).setText("terrazzo")
    yield None
    for tree in toolbox.findChildren(QTreeView):
        tree.expandAll()
    yield None
    grab(window, "toolbox")
    grab(toolbox, "toolbox-close")

    export = dialog("exportchips", {
        "INPUT": [image.id()], "LABELS": labels.id(), "CLASS_FIELD": os.environ["FIELD"], "OUTPUT": "TEMPORARY_OUTPUT",
    })  # fmt: skip
    yield None
    grab(export, "exportchips")
    export.runAlgorithm()
    yield lambda: finished(export)
    grab(export, "exportchips-log")
    chips = export.results()["OUTPUT"]
    export.close()
    yield None
    grab(window, "footprints")

    train = dialog("trainsegmenter", {"CHIPS": chips, "EPOCHS": 2, "ENCODER": "mobilenet_v3_small"})
    yield None
    grab(train, "trainsegmenter")
    train.runAlgorithm()
    yield lambda: finished(train)
    grab(train, "trainsegmenter-log")
    train.close()

    given = {"INPUT": image.id(), "MODEL": os.environ["MODEL"], "OUTPUT": "TEMPORARY_OUTPUT"}
    mapping = dialog("segmentraster", given)
    yield None
    grab(mapping, "segmentraster")
    mapping.runAlgorithm()
    yield lambda: finished(mapping)
    grab(mapping, "segmentraster-log")
    mapping.close()
    for layer in QgsProject.instance().mapLayersByName("labels") + QgsProject.instance().mapLayersByName(
        "Chip footprints"
    ):
        iface.layerTreeView().layerTreeModel().rootGroup().findLayer(layer).setItemVisibilityChecked(False)
    toolbox.hide()
    yield None
    grab(window, "result")

    status = dialog("status", {}, 900, 500)
    status.runAlgorithm()
    yield lambda: finished(status)
    grab(status, "status")
    status.close()

    plugin = next(plugin for plugin in plugins.values() if type(plugin).__name__ == "TerrazzoPlugin")
    page = plugin.options.createWidget(None)
    page.resize(700, 500)
    page.show()
    yield None
    grab(page, "options")


def walk(running: Iterator[Callable[[], bool] | None], ready: Callable[[], bool] | None = None) -> None:
    """Take the next step once it is time; QGIS draws in between."""
    if ready is not None and not ready():
        QTimer.singleShot(300, lambda: walk(running, ready))
        return
    if ready is not None:  # results are there a moment before their layers
        QTimer.singleShot(SETTLE, lambda: walk(running))
        return
    try:
        following = next(running)
    except StopIteration:
        end()
    except Exception:
        (SHOTS / "error.txt").write_text(traceback.format_exc())
        end()
    else:
        QTimer.singleShot(SETTLE, lambda: walk(running, following))


def end() -> None:
    """Close QGIS without a question about the project."""
    QgsProject.instance().clear()
    QTimer.singleShot(0, QgsApplication.exit)


QTimer.singleShot(4000, lambda: walk(steps()))
