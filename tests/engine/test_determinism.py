"""Deterministic trainings: what is switched on for a job is as it was when the job has ended."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from heard import Heard
from safetensors.torch import load_file
from scene_folder import write_scene_folder

from plugin.engine.config import FindLearningRateConfig, TrainClassifierConfig
from plugin.engine.errors import InputError
from plugin.engine.models.header import read_header
from plugin.engine.training import train_classifier as classifier
from plugin.engine.training.determinism import FIXED_SIZE, WORKSPACE, deterministic


def fused_attention() -> bool:
    found = (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled())
    return any((*found, torch.backends.cuda.cudnn_sdp_enabled()))


def switches() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark, os.environ.get(WORKSPACE), fused_attention(), warnings.showwarning,
    )  # fmt: skip


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    return switches()


@pytest.mark.parametrize("fails", [False, True])
def test_the_switches_hold_for_the_job_only(
    usual: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    during, train = [], classifier.train_compared

    def watched(*arguments: Any) -> Any:
        during.append(switches()[:5])
        if fails:
            raise InputError("It fails.", "Let it.")
        return train(*arguments)

    monkeypatch.setattr(classifier, "train_compared", watched)
    chips = str(write_scene_folder(tmp_path / "chips", {"training": 6, "validation": 2}))
    values = {"chips": chips, "architecture": "lecture_cnn", "filters": [4], "epochs": 1, "device": "cpu"}
    for name in ("one", "two"):
        config = TrainClassifierConfig.from_json(
            {**values, "output": str(tmp_path / f"{name}.safetensors"), "deterministic": True}
        )
        if fails:
            with pytest.raises(InputError, match="It fails"):
                classifier.train_classifier(config, Heard())
        else:
            classifier.train_classifier(config, Heard())
        assert switches() == usual
    assert during == [(True, True, False, FIXED_SIZE, False)] * 2
    if not fails:
        one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
        assert all(torch.equal(value, two[key]) for key, value in one.items())
        described = read_header(str(tmp_path / "one.safetensors"))
        assert described.metrics["precision"] == "float32" and described.recipe["deterministic"]


def test_what_has_no_such_algorithm_is_named_once_and_other_warnings_are_shown(
    usual: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, shown = Heard(), []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_, **__: shown.append(str(message)))
    warning = "upsample_backward does not have a deterministic implementation, but you set 'torch.use_deterministic …"
    with deterministic(True, heard):
        for text in (warning, warning, "something else"):
            warnings.warn(text, UserWarning, stacklevel=1)
    assert heard.warnings == [
        "DETERMINISTIC: upsample_backward has no such algorithm here, so two trainings may differ."
    ]
    assert shown == ["something else"]
    with deterministic(False, heard):
        assert switches()[:5] == usual[:5]


def test_a_workspace_that_the_user_has_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with deterministic(True, Heard()):
        assert os.environ[WORKSPACE] == ":16:8"
    assert os.environ[WORKSPACE] == ":16:8"


def test_a_range_test_has_no_such_setting() -> None:
    assert "deterministic" not in FindLearningRateConfig.declared()
    assert {"start_from", "compile"} <= FindLearningRateConfig.declared().keys()
