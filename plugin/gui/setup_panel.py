"""The set-up panel: reports whether training and mapping can run, and builds or finds the Python that they need."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Any, Optional

from qgis.core import Qgis, QgsSettings
from qgis.gui import QgsCollapsibleGroupBox, QgsFileWidget
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import (
    QApplication,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ..engine.errors import EngineError
from ..engine.events import readable_time
from ..engine.files import readable_size
from ..engine.probe import spell
from ..python_setting import PYTHON_SETTING, python_setting
from ..setup.building import Plan
from ..setup.diagnosis import diagnose
from ..setup.machine import Machine, free_space, look_at_machine
from ..setup.planning import plan_build
from ..setup.torch_builds import BUILDS, choose_build
from ..translation import tr
from ..worker_python import default_folder, find_python, is_set_up, require_python
from . import setup_task

FOLDER_SETTING = "terrazzo/folder"  # parent folder of the environments, if not the cache folder
LOG_LINES = 2000


class SetupPanel(QWidget):
    """Checks this computer, and offers to build the worker's environment or to use an existing Python.

    Args:
        parent: The dock, or the options page.
    """

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        super().__init__(parent)
        self.machine: Machine = look_at_machine()
        self.task: Optional[setup_task.SetupTask] = None
        self.failed = False
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.state = self._text(rich=True)
        self.facts = self._text(rich=True)
        self.size = self._text()
        self.build = QPushButton()
        self.build.clicked.connect(self.start)
        self.cancel = QPushButton(tr("Cancel"))
        self.cancel.clicked.connect(self.stop)
        self.bar, self.doing = QProgressBar(), self._text()
        self.bar.setRange(0, 1000)
        self.python = QgsFileWidget()
        self.python.setFilePath(python_setting())
        self.python.setDialogTitle(tr("Python for training and mapping"))
        self.python.lineEdit().setPlaceholderText(tr("Automatic"))
        self.test = QPushButton(tr("Test and use"))
        self.test.clicked.connect(self.use)
        self.answer = self._text()
        self.variant = QComboBox()
        # The longest entry must not make the dock scroll sideways.
        self.variant.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.variant.addItem(tr("Automatic"), "")
        for build in BUILDS.values():
            self.variant.addItem(f"{build.name}: {build.words}", build.name)
        self.folder = self._folder(tr("Automatic"), tr("The folder for PyTorch, if not your cache folder."))
        self.folder.setFilePath(QgsSettings().value(FOLDER_SETTING, ""))
        self.wheels = self._folder(tr("Download everything"), tr("For set-up without network: the folder with the "
                                   "packages (wheels) that were downloaded on another computer. The guide explains "
                                   "how."))  # fmt: skip
        self.base = self._folder(tr("Automatic"), tr("The Python to build upon, if not QGIS's own."))
        self.base.setStorageMode(QgsFileWidget.StorageMode.GetFile)
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(LOG_LINES)
        self.log.setMinimumHeight(160)
        self.copy = QPushButton(tr("Copy diagnosis"))
        self.copy.setToolTip(tr("A text about this computer and the last set-up, to paste into an issue. It contains "
                                "neither your home folder nor your user name."))  # fmt: skip
        self.copy.clicked.connect(self.copy_diagnosis)
        self.variant.currentIndexChanged.connect(self.refresh)
        for widget in (self.folder, self.wheels, self.base):
            widget.fileChanged.connect(self.refresh)
        self._lay_out()
        self._say("")
        self._show_running(setup_task.running())
        self.refresh()

    def _text(self, rich: bool = False) -> QLabel:
        label = QLabel()
        label.setWordWrap(True)
        label.setTextFormat(Qt.TextFormat.RichText if rich else Qt.TextFormat.PlainText)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        return label

    def _folder(self, empty: str, tip: str) -> QgsFileWidget:
        widget = QgsFileWidget()
        widget.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        widget.lineEdit().setPlaceholderText(empty)
        widget.setToolTip(tip)
        return widget

    def _say(self, text: str) -> None:
        """Show what the build does or how it ended; an empty text hides the label."""
        self.doing.setText(text)
        self.doing.setVisible(bool(text))

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(self.state)
        layout.addWidget(self.facts)
        building = QgsCollapsibleGroupBox(tr("Set it up for me"))
        inner = QVBoxLayout(building)
        inner.addWidget(self.size)
        buttons = QHBoxLayout()
        buttons.addWidget(self.build)
        buttons.addWidget(self.cancel)
        buttons.addStretch()
        inner.addLayout(buttons)
        inner.addWidget(self.bar)
        inner.addWidget(self.doing)
        more = QgsCollapsibleGroupBox(tr("Advanced"))
        more.setCollapsed(True)
        form = QFormLayout(more)
        form.addRow(tr("PyTorch"), self.variant)
        form.addRow(tr("Folder"), self.folder)
        form.addRow(tr("Packages from"), self.wheels)
        form.addRow(tr("Built upon"), self.base)
        inner.addWidget(more)
        layout.addWidget(building)
        own = QgsCollapsibleGroupBox(tr("Use a Python that I have"))
        own.setCollapsed(not python_setting())
        rows = QVBoxLayout(own)
        rows.addWidget(self.python)
        rows.addWidget(self.test, 0, Qt.AlignmentFlag.AlignLeft)
        rows.addWidget(self.answer)
        layout.addWidget(own)
        self.log_box = QgsCollapsibleGroupBox(tr("Log"))
        self.log_box.setCollapsed(True)
        inside = QVBoxLayout(self.log_box)
        inside.addWidget(self.log)
        inside.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.log_box)
        layout.addStretch()

    # --- what is there

    def refresh(self) -> None:
        """Check again what is available; takes a tenth of a second."""
        try:
            found = require_python(python_setting())
            head, wish = "✔ " + tr("Training and mapping are ready."), tr("Set up again")
            text = f"{tr('They run in')} {found.path} ({found.origin})."
        except EngineError as error:
            head, text, wish = tr("Training and mapping cannot run."), error.problem, tr("Download and set up")
            if not is_set_up(python_setting()):
                head = tr("Training and mapping are not set up yet.")
                text = tr(
                    "They need PyTorch, a free library. It is installed in a folder of its own; nothing in QGIS "
                    "is changed."
                )
        self.build.setText(tr("Try again") if self.failed else wish)
        self.state.setText(f"<b>{_escaped(head)}</b><br>{_escaped(text)}")
        gpu, choice = self.machine.gpu, choose_build(self.machine)
        none = tr("no NVIDIA card was found; the processor is used")
        rows = [(tr("Graphics card"), f"{gpu.name}, {tr('driver')} {spell(gpu.driver)}" if gpu else none)]
        if choice.note:
            rows.append((tr("Note"), choice.note))
        try:
            plan = self.plan()
            rows.append((tr("Free on the disk"), readable_size(free_space(plan.root))))
            self.size.setText(plan.words)
            self.build.setEnabled(True)
        except EngineError as error:
            self.size.setText(str(error))
            self.build.setEnabled(False)
        self.facts.setText("<br>".join(f"{_escaped(name)}: {_escaped(value)}" for name, value in rows))

    def plan(self) -> Plan:
        """Return what *Download and set up* would build.

        Raises:
            EngineError: There is no Python to build upon.
        """
        wheels, folder = self.wheels.filePath().strip(), self.folder.filePath().strip()
        own = default_folder()  # where this QGIS searches, whatever the version of the base
        return plan_build(
            self.machine,
            self.variant.currentData() or "",
            Path(wheels) if wheels else None,
            # Several QGIS versions with different Pythons may share the folder.
            str(Path(folder) / "terrazzo" / own.name if folder else own),
            self.base.filePath().strip(),
        )

    # --- building

    def start(self) -> None:
        """Start a build on a thread; the existing environment stays active until the new one has been tested."""
        try:
            plan = self.plan()
        except EngineError as error:
            self._say(str(error))
            return
        QgsSettings().setValue(FOLDER_SETTING, self.folder.filePath().strip())
        self.log.clear()
        self.lines.clear()
        self.bar.setValue(0)
        self._say(tr("Starting …"))
        self._show_running(setup_task.start(plan))

    def stop(self) -> None:
        """Cancel the build; it reacts within a second."""
        if self.task is not None:
            self.task.cancel()
            self._say(tr("Cancelling …"))

    def _show_running(self, task: Optional[setup_task.SetupTask]) -> None:
        self.task = task
        running = task is not None
        self.build.setVisible(not running)
        self.cancel.setVisible(running)
        self.bar.setVisible(running)
        self.test.setEnabled(not running)
        self.size.setVisible(not running)  # the progress shows the size of what is really downloaded
        if task is not None:
            task.told.connect(self._told)
            task.line.connect(self._heard)
            task.ended.connect(self._ended)

    def _told(self, fraction: float, text: str, left: float) -> None:
        self.bar.setValue(round(1000 * fraction))
        self._say(f"{text}, {tr('about')} {readable_time(left)} {tr('left')}" if left >= 0 else text)

    def _heard(self, line: str) -> None:
        self.lines.append(line)
        self.log.appendPlainText(line)

    def _ended(self, error: str) -> None:
        python = self.task.python if self.task is not None else ""
        self._show_running(None)
        if error == setup_task.SetupTask.CANCELLED:
            self._say(tr("Cancelled. Nothing was changed."))
        elif error:
            self._say(f"✘ {error}")
            self.log_box.setCollapsed(False)
        else:
            self._take(python)
            tried = tr("✔ Done: a test training step and reading a raster have worked.")
            following = tr("Next: Processing Toolbox ▸ Terrazzo, or Plugins ▸ Terrazzo ▸ Load the sample layers.")
            self._say(f"{tried} {following}")
        self.failed = bool(error) and error != setup_task.SetupTask.CANCELLED
        self.refresh()

    def _take(self, python: str) -> None:
        """Use the new environment; set its path if Terrazzo would not find it, or another Python was chosen."""
        try:
            found = find_python().path
        except EngineError:
            found = ""
        self.python.setFilePath("" if found == python else python)
        self.keep()

    # --- a Python of the user's

    def use(self) -> None:
        """Test the Python that was entered, and save it if it is suitable; with an empty path, Terrazzo searches."""
        try:
            found = require_python(self.python.filePath())
        except EngineError as error:
            self.answer.setText(str(error))
            return
        self.keep()
        self.answer.setText(tr("{} ({}) has everything that is needed.").format(found.path, found.origin))
        self.refresh()

    def keep(self) -> None:
        """Save the Python that was entered, as the options page does on OK."""
        QgsSettings().setValue(PYTHON_SETTING, self.python.filePath().strip())

    def copy_diagnosis(self) -> None:
        """Copy a text about this installation to the clipboard."""
        facts = {"QGIS": Qgis.QGIS_VERSION, "State": self.state.text().replace("<b>", "").replace("</b>", "")}
        text = diagnose(facts, self.machine, default_folder(), "\n".join(self.lines), os.environ)
        QApplication.clipboard().setText(text)
        self.copy.setText(tr("Copied to the clipboard"))


def _escaped(text: Any) -> str:
    return str(text).replace("&", "&amp;").replace("<", "&lt;")
