"""The dialog of an algorithm: QGIS's own, which proposes where to write results, and has a Cancel that ends in plain
words and lets a training keep what it has."""

from __future__ import annotations

from typing import Any

from processing.gui.AlgorithmDialog import AlgorithmDialog
from qgis.core import QgsProcessingFeedback
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtWidgets import QMessageBox

from .proposals import Proposals


def tr(text: str) -> str:
    """The text in the user's language, where there is a translation."""
    return QCoreApplication.translate("Terrazzo", text)


class Dialog(AlgorithmDialog):
    """An algorithm's dialog."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._proposals = Proposals(self.algorithm(), self.mainWidget())
        self.algorithmFinished.connect(lambda *_: self._proposals.refresh())

    def setParameters(self, parameters: dict[str, Any]) -> None:
        """Fill in values, of an earlier run, say; destinations that are among them stay as they are."""
        self._proposals.leave(parameters)
        super().setParameters(parameters)

    def createFeedback(self) -> QgsProcessingFeedback:
        """The feedback of a run, to which QGIS's dialog itself says how the run ended."""
        feedback = super().createFeedback()
        report = feedback.reportError

        def say(error: str, fatalError: bool = False) -> None:
            """What QGIS calls "Execution failed" after Cancel is what the user wanted."""
            if feedback.isCanceled():
                feedback.pushInfo(tr("Cancelled, as you wished: no result was written."))
            else:
                report(error, fatalError)

        feedback.reportError = say
        if getattr(self.algorithm(), "KEEPS_BEST", False):
            cancel = self.cancelButton().clicked
            cancel.disconnect()  # from the feedbacks of this run and of earlier ones
            cancel.connect(lambda: self._stop(feedback))
        return feedback

    def _stop(self, feedback: Any) -> None:
        """End a training, after the question whether its best epoch shall be kept, if there is one."""
        if not feedback.has_best or feedback.finish_wanted:
            feedback.cancel()
            return
        question = tr("Keep the best epoch so far?")
        box = QMessageBox(QMessageBox.Icon.Question, tr("Stop training"), question, parent=self)
        box.setInformativeText(tr("Training then stops after the epoch that runs, and writes model and report."))
        keep = box.addButton(tr("Stop and keep the best"), QMessageBox.ButtonRole.AcceptRole)
        discard = box.addButton(tr("Discard it"), QMessageBox.ButtonRole.DestructiveRole)
        box.setEscapeButton(box.addButton(tr("Go on training"), QMessageBox.ButtonRole.RejectRole))
        box.setDefaultButton(keep)
        box.exec()
        if box.clickedButton() is keep:
            feedback.finish_wanted = True
            feedback.pushInfo(tr("Training stops after this epoch and keeps the best. Cancel again discards it."))
        elif box.clickedButton() is discard:
            feedback.cancel()
