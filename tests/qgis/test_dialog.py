"""The dialogs as people meet them."""

import time

import pytest
from qgis.core import QgsApplication
from qgis.gui import QgsBrowserGuiModel
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QLabel, QMessageBox, QScrollArea, QTextEdit


@pytest.fixture
def open_dialog(provider, qgis_iface, monkeypatch):
    """Opens the dialog of an algorithm, as the Toolbox does."""
    model, dialogs = QgsBrowserGuiModel(), []
    # What QGIS would say in a box that waits for somebody.
    monkeypatch.setattr(QMessageBox, "warning", lambda parent, title, text: pytest.fail(text))
    monkeypatch.setattr(qgis_iface, "browserModel", lambda: model, raising=False)

    def open_dialog(name, **parameters):
        dialog = provider.algorithm(name).create().createCustomParametersWidget(None)
        dialogs.append(dialog)
        dialog.show()
        dialog.setParameters(parameters)
        return dialog

    yield open_dialog
    for dialog in dialogs:
        dialog.close()
        dialog.deleteLater()
    QgsApplication.processEvents()


def until(ready, seconds=60):
    """Let QGIS work until something is true."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        QgsApplication.processEvents()


def log_of(dialog):
    return "\n".join(text.toPlainText() for text in dialog.findChildren(QTextEdit))


def wait_for_cancel(algorithm, settings, context, reporter):
    """Work that never ends by itself."""
    reporter.log("at work")
    while True:
        reporter.check_wanted()
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["exportchips", "trainclassifier", "activationmaps", "segmentraster"])
def test_no_label_makes_a_dialog_scroll_sideways(open_dialog, name):
    dialog = open_dialog(name)
    until(dialog.isVisible)
    (room,) = {area.viewport().width() for area in dialog.mainWidget().findChildren(QScrollArea)}
    labels = [(label.sizeHint().width(), label.text()) for label in dialog.mainWidget().findChildren(QLabel)]
    assert max(labels)[0] <= room, max(labels)


def test_a_wanted_cancel_ends_in_plain_words(open_dialog, scene, tmp_path, monkeypatch):
    from terrazzo.processing_provider.exportchips import ExportChips

    monkeypatch.setattr(ExportChips, "work", wait_for_cancel)
    given = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "CHIP_SIZE": 64, "OUTPUT": str(tmp_path / "chips")}
    dialog, ended = open_dialog("exportchips", **given), []
    dialog.algorithmFinished.connect(lambda fine, results: ended.append(fine))
    dialog.runAlgorithm()
    until(lambda: "at work" in log_of(dialog))
    dialog.cancelButton().click()
    until(lambda: ended)
    assert "Cancelled, as you wished: no result was written." in log_of(dialog)
    assert "failed" not in log_of(dialog) and ended == [False] and dialog.results() == {}


def test_what_fails_by_itself_is_still_said_to_fail(open_dialog, scene, tmp_path, monkeypatch):
    from terrazzo.plugin.engine.errors import InputError
    from terrazzo.processing_provider.exportchips import ExportChips

    def fail(algorithm, settings, context, reporter):
        raise InputError("Something is wrong.", "Mend it.")

    monkeypatch.setattr(ExportChips, "work", fail)
    given = {"INPUT": [scene[0]], "LABEL_RASTERS": [scene[1]], "CHIP_SIZE": 64, "OUTPUT": str(tmp_path / "chips")}
    dialog, ended = open_dialog("exportchips", **given), []
    dialog.algorithmFinished.connect(lambda fine, results: ended.append(fine))
    dialog.runAlgorithm()
    until(lambda: ended)
    assert "Something is wrong. Mend it." in log_of(dialog) and "Execution failed" in log_of(dialog)


@pytest.mark.parametrize("answer", ["Stop and keep the best", "Discard it", "Go on training"])
def test_cancel_of_a_training_asks_whether_to_keep_the_best_epoch(
    open_dialog, dataset, worker_python, tmp_path, monkeypatch, answer
):
    from terrazzo.plugin.engine.errors import Cancelled
    from terrazzo.processing_provider.trainsegmenter import TrainSegmenter

    figures = {"loss": 1.0, "overall_accuracy": 0.5, "mean_iou": 0.5}
    go_on = []

    def run_worker(algorithm, settings, reporter):
        reporter.epoch({"epoch": 1, "epochs": 9, "training": figures, "validation": figures, "best": True})
        while not reporter.finish_requested() and not go_on:
            if reporter.cancel_requested():
                raise Cancelled
            time.sleep(0.01)
        return {"model": settings["output"], "report": None, "best_epoch": 1, "validation": figures, "test": figures}

    def choose():
        box = QgsApplication.activeModalWidget()
        next(button for button in box.buttons() if button.text().replace("&", "") == answer).click()
        if answer == "Go on training":
            go_on.append(True)

    monkeypatch.setattr(TrainSegmenter, "run_worker", run_worker)
    dialog, ended = open_dialog("trainsegmenter", CHIPS=dataset, OUTPUT=str(tmp_path / "m.safetensors")), []
    dialog.algorithmFinished.connect(lambda fine, results: ended.append(fine))
    dialog.runAlgorithm()
    until(lambda: "epoch" in log_of(dialog).replace("\u00a0", " ").partition("1/9")[0] and "1/9" in log_of(dialog))
    QTimer.singleShot(0, choose)
    dialog.cancelButton().click()
    until(lambda: ended)
    assert ended == [answer != "Discard it"]
    assert ("Cancelled, as you wished" in log_of(dialog)) == (answer == "Discard it")
    assert (dialog.results().get("BEST_EPOCH") == 1) == (answer != "Discard it")
