"""The options page: which Python training and mapping run in."""

from __future__ import annotations

from typing import Optional

from qgis.core import QgsSettings
from qgis.gui import QgsFileWidget, QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QFormLayout, QLabel, QPushButton, QWidget

from ...processing_provider.algorithm import PYTHON_SETTING, icon, python_setting
from ..engine.errors import EngineError
from ..environment import require_python


def tr(text: str) -> str:
    """The text in the user's language, where there is a translation."""
    return QCoreApplication.translate("Terrazzo", text)


class OptionsPage(QgsOptionsPageWidget):
    """Lets the user choose the worker's Python, and checks it."""

    def __init__(self, parent: Optional[QWidget] = None) -> None:
        super().__init__(parent)
        self.python = QgsFileWidget()
        self.python.setFilePath(python_setting())
        self.python.setDialogTitle(tr("The Python for training and mapping"))
        self.python.lineEdit().setPlaceholderText(tr("Search for it"))
        explanation = QLabel(tr(
            "Training and mapping run in a process of their own, in a Python 3.10 or newer with PyTorch. If none is "
            "chosen here, Terrazzo takes that of the variable TERRAZZO_PYTHON, its own environment, or QGIS's Python."
        ))  # fmt: skip
        explanation.setWordWrap(True)
        check = QPushButton(tr("Check"))
        check.clicked.connect(self.check)
        self.answer = QLabel()
        self.answer.setWordWrap(True)
        layout = QFormLayout(self)
        layout.addRow(explanation)
        layout.addRow(tr("Python"), self.python)
        layout.addRow(check, self.answer)

    def check(self) -> None:
        """Say whether the chosen Python will do; takes a tenth of a second."""
        try:
            found = require_python(self.python.filePath())
            self.answer.setText(tr("{} ({}) has all that is needed.").format(found.path, found.origin))
        except EngineError as error:
            self.answer.setText(str(error))

    def apply(self) -> None:
        """Keep the choice."""
        QgsSettings().setValue(PYTHON_SETTING, self.python.filePath().strip())


class OptionsFactory(QgsOptionsWidgetFactory):
    """Makes the page when the options are opened."""

    def __init__(self) -> None:
        super().__init__("Terrazzo", QIcon())

    def icon(self) -> QIcon:
        """The icon in the list of pages."""
        return icon("terrazzo")

    def createWidget(self, parent: QWidget) -> OptionsPage:
        """The page."""
        return OptionsPage(parent)
