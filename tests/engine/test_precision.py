"""How steps are calculated: in which type of number, compiled or not, and without waiting for the device."""

from __future__ import annotations

import contextlib
import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from optimizing import Costs, Everything, optimization
from safetensors.torch import load_file
from torch import nn

from plugin.engine import precision
from plugin.engine.chips.dataset import open_dataset
from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.device import Later
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import read_header
from plugin.engine.recipe.optimizer import OptimizerSettings
from plugin.engine.recipe.schedule import ScheduleSettings
from plugin.engine.training import compiling, step_time
from plugin.engine.training.optimization import Optimization
from plugin.engine.training.pace import Pace
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.segmentation import SegmentationTask
from plugin.engine.training.train_segmenter import train_segmenter

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "encoder": "mobilenet_v3_small", "architecture": "fcn8s", "pretrained": "none", "epochs": 2, "batch_size": 4,
    "device": "cpu", "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def chips(tmp_path_factory) -> str:
    return str(write_chip_folder(tmp_path_factory.mktemp("c") / "chips", {"training": 8, "validation": 3}))


def train(chips: str, folder: Path, **changes: Any) -> tuple[Path, Heard]:
    path, reporter = folder / "model.safetensors", Heard()
    values = {**SMALL, "chips": chips, "output": str(path), **changes}
    train_segmenter(TrainSegmenterConfig.from_json(values), reporter)
    return path, reporter


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)])
def test_bfloat16_is_for_cards_that_have_it(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # by imitation
    assert precision.precision(torch.device("cuda", 0), True) == wanted
    assert precision.precision(torch.device("cuda", 0), False) == torch.float32


@pytest.mark.parametrize("lacking", ["_is_amx_tile_supported", "_is_avx512_bf16_supported"])
def test_a_processor_is_measured_if_it_has_instructions_for_bfloat16(monkeypatch, lacking):
    names = {"_is_amx_tile_supported", "_is_avx512_bf16_supported"}
    for name in names:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert precision.precision(CPU, True) == torch.float32
    monkeypatch.delattr(torch.cpu, lacking)  # private: another version may lack it
    assert precision.precision(CPU, True) == torch.float32
    monkeypatch.setattr(torch.cpu, *(names - {lacking}), lambda: True)
    assert precision.precision(CPU, True) is None and precision.precision(CPU, False) == torch.float32


class Clock:
    """Processor time that goes by in steps: so many seconds in float32, and in bfloat16."""

    def __init__(self, monkeypatch, whole: float, half: float) -> None:
        self.seconds, self.now = {False: whole, True: half}, 0.0
        monkeypatch.setattr(time, "process_time", lambda: self.now)
        monkeypatch.setattr(precision, "has_bfloat16", lambda: True)

    def learn(self) -> None:
        self.now += self.seconds[torch.is_autocast_enabled("cpu")]


class Timed(Costs):
    """A task whose steps take the time of a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def learn(self, *arguments: Any) -> Any:
        self.clock.learn()
        return super().learn(*arguments)


@pytest.mark.parametrize(
    ("whole", "half", "wanted", "words"),
    [(1.2, 0.6, "bfloat16", "2.00 times"), (1.2, 1.1, "float32", "1.09 times"), (0.02, 0.001, "float32", "too short")],
)
def test_the_first_step_decides_on_a_copy_and_changes_nothing(monkeypatch, whole, half, wanted, words):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1)).train()
    batch = torch.rand(8, 3, 4, 4), torch.randint(0, 2, (8, 4, 4), dtype=torch.uint8)
    plain = optimization(network=network)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    plain.precision = getattr(torch, wanted)
    plain.step(Costs(), batch)
    expected = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(start)
    clock, reporter = Clock(monkeypatch, whole, half), Heard()
    measured = optimization(network=network, mixed=True, reporter=reporter)
    assert measured.precision is None and measured.type_name == ""
    measured.step(Timed(clock), batch)
    assert measured.type_name == wanted and words in reporter.logs[0]
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    measured.step(Timed(clock), batch)
    assert len(reporter.logs) == 1, "it is decided once"


def test_where_the_memory_is_not_enough_to_measure_it_stays_float32(monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(step_time.copy, "deepcopy", fail)
    assert step_time.measure(nn.Linear(3, 2), Costs(), (torch.rand(4, 3), torch.zeros(4)), CPU) == 0


def test_a_resumed_training_goes_on_in_the_type_that_it_began_in(monkeypatch):
    clock = Clock(monkeypatch, 1.0, 0.5)
    batch = torch.rand(8, 3), torch.randint(0, 2, (8,), dtype=torch.uint8)
    first = optimization(mixed=True)
    first.step(Timed(clock), batch)
    clock.seconds = {False: 1.0, True: 1.0}
    second = optimization(mixed=True)
    second.restore(*first.state())
    assert second.precision == torch.bfloat16
    tensors, facts = first.state()
    second = optimization(mixed=True)
    second.restore(tensors, {key: value for key, value in facts.items() if key != "precision"})
    assert second.precision is None, "a checkpoint of an earlier version does not say"
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    second = optimization(mixed=True)
    second.restore(tensors, facts)
    assert second.precision == torch.float32, "another processor"


def test_a_training_in_bfloat16_is_as_good_and_the_model_file_says_so(chips, tmp_path, monkeypatch):
    values = {"epochs": 4, "learning_rate": 3e-3}
    whole, _ = train(chips, tmp_path, **values)
    whole_header = read_header(str(whole))
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    monkeypatch.setattr("plugin.engine.training.optimization.measure", lambda *_: 1.9)
    half, reporter = train(chips, tmp_path, **values)
    header = read_header(str(half))
    assert (whole_header.metrics["precision"], header.metrics["precision"]) == ("float32", "bfloat16")
    assert any("1.90 times as fast, so bfloat16 is used" in text for text in reporter.logs)
    losses = [[record["training"]["loss"] for record in found.history] for found in (whole_header, header)]
    assert losses[0] != losses[1] and np.allclose(*losses, atol=0.1)
    assert {value.dtype for value in load_file(half).values()} == {torch.float32, torch.int64}


def test_no_step_asks_the_device_for_a_number(chips, monkeypatch):
    """On the device `meta` there are no numbers: whoever asks for one fails, where on a GPU all would wait."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(precision, "precision", lambda *_: torch.float32)
    device, dataset = torch.device("meta"), open_dataset(chips)
    info, size = dataset.info, dataset.info.chip_size
    network = create_model("unet", "resnet18", 3, 3).to(device).train()
    batch = [torch.empty((4, 3, size, size), dtype=torch.uint8), torch.empty((4, size, size), dtype=torch.uint8)]
    batch = [part.to(device) for part in batch]
    settings = OptimizerSettings(gradient_clip=1.0)
    settings = settings.replace(**settings.settled("segmentation"))
    pace = Pace(ScheduleSettings(epochs=50), 1, 0, 0.0)
    pace.begin(1, [])
    moved = Optimization(network, Everything(network), settings, pace, 2, True, 0, device, Heard())
    for loss in ("cross_entropy", "dice", "focal"):
        config = TrainSegmenterConfig(chips="", output="").replace(augmentation="strong", loss=loss)
        config = config.replace(**config.augmentation.settled().to_json())
        task = SegmentationTask(info, Sampling(config.sampling, info, dataset.pixels), config, device)
        tally = task.tally()
        for _ in range(2):
            tally.include(moved.step(task, batch))
        assert tally.totals().device == device
    with pytest.raises(RuntimeError):
        Later(tally.totals()).read()


def test_numbers_that_are_read_later_are_what_they_were():
    values = torch.tensor([1.5, 2.0])
    assert Later(values.clone()).read().tolist() == [1.5, 2.0]


class Layers(nn.Sequential):
    """PyTorch 2.5 does not compile an `nn.Sequential`."""

    def forward(self, images):
        for layer in self:
            images = layer(images)
        return images


def test_a_compiled_network_keeps_its_names_and_its_numbers(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "eager")  # traces, and compiles nothing
    network = Layers(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).train()
    batch, reporter = (torch.rand(8, 3, 4, 4), torch.randint(0, 2, (8, 4, 4), dtype=torch.uint8)), Heard()
    other = copy.deepcopy(network)
    moved = [optimization(network=each, ema_decay=0.9) for each in (network, other)]
    compiling.compile_network(network, CPU, reporter)
    for each in moved:
        each.step(Costs(), batch)
    assert not reporter.warnings and torch._dynamo.utils.counters["stats"]["unique_graphs"] > 1
    for ours, theirs in ((network, other), *[[each.result for each in moved]]):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert all(torch.allclose(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_without_a_compiler_there_is_a_warning_and_training_goes_on(chips, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("No working C++ compiler\nmore")

    monkeypatch.setattr(compiling, "BACKEND", fail)
    path, reporter = train(chips, tmp_path, epochs=1, compile=True)
    assert path.exists()
    warning = "COMPILE has no effect, because torch.compile does not work here (RuntimeError: No working C++ compiler)."
    assert [text for text in reporter.warnings if "COMPILE" in text] == [warning]
