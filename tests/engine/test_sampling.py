"""Which training chips an epoch shows, and how often."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from chip_folder import write_chip_folder
from heard import Heard

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.classes import ClassTable
from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.errors import InputError
from plugin.engine.recipe.sampling import SamplingSettings
from plugin.engine.training.chips import shuffled
from plugin.engine.training.sampling import Sampling, settle_sampling
from plugin.engine.training.train_segmenter import train_segmenter

NAMES = ("background", "house", "rare")


def info(*names, task="segmentation"):
    classes = ClassTable.from_rows([(value, name, "") for value, name in enumerate(names or NAMES)])
    return SimpleNamespace(task=task, classes=classes)


def sampling(counts, about=None, **settings):
    return Sampling(SamplingSettings(**settings), about or info(), np.array(counts))


def times(drawn, epochs=1, chips=None):
    """(epochs, n) how often each epoch shows each chip."""
    orders = [drawn.order(7, epoch) for epoch in range(1, epochs + 1)]
    return np.array([np.bincount(order, minlength=chips or len(drawn.often)) for order in orders])


def test_without_sampling_each_chip_comes_once_in_the_order_of_earlier_versions():
    drawn = sampling(np.eye(3)[[0, 1, 2, 0, 1]])
    order = drawn.order(5, 2)
    assert order.tolist() == np.random.default_rng([5, 2]).permutation(5).tolist()
    assert (times(drawn, 3) == 1).all() and len(drawn) == 5 and drawn.often.tolist() == [1] * 5


@pytest.mark.parametrize("kind, shares", [("balanced", [1 / 3] * 3), ("root", [0.5, 0.3, 0.2])])
def test_chips_of_one_class_are_drawn_so_that_classes_have_their_shares(kind, shares):
    counts = np.eye(3)[[0] * 100 + [1] * 36 + [2] * 16]
    drawn = sampling(counts, sampling=kind)
    found = times(drawn, 200)
    expected = np.array(shares if kind == "balanced" else [10 / 20, 6 / 20, 4 / 20])
    assert len(drawn) == 152 and (found.sum(axis=1) == 152).all()
    assert np.abs(found @ counts / 152 - expected).max() < 0.1
    assert np.abs((found @ counts / 152).mean(axis=0) - expected).max() < 0.003
    assert np.abs(found.mean(axis=0) - drawn.often).max() < 0.15
    # As often as the weight says, up or down to the next whole number: no chip is forgotten by bad luck alone.
    assert (np.abs(found - drawn.often) < 1).all()


def test_chips_with_several_classes_are_drawn_by_what_they_show():
    counts = [[90, 10, 0], [100, 0, 0], [100, 0, 0], [60, 20, 20]] * 5
    drawn = sampling(counts, sampling="balanced")
    # By hand: frequencies 0.875, 0.075, 0.05; weights are the mean of 1 / frequency over what a chip shows.
    rare = np.array([0.9 / 0.875 + 0.1 / 0.075, 1 / 0.875, 1 / 0.875, 0.6 / 0.875 + 0.2 / 0.075 + 0.2 / 0.05]) / 3
    assert drawn.often.tolist() == pytest.approx(np.tile(rare, 5).tolist()) and drawn.often.sum() == pytest.approx(20)
    assert np.abs(times(drawn, 400).mean(axis=0) - drawn.often).max() < 0.1


def test_oversampling_shows_every_chip_and_rare_ones_again():
    counts = np.eye(3)[[0] * 16 + [1] * 3 + [2]]
    drawn = sampling(counts, sampling="oversample")
    found = times(drawn, 50)
    assert len(drawn) == 30 and (found >= 1).all()
    assert found[:, 19].min() >= 6 and found[:, 16:19].mean() == pytest.approx(20 / 9, abs=0.15)
    assert [len(batch) for batch in shuffled(drawn, 8, 0, 1)] == [8, 8, 7, 7]


def test_a_single_rare_chip_does_not_rule_an_epoch():
    counts = np.eye(2)[[0] * 999 + [1]]
    drawn = sampling(counts, info("a", "b"), sampling="balanced")
    assert 10 <= times(drawn)[0, 999] <= 11 and len(drawn) == 1000


def test_background_chips_are_others_in_each_epoch():
    counts = [[9, 0, 0]] * 40 + [[5, 4, 0]] * 10
    drawn = sampling(counts, background_share=0.25)
    found = times(drawn, 60)
    assert len(drawn) == 20 and (found.sum(axis=1) == 20).all() and found.max() == 1
    assert (found[:, 40:] == 1).all() and (found[:, :40].sum(axis=1) == 10).all()
    assert (found[0] != found[1]).any() and found[:, :40].any(axis=0).all()
    assert np.abs(found[:, :40].mean(axis=0) - 0.25).max() < 0.2 and drawn.often[:40].tolist() == [0.25] * 40
    none = sampling(counts, background_share=0.0)
    assert len(none) == 10 and set(none.order(0, 1)) == set(range(40, 50))


def test_fewer_background_chips_and_more_rare_ones_go_together():
    counts = np.eye(3)[[0] * 60 + [1] * 20 + [2] * 10]
    drawn = sampling(counts, background_share=0.5, sampling="balanced")
    found = times(drawn, 200)
    assert len(drawn) == 60 and (found @ counts).mean(axis=0) == pytest.approx([20, 20, 20], abs=0.5)
    assert np.abs(found.mean(axis=0) - drawn.often).max() < 0.15


def test_of_several_classes_a_chip_one_that_shows_none_is_background():
    counts = [[0, 0]] * 6 + [[1, 0], [1, 1], [0, 1]]
    drawn = sampling(counts, info("a", "b", task="multilabel"), background_share=0.5)
    assert len(drawn) == 6 and drawn.often.tolist() == [0.5] * 6 + [1] * 3
    even = sampling(counts, info("a", "b", task="multilabel"), sampling="balanced")
    assert even.often[:6].sum() == pytest.approx(3) and even.often.sum() == pytest.approx(9)


def test_the_order_follows_from_seed_and_epoch_alone():
    counts = np.eye(3)[[0] * 30 + [1] * 6 + [2]]
    for settings in ({"sampling": "balanced"}, {"sampling": "oversample", "background_share": 0.3}):
        first, again = sampling(counts, **settings), sampling(counts, **settings)
        first.order(1, 1)
        assert first.order(1, 2).tolist() == again.order(1, 2).tolist()
        assert first.order(1, 2).tolist() != first.order(1, 3).tolist() != first.order(2, 3).tolist()


def test_a_million_chips_are_drawn_in_well_under_a_second():
    counts = np.random.default_rng(0).integers(0, 100, (1_000_000, 3))
    counts[:500_000, 1:] = 0
    drawn = sampling(counts, sampling="balanced", background_share=0.5)
    begun = time.process_time()
    order = drawn.order(0, 1)
    assert time.process_time() - begun < 1.5 and len(order) == len(drawn) == round(drawn.often.sum())


def test_sampling_that_does_not_fit_the_chips_is_refused():
    SamplingSettings(sampling="balanced", background_share=0.5).check("segmentation", info().classes)
    land = info("land", "house").classes
    with pytest.raises(InputError, match=r"BACKGROUND_SHARE is 0\.5, and no class.*BACKGROUND_CLASS: one of 0 land"):
        SamplingSettings(background_share=0.5).check("segmentation", land)
    SamplingSettings(background_share=0.5, background_class="LAND").check("segmentation", land)
    SamplingSettings(background_share=0.5).check("multilabel", land)
    with pytest.raises(InputError, match=r'BACKGROUND_CLASS is "water".*one of 0 land, 1 house'):
        SamplingSettings(background_class="water").check("segmentation", land)
    for settings, name in (({"sampling": "root"}, "SAMPLING"), ({"background_share": 0.1}, "BACKGROUND_SHARE")):
        with pytest.raises(InputError, match=f"{name} is given, and the chips are for regression"):
            SamplingSettings(**settings).check("regression", ClassTable(()))


def test_a_training_goes_through_what_is_drawn_and_tells_it(tmp_path):
    folder = write_chip_folder(tmp_path / "chips", {"training": 6, "validation": 2})
    dataset = open_dataset(folder)
    counts = dataset.pixels[dataset.indices("training")]
    reporter = Heard()
    expected = settle_sampling(SamplingSettings(sampling="oversample"), dataset.info, counts, reporter)
    assert f"An epoch shows {len(expected)} chips, drawn from 6" in reporter.logs[0]
    config = TrainSegmenterConfig(chips=str(folder), output=str(tmp_path / "m.safetensors"), device="cpu", batch_size=2)
    config = config.replace(sampling="oversample", epochs=1, architecture="fcn8s", encoder="mobilenet_v3_small")
    reporter = Heard()
    train_segmenter(config.replace(pretrained="none", augmentation="none"), reporter)
    assert any("An epoch shows" in line for line in reporter.logs)
