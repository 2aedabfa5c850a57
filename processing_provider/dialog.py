"""The dialog of an algorithm: QGIS's own, with proposals for inputs and results, and a Cancel that can keep a
training's best epoch.
"""

from __future__ import annotations

from typing import Any

from processing.gui.AlgorithmDialog import AlgorithmDialog
from qgis.core import QgsProcessingFeedback
from qgis.PyQt.QtWidgets import QMessageBox

from ..plugin.translation import tr
from .earlier_results import propose_inputs, remember
from .proposals import Proposals


class Dialog(AlgorithmDialog):
    """The dialog of an algorithm."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        algorithm, panel = self.algorithm(), self.mainWidget()
        propose_inputs(algorithm.rows(), panel)
        self._proposals = Proposals(algorithm.rows(), algorithm.NAMED_AFTER, panel)
        self.algorithmFinished.connect(self._finished)

    def _finished(self, fine: bool, results: dict[str, Any]) -> None:
        if fine:
            remember(self.algorithm().name(), results)
        self._proposals.refresh()

    def setParameters(self, parameters: dict[str, Any]) -> None:
        """Fill in values, for example of an earlier run; destinations among them are kept."""
        self._proposals.leave(parameters)
        super().setParameters(parameters)

    def createFeedback(self) -> QgsProcessingFeedback:
        """Create the feedback of a run, to which QGIS's dialog reports how the run ended."""
        feedback = super().createFeedback()
        report = feedback.reportError

        def say(error: str, fatalError: bool = False) -> None:
            """Report an error, except the "Execution failed" that QGIS reports after Cancel."""
            if feedback.isCanceled():
                feedback.pushInfo(tr("Cancelled: no result was written."))
            else:
                report(error, fatalError)

        feedback.reportError = say
        if getattr(self.algorithm(), "KEEPS_BEST", False):
            cancel = self.cancelButton().clicked
            cancel.disconnect()  # disconnect the feedbacks of this run and of earlier ones
            cancel.connect(lambda: self._stop(feedback))
        return feedback

    def _stop(self, feedback: Any) -> None:
        """Stop a training; if it has a best epoch, ask first whether to keep it."""
        if not feedback.has_best or feedback.finish_wanted:
            feedback.cancel()
            return
        question = tr("Keep the best epoch so far?")
        box = QMessageBox(QMessageBox.Icon.Question, tr("Stop training"), question, parent=self)
        box.setInformativeText(tr("Training then stops after the current epoch and writes the model and the report."))
        keep = box.addButton(tr("Stop and keep the best"), QMessageBox.ButtonRole.AcceptRole)
        discard = box.addButton(tr("Discard it"), QMessageBox.ButtonRole.DestructiveRole)
        box.setEscapeButton(box.addButton(tr("Continue training"), QMessageBox.ButtonRole.RejectRole))
        box.setDefaultButton(keep)
        box.exec()
        if box.clickedButton() is keep:
            feedback.finish_wanted = True
            feedback.pushInfo(tr("Training stops after this epoch and keeps the best. Cancel again discards it."))
        elif box.clickedButton() is discard:
            feedback.cancel()
