from __future__ import annotations

import json

import pytest

from plugin.engine.config import ExportChipsConfig, SegmentRasterConfig, TrainSegmenterConfig
from plugin.engine.errors import InputError


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
        ("architecture", "lenet", "unet, fcn, fcn8s"),
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
        TrainSegmenterConfig(**{"chips": "a", "output": "b", name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("input", "a.tif"), ("input", [3]), ("bands", ["1"]), ("bands", None), ("extent", [None] * 4)]
)
def test_lists_hold_what_they_should(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{name.upper()} is .* no list of"):
        ExportChipsConfig.from_json({"input": ["a.tif"], "output": "out", name: value})
