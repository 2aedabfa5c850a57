"""The worked examples are those of Olofsson et al. 2014 (raw counts) and of the R package micer."""

import json

import numpy as np
import pytest

from plugin.engine.assessment import confusion

OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])


def test_raw_counts_of_olofsson_give_the_published_figures():
    assert confusion.overall_accuracy(OLOFSSON) == pytest.approx(0.9171875)
    assert confusion.mean_over_classes(confusion.iou(OLOFSSON)) == pytest.approx(0.819306, abs=1e-6)
    assert confusion.mean_over_classes(confusion.f1(OLOFSSON)) == pytest.approx(0.899429, abs=1e-6)
    assert confusion.users_accuracy(OLOFSSON)[0] == pytest.approx(66 / 75)


def test_rows_are_the_map():
    matrix = np.array([[158, 2], [20, 4820]])
    assert confusion.users_accuracy(matrix)[0] == pytest.approx(0.9875)
    assert confusion.producers_accuracy(matrix)[0] == pytest.approx(0.8876404)
    assert confusion.f1(matrix)[0] == pytest.approx(0.9349112)


def test_pixels_without_a_label_are_not_counted():
    reference = np.array([0, 1, 255, 1], np.uint8)
    prediction = np.array([0, 0, 1, 1], np.uint8)
    assert confusion.confusion_matrix(prediction, reference, 2).tolist() == [[1, 1], [0, 1]]


def test_a_class_that_occurs_nowhere_has_no_figure_and_no_say_in_the_mean():
    matrix = np.array([[5, 0, 0], [5, 10, 0], [0, 0, 0]])
    figures = confusion.figures(matrix)
    assert figures["iou"][2] is None and figures["f1"][2] is None
    assert figures["mean_iou"] == pytest.approx((0.5 + 10 / 15) / 2)


def test_a_class_that_is_only_mapped_counts_as_zero():
    assert confusion.iou(np.array([[5, 0], [1, 0]]))[1] == 0


def test_no_pixels_at_all_give_json_without_nan():
    text = json.dumps(confusion.figures(np.zeros((3, 3), int)), allow_nan=False)
    assert json.loads(text)["overall_accuracy"] is None


def test_a_network_no_better_than_the_commonest_class_is_told_so():
    useless = np.array([[0, 0], [30, 70]])  # all is called b, of which there are 70
    text = confusion.doubt(useless, ["a", "b"], "test")
    assert (
        "Predicting b everywhere would be correct for 70.0% of the test labels, and this network is for 70.0%" in text
    )
    assert "at another LEARNING_RATE" in text  # too high a rate ends like this as well
    assert confusion.doubt(np.array([[1, 0], [29, 70]]), ["a", "b"], "test") == ""
    assert confusion.doubt(np.zeros((2, 2), int), ["a", "b"], "test") == ""


def test_a_class_that_is_never_predicted_is_named():
    matrix = np.array([[5, 2, 1, 0], [0, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])  # the fourth is not shown at all
    assert "never predicts c on the test chips" in confusion.never_answered(matrix, ["a", "b", "c", "d"], "test")
    assert confusion.never_answered(matrix[:2, :2], ["a", "b"], "test") == ""
