"""What can be chosen in the recipe of a training: each choice works, and is what the docs say."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from plugin.engine.classes import IGNORE_INDEX
from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.errors import InputError
from plugin.engine.recipe.loss import LOSSES, USUAL, LossSettings
from plugin.engine.recipe.optimizer import OPTIMIZERS, OptimizerSettings
from plugin.engine.recipe.schedule import SCHEDULES, ScheduleSettings
from plugin.engine.training.losses import LOSS_FUNCTIONS, cross_entropy, dice
from plugin.engine.training.optimization import Optimization
from plugin.engine.training.plan import AllAtOnce

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def test_each_loss_has_a_formula_and_each_task_a_usual_one():
    assert LOSS_FUNCTIONS.keys() == LOSSES.keys()
    assert all(LossSettings().chosen(task) == loss for task, loss in USUAL.items())


def test_a_loss_of_another_task_is_refused():
    with pytest.raises(InputError, match=r'LOSS is "dice", and the chips are for multilabel.*binary_cross_entropy'):
        LossSettings(loss="dice").chosen("multilabel")


def test_the_dice_loss_is_what_is_counted_by_hand():
    probabilities = torch.tensor([[[0.9, 0.2, 0.6]], [[0.1, 0.8, 0.4]], [[1e-9, 1e-9, 1e-9]]])[None]
    targets = torch.tensor([[[0, 1, IGNORE_INDEX]]])
    loss, weight = dice(probabilities.log(), targets, torch.ones(3), LossSettings())
    first, second = 2 * 0.9 / (0.9 + 0.2 + 1), 2 * 0.8 / (0.1 + 0.8 + 1)  # the third class is not shown
    assert loss.item() == pytest.approx(1 - (first + second) / 2, abs=1e-6) and weight == 2
    nothing, weight = dice(probabilities.log(), torch.full((1, 1, 3), IGNORE_INDEX), torch.ones(3), LossSettings())
    assert nothing == 0 and weight == 0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_makes_the_loss_less(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    images, targets = torch.randn(4, 2, 8, 8), torch.randint(0, 3, (4, 8, 8))
    optimization = Optimization(
        network, AllAtOnce(network), OptimizerSettings(optimizer=name, learning_rate=0.02),
        ScheduleSettings(epochs=40), 1, False, CPU,
    )  # fmt: skip
    losses = []
    for _ in range(40):
        loss, _ = cross_entropy(network(images), targets, torch.ones(3), LossSettings())
        optimization.step(loss)
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


def test_adamw_is_that_of_torch():
    made = Optimization(
        nn.Linear(2, 2), AllAtOnce(nn.Linear(2, 2)), OptimizerSettings(), ScheduleSettings(epochs=1), 1, False, CPU
    )
    usual = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    assert type(made.optimizer) is type(usual)
    assert {**usual.defaults, "weight_decay": 0} == {**made.optimizer.defaults, "weight_decay": 0}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_a_schedule_comes_near_its_peak_and_no_further(name, steps):
    settings = ScheduleSettings(schedule=name)
    rates = [settings.rate(step, steps) for step in range(steps)]
    assert 0.9 < max(rates) <= 1 and min(rates) >= 0 and all(map(math.isfinite, rates))


def test_the_page_of_choices_is_that_of_the_tables():
    spec = importlib.util.spec_from_file_location("document_choices", ROOT / ".ci" / "document_choices.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run .ci/document_choices.py"


def test_choices_are_declared_with_their_words():
    said = TrainSegmenterConfig.declared()["optimizer"]
    assert said.choices == tuple(OPTIMIZERS) and said.table is OPTIMIZERS
    with pytest.raises(InputError, match=r'OPTIMIZER is "best".*adamw'):
        TrainSegmenterConfig.from_json({"chips": "", "output": "", "optimizer": "best"})
