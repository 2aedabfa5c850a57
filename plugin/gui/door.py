"""The plugin's menu and dock: the set-up, with a message after the first installation, and the sample layers."""

from __future__ import annotations

from typing import Any, Optional

from qgis.core import Qgis, QgsSettings
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtWidgets import QAction, QDockWidget, QFrame, QPushButton, QScrollArea

from ..icons import icon
from ..python_setting import python_setting
from ..translation import tr

WELCOMED = "terrazzo/welcomed"
MENU = "Terrazzo"


class Door:
    """Opens the set-up and the sample from the menu.

    Args:
        iface: The `QgisInterface`.
    """

    def __init__(self, iface: Any) -> None:
        self.iface = iface
        self.dock: Optional[QDockWidget] = None
        self.note: Any = None  # in the message bar
        self.actions = []
        for text, act in (
            (tr("Set up training and mapping…"), self.open),
            (tr("Load the sample layers…"), self.load_sample),
        ):
            action = QAction(icon("terrazzo"), text, iface.mainWindow())
            action.triggered.connect(act)
            iface.addPluginToMenu(MENU, action)
            self.actions.append(action)
        QTimer.singleShot(0, self.welcome)

    def welcome(self) -> None:
        """Show a message after the first installation; starts no process, because QGIS is still starting."""
        from ..worker_python import is_set_up

        settings = QgsSettings()
        if settings.value(WELCOMED, False, type=bool):
            return
        settings.setValue(WELCOMED, True)
        if is_set_up(python_setting()):
            return
        bar = self.iface.messageBar()
        text = tr("One thing is left to do: training and mapping need PyTorch, a free library.")
        self.note = bar.createMessage("Terrazzo", text)
        button = QPushButton(tr("Set it up…"))
        button.clicked.connect(self.open)
        self.note.layout().addWidget(button)
        self.note.destroyed.connect(self._forget_note)
        bar.pushWidget(self.note, Qgis.MessageLevel.Info, 0)

    def _forget_note(self) -> None:
        self.note = None

    def open(self) -> None:
        """Show the dock with the set-up."""
        if self.note is not None:
            self.iface.messageBar().popWidget(self.note)
        if self.dock is None:
            from .setup_panel import SetupPanel

            self.dock = QDockWidget(tr("Terrazzo: set-up"), self.iface.mainWindow())
            self.dock.setObjectName("TerrazzoSetup")
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setFrameShape(QFrame.Shape.NoFrame)
            area.setWidget(SetupPanel())
            self.dock.setWidget(area)
            self.dock.setMinimumWidth(380)
            self.iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        else:
            self.dock.widget().widget().refresh()
        self.dock.show()
        self.dock.raise_()

    def load_sample(self) -> None:
        """Load the sample where the user wants it."""
        from .sample import ask_and_show

        ask_and_show(self.iface)

    def close(self) -> None:
        """Remove the menu entries and the dock."""
        for action in self.actions:
            self.iface.removePluginMenu(MENU, action)
            action.deleteLater()
        if self.dock is not None:
            self.iface.removeDockWidget(self.dock)
            self.dock.deleteLater()
            self.dock = None
