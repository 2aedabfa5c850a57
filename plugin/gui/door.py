"""The way to the set-up: a dock, a menu entry, and a word in the message bar after the first installation."""

from __future__ import annotations

from typing import Any, Optional

from qgis.core import Qgis, QgsSettings
from qgis.PyQt.QtCore import QCoreApplication, Qt, QTimer
from qgis.PyQt.QtWidgets import QAction, QDockWidget, QFrame, QPushButton, QScrollArea

from ...processing_provider.algorithm import icon, python_setting
from ..environment import is_set_up

WELCOMED = "terrazzo/welcomed"
MENU = "Terrazzo"


def tr(text: str) -> str:
    """The text in the user's language, where there is a translation."""
    return QCoreApplication.translate("Terrazzo", text)


class Door:
    """Opens the set-up.

    Args:
        iface: QGIS's interface.
    """

    def __init__(self, iface: Any) -> None:
        self.iface = iface
        self.dock: Optional[QDockWidget] = None
        self.note: Any = None  # in the message bar
        self.action = QAction(icon("terrazzo"), tr("Set up training and mapping…"), iface.mainWindow())
        self.action.triggered.connect(self.open)
        iface.addPluginToMenu(MENU, self.action)
        QTimer.singleShot(0, self.welcome)

    def welcome(self) -> None:
        """After the first installation: where to begin. Starts no process, since QGIS is starting itself."""
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

    def close(self) -> None:
        """Take everything back."""
        self.iface.removePluginMenu(MENU, self.action)
        self.action.deleteLater()
        if self.dock is not None:
            self.iface.removeDockWidget(self.dock)
            self.dock.deleteLater()
            self.dock = None
