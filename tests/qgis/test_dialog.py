"""The dialogs of the algorithms: cancelling, proposed results and proposed inputs."""

import os
import shutil
import time
import zipfile

import pytest
from qgis.core import QgsApplication, QgsProcessing, QgsProcessingUtils, QgsProject, QgsRasterLayer, QgsSettings
from qgis.gui import QgsBrowserGuiModel
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QLabel, QLineEdit, QMessageBox, QScrollArea, QTextEdit


@pytest.fixture
def open_dialog(project, provider, qgis_iface, monkeypatch):
    """Opens the dialog of an algorithm, as the Toolbox does."""
    model, dialogs = QgsBrowserGuiModel(), []
    # What QGIS would say in a box that waits for somebody.
    monkeypatch.setattr(QMessageBox, "warning", lambda parent, title, text: pytest.fail(text))
    monkeypatch.setattr(qgis_iface, "browserModel", lambda: model, raising=False)
    QgsSettings().remove("terrazzo/last_result")

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
    assert "Cancelled: no result was written." in log_of(dialog)
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


@pytest.mark.parametrize("answer", ["Stop and keep the best", "Discard it", "Continue training"])
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
        paths = {"model": settings["output"], "report": None, "history": None}
        return {**paths, "best_epoch": 1, "validation": figures, "test": figures, "temperature": None, "baseline": None}

    def choose():
        box = QgsApplication.activeModalWidget()
        next(button for button in box.buttons() if button.text().replace("&", "") == answer).click()
        if answer == "Continue training":
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
    assert ("Cancelled: no result" in log_of(dialog)) == (answer == "Discard it")
    assert (dialog.results().get("BEST_EPOCH") == 1) == (answer != "Discard it")


# --- where results go


def shown(dialog, name):
    """What stands in a destination, as people read it."""
    return dialog.mainWidget().wrappers[name].wrappedWidget().findChild(QLineEdit).text()


def given(dialog, name):
    """What a parameter holds."""
    return dialog.mainWidget().wrappers[name].parameterValue() or ""


def copied(scene, folder):
    """The scene's image, in a folder of its own."""
    folder.mkdir()
    return str(shutil.copy(scene[0], folder / "scene2.tif"))


def choose(dialog, name, value):
    """Fill in a parameter, as people do."""
    panel = dialog.mainWidget()
    panel.wrappers[name].setParameterValue(value, panel.processing_context)


def test_results_are_proposed_beside_the_image_and_run_there(open_dialog, scene, tmp_path):
    image = copied(scene, tmp_path / "images")
    dialog, ended = open_dialog("exportchips"), []
    assert shown(dialog, "OUTPUT") == ""  # temporary
    choose(dialog, "INPUT", [image])
    proposed = tmp_path / "images/terrazzo/scene2_chips"
    assert shown(dialog, "OUTPUT") == str(proposed) and not proposed.parent.exists()
    choose(dialog, "LABEL_RASTERS", [scene[1]])
    dialog.algorithmFinished.connect(lambda fine, results: ended.append((fine, results.get("OUTPUT"))))
    dialog.runAlgorithm()
    until(lambda: ended)
    assert ended == [(True, str(proposed))] and (proposed / "dataset.json").is_file()
    assert shown(dialog, "OUTPUT") == f"{proposed}_2"  # what is there stays


def test_a_training_is_proposed_beside_the_chips(open_dialog, tmp_path):
    chips = tmp_path / "terrazzo/scene2_chips"
    chips.mkdir(parents=True)
    (tmp_path / "terrazzo/scene2_report.html").touch()
    dialog = open_dialog("trainsegmenter")
    choose(dialog, "CHIPS", str(chips))
    assert shown(dialog, "OUTPUT") == str(tmp_path / "terrazzo/scene2_model_2.safetensors")
    assert shown(dialog, "REPORT") == str(tmp_path / "terrazzo/scene2_report_2.html")


def test_a_map_is_called_by_image_and_model(open_dialog, scene, tmp_path):
    image, model = copied(scene, tmp_path / "images"), tmp_path / "landcover_model.safetensors"
    model.touch()
    dialog = open_dialog("segmentraster")
    choose(dialog, "INPUT", image)
    assert shown(dialog, "OUTPUT") == str(tmp_path / "images/terrazzo/scene2_map.tif")
    choose(dialog, "MODEL", str(model))
    assert shown(dialog, "OUTPUT") == str(tmp_path / "images/terrazzo/scene2_landcover_map.tif")
    assert shown(dialog, "PROBABILITIES") == ""  # not wanted by itself
    shutil.copy(model, tmp_path / "scene2_model.safetensors")
    choose(dialog, "MODEL", str(tmp_path / "scene2_model.safetensors"))
    assert shown(dialog, "OUTPUT") == str(tmp_path / "images/terrazzo/scene2_map.tif")


def test_a_destination_of_an_earlier_run_stays(open_dialog, scene, tmp_path):
    dialog = open_dialog("segmentraster", OUTPUT=QgsProcessing.TEMPORARY_OUTPUT)
    choose(dialog, "INPUT", copied(scene, tmp_path / "images"))
    assert shown(dialog, "OUTPUT") == ""


@pytest.mark.parametrize("wish", ["mine.tif", QgsProcessing.TEMPORARY_OUTPUT])
def test_what_the_user_chose_stays(open_dialog, scene, tmp_path, wish):
    image = copied(scene, tmp_path / "images")
    other = shutil.copy(image, tmp_path / "images/other.tif")
    wish = str(tmp_path / wish) if "." in wish else wish
    for dialog in (open_dialog("segmentraster"), open_dialog("segmentraster", INPUT=image, OUTPUT=wish)):
        choose(dialog, "INPUT", image)
        choose(dialog, "OUTPUT", wish)
        choose(dialog, "INPUT", str(other))
        assert shown(dialog, "OUTPUT") == ("" if wish == QgsProcessing.TEMPORARY_OUTPUT else wish)


def test_a_layer_of_the_project_is_a_file_as_well(open_dialog, scene, tmp_path):
    layer = QgsRasterLayer(copied(scene, tmp_path / "images"), "a")
    QgsProject.instance().addMapLayer(layer)
    dialog = open_dialog("segmentraster")
    choose(dialog, "INPUT", layer)
    assert shown(dialog, "OUTPUT") == str(tmp_path / "images/terrazzo/scene2_map.tif")
    dialog = open_dialog("exportchips")
    choose(dialog, "INPUT", [layer.id()])
    assert shown(dialog, "OUTPUT") == str(tmp_path / "images/terrazzo/scene2_chips")


def test_where_nothing_can_be_written_results_stay_temporary(open_dialog, scene, tmp_path, monkeypatch):
    image = copied(scene, tmp_path / "images")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(image, "scene2.tif")
    dialog = open_dialog("segmentraster")
    choose(dialog, "INPUT", image)
    assert shown(dialog, "OUTPUT") != ""
    for place in (f"/vsizip/{tmp_path}/archive.zip/scene2.tif", "/vsicurl/http://localhost/a.tif", "no such layer"):
        choose(dialog, "INPUT", place)
        assert shown(dialog, "OUTPUT") == "", place
    temporary = shutil.copy(image, QgsProcessingUtils.generateTempFilename("a.tif"))
    choose(dialog, "INPUT", str(temporary))
    assert shown(dialog, "OUTPUT") == ""
    choose(dialog, "INPUT", image)
    assert shown(dialog, "OUTPUT") != ""
    other = shutil.copy(image, tmp_path / "images/other.tif")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # which nothing keeps from root
    choose(dialog, "INPUT", str(other))
    assert shown(dialog, "OUTPUT") == ""


@pytest.mark.parametrize("name, given, ends", [
    ("importchips", "INPUT", {"OUTPUT": "old_chips"}),
    ("convertchips", "CHIPS", {"OUTPUT": "old_converted"}),
    ("inspectchips", "CHIPS", {"REPORT": "old_inspection.html", "SUSPECTS": "old_suspects.gpkg"}),
    ("trainclassifier", "CHIPS", {"OUTPUT": "old_model.safetensors", "REPORT": "old_report.html"}),
    ("classifyscenes", "INPUT", {"OUTPUT": "old_map.tif", "PROBABILITIES": "", "GRID": "", "TABLE": ""}),
    ("classifyfeatures", "INPUT", {"OUTPUT": "old_features.gpkg"}),
    ("activationmaps", "INPUT", {"OUTPUT": "old_activation.tif", "PICTURE": "", "PICTURES": ""}),
])  # fmt: skip
def test_every_dialog_proposes_its_results(open_dialog, scene, tmp_path, name, given, ends):
    (tmp_path / "old").mkdir()
    shutil.copy(scene[0], tmp_path / "old.tif")
    dialog = open_dialog(name)
    folder = given == "CHIPS" or name == "importchips"
    choose(dialog, given, str(tmp_path / ("old" if folder else "old.tif")))
    for output, end in ends.items():
        assert shown(dialog, output) == (str(tmp_path / "terrazzo" / end) if end else "")


# --- which earlier results are proposed as inputs


def finish(dialog, path):
    """Let a dialog's run end with a result, without the run."""
    dialog.algorithmFinished.emit(True, {"OUTPUT": str(path)})


def test_the_last_dataset_is_proposed(open_dialog, scene, tmp_path):
    image = copied(scene, tmp_path / "images")
    dialog, ended = open_dialog("exportchips", INPUT=[image], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64), []
    dialog.algorithmFinished.connect(lambda fine, results: ended.append(results.get("OUTPUT")))
    dialog.runAlgorithm()
    until(lambda: ended)
    for name in ("trainsegmenter", "trainclassifier", "inspectchips", "splitchips", "convertchips"):
        assert given(open_dialog(name), "CHIPS") == ended[0]
    # Results are proposed beside it.
    assert shown(open_dialog("trainsegmenter"), "OUTPUT") == str(tmp_path / "images/terrazzo/scene2_model.safetensors")
    assert given(open_dialog("trainsegmenter", CHIPS="/mine"), "CHIPS") == "/mine"
    shutil.rmtree(ended[0])
    assert given(open_dialog("trainsegmenter"), "CHIPS") == ""


def test_the_last_model_of_the_right_task_is_proposed(open_dialog, tmp_path):
    models = {name: tmp_path / f"{name}.safetensors" for name in ("trainsegmenter", "trainclassifier")}
    for age, (name, path) in enumerate(models.items()):
        assert given(open_dialog("activationmaps"), "MODEL") == ("" if age == 0 else str(models["trainsegmenter"]))
        path.touch()
        os.utime(path, (1e9 + age, 1e9 + age))
        finish(open_dialog(name), path)
    assert given(open_dialog("segmentraster"), "MODEL") == str(models["trainsegmenter"])
    for name in ("classifyscenes", "classifyfeatures", "activationmaps"):
        assert given(open_dialog(name), "MODEL") == str(models["trainclassifier"])


def test_runs_without_a_dialog_propose_nothing(open_dialog, run, scene, tmp_path):
    run("exportchips", INPUT=[scene[0]], LABEL_RASTERS=[scene[1]], CHIP_SIZE=64, OUTPUT=str(tmp_path / "chips"))
    assert given(open_dialog("trainsegmenter"), "CHIPS") == ""
