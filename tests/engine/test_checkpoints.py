"""Trainings that are interrupted and resumed, that accumulate, average, and end by steps or by the clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from optimizing import Costs, optimization
from safetensors.torch import load_file
from scene_folder import write_scene_folder
from torch import nn

from plugin.engine.config import TrainClassifierConfig, TrainSegmenterConfig
from plugin.engine.drafts import claim
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.files import checkpoint_path
from plugin.engine.models.header import read_header
from plugin.engine.models.model_file import load_model
from plugin.engine.recipe.schedule import ScheduleSettings
from plugin.engine.training import loop
from plugin.engine.training import pace as pace_module
from plugin.engine.training.loop import evaluate
from plugin.engine.training.pace import Pace
from plugin.engine.training.train_classifier import train_classifier
from plugin.engine.training.train_segmenter import train_segmenter

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "encoder": "mobilenet_v3_small", "architecture": "fcn8s", "pretrained": "none", "epochs": 3, "batch_size": 3,
    "device": "cpu", "radiometric_jitter": 0.2, "seed": 3,
}  # fmt: skip
# A checkpoint after each step, and the end of the process after one of them.
KILLED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from plugin.engine import config
from plugin.engine.events import Reporter
from plugin.engine.training import checkpoint, loop
kind, function = sys.argv[2].split()
left = int(sys.argv[4])
plain = checkpoint.Checkpoints.offer
def offer(self, fit):
    global left
    self.cost, self.minutes = 0.0, 0.0
    plain(self, fit)
    left -= 1
    if left == 0:
        os._exit(9)
checkpoint.Checkpoints.offer = offer
module = __import__("plugin.engine.training." + function, fromlist=[function])
getattr(module, function)(getattr(config, kind).from_json(json.loads(sys.argv[3])), Reporter())
"""


@pytest.fixture(scope="module")
def chips(tmp_path_factory) -> str:
    return str(write_chip_folder(tmp_path_factory.mktemp("c") / "chips", {"training": 8, "validation": 3, "test": 2}))


def segmenter(chips: str, folder: Path, reporter: Any = None, **changes: Any) -> dict[str, Any]:
    values = {**SMALL, "chips": chips, "output": str(folder / "model.safetensors"), **changes}
    return train_segmenter(TrainSegmenterConfig.from_json(values), reporter or Heard())


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def history(path: Path) -> list[dict[str, Any]]:
    """The figures of the epochs, without what depends on how fast and full the machine was."""
    measured = {"seconds": 0, "chips_a_second": 0, "memory": 0}
    return [{**record, **measured} for record in read_header(str(path)).history]


def kill(settings: dict[str, Any], kind: str, steps: int) -> None:
    """Train in a process that ends after some steps, as if killed."""
    command = [sys.executable, "-c", KILLED, str(ROOT), kind, json.dumps({**settings, "resume": True}), str(steps)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums depend on how they are shared out
    assert subprocess.run(command, check=False, timeout=300, env={**os.environ, **threads}).returncode == 9


@pytest.mark.parametrize(
    ("extra", "steps"), [({"ema_decay": 0.9, "accumulation": 2}, [1, 2]), ({"optimizer": "sgd"}, [5])]
)
def test_a_killed_training_that_resumes_ends_with_the_same_weights(chips, tmp_path, extra, steps):
    segmenter(chips, tmp_path, output=str(tmp_path / "whole.safetensors"), **extra)
    settings = {**SMALL, **extra, "chips": chips, "output": str(tmp_path / "model.safetensors")}
    for left in steps:
        kill(settings, "TrainSegmenterConfig train_segmenter", left)
    segmenter(chips, tmp_path, resume=True, **extra)
    assert same(tmp_path / "model.safetensors", tmp_path / "whole.safetensors")
    assert history(tmp_path / "model.safetensors") == history(tmp_path / "whole.safetensors")
    assert not checkpoint_path(settings["output"]).exists()


def test_a_killed_classifier_that_resumes_ends_with_the_same_weights(tmp_path):
    scenes = write_scene_folder(tmp_path / "scenes", {"training": 12, "validation": 4})
    settings = {
        "chips": str(scenes), "output": str(tmp_path / "model.safetensors"), "epochs": 3, "batch_size": 4,
        "device": "cpu", "architecture": "keras_cnn", "filters": [4, 8], "hidden_sizes": [8],
    }  # fmt: skip
    whole = {**settings, "output": str(tmp_path / "whole.safetensors")}
    train_classifier(TrainClassifierConfig.from_json(whole), Heard())
    kill(settings, "TrainClassifierConfig train_classifier", 2)
    train_classifier(TrainClassifierConfig.from_json({**settings, "resume": True}), Heard())
    assert same(tmp_path / "model.safetensors", tmp_path / "whole.safetensors")
    assert history(tmp_path / "model.safetensors") == history(tmp_path / "whole.safetensors")


class Cut(Heard):
    """Cancels after an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.cancel_at = 1


def test_what_is_cancelled_can_be_resumed_where_that_is_wanted(chips, tmp_path):
    with pytest.raises(Cancelled):
        segmenter(chips, tmp_path, Cut(), resume=True)
    checkpoint = tmp_path / "model.checkpoint.safetensors"
    _, header = load_model(str(checkpoint))  # a model file like any other
    assert not header.finished and len(header.history) == 1
    reporter = Heard()
    assert segmenter(chips, tmp_path, reporter, resume=True)["epochs"] == 3
    assert any("resumes at step 3, in epoch 2" in text for text in reporter.logs) and len(reporter.epochs) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_training_orphaned_while_it_judges_its_last_epoch_judges_it_when_resumed(chips, tmp_path, monkeypatch):
    segmenter(chips, tmp_path, output=str(tmp_path / "whole.safetensors"), steps=7, epochs=None)
    reporter, judged = Heard(), []

    def judge(*given):
        judged.append(True)
        if len(judged) == 3:  # of the last epoch, which is cut short
            reporter.orphaned_at = 0
            reporter.check_wanted()
        return evaluate(*given)

    monkeypatch.setattr(loop, "evaluate", judge)
    with pytest.raises(Cancelled):
        segmenter(chips, tmp_path, reporter, steps=7, epochs=None)
    monkeypatch.undo()
    segmenter(chips, tmp_path, resume=True, steps=7, epochs=None)
    assert same(tmp_path / "model.safetensors", tmp_path / "whole.safetensors")
    assert history(tmp_path / "model.safetensors") == history(tmp_path / "whole.safetensors")
    assert len(history(tmp_path / "model.safetensors")) == 3


def test_a_checkpoint_that_another_job_writes_does_not_end_training(chips, tmp_path):
    with claim(tmp_path / "model.checkpoint.safetensors"):
        reporter = Heard()
        thread = threading.Thread(target=segmenter, args=(chips, tmp_path, reporter))
        thread.start()
        thread.join()
    assert (tmp_path / "model.safetensors").is_file()
    assert any("No checkpoint is kept" in text for text in reporter.warnings)


def test_the_checkpoint_of_another_training_is_refused(chips, tmp_path):
    with pytest.raises(Cancelled):
        segmenter(chips, tmp_path, Cut(), resume=True)
    with pytest.raises(InputError, match=r"other settings: EPOCHS 3, not 4, SEED 3, not 4.*") as caught:
        segmenter(chips, tmp_path, resume=True, epochs=4, seed=4)
    assert "turn RESUME off" in caught.value.remedy
    other = str(write_chip_folder(tmp_path / "other", {"training": 6, "validation": 3, "test": 2}))
    with pytest.raises(InputError, match="on other chips"):
        segmenter(other, tmp_path, resume=True)
    path = tmp_path / "model.checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        segmenter(chips, tmp_path, resume=True)


@pytest.mark.parametrize("damage", ["missing", "shape", "facts", "best"])
def test_a_checkpoint_with_another_state_is_refused(chips, tmp_path, damage):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with pytest.raises(Cancelled):
        segmenter(chips, tmp_path, Cut(), resume=True)
    path = tmp_path / "model.checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    key = next(key for key in tensors if key.startswith("training.network."))
    if damage == "best":
        key = key.removeprefix("training.network.")
    if damage == "missing":
        del tensors[key]
    elif damage in ("shape", "best"):
        tensors[key] = torch.zeros(1, 2, 3, 5, 7)
    else:
        metadata["terrazzo_training"] = metadata["terrazzo_training"].replace('"epoch": 2', '"epoch": "x"')
    save_file(tensors, path, metadata)
    with pytest.raises(InputError, match="damaged"):
        segmenter(chips, tmp_path, resume=True)


def test_without_a_checkpoint_training_starts_from_the_beginning(chips, tmp_path):
    reporter = Heard()
    segmenter(chips, tmp_path, reporter, resume=True, epochs=1)
    assert any("There is no checkpoint" in text for text in reporter.logs)


def test_a_length_in_steps_cuts_the_last_epoch(chips, tmp_path):
    reporter = Heard()
    result = segmenter(chips, tmp_path, reporter, epochs=None, steps=4)  # of 3 an epoch
    assert result["epochs"] == 2 and reporter.epochs[-1]["learning_rate"] == pytest.approx(1e-3 / 1000)


def test_two_lengths_are_refused(chips, tmp_path):
    with pytest.raises(InputError, match="more than once: EPOCHS 3 and MINUTES 2"):
        segmenter(chips, tmp_path, minutes=2)


def test_by_the_clock_the_schedule_is_complete_when_the_time_is_up(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    pace = Pace(ScheduleSettings(minutes=2), steps_an_epoch=10, closing_looks=90, spent=20.0)
    pace.begin(1, [])
    shares = []
    while not pace.over:
        now[0] += 1.0  # seconds a step of three looks
        shares.append(pace.share(1))
        pace.step()
        pace.look(3)
    # 100 seconds are left, of which looks at 90 chips take 30.
    assert pace.steps == pytest.approx(70, abs=1) and max(shares) > 0.99 and shares[-1] < 0.01
    assert pace.epochs is None


def test_a_training_by_the_clock_ends_in_time(chips, tmp_path):
    begun = time.monotonic()
    reporter = Heard()
    segmenter(chips, tmp_path, reporter, epochs=None, minutes=0.1)
    assert time.monotonic() - begun < 60 and len(reporter.epochs) >= 1
    assert read_header(str(tmp_path / "model.safetensors")).recipe["minutes"] == 0.1


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))


class Counted(Costs):
    """Counts the pieces, and how many answers are kept when the next one comes."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces, self.kept, self.answers = 0, 0, None

    def learn(self, network, batch, generator):
        self.kept += self.answers is not None and self.answers() is not None
        answers = super().learn(network, batch, generator)
        self.pieces, self.answers = self.pieces + 1, weakref.ref(answers.logits)
        return answers


def test_the_answers_to_a_piece_are_let_go_before_the_next(monkeypatch):
    task = Counted()
    moving = optimization(small_network(), batch_size=2, optimizer="sgd")
    moving.step(task, (torch.randn(8, 2, 8, 8), torch.randint(0, 3, (8, 8, 8))))
    assert (task.pieces, task.kept) == (4, 0)


def test_pieces_of_a_batch_give_the_gradients_of_the_whole():
    images, targets = torch.randn(6, 2, 8, 8), torch.randint(0, 3, (6, 8, 8))
    targets[:4, 2:] = 255  # so that pieces weigh differently
    networks = [small_network(), small_network()]
    for network, size in zip(networks, (6, 2)):
        moving, task = optimization(network, batch_size=size, optimizer="sgd"), Counted()
        moving.step(task, (images, targets))
        assert task.pieces == 6 // size
    for one, other in zip(*(network.parameters() for network in networks)):
        assert torch.allclose(one, other, atol=1e-7)


def test_a_lack_of_memory_makes_smaller_pieces_and_the_same_step():
    class Narrow(Costs):
        def learn(self, network, batch, generator):
            if len(batch[0]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().learn(network, batch, generator)

    images, targets, reporter = torch.randn(8, 2, 8, 8), torch.randint(0, 3, (8, 8, 8)), Heard()
    networks = [small_network(), small_network()]
    optimization(networks[0], optimizer="sgd").step(Costs(), (images, targets))
    moving = optimization(networks[1], reporter=reporter, optimizer="sgd")
    moving.step(Narrow(), (images, targets))
    assert moving.piece == 2 and [text for text in reporter.logs if "2 chips at once" in text]
    for one, other in zip(*(network.parameters() for network in networks)):
        assert torch.allclose(one, other, atol=1e-7)


def test_where_no_single_chip_fits_a_smaller_batch_is_not_advised():
    class Full(Costs):
        def learn(self, network, batch, generator):
            raise torch.OutOfMemoryError("CUDA out of memory")

    reporter = Heard()
    moving = optimization(small_network(), batch_size=2, reporter=reporter, optimizer="sgd")
    with pytest.raises(ResourceError, match="a single chip of 8 × 8 pixels") as caught:
        moving.step(Full(), (torch.randn(2, 2, 8, 8), torch.randint(0, 3, (2, 8, 8))))
    assert "Halve" not in caught.value.remedy and any("1 chip at once" in text for text in reporter.logs)


def test_dropout_follows_from_seed_and_step_and_no_device_is_looked_for(monkeypatch):
    network, masks = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Dropout(0.5)), []
    network[1].register_forward_hook(lambda module, given, found: masks.append(found != 0))
    moving, batch = optimization(network, optimizer="sgd"), (torch.randn(4, 2, 8, 8), torch.randint(0, 3, (4, 8, 8)))
    with monkeypatch.context() as patched:
        patched.setattr(torch, "manual_seed", None)
        for _ in range(3):
            moving.step(Costs(), batch)
    for step, mask in enumerate(masks):
        torch.manual_seed(int(np.random.SeedSequence([0, step]).generate_state(2)[0]))
        assert torch.equal(mask, nn.functional.dropout(torch.ones(4, 3, 8, 8)) != 0)


def test_the_average_of_the_weights_is_what_counts():
    network = small_network()
    moving = optimization(network, ema_decay=0.5, learning_rate=0.1)
    expected, batch = {}, (torch.randn(4, 2, 8, 8), torch.randint(0, 3, (4, 8, 8)))
    for step in range(1, 9):
        moving.step(Costs(), batch)
        decay = min(0.5, 1 - (step - 1) ** (-2 / 3)) if step > 2 else 0.0
        for key, value in network.state_dict().items():
            expected[key] = value.clone() if step <= 2 else decay * expected[key] + (1 - decay) * value
    for key, value in moving.result.state_dict().items():
        assert torch.allclose(value, expected[key], atol=1e-6)
    assert not torch.equal(moving.result[0].weight, network[0].weight)
