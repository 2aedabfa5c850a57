"""A range test from the dialog's parameters, and headless."""

import pytest
from conftest import Listener, leftovers
from qgis.core import QgsProcessingException
from scene_folder import write_scene_folder

QUICK = {"ARCHITECTURE": "lecture_cnn", "BATCH_SIZE": 8, "DEVICE": "cpu", "TEST_STEPS": 40}


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_scene_folder(tmp_path_factory.mktemp("scenes") / "chips", {"training": 18, "validation": 6, "test": 6})


def test_learning_rates_are_found_and_shown_in_a_report(run, worker_python, chips, tmp_path):
    listener = Listener()
    given = {**QUICK, "FILTERS": "4, 8", "OPTIMIZER": "sgd"}
    result = run("findlearningrate", listener, CHIPS=chips, **given, REPORT=str(tmp_path / "report.html"))
    assert leftovers(tmp_path) == ["report.html"]
    rates = result["VALLEY"], result["STEEPEST"]
    assert rates == (None, None) or all(1e-7 < rate < 10 for rate in rates)
    assert "learning rates from 1e-07 to" in "\n".join(listener.infos)


def test_a_setting_of_the_other_training_is_refused_in_words(run, chips):
    with pytest.raises(QgsProcessingException, match=r"Architecture .*\(ARCHITECTURE\) is \"unet\""):
        run("findlearningrate", CHIPS=chips, ARCHITECTURE="unet")


def test_daily_settings_are_in_front(provider):
    rows = provider.algorithm("findlearningrate").parameterDefinitions()
    shown = [row.name() for row in rows if not row.flags() & row.Flag.FlagAdvanced]
    assert shown == ["CHIPS", "ARCHITECTURE", "ENCODER", "BATCH_SIZE", "PRETRAINED", "REPORT"]
