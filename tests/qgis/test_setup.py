"""The set-up panel: its texts, building, cancelling, failures, and the ways to open it."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from qgis.core import QgsSettings
from qgis.PyQt.QtCore import QEvent
from qgis.PyQt.QtWidgets import QApplication

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake Pythons are POSIX scripts")

FAKE = """#!/bin/sh
here=$(dirname "$0")
for last; do :; done
case "$*" in
  *probe.py) cat "$here/answer";;
  "-m venv"*) mkdir -p "$last/bin"; touch "$last/pyvenv.cfg"; cp "$0" "$here/whole" "$last/bin/"; mv "$last/bin/whole" "$last/bin/answer";;
  *torchvision*) echo "Downloading torch-2.14.whl (900 MB)"; sleep {seconds}; test ! -e {broken} || {{ echo "[Errno 28] No space left on device"; exit 1; }};;
esac
"""  # noqa: E501 (lines of the shell)
BARE = {"python": "3.11.2", "missing": {"torch": "torch"}, "versions": {"numpy": "1.24.2"}}


@pytest.fixture
def fake(tmp_path, monkeypatch, provider):
    """A machine whose QGIS has a Python without torch, and an installer of which nothing is downloaded."""
    from terrazzo.plugin import worker_python
    from terrazzo.plugin.gui import setup_panel, setup_task
    from terrazzo.plugin.setup import machine, planning

    base = tmp_path / "base"
    base.mkdir()
    (base / "answer").write_text(json.dumps(BARE))
    (base / "whole").write_text(json.dumps({**BARE, "missing": {}}))
    python = base / "python"
    python.write_text(FAKE.format(seconds=0, broken=tmp_path / "broken"))
    python.chmod(0o755)
    monkeypatch.delenv(worker_python.VARIABLE, raising=False)
    monkeypatch.setattr(worker_python, "qgis_python", lambda: str(python))
    monkeypatch.setattr(planning, "own_python", lambda: str(python))
    for module in (worker_python, planning, setup_panel):
        monkeypatch.setattr(module, "default_folder", lambda version="": tmp_path / "worker")
    monkeypatch.setattr(setup_panel, "look_at_machine", lambda: machine.Machine("linux", "x86_64", None))
    monkeypatch.setattr(setup_task, "_running", None)
    settings = ("terrazzo/python", "terrazzo/folder")
    for name in settings:
        QgsSettings().remove(name)
    yield python
    for name in settings:
        QgsSettings().remove(name)


def wait(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)
    assert condition()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # as QGIS's own loop does with ended tasks


def test_without_torch_an_algorithm_says_what_is_missing_and_opens_the_setup(fake, provider, monkeypatch):
    from terrazzo.plugin import setup

    opened = []
    monkeypatch.setattr(setup, "open_window", lambda: opened.append(1))
    fine, text = provider.algorithm("trainsegmenter").canExecute()
    assert not fine and "not set up yet" in text and "The set-up opens" in text
    wait(lambda: opened)
    QgsSettings().setValue("terrazzo/python", str(fake))
    assert "lacks torch" in provider.algorithm("trainsegmenter").canExecute()[1]
    assert provider.algorithm("exportchips").canExecute()[0]


def test_one_click_builds_and_then_everything_is_ready(fake, qgis_app, provider):
    from terrazzo.plugin.gui.setup_panel import SetupPanel

    panel = SetupPanel()
    assert "not set up yet" in panel.state.text() and "0.5 GB to download" in panel.size.text()
    assert "lacks" not in panel.state.text()  # a list of packages says nothing to whom it is new
    panel.build.click()
    wait(lambda: panel.task is None)
    assert panel.doing.text().startswith("✔ Done")
    assert "are ready" in panel.state.text() and "worker/env1/bin/python" in panel.state.text()
    assert provider.algorithm("trainsegmenter").canExecute() == (True, "")


def test_troubles_name_what_the_panel_has(fake, qgis_app):
    from qgis.PyQt.QtWidgets import QLabel
    from terrazzo.plugin.gui.setup_panel import SetupPanel
    from terrazzo.plugin.setup.troubles import TROUBLES

    panel = SetupPanel()
    labels = {label.text() for label in panel.findChildren(QLabel)}
    remedies = "\n".join(trouble.remedy for trouble in TROUBLES)
    named = set(re.findall(r"Advanced ▸ ([A-Z][a-z]+(?: upon| from)?)", remedies))
    assert named and named <= labels


def test_base_and_wheels_are_chosen_in_the_window(fake, qgis_app, tmp_path, monkeypatch):
    from terrazzo.plugin.gui.setup_panel import SetupPanel
    from terrazzo.plugin.setup import planning

    monkeypatch.setattr(planning, "default_folder", lambda version="": tmp_path / f"worker{version}")
    panel = SetupPanel()
    panel.base.setFilePath(str(tmp_path / "none"))
    assert "none does not exist" in panel.size.text() and not panel.build.isEnabled()
    other = tmp_path / "other"
    other.mkdir()
    for name in ("python", "whole", "answer"):
        (other / name).write_bytes(fake.with_name(name).read_bytes())
    (other / "python").chmod(0o755)
    (other / "answer").write_text(json.dumps({**BARE, "python": "3.13.1", "missing": {"osgeo": "osgeo"}}))
    panel.base.setFilePath(str(other / "python"))
    assert "Python 3.13.1 has no GDAL bindings: the package gdal-wheel provides them." in panel.size.text()
    panel.wheels.setFilePath(str(tmp_path / "nowhere"))
    assert "There is no folder of wheels" in panel.size.text() and not panel.build.isEnabled()
    panel.wheels.setFilePath(str(other))
    assert f"all other packages from {other}" in panel.size.text()
    panel.build.click()
    wait(lambda: panel.task is None)
    assert "worker/env1/bin/python" in panel.state.text(), "where QGIS searches, whatever the base's version"


def test_a_failure_says_what_to_do_shows_the_log_and_can_be_tried_again(fake, qgis_app, tmp_path):
    from terrazzo.plugin.gui.setup_panel import SetupPanel

    panel = SetupPanel()
    (tmp_path / "broken").touch()
    panel.build.click()
    wait(lambda: panel.task is None)
    assert "The disk is full." in panel.doing.text() and "Free some disk space" in panel.doing.text()
    assert not panel.log_box.isCollapsed() and "No space left" in panel.log.toPlainText()
    panel.copy.click()
    text = QApplication.clipboard().text()
    assert "No space left" in text and "QGIS: " in text and "System: " in text
    (tmp_path / "broken").unlink()
    assert panel.build.text() == "Try again"
    panel.build.click()
    wait(lambda: panel.task is None)
    assert "are ready" in panel.state.text()


def test_cancelling_answers_within_a_second_and_changes_nothing(fake, qgis_app, tmp_path):
    from terrazzo.plugin.gui.setup_panel import SetupPanel

    fake.write_text(FAKE.format(seconds=60, broken=tmp_path / "broken"))
    panel = SetupPanel()
    panel.build.click()
    wait(lambda: "Downloading torch" in panel.log.toPlainText())
    begun = time.monotonic()
    panel.cancel.click()
    wait(lambda: panel.task is None)
    assert time.monotonic() - begun < 1
    assert panel.doing.text() == "Cancelled. Nothing was changed."
    assert [path.name for path in (tmp_path / "worker").iterdir()] == []


def test_a_python_of_the_users_is_tested_at_once(fake, qgis_app):
    from terrazzo.plugin.gui.setup_panel import SetupPanel

    panel = SetupPanel()
    panel.python.setFilePath("/no/such/python")
    panel.test.click()
    assert "/no/such/python, which Terrazzo's setting names, does not exist" in panel.answer.text()
    panel.python.setFilePath(str(fake))
    panel.test.click()
    assert "lacks torch" in panel.answer.text() and not QgsSettings().value("terrazzo/python")
    fake.with_name("answer").write_text(json.dumps({**BARE, "missing": {}}))
    panel.test.click()
    assert "has everything that is needed" in panel.answer.text() and QgsSettings().value("terrazzo/python") == str(
        fake
    )
    assert "are ready" in panel.state.text()


def test_what_was_built_is_used_although_another_python_was_named(fake, qgis_app, tmp_path):
    from terrazzo.plugin.gui.setup_panel import SetupPanel

    QgsSettings().setValue("terrazzo/python", "/no/such/python")
    panel = SetupPanel()
    assert "cannot run" in panel.state.text()
    assert "/no/such/python, which Terrazzo's setting names, does not exist" in panel.state.text()
    panel.build.click()
    wait(lambda: panel.task is None)
    assert "are ready" in panel.state.text() and not QgsSettings().value("terrazzo/python")


def test_the_environment_goes_into_the_folder_that_is_chosen_and_is_used_from_there(fake, qgis_app, tmp_path):
    from terrazzo.plugin.gui.setup_panel import SetupPanel

    panel = SetupPanel()
    panel.folder.setFilePath(str(tmp_path / "large disk"))
    assert str(tmp_path / "large disk" / "terrazzo") in panel.size.text()
    panel.build.click()
    wait(lambda: panel.task is None)
    assert "are ready" in panel.state.text() and "large disk/terrazzo/worker/env1" in panel.state.text()
    assert not (tmp_path / "worker").exists() and "large disk" in QgsSettings().value("terrazzo/python")
    assert SetupPanel().folder.filePath() == str(tmp_path / "large disk")


def test_a_panel_that_opens_while_a_build_runs_shows_it(fake, qgis_app, tmp_path):
    from terrazzo.plugin.gui.setup_panel import SetupPanel

    fake.write_text(FAKE.format(seconds=60, broken=tmp_path / "broken"))
    first = SetupPanel()
    first.build.click()
    second = SetupPanel()
    assert second.build.isHidden() and not second.cancel.isHidden()
    second.cancel.click()
    wait(lambda: first.task is None and second.task is None)
    assert not second.build.isHidden()


def test_qgis_proxy_reaches_the_installers(qgis_app, provider):
    from terrazzo.plugin.proxy import qgis_proxy

    settings = QgsSettings()
    assert qgis_proxy() == {}
    values = {"proxyEnabled": True, "proxyType": "HttpProxy", "proxyHost": "proxy.example", "proxyPort": "8080",
              "proxyUser": "jo", "proxyPassword": "p@ss"}  # fmt: skip
    for name, value in values.items():
        settings.setValue(f"proxy/{name}", value)
    try:
        assert qgis_proxy()["HTTPS_PROXY"] == "http://jo:p%40ss@proxy.example:8080"
        settings.setValue("proxy/proxyType", "DefaultProxy")
        assert qgis_proxy() == {}
    finally:
        settings.remove("proxy")


def test_a_diagnosis_names_neither_home_nor_passwords(monkeypatch, provider):
    from terrazzo.plugin.setup import diagnosis

    monkeypatch.setattr(Path, "home", lambda: Path("/home/josephine"))
    monkeypatch.setattr(diagnosis.getpass, "getuser", lambda: "josephine")
    text = diagnosis.blanked("/home/josephine/x failed for josephine; proxy http://jo:secret@proxy:80")
    assert text == "~/x failed for USER; proxy http://***@proxy:80"
