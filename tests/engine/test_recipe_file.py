"""Settings of an earlier training are used again, from its model file or a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from safetensors.torch import load_file

from plugin.engine.config import TrainClassifierConfig, TrainSegmenterConfig
from plugin.engine.errors import InputError
from plugin.engine.recipe.augmentation import AugmentationSettings
from plugin.engine.recipe.stopping import StoppingSettings
from plugin.engine.training.recipe_file import with_recipe
from plugin.engine.training.train_segmenter import train_segmenter


def config(recipe: Path | str, **values: Any) -> TrainSegmenterConfig:
    return TrainSegmenterConfig.from_json({"chips": "c", "output": "o.safetensors", "recipe": str(recipe), **values})


def written(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_a_recipe_holds_where_nothing_else_is_given(tmp_path):
    recipe = written(tmp_path / "r.json", {"epochs": 7, "LOSS": "dice", "batch_size": 3, "chips": "/elsewhere"})
    found = with_recipe(config(recipe, batch_size=5))
    assert (found.schedule.epochs, found.loss.loss, found.batch_size, found.chips) == (7, "dice", 5, "c")
    assert with_recipe(config(recipe, minutes=2)).schedule.epochs is None  # one length is enough


def test_another_preset_replaces_all_numbers_of_the_recipes(tmp_path):
    numbers = AugmentationSettings(augmentation="strong").settled().to_json()  # as a model file has them
    recipe = written(tmp_path / "r.json", {**numbers, "seed": 9})
    assert with_recipe(config(recipe)).augmentation.to_json() == numbers
    found = with_recipe(config(recipe, augmentation="light", noise=0.5))
    assert found.augmentation == AugmentationSettings(augmentation="light", noise=0.5) and found.seed == 9


@pytest.mark.parametrize(
    ("of_recipe", "changed", "expected"),
    [
        ({"learning_rate": 0.001, "weight_decay": 0.01}, {"optimizer": "sgd"}, {"learning_rate": None}),
        ({"optimizer": "adam", "epsilon": 1e-5}, {"optimizer": "sgd"}, {"epsilon": None, "weight_decay": None}),
        ({"optimizer": "sgd", "learning_rate": 0.1}, {"optimizer": "sgd"}, {"learning_rate": 0.1}),  # the same one
        ({"optimizer": "sgd", "learning_rate": 0.1}, {}, {"optimizer": "sgd", "learning_rate": 0.1}),
        ({"learning_rate": 0.001}, {"optimizer": "sgd", "learning_rate": 0.2}, {"learning_rate": 0.2}),
        ({"epochs": 40, "freeze": "warm_up", "freeze_epochs": 5}, {"epochs": 4}, {"freeze_epochs": None}),
        ({"freeze": "warm_up", "freeze_epochs": 5}, {"freeze": "encoder"}, {"freeze_epochs": None}),
        ({"class_weight_list": "1, 2"}, {"class_weights": "balanced"}, {"class_weight_list": ""}),
        ({"timm_encoder": "regnety_016", "pretrained": "none"}, {"encoder": "resnet18"}, {"timm_encoder": ""}),
        ({"encoder": "resnet50", "pretrained": "aerial_fmow"}, {"encoder": "resnet18"}, {"pretrained": "auto"}),
        ({"encoder": "resnet50", "pretrained": "aerial_fmow"}, {"architecture": "fpn"}, {"pretrained": "aerial_fmow"}),
        ({"normalization": "group"}, {"architecture": "dpt"}, {"normalization": "batch"}),
    ],
)
def test_what_belongs_to_a_setting_of_the_recipe_goes_with_it(tmp_path, of_recipe, changed, expected):
    found = with_recipe(config(written(tmp_path / "r.json", of_recipe), **changed)).to_json()
    assert {name: found[name] for name in expected} == expected


def test_the_shape_of_a_teaching_network_goes_with_it(tmp_path):
    recipe = str(written(tmp_path / "r.json", {"architecture": "lecture_cnn", "filters": [8], "pretrained": "none"}))
    values = {"chips": "c", "output": "o", "recipe": recipe, "architecture": "resnet18"}
    found = with_recipe(TrainClassifierConfig.from_json(values))
    assert (found.filters, found.pretrained) == (None, "auto")


def test_what_qgis_copies_as_json_is_a_recipe(tmp_path):
    copied = {"algorithm_path": "x", "inputs": {"CHIPS": "/x", "OUTPUT": "y", "SEED": 9, "ENCODER": "resnet18"}}
    found = with_recipe(config(written(tmp_path / "r.json", copied)))
    assert (found.seed, found.encoder, found.output) == (9, "resnet18", "o.safetensors")


def test_lists_and_what_is_empty_are_read_as_the_dialog_has_them(tmp_path):
    copied = {"inputs": {"FILTERS": "8, 16", "HIDDEN_SIZES": "", "MILESTONES": "0.5,0.75", "EPOCHS": None, "SEED": 2}}
    recipe = str(written(tmp_path / "r.json", copied))
    found = with_recipe(TrainClassifierConfig.from_json({"chips": "c", "output": "o", "recipe": recipe}))
    assert (found.filters, found.hidden_sizes, found.schedule.milestones) == ((8, 16), None, (0.5, 0.75))
    wrong = str(written(tmp_path / "w.json", {"FILTERS": "many"}))
    with pytest.raises(InputError, match="FILTERS is 'many'"):
        with_recipe(TrainClassifierConfig.from_json({"chips": "c", "output": "o", "recipe": wrong}))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"filters": [3]}, r"has FILTERS, which this training does not have"),
        ({"epochs": "many"}, r"does not fit: EPOCHS is 'many'"),
        ({"loss": "best"}, r'does not fit: LOSS is "best"'),
        ([1, 2], r"is no recipe"),
        ("text", r"is no recipe"),
        ({"inputs": 5}, r"is no recipe"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, values, match):
    with pytest.raises(InputError, match=match):
        with_recipe(config(written(tmp_path / "r.json", values)))


def test_a_recipe_that_is_not_there_is_refused(tmp_path):
    for name in ("r.json", "r.safetensors"):
        with pytest.raises(InputError, match=name):
            with_recipe(config(tmp_path / name))


def test_the_recipe_of_a_model_file_trains_the_same_network_again(tmp_path):
    chips = str(write_chip_folder(tmp_path / "chips", {"training": 6, "validation": 2}))
    first = {
        "chips": chips, "output": str(tmp_path / "a.safetensors"), "architecture": "fcn8s", "device": "cpu", "seed": 4,
        "encoder": "mobilenet_v3_small", "pretrained": "none", "epochs": 1, "optimizer": "sgd", "augmentation": "light",
    }  # fmt: skip
    train_segmenter(TrainSegmenterConfig.from_json(first), Heard())
    again = {"chips": chips, "output": str(tmp_path / "b.safetensors"), "device": "cpu", "recipe": first["output"]}
    train_segmenter(TrainSegmenterConfig.from_json(again), Heard())
    one, other = load_file(first["output"]), load_file(again["output"])
    assert one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_classifier_does_not_take_the_recipe_of_a_segmenter(tmp_path):
    recipe = written(tmp_path / "r.json", {"architecture": "unet", "epochs": 3})
    classifier = TrainClassifierConfig.from_json({"chips": "c", "output": "o", "recipe": str(recipe)})
    with pytest.raises(InputError, match="ARCHITECTURE"):
        with_recipe(classifier)


def test_the_best_epoch_is_that_of_the_figure_that_is_monitored():
    assert StoppingSettings(monitor="loss").score({"loss": 2.0}) == -2.0
    assert StoppingSettings(monitor="mean_f1").score({"mean_f1": None}) is None
    with pytest.raises(InputError, match=r'MONITOR is "mean_iou", and the chips are for multilabel.*mean_average'):
        StoppingSettings(monitor="mean_iou").check("multilabel")


def test_training_keeps_the_epoch_of_the_monitored_figure(tmp_path):
    chips = str(write_chip_folder(tmp_path / "chips", {"training": 6, "validation": 3}))
    for monitor in ("loss", "overall_accuracy"):
        reporter = Heard()
        values = {
            "chips": chips, "output": str(tmp_path / "m.safetensors"), "architecture": "fcn8s", "device": "cpu",
            "encoder": "mobilenet_v3_small", "pretrained": "none", "epochs": 4, "monitor": monitor,
        }  # fmt: skip
        result = train_segmenter(TrainSegmenterConfig.from_json(values), reporter)
        figures = [record["validation"][monitor] * (-1 if monitor == "loss" else 1) for record in reporter.epochs]
        assert result["best_epoch"] == 1 + figures.index(max(figures))
