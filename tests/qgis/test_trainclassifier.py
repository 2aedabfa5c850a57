"""From a chip dataset to a classifier's model file through the worker, and messages in the open dialog."""

import json
from pathlib import Path

import pytest
from conftest import Listener, leftovers, said
from qgis.core import QgsProcessingContext, QgsProcessingException
from scene_folder import write_scene_folder

QUICK = {"ARCHITECTURE": "lecture_cnn", "EPOCHS": 2, "BATCH_SIZE": 8, "DEVICE": "cpu"}


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_scene_folder(tmp_path_factory.mktemp("scenes") / "chips", {"training": 18, "validation": 6, "test": 6})


def test_a_classifier_is_trained_with_all_its_outputs(run, worker_python, chips, tmp_path):
    listener = Listener()
    shape = {"FILTERS": "4, 8", "HIDDEN_SIZES": "0", "ACTIVATION": "prelu"}
    result = run("trainclassifier", listener, CHIPS=chips, **QUICK, **shape,
                 OUTPUT=str(tmp_path / "model.safetensors"), REPORT=str(tmp_path / "report.html"))  # fmt: skip
    assert leftovers(tmp_path) == ["model.safetensors", "report.html"]
    assert result["BEST_EPOCH"] in (1, 2) and 0 <= result["TEST_OVERALL_ACCURACY"] <= 1
    assert 0 <= result["VALIDATION_MEAN_F1"] <= 1 and result["TEST_MEAN_AVERAGE_PRECISION"] is None
    from terrazzo.plugin.engine.models.header import read_header

    header = read_header(result["OUTPUT"])
    assert header.task == "classification" and header.arguments["filters"] == [4, 8]
    assert header.arguments["hidden_sizes"] == [] and header.arguments["activation"] == "prelu"
    text = "\n".join(listener.infos).replace("\u00a0", " ")
    assert "output shape" in text and "epoch 1/2" in text and "mean F1" in text


def test_other_plugins_keep_their_gdal_errors_while_a_worker_trains(run, worker_python, chips, tmp_path):
    from osgeo import gdal, ogr, osr

    seen = []
    listener = Listener(lambda text: seen.append([module.GetUseExceptions() for module in (gdal, ogr, osr)]))
    for module in (osr, ogr, gdal):
        module.DontUseExceptions()
    try:
        run("trainclassifier", listener, CHIPS=chips, **{**QUICK, "EPOCHS": 1}, OUTPUT=str(tmp_path / "m.safetensors"))
    finally:
        for module in (gdal, ogr, osr):
            module.UseExceptions()
    assert len(seen) > 3 and not any(map(any, seen))


def test_several_labels_a_chip_headless(qgis_process, worker_python, tmp_path):
    chips = write_scene_folder(tmp_path / "chips", {"training": 18, "validation": 6, "test": 6}, "multilabel")
    result = qgis_process("terrazzo:trainclassifier", CHIPS=chips, **QUICK, THRESHOLD=0.4,
                          OUTPUT=tmp_path / "model.safetensors")  # fmt: skip
    assert 0 < result["TEST_MEAN_AVERAGE_PRECISION"] <= 1 and Path(result["OUTPUT"]).is_file()
    from terrazzo.plugin.engine.models.header import read_header

    assert read_header(result["OUTPUT"]).threshold == 0.4


def test_a_cancelled_training_leaves_nothing(run, worker_python, chips, tmp_path):
    listener = Listener(lambda text: listener.cancel() if "epoch" in text.lower() else None)
    run("trainclassifier", listener, CHIPS=chips, **{**QUICK, "EPOCHS": 500, "PATIENCE": 0},
        OUTPUT=str(tmp_path / "model.safetensors"))  # fmt: skip
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ARCHITECTURE": "alexnet"}, "alexnet needs 63 × 63"),
        ({"ARCHITECTURE": "resnet18", "FILTERS": "8,16"}, "resnet18 has no FILTERS"),
        ({"ARCHITECTURE": "lecture_cnn", "FILTERS": "8,x"}, 'FILTERS is "8,x"'),
        ({"ARCHITECTURE": "lecture_cnn", "FILTERS": "8,16,32,64,64,64"}, "needs 64 × 64"),
        ({"THRESHOLD": 0.7}, "one of 3 classes"),
        ({"ENCODER_WEIGHTS": "/no/such.pth"}, "There is no weights file /no/such.pth"),
        ({"ENCODER_WEIGHTS": "/no/such.onnx"}, "Choose a file with the extension .safetensors, .pth, .pt"),
        ({"DEVICE": "foo"}, 'DEVICE is "foo"'),
        ({"OUTPUT": "/no/model.pth"}, "Use the extension .safetensors"),
        ({"REPORT": "/no/report.pdf"}, "Use the extension .html"),
        ({"EPOCHS": 1.5}, "EPOCHS is 1.5. Give a whole number"),
        ({"EPOCHS": "2.5"}, "EPOCHS is 2.5. Give a whole number"),
    ],
)
def test_what_cannot_work_is_said_while_the_dialog_is_open(provider, worker_python, chips, given, words):
    algorithm = provider.algorithm("trainclassifier")
    given = {"CHIPS": chips, "OUTPUT": "/no/model.safetensors", **given}
    fine, text = algorithm.checkParameterValues(given, QgsProcessingContext())
    assert not fine and said(provider, "trainclassifier", words) in text


def test_weights_are_not_written_over(provider, worker_python, chips, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    given = {"CHIPS": chips, "OUTPUT": str(weights), "ENCODER_WEIGHTS": str(weights)}
    fine, text = provider.algorithm("trainclassifier").checkParameterValues(given, QgsProcessingContext())
    assert not fine and "is the file of Pretrained weights: file (ENCODER_WEIGHTS)" in text


def test_temporary_results_are_fine(provider, worker_python, chips):
    given = {"CHIPS": chips, "OUTPUT": "TEMPORARY_OUTPUT", "REPORT": "TEMPORARY_OUTPUT"}
    assert provider.algorithm("trainclassifier").checkParameterValues(given, QgsProcessingContext())[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"CHIPS": "scenes"},
            "are for classification. Export chips with TASK segmentation or regression, or use “Train a classifier”",
        ),
        ({"FOLD": 2}, "has no folds"),
        ({"OUTPUT": "/no/model.pt"}, "Use the extension .safetensors"),
        ({"DEVICE": "gpu"}, 'DEVICE is "gpu"'),
    ],
)
def test_so_it_is_for_segmentation_networks(provider, worker_python, chips, dataset, given, words):
    given = {"CHIPS": dataset, "OUTPUT": "/no/model.safetensors", **given}
    if given["CHIPS"] == "scenes":
        given["CHIPS"] = chips
    fine, text = provider.algorithm("trainsegmenter").checkParameterValues(given, QgsProcessingContext())
    assert not fine and said(provider, "trainsegmenter", words) in text


def test_chips_for_segmentation_are_refused(run, worker_python, dataset, tmp_path):
    with pytest.raises(QgsProcessingException, match="for segmentation"):
        run("trainclassifier", CHIPS=dataset, OUTPUT=str(tmp_path / "model.safetensors"))


def test_chips_for_regression_are_refused_in_words(run, worker_python, tmp_path):
    chips = Path(write_scene_folder(tmp_path / "chips", {"training": 4}))
    values = json.loads((chips / "dataset.json").read_text())
    (chips / "dataset.json").write_text(json.dumps({**values, "task": "regression"}))
    with pytest.raises(QgsProcessingException, match=r"for regression.*numbers"):
        run("trainclassifier", CHIPS=str(chips), OUTPUT=str(tmp_path / "model.safetensors"))


def test_sizes_are_read_as_people_write_them():
    from terrazzo.processing_provider.list_parameters import sizes

    assert sizes("FILTERS", "8; 16,32 ") == [8, 16, 32]
    assert sizes("FILTERS", "") is None and sizes("HIDDEN_SIZES", "0") == []
