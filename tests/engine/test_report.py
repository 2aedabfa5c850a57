import re
from pathlib import Path

import numpy as np
import pytest
from chip_folder import write_chip_folder
from heard import Heard
from pages import check_whole

from plugin.engine.assessment import confusion
from plugin.engine.assessment.report import Evaluation, Varied
from plugin.engine.assessment.segmenter_report import PANELS, Example, SegmenterReport, write_report
from plugin.engine.chips.dataset import open_dataset
from plugin.engine.classes import ClassTable
from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.errors import ResourceError
from plugin.engine.models.header import ModelHeader
from plugin.engine.reports import charts, pictures
from plugin.engine.training.train_segmenter import train_segmenter

NASTY = '<script>alert("x")</script> & $5 to $6'


def figures(matrix):
    return {"loss": 0.5, **confusion.figures(matrix)}


@pytest.fixture
def report(tmp_path):
    info = open_dataset(write_chip_folder(tmp_path / "chips", {"training": 2, "test": 1}, size=32)).info
    classes = ClassTable.from_rows([(10, NASTY, "#3366cc"), (20, "field", "#cccc33"), (30, "never", "#116622")])
    matrix = np.array([[50, 10, 0], [5, 935, 0], [0, 0, 0]])
    record = {"epoch": 1, "learning_rate": 1e-3, "training": figures(matrix), "validation": None}
    header = ModelHeader(
        task="segmentation", architecture="unet", encoder="resnet18", band_names=info.band_names, dtype=info.dtype,
        nodata=info.nodata, mean=info.mean, std=info.std, classes=classes, chip_size=32, pixel_size=0.5, crs="",
        recipe={"epochs": 1, "report": None}, history=[record], versions={"torch": "2"},
    )  # fmt: skip
    label = np.zeros((32, 32), np.uint8)
    label[:4] = 255
    example = Example(np.random.default_rng(0).normal(0, 9, (3, 32, 32)), label, np.zeros((32, 32), np.uint8), "chip 1")
    variants = [Varied([np.random.default_rng(0).normal(0, 9, (3, 16, 16))] * 3, [label[::2, ::2]] * 3, "chip <2>")]
    return SegmenterReport(
        header, info, "/data/chips", {"training": 2, "test": 1}, 1, 1234567, 61.0, "CPU, 2 threads", variants, None,
        {"test": Evaluation(figures(matrix), matrix)}, matrix.sum(axis=0), [example],
    )  # fmt: skip


def test_the_report_is_one_whole_page_that_needs_nothing_else(report, tmp_path):
    path = tmp_path / "report.html"
    write_report(str(path), report)
    page = path.read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and page.count("data:image/png") == 4
    check_whole(page)
    assert not list(tmp_path.glob(".*"))


def test_figures_stand_in_the_page(report, tmp_path):
    write_report(str(tmp_path / "report.html"), report)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (
        "98.5%",
        "1,234,567 parameters",
        "CPU, 2 threads",
        "1 of 1",
        "61 s",
        "unet with resnet18",
        "100.0% correct",
    ):
        assert text in page, text
    assert "nan" not in page.lower().replace("nanumgothic", "")


def test_names_from_a_layer_cannot_become_code(report, tmp_path):
    write_report(str(tmp_path / "report.html"), report)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page and "chip &lt;2&gt;" in page


def test_a_report_that_cannot_be_written_says_so(report, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        write_report(str(tmp_path / "file/report.html"), report)


def test_a_formula_in_a_class_name_is_shown_as_text():
    chart = charts.confusion_chart(np.eye(2, dtype=int), ["$5 and $6", "a"])
    assert "$5 and $6" in chart


@pytest.mark.parametrize("classes", [2, 9, 30])
def test_any_number_of_classes_gives_a_chart(classes):
    matrix = np.random.default_rng(0).integers(0, 10**6, (classes, classes))
    matrix[1] = 0
    assert charts.confusion_chart(matrix, [f"class {number}" for number in range(classes)]).startswith("<svg")


def test_shares_in_the_chart_are_of_rows():
    chart = charts.confusion_chart(np.array([[75, 25], [0, 1200]]), ["a", "b"])
    assert re.findall(r">(\d+%)<", chart) == ["75%", "25%", "0%", "100%"] and ">1.2k<" in chart


def test_share_and_count_stand_in_their_cell():
    chart = charts.confusion_chart(np.array([[75, 25], [0, 1200]]), ["a", "b"])
    columns = {text: float(x) for x, text in re.findall(r' x="([\d.]+)"[^>]*>(75%|75|25%|25)<', chart)}
    assert columns["75%"] == columns["75"] < columns["25%"] == columns["25"]


def test_the_same_figures_give_the_same_chart():
    history = [
        {"epoch": n, "learning_rate": n / 1e3, **dict.fromkeys(("training", "validation"), figures(np.eye(2) * n))}
        for n in (1, 2)
    ]
    assert charts.curves(history, 2, PANELS) == charts.curves(history, 2, PANELS)
    assert re.findall(r">(Loss|Overall accuracy|Mean IoU|Learning rate)<", charts.curves(history, 2, PANELS)) == [
        "Loss", "Overall accuracy", "Mean IoU", "Learning rate",
    ]  # fmt: skip


def test_bands_are_shown_by_their_names():
    assert pictures.visible_bands(["Blue", "green", "RED", "nir"]) == [2, 1, 0]
    assert pictures.visible_bands(["a", "b", "c", "d"]) == [0, 1, 2]
    assert pictures.visible_bands(["vv", "vh"]) == [0, 0, 0]


def test_a_picture_is_stretched_between_its_percentiles_and_missing_pixels_are_white():
    image = np.arange(10000, dtype=np.float32).reshape(1, 100, 100)
    image[0, 50, 50] = np.nan
    image[0, 60, 60] = -9999
    shown = pictures.stretch(image, ["pan"], nodata=-9999)
    assert (shown[0, :99] == 0).all() and (shown[-1] == 255).all() and 126 <= shown[50, 0, 0] <= 129
    assert (shown[50, 50] == 255).all() and (shown[60, 60] == 255).all()


def test_an_empty_or_constant_chip_gives_a_picture():
    assert (pictures.stretch(np.full((1, 4, 4), np.nan), ["x"]) == 255).all()
    assert pictures.stretch(np.full((1, 4, 4), 7, np.uint8), ["x"]).shape == (4, 4, 3)


def test_class_indices_take_the_colours_of_their_classes():
    table = ClassTable.from_rows([(3, "a", "#ff0000"), (9, "b", "#00ff80")])
    picture = pictures.colored(np.array([[0, 1, 255]], np.uint8), table)
    assert picture.tolist() == [[[255, 0, 0], [0, 255, 128], [255, 255, 255]]]


def test_a_report_beside_a_model_is_made_by_training(tmp_path):
    chips = write_chip_folder(tmp_path / "chips", {"training": 4, "test": 2}, size=32)
    paths = {"chips": chips, "output": str(tmp_path / "m.safetensors"), "report": str(tmp_path / "r.html")}
    quick = {"architecture": "fcn8s", "encoder": "mobilenet_v3_small", "epochs": 1, "device": "cpu"}
    result = train_segmenter(TrainSegmenterConfig.from_json({**paths, **quick}), Heard())
    page = Path(result["report"]).read_text(encoding="utf-8")
    # Two examples of three pictures each, and four chips with their variants.
    assert page.count("data:image/png") == 6 + 4 and page.count('alt="Variants of') == 4
    train_segmenter(TrainSegmenterConfig.from_json({**paths, **quick, "augment": False}), Heard())
    assert "Variants of" not in Path(result["report"]).read_text(encoding="utf-8")
