"""What can be chosen in the recipe of a training: each choice works, and is what the docs say."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from optimizing import Costs, loss_of, optimization
from torch import nn

from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.errors import InputError
from plugin.engine.recipe.optimizer import OPTIMIZERS, OptimizerSettings
from plugin.engine.recipe.schedule import SCHEDULES, ScheduleSettings

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_makes_the_loss_less(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    images, targets = torch.randn(4, 2, 8, 8), torch.randint(0, 3, (4, 8, 8))
    rate = 1 if name == "adadelta" else 0.02
    schedule = ScheduleSettings(epochs=40)
    moving = optimization(network, schedule, optimizer=name, learning_rate=rate)
    losses = [loss_of(moving.step(Costs(), (images, targets))) for _ in range(40)]
    assert losses[-1] < 0.95 * losses[0]


def test_adamw_is_that_of_torch():
    made = optimization(nn.Linear(2, 2))
    usual = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    assert type(made.optimizer) is type(usual)
    assert {**usual.defaults, "weight_decay": 0} == {**made.optimizer.defaults, "weight_decay": 0}


# With values that are no defaults, and that PyTorch's own classes are called with.
OF_TORCH = {
    "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.99), "eps": 1e-3}),
    "sgd": (torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.8, "alpha": 0.99, "eps": 1e-3}),
    "adagrad": (torch.optim.Adagrad, {"eps": 1e-3}),
    "adadelta": (torch.optim.Adadelta, {"rho": 0.99, "eps": 1e-3}),
    "adam": (torch.optim.Adam, {"betas": (0.8, 0.99), "eps": 1e-3}),
    "adamax": (torch.optim.Adamax, {"betas": (0.8, 0.99), "eps": 1e-3}),
    "nadam": (torch.optim.NAdam, {"betas": (0.8, 0.99), "eps": 1e-3}),
}


@pytest.mark.parametrize("name", OF_TORCH)
def test_an_optimizer_steps_as_that_of_torch_with_its_settings(name):
    kind, arguments = OF_TORCH[name]
    own = {"epsilon": 1e-3} if "eps" in arguments else {}
    own |= {"square_momentum": 0.99} if {"betas", "rho", "alpha"} & arguments.keys() else {}
    torch.manual_seed(0)
    inputs, weight = torch.randn(8, 3), nn.Parameter(torch.randn(3, 2))
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.data = weight.data.T.clone()
    usual = kind([weight], lr=0.03, weight_decay=0.1, **arguments)
    ours = optimization(
        network=layer, optimizer=name, learning_rate=0.03, weight_decay=0.1, momentum=0.8, gradient_clip=0, **own
    )
    for _ in range(4):
        usual.zero_grad()
        (inputs @ weight).square().sum().backward()
        usual.step()
        ours.step(Costs(torch.square), (inputs, inputs))
    torch.testing.assert_close(layer.weight.T, weight)


def test_each_optimizer_has_a_rate_and_classifiers_learn_at_half_of_it():
    for name, row in OPTIMIZERS.items():
        found = OptimizerSettings(optimizer=name)
        assert found.settled("segmentation") == {"learning_rate": row.rate, "weight_decay": row.decay}
        assert found.settled("multilabel")["learning_rate"] == row.rate / 2 > 0
    assert OptimizerSettings().settled("segmentation") == {"learning_rate": 1e-3, "weight_decay": 1e-2}
    assert OptimizerSettings().settled("classification")["learning_rate"] == 5e-4
    given = OptimizerSettings(optimizer="sgd", learning_rate=0.3, weight_decay=0)
    assert given.settled("classification") == {"learning_rate": 0.3, "weight_decay": 0}


def test_sgd_without_momentum_has_nothing_to_look_ahead_by():
    group = optimization(optimizer="sgd", momentum=0).optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (0, False)
    assert optimization(optimizer="sgd").optimizer.param_groups[0]["nesterov"]
    assert not optimization(optimizer="sgd", nesterov=False).optimizer.param_groups[0]["nesterov"]


@pytest.mark.parametrize(
    ("name", "values"),
    [("sgd", {"square_momentum": 0.9}), ("adagrad", {"square_momentum": 0.9}), ("sgd", {"epsilon": 1e-3})],
)
def test_what_an_optimizer_does_not_have_is_refused(name, values):
    (setting, value), = values.items()  # fmt: skip
    with pytest.raises(InputError, match=f"{setting.upper()} is {value:g}, and OPTIMIZER {name} has none"):
        OptimizerSettings(optimizer=name, **values).check()
    OptimizerSettings(optimizer="adam", **values).check()


@pytest.mark.parametrize(("clip", "norm"), [(1.0, 1.0), (0.25, 0.25), (0.0, None)])
def test_gradients_are_clipped_to_the_norm_that_is_set(clip, norm):
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data.fill_(1)
    moving = optimization(layer, optimizer="sgd", momentum=0, learning_rate=1, weight_decay=0, gradient_clip=clip)
    moving.step(Costs(lambda answers: 100 * answers), (torch.ones(1, 3), torch.ones(1)))
    moved = (layer.weight - 1).norm().item()
    assert moved == pytest.approx(norm or 100 * math.sqrt(3), rel=1e-4)


def rates_of_torch(kind, steps, **arguments):
    """What a scheduler of torch makes of a rate of 1, step by step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler, found = kind(optimizer, **arguments), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def rates(steps, improved=(), **settings):
    made = ScheduleSettings(**settings)
    return [made.rate(step, steps, improved) for step in range(steps)]


T = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("settings", "kind", "arguments"),
    [
        ({"schedule": "constant"}, T.ConstantLR, {"factor": 1}),
        ({"schedule": "step"}, T.StepLR, {"step_size": 20, "gamma": 0.1}),
        ({"schedule": "step", "drops": 5, "drop_factor": 0.5}, T.StepLR, {"step_size": 10, "gamma": 0.5}),
        ({"schedule": "multi_step"}, T.MultiStepLR, {"milestones": [30, 45], "gamma": 0.1}),
        ({"schedule": "multi_step", "milestones": (0.1, 0.35, 0.7), "drop_factor": 0.3}, T.MultiStepLR,
            {"milestones": [6, 21, 42], "gamma": 0.3}),
        ({"schedule": "exponential", "lowest_rate": 0.02}, T.ExponentialLR, {"gamma": 0.02 ** (1 / 59)}),
        ({"schedule": "cosine", "lowest_rate": 0.1}, T.CosineAnnealingLR, {"T_max": 59, "eta_min": 0.1}),
        ({"schedule": "cyclic", "lowest_rate": 0.2, "cycles": 3}, T.CyclicLR,
            {"base_lr": 0.2, "max_lr": 1.0, "step_size_up": 59 / 6}),
        ({"schedule": "one_cycle"}, T.OneCycleLR,
            {"max_lr": 1.0, "total_steps": 60, "pct_start": (0.25 * 59 + 1) / 60, "final_div_factor": 40}),
        ({"schedule": "one_cycle", "warm_up": 0.1, "lowest_rate": 0.01}, T.OneCycleLR,
            {"max_lr": 1.0, "total_steps": 60, "pct_start": (0.1 * 59 + 1) / 60, "final_div_factor": 4}),
    ],
)  # fmt: skip
def test_a_schedule_has_the_rates_of_torch(settings, kind, arguments):
    assert rates(60, **settings) == pytest.approx(rates_of_torch(kind, 60, **arguments), abs=1e-9)


def test_the_default_schedule_is_what_it_was():
    # To the last bit: the same training is the same model file.
    assert rates(9) == [
        0.04, 0.5199999999999999, 1.0, 0.9330796891903271, 0.7502500000000001,
        0.5005000000000001, 0.25075000000000014, 0.06792031080967276, 0.0010000000000000009,
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "one_cycle"])
def test_the_rate_rises_before_any_schedule(name):
    found, plain = rates(50, schedule=name, warm_up=0.2), rates(40, schedule=name)
    rising = rates_of_torch(T.LinearLR, 10, start_factor=1 / 25, total_iters=10)
    assert found[:10] == pytest.approx(rising) and found[10:] == plain
    assert rates(1, schedule=name, warm_up=0.9)[0] > 0


def test_the_rate_drops_on_plateaus_as_that_of_torch():
    figures = [3, 2, 2, 2.5, 1, 1, 1, 1, 1, 1, 0.5, 0.6, 0.6]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    usual = T.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0)  # drops after one more
    improved, best = [], math.inf
    settings = ScheduleSettings(schedule="plateau", drop_factor=0.5, plateau_epochs=2, lowest_rate=1e-6)
    for figure in figures:
        improved.append(figure < best)
        best = min(best, figure)
        usual.step(figure)
        assert settings.rate(3, 100, improved) == pytest.approx(optimizer.param_groups[0]["lr"]), figure
    assert optimizer.param_groups[0]["lr"] == 0.5**4
    assert settings.replace(lowest_rate=0.2).rate(3, 100, improved) == 0.2


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.7, 0.2), (0.0,), (1.0,), (float("nan"),)])
def test_milestones_are_shares_in_rising_order(shares):
    with pytest.raises(InputError, match=r"MILESTONES is .*such as 0.5,0.75"):
        ScheduleSettings(milestones=shares)


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
