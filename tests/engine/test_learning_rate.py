"""The range test: rates that rise, what losses say of them, and the job."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from scene_folder import write_scene_folder

from plugin.engine.chips.dataset import read_info
from plugin.engine.config import FindLearningRateConfig, TrainClassifierConfig, TrainSegmenterConfig
from plugin.engine.errors import Cancelled, InputError
from plugin.engine.jobs import JOBS
from plugin.engine.training import range_test
from plugin.engine.training.early_checks import check_range_test
from plugin.engine.training.range_test import RisingPace, measure_losses, suggest

RATES = np.geomspace(1e-7, 10, 100)
SPLITS = {"training": 12, "validation": 3, "test": 3}
QUICK = {"device": "cpu", "test_steps": 30, "batch_size": 4}


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return write_chip_folder(tmp_path_factory.mktemp("masks") / "chips", SPLITS)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scene_folder(tmp_path_factory.mktemp("scenes") / "chips", SPLITS)


def test_rates_rise_by_the_same_factor_from_the_first_to_the_last():
    pace, shares = RisingPace(1e-4, 5), []
    while not pace.over:
        shares.append(pace.share(1))
        assert pace.share(2) == 0  # what is frozen
        pace.step()
    assert shares == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])


def losses(noise, seed=0):
    """Level at 2, down to 1 around a rate of 1e-3, up again from 1e-1 on."""
    exponents = np.log10(RATES)
    curve = 2 - 1 / (1 + np.exp(-4 * (exponents + 3))) + 5 / (1 + np.exp(-6 * (exponents - 0.3)))
    return curve + np.random.default_rng(seed).normal(0, noise, len(RATES))


@pytest.mark.parametrize("noise", [0, 0.05, 0.15])
def test_suggestions_are_where_the_loss_falls(noise):
    for seed in range(5):
        smoothed, valley, steepest = suggest(RATES, losses(noise, seed))
        assert np.abs(smoothed - losses(0))[10:60].max() < 0.25
        assert 3e-4 < valley < 2e-2 and 2e-4 < steepest < 5e-3


@pytest.mark.parametrize("curve", [np.random.default_rng(1).normal(1, 0.1, 100), np.linspace(1, 2, 100), np.ones(100)])
def test_a_loss_that_does_not_fall_suggests_nothing(curve):
    assert suggest(RATES, curve)[1:] == (None, None)


class Eight:
    """A sampling of eight chips."""

    def __len__(self):
        return 8

    def order(self, seed, epoch):
        return np.arange(8)


@pytest.mark.parametrize(("given", "taken"), [([2, 1, 1, 1, 40, 40], 5), ([2, 1, float("nan"), 1, 1, 1], 2)])
def test_steps_end_when_the_loss_diverges(chips, monkeypatch, given, taken):
    costs = iter(given)

    class Steps:
        rate = 0.1

        def __init__(self, *_):
            pass

        def step(self, *_):
            return SimpleNamespace(totals=lambda: torch.tensor([float(next(costs)), 1.0]))

    monkeypatch.setattr(range_test, "Optimization", Steps)
    config = TrainSegmenterConfig(chips=chips, output="")
    reader = SimpleNamespace(read=lambda places: (torch.zeros(len(places), 1), torch.zeros(len(places))))
    training = SimpleNamespace(
        config=config, splits={"training": np.arange(8)}, network=torch.nn.Linear(1, 1), reader=reader, task=None,
        sampling=Eight(),
        plan=SimpleNamespace(begin=lambda epoch: None),
        device=torch.device("cpu"),
    )  # fmt: skip
    rates, found = measure_losses(training, (1e-3, 1.0), 6, Heard())
    assert list(found) == given[:taken] and len(rates) == taken


def test_a_range_test_of_a_segmenter_leaves_a_report_and_nothing_else(chips, tmp_path):
    reporter, report = Heard(), tmp_path / "report.html"
    settings = {"architecture": "fcn8s", "encoder": "mobilenet_v3_small", "report": str(report), **QUICK}
    found = JOBS["findlearningrate"]({"chips": chips, **settings}, reporter)
    assert found["automatic"] == 1e-3 and 10 <= found["steps"] <= 30
    if found["valley"] is None:
        assert "nothing can be suggested" in reporter.warnings[-1]
    else:
        assert f"Enter LEARNING_RATE {found['valley']:.2g} (valley)" in "\n".join(reporter.logs)
    page = report.read_text(encoding="utf-8")
    assert page.count("<svg") == 1 and "fcn8s with mobilenet_v3_small" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert reporter.fractions == sorted(reporter.fractions) and reporter.fractions[-1] == 1


def test_a_range_test_of_a_classifier_takes_its_settings(scenes):
    settings = {"chips": scenes, "architecture": "lecture_cnn", "filters": [4, 8], "optimizer": "sgd", **QUICK}
    found = JOBS["findlearningrate"](settings, Heard())
    assert found["automatic"] == 0.025 and found["report"] is None
    assert found == {**JOBS["findlearningrate"](settings, Heard()), "seconds": found["seconds"]}  # the same seed


def test_a_range_test_ends_when_it_is_cancelled(scenes, tmp_path):
    settings = {"chips": scenes, "architecture": "lecture_cnn", "report": str(tmp_path / "report.html"), **QUICK}
    with pytest.raises(Cancelled):
        JOBS["findlearningrate"](settings, Heard(cancel_after=1))
    assert not list(tmp_path.iterdir())


def test_settings_are_those_of_the_training_for_the_chips():
    given = {"momentum": 0.5, "freeze": "warm_up", "label_smoothing": None}
    config = FindLearningRateConfig.from_json({"chips": "a", **given})
    segmenter, classifier = config.training("segmentation"), config.training("multilabel")
    assert isinstance(segmenter, TrainSegmenterConfig) and isinstance(classifier, TrainClassifierConfig)
    assert (segmenter.batch_size, classifier.batch_size) == (8, 16)
    assert (segmenter.loss.label_smoothing, classifier.loss.label_smoothing) == (0, 0.1)
    assert segmenter.optimizer.momentum == classifier.optimizer.momentum == 0.5
    assert config.replace().training("segmentation") == segmenter
    assert FindLearningRateConfig.from_json(config.to_json()) == config
    known = FindLearningRateConfig.declared()
    assert {*known} < {*TrainSegmenterConfig.declared(), *TrainClassifierConfig.declared()} | {
        "test_steps", "first_rate", "last_rate",
    }  # fmt: skip
    assert known["batch_size"].default is None and known["batch_size"].kind == "int | None"
    assert {"unet", "resnet18", "lecture_cnn"} <= {*known["architecture"].choices}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"filters": [8]}, "FILTERS is given, and has no meaning for segmentation"),
        ({"architecture": "lecture_cnn"}, r'ARCHITECTURE is "lecture_cnn".*unet'),
        ({"first_rate": 1.0, "last_rate": 0.1}, "FIRST_RATE is 1, and LAST_RATE is 0.1"),
        ({"report": "report.pdf"}, "REPORT"),
        ({"learning_rate": 1e-3}, "no setting learning_rate"),
        ({"optimizer": "sgd", "epsilon": 0.1}, "EPSILON is 0.1, and OPTIMIZER sgd has none"),
    ],
)
def test_what_cannot_work_is_refused_at_once(chips, settings, words):
    with pytest.raises(InputError, match=words):
        JOBS["findlearningrate"]({"chips": chips, **settings}, Heard())


def test_the_settings_of_an_earlier_training_are_tried_but_for_its_rate(chips, tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"LEARNING_RATE": 0.5, "EPOCHS": 7, "OPTIMIZER": "sgd", "MOMENTUM": 0.3, "FREEZE": "warm_up"}')
    config = FindLearningRateConfig.from_json({"chips": chips, "recipe": str(recipe), "momentum": 0.8})
    found = check_range_test(config, read_info(chips))
    assert (found.optimizer.optimizer, found.optimizer.momentum, found.optimizer.learning_rate) == ("sgd", 0.8, None)
    assert (found.schedule.epochs, found.fine_tuning.freeze) == (1, "none")
