"""The sample: a small image with polygons, copied to a folder of the user's choice, to try everything on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from qgis.core import Qgis, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QStandardPaths, QUrl
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QFileDialog, QPushButton

from ..metadata import page
from ..translation import tr

SAMPLE = Path(__file__).resolve().parent.parent.parent / "resources" / "sample"
FOLDER = "terrazzo-sample"
IMAGE, LABELS = "image.tif", "landcover.gpkg"
NOTE_SECONDS = 30
LABELS_OPACITY = 0.6  # so that the image is visible through them


def ask_and_show(iface: Any) -> None:
    """Ask for a folder for the sample, and load it."""
    documents = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation)
    question = tr("Choose where to put the folder “{}”").format(FOLDER)
    chosen = QFileDialog.getExistingDirectory(iface.mainWindow(), question, documents)
    if chosen:
        show(iface, Path(chosen))


def show(iface: Any, parent: Path) -> None:
    """Copy the sample to a folder, and add its layers to the project."""
    bar = iface.messageBar()
    try:
        folder = copy_sample(parent)
    except OSError as error:
        text = tr("{} cannot be written ({}). Choose another folder.").format(parent, error.strerror or error)
        bar.pushMessage("Terrazzo", text, Qgis.MessageLevel.Warning)
        return
    image, labels = layers(folder)
    QgsProject.instance().addMapLayers([labels, image])
    iface.setActiveLayer(image)
    iface.zoomToActiveLayer()
    iface.setActiveLayer(labels)  # QGIS adds results above the active layer
    note = bar.createMessage("Terrazzo", tr("The sample is in {}.").format(folder))
    button = QPushButton(tr("Open the tutorial"))
    button.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(page("first-map.md"))))
    note.layout().addWidget(button)
    bar.pushWidget(note, Qgis.MessageLevel.Info, NOTE_SECONDS)


def copy_sample(parent: Path) -> Path:
    """Copy the sample to a folder of its own; existing files are kept."""
    folder = parent / FOLDER
    folder.mkdir(exist_ok=True)
    for source in SAMPLE.iterdir():
        if not (folder / source.name).exists():
            shutil.copyfile(source, folder / source.name)
    return folder


def layers(folder: Path) -> tuple[QgsRasterLayer, QgsVectorLayer]:
    """Open the image and the polygons of a copy."""
    image = QgsRasterLayer(str(folder / IMAGE), "image")
    labels = QgsVectorLayer(str(folder / LABELS), "landcover", "ogr")
    labels.setOpacity(LABELS_OPACITY)
    return image, labels
