"""A training to watch: history as CSV, events for TensorBoard."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
from chip_folder import write_chip_folder
from heard import Heard

from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.errors import InputError
from plugin.engine.training.train_segmenter import train_segmenter
from plugin.engine.training.watch import check_tensorboard, flat


def train(folder: Path, reporter: Heard, **values: Any) -> dict[str, Any]:
    chips = str(write_chip_folder(folder / "chips", {"training": 6, "validation": 2}))
    settings = {
        "chips": chips, "output": str(folder / "m.safetensors"), "architecture": "fcn8s", "device": "cpu", "epochs": 2,
        "encoder": "mobilenet_v3_small", "pretrained": "none",
    }  # fmt: skip
    return train_segmenter(TrainSegmenterConfig.from_json({**settings, **values}), reporter)


def test_the_history_is_a_table_of_the_epochs(tmp_path):
    reporter = Heard()
    result = train(tmp_path, reporter, history=str(tmp_path / "h.csv"))
    with open(result["history"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row, record in zip(rows, reporter.epochs):
        assert float(row["training_loss"]) == record["training"]["loss"]
        assert float(row["validation_mean_iou"]) == record["validation"]["mean_iou"]
        assert float(row["chips_a_second"]) > 0 and int(row["memory"]) > 10**7
    assert {row["best"] for row in rows} <= {"True", "False"} and "validation_iou" not in rows[0]


def test_numbers_of_a_record_are_named_by_their_place():
    record = {"epoch": 1, "training": {"loss": 0.5, "iou": [1, 2]}, "validation": None, "name": "x"}
    assert flat(record) == {"epoch": 1, "training_loss": 0.5, "validation": None}


def test_a_history_has_the_ending_of_a_table(tmp_path):
    with pytest.raises(InputError, match=r"HISTORY is .*h\.txt"):
        train(tmp_path, Heard(), history=str(tmp_path / "h.txt"))


def test_tensorboard_that_is_not_there_is_told_before_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"TENSORBOARD is given.*not installed"):
        check_tensorboard()


def test_tensorboard_shows_steps_and_epochs(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reporter = Heard()
    train(tmp_path, reporter, tensorboard=str(tmp_path / "events"))
    found = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    losses = [event.value for event in found.Scalars("epoch/validation_loss")]
    assert losses == pytest.approx([record["validation"]["loss"] for record in reporter.epochs])
    assert [event.step for event in found.Scalars("step/learning_rate")] == [1, 2]
