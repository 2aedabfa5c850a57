import numpy as np
import pytest
import torch

from plugin.engine.assessment import scores
from plugin.engine.assessment.threshold_chart import threshold_figures
from plugin.engine.classes import IGNORE_INDEX
from plugin.engine.errors import InputError
from plugin.engine.models.decision import choose_class
from plugin.engine.training.tally import ClassTally, LabelsTally

CPU = torch.device("cpu")


def test_figures_of_one_class_a_chip_are_those_of_its_confusion_matrix():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]])
    reference = np.array([0, 1, 2, 2])
    figures = scores.class_figures(probabilities, reference)
    assert scores.chip_matrix(probabilities, reference).tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert figures["overall_accuracy"] == 0.5 and figures["top"] == {"2": 1.0}
    assert figures["precision"] == [0.5, 0.0, 1.0] and figures["recall"] == [1.0, 0.0, 0.5]
    assert figures["f1"] == pytest.approx([2 / 3, 0, 2 / 3]) and figures["mean_f1"] == pytest.approx(4 / 9)
    assert figures["mean_precision"] == 0.5 and figures["mean_recall"] == 0.5


def test_the_right_class_is_among_the_likeliest_in_any_number_of_classes():
    probabilities = np.eye(7) * 0.1 + np.arange(7) / 21 * 0.9  # the last is likeliest, but for its own bonus
    figures = scores.class_figures(probabilities, np.arange(7))
    ranks = [int((row > row[place]).sum()) for place, row in enumerate(probabilities)]
    assert figures["top"] == {str(k): sum(rank < k for rank in ranks) / 7 for k in (2, 3, 5)}


def test_chips_without_a_class_and_classes_without_a_chip_count_nothing():
    figures = scores.class_figures(np.array([[0.9, 0.1, 0], [0.9, 0.1, 0]]), np.array([0, IGNORE_INDEX]))
    assert figures["overall_accuracy"] == 1.0 and figures["f1"] == [1.0, None, None] and figures["mean_f1"] == 1.0


def test_to_answer_one_class_only_does_not_pay():
    figures = scores.class_figures(np.array([[0.9, 0.1, 0], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1]]), np.arange(3))
    assert figures["precision"] == [pytest.approx(1 / 3), None, None] and figures["recall"] == [1.0, 0.0, 0.0]
    assert figures["mean_precision"] == pytest.approx(1 / 9) and figures["mean_recall"] == pytest.approx(1 / 3)
    assert figures["mean_f1"] == pytest.approx(1 / 6)


def test_a_class_that_is_only_answered_counts_in_the_mean_recall():
    figures = scores.class_figures(np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0, 0]))
    assert figures["recall"] == [0.5, None] and figures["mean_recall"] == 0.25


def test_of_equally_likely_classes_the_first_comes_first():
    probabilities = np.full((4, 10), 0.1)
    assert set(scores.class_figures(probabilities, np.array([6, 7, 8, 9]))["top"].values()) == {0.0}
    assert scores.class_figures(probabilities, np.arange(4))["top"] == {"2": 0.5, "3": 0.75, "5": 1.0}


def test_what_is_no_number_is_wrong():
    figures = scores.class_figures(np.full((2, 10), np.nan, np.float32), np.array([0, 9]))
    assert set(figures["top"].values()) == {0.0} and figures["overall_accuracy"] == 0.0
    assert figures["recall"][0] == figures["mean_recall"] == 0.0


@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_network_that_broke_down_answers_no_class(classes, threshold):
    assert choose_class(np.full((2, classes), np.nan), threshold).tolist() == [IGNORE_INDEX] * 2


def test_a_class_index_does_not_wrap_around():
    assert choose_class(np.eye(255))[254] == 254
    with pytest.raises(InputError, match="300 classes"):
        choose_class(np.eye(300))


def test_a_chip_for_which_no_class_is_likely_enough_is_a_miss():
    probabilities = np.array([[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]])
    reference = np.array([0, 0, 1, 2])
    figures = scores.class_figures(probabilities, reference, 0.8)
    assert scores.chip_matrix(probabilities, reference, 0.8).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert figures["overall_accuracy"] == 0.5 and figures["recall"] == [0.5, 1.0, 0.0]
    assert figures["precision"] == [1.0, 1.0, None] and figures["f1"] == pytest.approx([2 / 3, 1.0, 0.0])


def test_figures_of_several_labels_a_chip():
    probabilities = np.array([[0.9, 0.6], [0.8, 0.2], [0.3, 0.7], [0.1, 0.1]])
    shown = np.array([[True, False], [True, False], [True, True], [False, False]])
    figures = scores.labels_figures(probabilities, shown)
    assert figures["precision"] == [1.0, 0.5] and figures["recall"] == pytest.approx([2 / 3, 1.0])
    assert figures["overall_accuracy"] == 0.5 and figures["label_accuracy"] == 0.75
    assert figures["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert figures["average_precision"] == [1.0, 1.0] and figures["mean_average_precision"] == 1.0
    assert scores.labels_figures(probabilities, shown, 0.25)["recall"] == [1.0, 1.0]


def test_average_precision_is_the_mean_of_precisions_at_each_hit():
    probabilities, shown = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, False, True, False, True])
    assert scores.average_precision(probabilities, shown) == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert scores.average_precision(probabilities, ~shown) == pytest.approx((1 / 2 + 2 / 4) / 2)
    # Chips of one score come together, whatever their order.
    assert scores.average_precision(np.full(5, 0.5), shown) == pytest.approx(3 / 5)
    assert np.isnan(scores.average_precision(probabilities, np.zeros(5, bool)))


def test_a_class_that_no_chip_shows_has_no_average_precision():
    figures = scores.labels_figures(np.full((3, 2), 0.4), np.array([[True, False]] * 3))
    assert figures["average_precision"] == [1.0, None] and figures["f1"] == [0.0, None]
    assert figures["precision"] == [None, None] and figures["mean_precision"] == 0.0
    assert figures["mean_average_precision"] == 1.0


def test_thresholds_trade_precision_for_recall():
    probabilities, shown = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True])
    figures = threshold_figures(probabilities, shown, np.array([0.0, 0.4, 0.5, 0.95]))
    assert figures["precision"][:3] == pytest.approx([0.5, 2 / 3, 0.5]) and np.isnan(figures["precision"][3])
    assert figures["recall"].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert figures["F1"] == pytest.approx([2 / 3, 0.8, 0.5, 0.0])


def test_tallies_keep_the_order_of_the_chips():
    one, several = ClassTally(3, None, CPU), LabelsTally(3, 0.5, CPU)
    logits = torch.randn(5, 3)
    targets, shown = torch.tensor([0, 1, 2, 1, 0], dtype=torch.uint8), torch.randint(0, 2, (5, 3), dtype=torch.uint8)
    for part in (slice(0, 2), slice(2, 5)):
        one.add(logits[part], targets[part], torch.tensor(1.5), torch.tensor(2.0))
        several.add(logits[part], shown[part], torch.tensor(0.5), torch.tensor(6.0))
    assert np.allclose(one.probabilities(), logits.softmax(1)) and one.targets().tolist() == targets.tolist()
    assert np.allclose(several.probabilities(), logits.sigmoid()) and (several.targets() == shown.numpy()).all()
    assert one.figures()["loss"] == 1.5 and several.figures()["loss"] == 0.5
    assert one.matrix().sum() == 5 and one.details() == {"confusion_matrix": one.matrix().tolist()}
