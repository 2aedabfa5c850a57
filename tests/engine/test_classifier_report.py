import numpy as np
import pytest
import torch
from heard import Heard
from pages import check_whole
from scene_folder import write_scene_folder

from plugin.engine.assessment import scores
from plugin.engine.assessment.classifier_report import Answered, ClassifierReport, write_report
from plugin.engine.chips.dataset import open_dataset
from plugin.engine.classes import ClassTable
from plugin.engine.config import TrainClassifierConfig
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.header import ModelHeader
from plugin.engine.models.summary import summarise
from plugin.engine.training.chips import SceneReader
from plugin.engine.training.mistakes import find_mistakes
from plugin.engine.training.train_classifier import train_classifier

NASTY = '<script>alert("x")</script>'


def make_report(tmp_path, task, probabilities, reference, threshold=None):
    """A report on six test chips of a dataset."""
    count = probabilities.shape[1]
    rows = [(10, NASTY, "#3366cc"), (20, "field", "#cccc33"), (30, "forest", "#116622")][:count]
    folder = write_scene_folder(tmp_path / "chips", {"training": 6, "test": 6}, task, classes=rows)
    dataset = open_dataset(folder)
    figure = scores.labels_figures if task == "multilabel" else scores.class_figures
    figures = {"loss": 0.5, **figure(probabilities, reference, threshold)}
    answered = Answered(figures, probabilities, reference)
    with torch.device("meta"):
        summary = summarise(create_classifier("lecture_cnn", 3, count, 32), 3, 32)
    info = dataset.info
    header = ModelHeader(
        task=task, architecture="lecture_cnn", encoder="", band_names=info.band_names, dtype=info.dtype,
        nodata=info.nodata, mean=info.mean, std=info.std, classes=ClassTable.from_rows(rows), chip_size=32,
        pixel_size=0.5, crs="", recipe={"epochs": 1, "filters": [8, 16], "report": None}, versions={"torch": "2"},
        history=[{"epoch": 1, "learning_rate": 1e-3, "training": figures, "validation": None}], threshold=threshold,
    )  # fmt: skip
    places = dataset.indices("test")
    mistakes = find_mistakes(answered, threshold, places, "test", SceneReader(dataset))
    return ClassifierReport(
        header, info, folder, {"training": 6, "test": 6}, 1, summary.parameters, 61.0, "CPU, 2 threads", [], None,
        {"test": answered}, {"training": np.full(count, 2), "test": np.full(count, 2)}, mistakes, "test", summary,
    )  # fmt: skip


def text_of(report, tmp_path):
    path = tmp_path / "report.html"
    write_report(str(path), report)
    return path.read_text(encoding="utf-8")


THREE = np.array(
    [[0.8, 0.1, 0.1], [0.05, 0.05, 0.9], [0.2, 0.7, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8], [0.5, 0.2, 0.3]]
)


@pytest.fixture
def one(tmp_path):
    return make_report(tmp_path, "classification", THREE, np.array([0, 0, 1, 1, 2, 2]))


def test_the_report_is_one_whole_page_that_needs_nothing_else(one, tmp_path):
    page = text_of(one, tmp_path)
    assert page.count("<svg") == 2 and page.count("data:image/jpeg") == 2
    check_whole(page)
    assert "&lt;script&gt;" in page
    assert "nan" not in page.lower().replace("nanumgothic", "")


def test_figures_layers_and_settings_stand_in_the_page(one, tmp_path):
    page = text_of(one, tmp_path)
    for text in ("66.7%", "the 2 most likely 100.0%", "41,539 parameters", "8 × 32 × 32", "8, 16", "61 s", "1 of 1"):
        assert text in page, text


def test_the_surest_error_comes_first_with_what_was_said_and_what_is_true(one, tmp_path):
    assert [mistake.reference[0] for mistake in one.mistakes] == [(0, 0.05), (2, 0.3)]
    assert [mistake.prediction[0] for mistake in one.mistakes] == [(2, 0.9), (0, 0.5)]
    assert one.mistakes[0].caption == "7.tif · test" and one.mistakes[0].image.shape == (3, 32, 32)
    page = text_of(one, tmp_path)
    assert "2 of 6 test chips are wrong" in page and "forest <b>90.0%</b>" in page


def test_a_test_without_an_error_says_so(tmp_path):
    page = text_of(make_report(tmp_path, "classification", THREE, THREE.argmax(1)), tmp_path)
    assert "None of the 6 test chips is wrong." in page


def test_several_labels_a_chip_have_no_matrix_but_average_precision_and_thresholds(tmp_path):
    shown = np.array([[1, 0, 1], [0, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]])
    report = make_report(tmp_path, "multilabel", THREE, shown > 0, 0.5)
    page = text_of(report, tmp_path)
    assert page.count("<svg") == 2 and "Confusion matrix" not in page and "average<br>precision" in page
    assert "A class is predicted if its probability is at least 0.5" in page
    worst = report.mistakes[
        0
    ]  # of the third one, 0.1 for what it shows and nothing wrong; of the fifth, 0.8 for nothing
    assert worst.caption == "6.tif · test" and [index for index, _ in worst.reference] == [0, 2]
    nothing = next(mistake for mistake in report.mistakes if not mistake.reference)
    assert nothing.prediction == [(2, 0.8)] and "none" in page


def test_two_classes_get_a_chart_of_thresholds(tmp_path):
    probabilities = np.stack([1 - THREE[:, 2], THREE[:, 2]], axis=1)
    report = make_report(tmp_path, "classification", probabilities, np.array([0, 1, 0, 1, 1, 0]), 0.3)
    page = text_of(report, tmp_path)
    assert page.count("<svg") == 3 and "The second class is predicted if" in page and "for field" in page
    assert "0 of 6" not in page and "1 of 6 test chips are wrong" in page


def test_training_without_other_chips_still_gives_a_report(tmp_path):
    chips = write_scene_folder(tmp_path / "chips", {"training": 6})
    paths = {"chips": chips, "output": str(tmp_path / "m.safetensors"), "report": str(tmp_path / "r.html")}
    config = TrainClassifierConfig.from_json({**paths, "architecture": "mlp", "epochs": 1, "device": "cpu"})
    train_classifier(config, Heard())
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Learning curves" in page and "Confusion" not in page
