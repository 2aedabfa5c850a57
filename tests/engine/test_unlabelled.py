"""Unlabelled chips: pseudo-labels move with the image, only sure ones count, and trainings resume and compare."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from made_chips import Chip, textured, write_chips
from optimizing import optimization
from scene_folder import write_scene_folder
from test_checkpoints import KILLED, ROOT, SMALL, Cut, history, same
from torch import nn

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.classes import IGNORE_INDEX
from plugin.engine.config import TrainClassifierConfig, TrainSegmenterConfig
from plugin.engine.errors import Cancelled, InputError
from plugin.engine.models.header import read_header
from plugin.engine.recipe.unlabelled import UnlabelledSettings
from plugin.engine.training import train
from plugin.engine.training.augmentation.example import Example
from plugin.engine.training.chips import ResidentChips
from plugin.engine.training.pseudo_labels import PseudoLabels, sure_answers
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.segmentation import SegmentationTask
from plugin.engine.training.task import Moment
from plugin.engine.training.train_classifier import train_classifier
from plugin.engine.training.train_segmenter import train_segmenter
from plugin.engine.training.unlabelled import PairedChips, PairedDraws

CPU = torch.device("cpu")
NODATA = 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Datasets: `labelled`, and `rest` without labels."""
    folder = tmp_path_factory.mktemp("u")
    write_chip_folder(folder / "labelled", {"training": 6, "validation": 3, "test": 2})
    write_rest(folder / "rest")
    return folder


def write_rest(folder: Path, count: int = 7, **info: Any) -> str:
    """A dataset without labels that looks like those of `write_chip_folder`."""
    own = {"pixel_size": 0.5, "crs": "", "mean": (20.0, 40.0, 60.0), "std": (9.0, 17.0, 25.0)}
    chips = [Chip((textured(number).astype(float) / 4).astype(np.uint8), split="test") for number in range(count)]
    return write_chips(folder, chips, "unlabelled", **{**own, **info})


def segmenter(folder: Path, output: Path, reporter: Any = None, **changes: Any) -> dict[str, Any]:
    return train_segmenter(TrainSegmenterConfig.from_json(settings(folder, output, **changes)), reporter or Heard())


def settings(folder: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Of a training in which many pixels get a pseudo-label from the first step on."""
    return {
        **SMALL, "epochs": 2, "chips": str(folder / "labelled"), "unlabelled_chips": str(folder / "rest"),
        "pseudo_label_confidence": 0.34, "unlabelled_ramp": 0.2, "output": str(output), **changes,
    }  # fmt: skip


class Shown(nn.Module):
    """A network that reads the classes from the first band, in thirds of a standard deviation, and is sure of them."""

    def __init__(self, surety: float = 50.0) -> None:
        super().__init__()
        self.surety = surety

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        classes = (images[:, 0] * 3).round().long().clamp(0, 2)
        return nn.functional.one_hot(classes, 3).movedim(-1, 1).float() * self.surety


def lesson(folder: Path, device: torch.device = CPU, **values: Any) -> PseudoLabels:
    """With chips whose bands have the mean 30 and the standard deviation 30."""
    dataset = open_dataset(folder / "labelled")
    info = dataset.info
    object.__setattr__(info, "mean", (30.0,) * 3)
    object.__setattr__(info, "std", (30.0,) * 3)
    config = TrainSegmenterConfig(chips="", output="").replace(augmentation="none", class_weights="none", **values)
    task = SegmentationTask(info, Sampling(config.sampling, info, dataset.pixels), config, device)
    return PseudoLabels(task, config.unlabelled, True, info, NODATA)


def moment(teacher: nn.Module, seed: int = 1, progress: float = 1.0) -> Moment:
    return Moment(torch.Generator().manual_seed(seed), teacher, progress)


def classes_of(count: int, size: int = 32) -> torch.Tensor:
    """(N, S, S) masks that look different however they are turned."""
    mask = torch.zeros(count, size, size, dtype=torch.uint8)
    mask[:, : size // 3] = 1
    mask[:, size // 2 :, : size // 5] = 2
    return mask.roll(3, 0)


@pytest.mark.parametrize("augmentation", ["colors", "cutmix", "standard", "strong"])
def test_pseudo_labels_lie_where_the_augmented_image_shows_them(folder, augmentation):
    learned = lesson(folder, unlabelled_augmentation=augmentation)
    masks = classes_of(6)
    images = (30 + 10 * masks.float())[:, None].repeat(1, 3, 1, 1).round().to(torch.uint8)
    hole = torch.zeros(32, 32, dtype=torch.bool)
    hole[8:24, 8:24] = True
    hole[10:22:4, 10:22:4] = False  # of what is around a corner that is seen, little is
    masks[:, hole] = IGNORE_INDEX
    images[:, :, hole] = NODATA
    for seed in range(4):
        found = learned.example(Shown(), images, torch.Generator().manual_seed(seed))
        # The same steps on masks that are known.
        generator, missing = torch.Generator().manual_seed(seed), images == NODATA
        known = Example(learned.task.normalise(images, missing), missing, masks)
        expected = learned.strong(learned.weak(known, generator), generator)
        unseen = expected.missing.all(1)
        assert torch.equal(found.images, expected.images) and torch.equal(found.missing, expected.missing)
        assert torch.equal(found.targets, expected.targets.masked_fill(unseen, IGNORE_INDEX))
        assert set(found.targets.unique().tolist()) == {0, 1, 2, IGNORE_INDEX}
        if expected.mixed is None:
            assert found.mixed is None


def test_what_is_not_sure_enough_is_no_label_and_costs_nothing(folder):
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 1, 0] = torch.tensor([0.0, 2.1972246, float("nan")])  # 50 %, 90 %
    assert sure_answers(logits, 0.9).flatten().tolist() == [IGNORE_INDEX, 1, IGNORE_INDEX]
    learned = lesson(folder, pseudo_label_confidence=0.9)
    network = nn.Conv2d(3, 3, 1)
    images, targets = torch.full((2, 3, 32, 32), 40, dtype=torch.uint8), torch.zeros(2, 32, 32, dtype=torch.uint8)
    for surety, labels in ((1.0, 0), (50.0, 1)):
        network.zero_grad()
        answers = learned.learn(network, (images, targets, images), moment(Shown(surety)))
        answers.aside.cost.backward(retain_graph=True)
        counted, seen = answers.aside.counts[:2].tolist()
        assert (counted > 0) == bool(labels) and seen > 0
        assert bool(network.weight.grad.any()) == bool(labels)
        assert answers.cost == answers.loss + answers.aside.cost


def test_the_cost_is_a_mean_over_all_pixels_of_which_those_without_a_label_cost_nothing(folder):
    learned = lesson(folder, unlabelled_weight=3.0)
    learned.weak.steps = learned.strong.steps = []
    images, targets = torch.full((2, 3, 32, 32), 30, dtype=torch.uint8), torch.zeros(2, 32, 32, dtype=torch.uint8)
    images[:, :, 8:] = 40  # of class 1; the teacher is not sure where class 0 is
    teacher = nn.Sequential(Shown(), nn.Conv2d(3, 3, 1, bias=False))
    teacher[1].weight.data = torch.diag(torch.tensor([0.0, 1.0, 1.0]))[..., None, None]
    network = nn.Conv2d(3, 3, 1)
    answers = learned.learn(network, (images, targets, images), moment(teacher))
    logits = network(learned.task.prepare((images, targets)).images)
    expected = -logits.log_softmax(1)[:, 1, 8:].sum() / (2 * 32 * 32)
    assert torch.allclose(answers.aside.cost, 3 * expected, rtol=1e-5)
    tally = learned.tally()
    tally.add(*answers)
    figures = tally.figures()
    assert figures["pseudo_label_share"] == 0.75
    assert figures["pseudo_label_loss"] == pytest.approx(expected.item() / 0.75, rel=1e-5)


def test_pixels_without_data_never_count(folder):
    learned = lesson(folder, unlabelled_augmentation="colors", cutout=0)
    learned.strong.steps = []
    images, targets = torch.full((2, 3, 32, 32), 40, dtype=torch.uint8), torch.zeros(2, 32, 32, dtype=torch.uint8)
    others = images.clone()
    others[:, :, :16] = NODATA
    others[:, 0, 16:20] = NODATA  # of one band only: the others tell
    answers = learned.learn(nn.Conv2d(3, 3, 1), (images, targets, others), moment(Shown()))
    assert answers.aside.counts[:2].tolist() == [2 * 16 * 32, 2 * 16 * 32]
    others[:] = NODATA
    answers = learned.learn(nn.Conv2d(3, 3, 1), (images, targets, others), moment(Shown()))
    assert answers.aside.counts.tolist() == [0, 0, 0, 0] and answers.aside.cost == 0


def test_no_step_waits_for_a_number_from_the_device(folder, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows nothing of this device
    meta = torch.device("meta")  # which has none
    learned = lesson(folder, meta, unlabelled_augmentation="strong")
    network = nn.Conv2d(3, 3, 1, device=meta)
    images, targets = (torch.zeros(shape, dtype=torch.uint8, device=meta) for shape in ((2, 3, 32, 32), (2, 32, 32)))
    answers = learned.learn(network, (images, targets, images), moment(network))
    assert answers.cost.device == answers.aside.counts.device == meta and answers.aside.counts.shape == (4,)


def test_the_weight_rises_from_nothing():
    found = UnlabelledSettings(unlabelled_weight=2.0, unlabelled_ramp=0.5)
    weights = [found.weight(progress) for progress in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    assert weights[0] == 0 and weights == sorted(weights) and weights[3:] == [2, 2, 2] and 0.5 < weights[2] < 0.6
    assert UnlabelledSettings(unlabelled_ramp=0.0).weight(0) == 1.0
    assert UnlabelledSettings(unlabelled_weight=0.0).weight(0.9) == 0


def test_a_teacher_is_asked_as_it_will_be_used_and_learns_nothing(folder):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 3, 1)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.randint(1, 99, (2, 3, 32, 32), dtype=torch.uint8)
    learned = lesson(folder, pseudo_label_confidence=0.0)
    one, other = (learned.example(network, images, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one.targets, other.targets) and network.training and not one.targets.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Rows:
    """Draws chips in their order."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return np.arange(self.count)


def test_all_unlabelled_chips_are_shown_equally_often_in_an_order_that_follows_from_the_epoch():
    draws = PairedDraws(Rows(6), 5, 2)
    orders = [draws.order(3, epoch) for epoch in range(1, 6)]
    assert all((order[:, 0] == np.arange(6)).all() and order.shape == (6, 3) for order in orders)
    shown = np.concatenate([order[:, 1:].ravel() for order in orders])
    assert (np.sort(shown.reshape(-1, 5), axis=1) == np.arange(5)).all()  # 60 draws: 12 times each
    assert not (shown[:5] == shown[5:10]).all()
    assert (PairedDraws(Rows(6), 5, 2).order(3, 4) == orders[3]).all()
    assert not (draws.order(4, 4) == orders[3]).all()


def test_a_batch_has_the_labelled_and_the_unlabelled_chips_of_its_rows():
    images, others = (torch.arange(count)[:, None, None, None] for count in (4, 9))
    chips = PairedChips(ResidentChips(images, -torch.arange(4)), ResidentChips(others, torch.empty(9, 0)))
    rows = np.array([[2, 8, 5], [0, 1, 3], [3, 0, 7]])
    first, second = ([part.flatten().tolist() for part in batch] for batch in chips.batches([rows[:2], rows[2:]]))
    assert first == [[2, 0], [-2, 0], [8, 5, 1, 3]] and second == [[3], [-3], [0, 7]] and len(chips) == 4


def test_without_weight_the_training_is_that_of_the_labelled_chips(folder, tmp_path):
    segmenter(folder, tmp_path / "plain.safetensors", unlabelled_chips=None)
    segmenter(folder, tmp_path / "idle.safetensors", unlabelled_weight=0)
    segmenter(folder, tmp_path / "busy.safetensors")
    assert same(tmp_path / "plain.safetensors", tmp_path / "idle.safetensors")
    assert not same(tmp_path / "plain.safetensors", tmp_path / "busy.safetensors")


def kill(values: dict[str, Any], steps: int) -> None:
    command = [
        sys.executable, "-c", KILLED, str(ROOT), "TrainSegmenterConfig train_segmenter",
        json.dumps({**values, "resume": True}), str(steps),
    ]  # fmt: skip
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    assert subprocess.run(command, check=False, timeout=300, env={**os.environ, **threads}).returncode == 9


def test_a_killed_training_that_resumes_ends_with_the_same_weights_and_baseline(folder, tmp_path):
    more = {"ema_decay": 0.9, "accumulation": 2, "batch_size": 1, "unlabelled_ratio": 2, "baseline": True}
    whole = segmenter(folder, tmp_path / "whole.safetensors", **more)
    values = settings(folder, tmp_path / "model.safetensors", **more)
    for steps in (2, 4 + 5):  # in the baseline; and behind its rest, in the training
        kill(values, steps)
    assert (tmp_path / "model.checkpoint.safetensors").exists()
    found = train_segmenter(TrainSegmenterConfig.from_json({**values, "resume": True}), Heard())
    assert same(tmp_path / "model.safetensors", tmp_path / "whole.safetensors")
    assert history(tmp_path / "model.safetensors") == history(tmp_path / "whole.safetensors")
    for name in ("validation", "test", "baseline"):
        assert found[name] == whole[name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "whole.safetensors"]


def test_the_baseline_is_a_plain_training_and_stands_in_the_report(folder, tmp_path):
    paths = {name: str(tmp_path / name) for name in ("report.html", "history.csv")}
    heard = Heard()
    found = segmenter(
        folder, tmp_path / "both.safetensors", heard, baseline=True, report=paths["report.html"],
        history=paths["history.csv"],
    )  # fmt: skip
    plain = segmenter(folder, tmp_path / "plain.safetensors", unlabelled_chips=None)
    assert found["baseline"] == {split: plain[split] for split in ("validation", "test")}
    header = read_header(found["model"])
    assert header.metrics["baseline"] == found["baseline"] and header.finished
    assert header.dataset_fingerprint.startswith(read_header(plain["model"]).dataset_fingerprint + "-")
    assert heard.fractions == sorted(heard.fractions) and len(heard.epochs) == 2
    page = Path(paths["report.html"]).read_text(encoding="utf-8")
    assert "Baseline</h2>" in page and f"{100 * plain['test']['mean_iou']:.1f}%" in page and "pseudo-labels for" in page
    rows = list(csv.DictReader(Path(paths["history.csv"]).read_text(encoding="utf-8").splitlines()))
    assert 0 < float(rows[-1]["training_pseudo_label_share"]) <= 1
    assert float(rows[-1]["training_pseudo_label_loss"]) > 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".safetensors", ".safetensors"]


def test_the_checkpoint_of_a_baseline_is_removed_with_that_of_its_training(folder, tmp_path):
    with pytest.raises(Cancelled):
        segmenter(folder, tmp_path / "model.safetensors", Cut(), baseline=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(Cancelled):
        segmenter(folder, tmp_path / "model.safetensors", Cut(), baseline=True, resume=True)
    assert len(list(tmp_path.iterdir())) == 2


def test_chips_on_disk_train_as_those_in_memory(folder, tmp_path, monkeypatch):
    segmenter(folder, tmp_path / "kept.safetensors")
    monkeypatch.setattr(train, "choose_place", lambda *_: None)
    segmenter(folder, tmp_path / "read.safetensors", cache_folder=str(tmp_path / "cache"))
    assert same(tmp_path / "kept.safetensors", tmp_path / "read.safetensors")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_lack_of_memory_makes_smaller_pieces_of_both(folder):
    learned, sizes = lesson(folder), []

    class Narrow(PseudoLabels):
        def __init__(self) -> None:
            vars(self).update(vars(learned))

        def learn(self, network, batch, moment):
            if len(batch[0]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            sizes.append([len(part) for part in batch])
            return super().learn(network, batch, moment)

    images, masks = torch.full((5, 3, 32, 32), 40, dtype=torch.uint8), torch.zeros(5, 32, 32, dtype=torch.uint8)
    moving = optimization(nn.Conv2d(3, 3, 1), batch_size=5)
    moving.step(Narrow(), (images, masks, images.repeat(2, 1, 1, 1)))
    assert sizes == [[2, 2, 4], [2, 2, 3], [1, 1, 3]]


def test_a_classifier_learns_from_unlabelled_chips(tmp_path):
    chips = write_scene_folder(tmp_path / "scenes", {"training": 12, "validation": 4, "test": 3})
    values = {
        "chips": chips, "unlabelled_chips": chips, "output": str(tmp_path / "m.safetensors"), "epochs": 3,
        "batch_size": 4, "device": "cpu", "architecture": "keras_cnn", "filters": [4, 8], "hidden_sizes": [8],
        "pseudo_label_confidence": 0.4, "baseline": True, "unlabelled_ramp": 0.0,
        "report": str(tmp_path / "r.html"),
    }  # fmt: skip
    found = train_classifier(TrainClassifierConfig.from_json(values), Heard())
    assert found["baseline"]["test"]["mean_f1"] is not None and found["baseline"]["test"] != found["test"]
    training = read_header(found["model"]).history[-1]["training"]
    assert training["pseudo_label_share"] > 0 and training["chips"] == 12


def test_of_a_labelled_dataset_only_training_chips_are_used_and_no_label(folder, tmp_path):
    other = write_chip_folder(tmp_path / "other", {"training": 5, "validation": 4, "test": 4}, seed=5)
    heard = Heard()
    segmenter(folder, tmp_path / "one.safetensors", heard, unlabelled_chips=other)
    assert any("learns from 5 chips" in text.replace("also ", "") for text in heard.logs)
    for path in (Path(other) / "labels").iterdir():
        path.unlink()
    segmenter(folder, tmp_path / "two.safetensors", unlabelled_chips=other)
    assert same(tmp_path / "one.safetensors", tmp_path / "two.safetensors")


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"band_names": ("red", "green", "blue")}, None),  # "band 1" fits all names
        ({"chip_size": 32}, "have pixels a side 64, and those in .* 32"),
        ({"dtype": "uint16"}, "values of type uint8, and those in .* uint16"),
        ({"pixel_size": 1.0}, r"pixels of 0\.5, and those in .* 1"),
        ({"scales": ((0.1, 0.0),) * 3}, "a scale of 1 and an offset of 0, and those in .* a scale of 0.1"),
    ],
)
def test_chips_of_another_kind_are_refused_before_anything_is_read(folder, tmp_path, info, message):
    values = settings(folder, tmp_path / "m.safetensors", unlabelled_chips=write_rest(tmp_path / "other", 2, **info))
    if message is None:
        train_segmenter(TrainSegmenterConfig.from_json({**values, "epochs": 1}), Heard())
        return
    with pytest.raises(InputError, match=message) as caught:
        train_segmenter(TrainSegmenterConfig.from_json(values), Heard())
    assert "Export both" in caught.value.remedy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"baseline": True, "epochs": None, "minutes": 3}, "BASELINE is on, and MINUTES is 3"),
        ({"baseline": True, "unlabelled_chips": None}, "UNLABELLED_CHIPS is empty"),
        ({"label_smoothing": 0.9}, "no more than 0.4 sure"),
        ({"unlabelled_chips": "/nowhere"}, "not a chip dataset"),
        ({"history": "rest/images/x.csv"}, "part of the chip dataset"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, tmp_path, values, message):
    if "history" in values:
        values = {"history": str(folder / values["history"])}
    with pytest.raises(InputError, match=message):
        segmenter(folder, tmp_path / "m.safetensors", **{"pseudo_label_confidence": 0.95, **values})


def test_tasks_without_pseudo_labels_are_refused(tmp_path, folder):
    chips = write_scene_folder(tmp_path / "scenes", {"training": 12, "validation": 4}, task="multilabel")
    values = {"chips": chips, "unlabelled_chips": chips, "output": str(tmp_path / "m.safetensors")}
    with pytest.raises(InputError, match="for multilabel, for which there are no pseudo-labels"):
        train_classifier(TrainClassifierConfig.from_json(values), Heard())


def test_only_the_same_chips_are_resumed_with_wherever_they_lie(folder, tmp_path):
    with pytest.raises(Cancelled):
        segmenter(folder, tmp_path / "m.safetensors", Cut(), resume=True)
    moved = shutil.copytree(folder / "rest", tmp_path / "moved")
    other = shutil.copytree(folder / "rest", tmp_path / "other")
    info = json.loads((other / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps({**info, "created": "later"}))
    with pytest.raises(InputError, match="is of a training on other chips"):
        segmenter(folder, tmp_path / "m.safetensors", resume=True, unlabelled_chips=str(other))
    assert segmenter(folder, tmp_path / "m.safetensors", resume=True, unlabelled_chips=str(moved))["epochs"] == 2
