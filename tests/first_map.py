"""Walks through docs/first-map.md by clicks alone, takes its pictures, and prints a numbered log with times.

    PYTHONPATH=tests SHOTS=FOLDER ZIP=terrazzo.zip xvfb-run -s "-screen 0 1600x1000x24" \
      sh -c 'openbox & qgis --profiles-path EMPTY_FOLDER --code tests/first_map.py'

For a true trial HOME is an empty folder as well, but not in the temporary folder, where QGIS names layers otherwise.
PARTS names the parts to walk (without it `install,setup,sample,export,train,map`), DOCUMENTS the folder for the sample.
QGIS ends by itself; `error.txt` in SHOTS tells where a walk broke off.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hands import (
    Wait,
    choose,
    click,
    is_open,
    leave,
    one,
    open_menu,
    open_row,
    press,
    row_of,
    run,
    select,
    shown,
    window,
    write,
)
from qgis.core import QgsApplication, QgsProject
from qgis.gui import QgsFileWidget
from qgis.PyQt.QtCore import QPoint, QRect, QTimer
from qgis.PyQt.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QDockWidget,
    QFileDialog,
    QLabel,
    QLineEdit,
    QListView,
    QListWidget,
    QProgressBar,
    QTreeView,
    QWidget,
)
from qgis.utils import iface

SHOTS = Path(os.environ["SHOTS"])
DOCUMENTS = os.environ.get("DOCUMENTS") or str(Path.home() / "Documents")
SIZE = (1240, 800)  # of QGIS's window: what is written in it can be read in a page's column
BEGUN = time.monotonic()
numbers = iter(range(1, 100))


def say(text: str) -> None:
    """A line of the log."""
    gone = time.monotonic() - BEGUN
    line = f"{next(numbers):2d}. {int(gone // 60):2d}:{int(gone % 60):02d}  load {os.getloadavg()[0]:4.1f}  {text}"
    print(line, flush=True)
    with (SHOTS / "log.txt").open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def picture(name: str, of: QWidget | None = None) -> None:
    """What the screen shows of a window with its frame, by default QGIS's."""
    frame = (of or iface.mainWindow()).frameGeometry()
    screen = QgsApplication.primaryScreen()
    visible: QRect = frame.intersected(screen.geometry())
    screen.grabWindow(0, visible.x(), visible.y(), visible.width(), visible.height()).save(str(SHOTS / f"{name}.png"))


def install() -> Iterator[Wait]:
    """From the zip file."""
    yield open_menu("Plugins")
    choose("Manage and Install Plugins")
    yield lambda: is_open("Plugins |")
    yield 5
    manager = window("Plugins |")
    pages = shown(QListWidget, manager)[0]
    press(pages.viewport(), pages.visualRect(row_of(pages, "Install from ZIP")).center())
    yield 1
    yield from write(shown(QgsFileWidget, manager)[0].lineEdit(), os.environ["ZIP"])
    picture("install", manager)
    click("Install Plugin", manager)
    yield lambda: is_open("Security warning")
    yield 0.5
    click("Yes", window("Security warning"))
    yield lambda: "terrazzo" in [provider.id() for provider in QgsApplication.processingRegistry().providers()]
    yield 2
    click("Close", manager)
    yield lambda: not is_open("Plugins |")
    yield 1
    say("Plugins ▸ Manage and Install Plugins ▸ Install from ZIP: installed, and the message bar asks for the set-up")
    picture("message-bar")


def texts(within: QWidget) -> list[str]:
    """What stands there."""
    return [label.text() for label in shown(QLabel, within)]


def setup() -> Iterator[Wait]:
    """One click, and a wait."""
    yield from open_toolbox()
    toolbox = one(QDockWidget, "Processing Toolbox")
    open_row(shown(QTreeView, toolbox)[0], "Train a segmentation network")
    yield lambda: QgsApplication.activeModalWidget() is not None or is_open("Terrazzo: set-up")
    yield 2
    said = QgsApplication.activeModalWidget()
    picture("not-set-up", said)
    say("Before the set-up, Train a segmentation network says what is missing and opens the set-up")
    if said is not None:
        said.close()
    yield 1
    dock = one(QDockWidget, "Terrazzo: set-up")
    toolbox.close()
    yield 1
    picture("setup-before")
    begin = one(QAbstractButton, "Download and set up", dock)
    press(begin)
    say("Download and set up")
    yield 20
    picture("setup-during")
    bar = shown(QProgressBar, dock)[0]
    told = ""
    while bar.isVisible():
        now = next((text for text in texts(dock) if text.startswith(("Creating", "Installing", "Testing"))), told)
        if now.split(",")[0] != told:
            told = now.split(",")[0]
            say(f"set-up: {told}")
        yield 1
    yield 1
    picture("setup-after")
    say(f"The set-up says: {next(text for text in texts(dock) if text.startswith(('✔ Done', '✘')))}")
    dock.close()
    yield 1


def sample() -> Iterator[Wait]:
    """Layers to try it on."""
    yield open_menu("Plugins")
    choose("Terrazzo")
    yield 1
    picture("menu")
    choose("Load the sample layers")
    yield lambda: bool(shown(QFileDialog))
    yield 1
    asked = shown(QFileDialog)[0]
    click("Choose", asked)
    yield lambda: len(QgsProject.instance().mapLayers()) == 2
    yield 3
    picture("sample")
    say("Plugins ▸ Terrazzo ▸ Load the sample layers ▸ Choose: two layers in the project")


def open_toolbox() -> Iterator[Wait]:
    """Processing ▸ Toolbox, with Terrazzo's algorithms."""
    if not any(dock.windowTitle() == "Processing Toolbox" for dock in shown(QDockWidget)):
        yield open_menu("Processing")
        choose("Toolbox")
        yield 2
    toolbox = one(QDockWidget, "Processing Toolbox")
    yield from write(shown(QLineEdit, toolbox)[0], "terrazzo")
    yield 1


def open_algorithm(name: str) -> Iterator[Wait]:
    """A double click in the Toolbox."""
    yield from open_toolbox()
    open_row(shown(QTreeView, one(QDockWidget, "Processing Toolbox"))[0], name)
    yield lambda: is_open(name)
    yield 1.5


def parameter(dialog: QWidget, words: str, kind: type[QWidget]) -> QWidget:
    """The widget of a parameter: the first of its kind below the label with these words."""
    label = next(label for label in shown(QLabel, dialog) if label.text().startswith(words))
    top = label.mapTo(dialog, label.rect().bottomLeft()).y()
    below = [widget for widget in shown(kind, dialog) if widget.mapTo(dialog, widget.rect().bottomLeft()).y() > top]
    return min(below, key=lambda widget: widget.mapTo(dialog, widget.rect().topLeft()).y())


def run_algorithm(name: str) -> Iterator[Wait]:
    """Click Run, and wait."""
    dialog = window(name)
    click("Run", dialog)
    yield 2
    yield lambda: not dialog.cancelButton().isEnabled()
    yield 3


def export() -> Iterator[Wait]:
    """Chips."""
    name = "Export training chips"
    yield from open_algorithm(name)
    picture("toolbox")
    dialog = window(name)
    picture("export-empty", dialog)
    press(parameter(dialog, "Images", QAbstractButton))
    yield 1
    lists = shown(QListView, dialog)
    row = lists[0].visualRect(lists[0].model().index(0, 0))
    press(lists[0].viewport(), QPoint(row.left() + 10, row.center().y()))  # the tick
    yield 1
    picture("export-images", dialog)
    click("OK", dialog)
    yield 1
    for words in ("Label features", "Class field"):
        box = parameter(dialog, words, QComboBox)
        yield from select(box, "landcover")
    picture("export", dialog)
    say("Export training chips: Images, Label features and Class field chosen; all else as it is")
    yield from run_algorithm(name)
    picture("export-log", dialog)
    say(f"chips written: {dialog.results()}")
    click("Close", dialog)
    yield 2
    picture("footprints")


def newest(pattern: str) -> str:
    """What was written last beside the sample's image."""
    return str(max(Path(DOCUMENTS, "terrazzo-sample", "terrazzo").glob(pattern), key=lambda path: path.stat().st_mtime))


def train() -> Iterator[Wait]:
    """A network."""
    name = "Train a segmentation network"
    yield from open_algorithm(name)
    dialog = window(name)
    picture("train-empty", dialog)
    chips = parameter(dialog, "Chip dataset", QLineEdit)
    yield from write(chips, newest("*_chips"))
    picture("train", dialog)
    say("Train a segmentation network: Chip dataset named; all else as it is")
    click("Run", dialog)
    yield 90
    picture("train-running", dialog)
    yield lambda: not dialog.cancelButton().isEnabled()
    yield 3
    picture("train-log", dialog)
    say(f"trained: {dialog.results()}")
    click("Close", dialog)
    yield 2


def map() -> Iterator[Wait]:
    """The map."""
    name = "Segment a raster"
    yield from open_algorithm(name)
    dialog = window(name)
    picture("map-empty", dialog)
    model = parameter(dialog, "Model file", QLineEdit)
    yield from write(model, newest("*.safetensors"))
    box = parameter(dialog, "Image", QComboBox)
    if "image" not in box.currentText():  # QGIS proposes none while a vector layer is the active one
        yield from select(box, "image")
    picture("map-dialog", dialog)
    say("Segment a raster: Image and Model file; all else as it is")
    yield from run_algorithm(name)
    picture("map-log", dialog)
    say(f"mapped: {dialog.results()}")
    click("Close", dialog)
    yield 3
    one(QDockWidget, "Processing Toolbox").close()
    yield 3
    picture("map")
    layers = [layer.name() for layer in iface.mapCanvas().layers()]
    say(f"The styled map is in the project; layers from the top: {layers}")


def script() -> Iterator[Wait]:
    """All parts."""
    main = iface.mainWindow()
    main.showNormal()
    main.setGeometry(40, 60, *SIZE)
    yield 2
    say("QGIS is open")
    parts = (os.environ.get("PARTS") or "install,setup,sample,export,train,map").split(",")
    for part in parts:
        yield from globals()[part]()


def failed(text: str) -> None:
    """Keep what went wrong, and how it looked."""
    print(text, file=sys.stderr, flush=True)
    (SHOTS / "error.txt").write_text(text, encoding="utf-8")
    whole = QgsApplication.primaryScreen()
    whole.grabWindow(0).save(str(SHOTS / "error.png"))


if __name__ == "__main__":  # as it is for QGIS's --code
    QTimer.singleShot(3000, lambda: run(script(), leave, failed))
