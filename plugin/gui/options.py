"""The options page: the set-up of the Python for training and mapping."""

from __future__ import annotations

from typing import Optional

from qgis.gui import QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from ..icons import icon


class OptionsPage(QgsOptionsPageWidget):
    """Shows the set-up in QGIS's options."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        from .setup_panel import SetupPanel

        super().__init__(parent)
        self.panel = SetupPanel()
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(self.panel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)

    def apply(self) -> None:
        """Save the chosen Python."""
        self.panel.keep()


class OptionsFactory(QgsOptionsWidgetFactory):
    """Creates the page when the options are opened."""

    def __init__(self) -> None:
        super().__init__("Terrazzo", QIcon())

    def icon(self) -> QIcon:
        """Return the icon in the list of pages."""
        return icon("terrazzo")

    def createWidget(self, parent: QWidget) -> OptionsPage:
        """Create the page."""
        return OptionsPage(parent)
