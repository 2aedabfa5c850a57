from __future__ import annotations

import dataclasses
import json

import pytest

from plugin.engine.config import (
    ExportChipsConfig,
    SegmentRasterConfig,
    TrainClassifierConfig,
    TrainingConfig,
    TrainSegmenterConfig,
)
from plugin.engine.errors import InputError
from plugin.engine.settings import Settings


def test_a_config_survives_json() -> None:
    config = ExportChipsConfig(input=("a.tif",), output="out", bands=(1, 3), extent=(0.0, 1.0, 2.0, 3.0))
    assert ExportChipsConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(InputError, match="epoch"):
        TrainSegmenterConfig.from_json({"chips": "a", "output": "b", "epoch": 3})


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(InputError, match="model"):
        SegmentRasterConfig.from_json({"input": "a", "output": "b"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", 0, "EPOCHS is 0"),
        ("learning_rate", float("nan"), "LEARNING_RATE"),
        ("architecture", "lenet", "unet, unetplusplus, .* fcn, fcn8s"),
        ("batch_size", "eight", "no whole number"),
        ("batch_size", 2.0, "no whole number"),
        ("batch_size", True, "no whole number"),
        ("learning_rate", 10**400, "no number"),
        ("output", 3, "no text"),
        ("output", None, "no text"),
        ("report", "a\0b", "no text"),
        ("report", "a\ud800b", "no text"),
        ("device", [], "no text"),
        ("augment", 1, "no truth value"),
        ("augment", {"a": [[[]]]}, "no truth value"),
    ],
)
def test_values_out_of_bounds_are_refused_in_words(name: str, value: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainSegmenterConfig.from_json({"chips": "a", "output": "b", name: value})


def test_settings_of_groups_have_one_namespace() -> None:
    config = TrainClassifierConfig.from_json({"chips": "a", "output": "b", "epochs": 3, "seed": 5})
    assert (config.schedule.epochs, config.seed) == (3, 5)
    changed = config.replace(epochs=4, seed=6)
    assert (changed.schedule.epochs, changed.seed, config.schedule.epochs) == (4, 6, 3)
    assert TrainClassifierConfig.from_json(json.loads(json.dumps(changed.to_json()))) == changed
    assert list(changed.to_json()) == list(TrainClassifierConfig.declared())


@pytest.mark.parametrize("kind", [TrainSegmenterConfig, TrainClassifierConfig])
def test_no_setting_stands_in_two_groups(kind: type[TrainingConfig]) -> None:
    groups = [value for value in vars(kind(chips="a", output="b")).values() if isinstance(value, Settings)]
    names = [name for found in groups for name in found.to_json()]
    names += [spec.name for spec in dataclasses.fields(kind) if spec.default_factory is dataclasses.MISSING]
    assert len(groups) > 3 and sorted(names) == sorted(kind.declared())


def test_a_job_may_have_other_defaults_than_its_groups() -> None:
    found = TrainClassifierConfig.declared()["label_smoothing"].default
    assert found == TrainClassifierConfig(chips="a", output="b").loss.label_smoothing == 0.1
    assert TrainSegmenterConfig.declared()["label_smoothing"].default == 0


@pytest.mark.parametrize(
    ("name", "value"), [("input", "a.tif"), ("input", [3]), ("bands", ["1"]), ("bands", None), ("extent", [None] * 4)]
)
def test_lists_hold_what_they_should(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{name.upper()} is .* no list of"):
        ExportChipsConfig.from_json({"input": ["a.tif"], "output": "out", name: value})
