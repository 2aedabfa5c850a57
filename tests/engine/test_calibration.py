"""Temperature scaling: by hand, for networks with a known miscalibration, and from training to map."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import known_segmenter
import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from osgeo import gdal
from safetensors.torch import load_file
from scene_folder import write_scene_folder
from synthetic import write_raster

from plugin.engine.assessment.calibration import Reliability
from plugin.engine.classes import IGNORE_INDEX, ClassTable
from plugin.engine.config import SegmentRasterConfig, TrainClassifierConfig, TrainSegmenterConfig
from plugin.engine.mapping import segment
from plugin.engine.mapping.reading.tile_reader import Images
from plugin.engine.mapping.sources.evaluation import ChipPredictor
from plugin.engine.models.header import read_header
from plugin.engine.training import calibration
from plugin.engine.training.calibration import (
    PARTS,
    DecisionSample,
    Drawn,
    Sample,
    calibrate,
    fit_temperature,
    reliability,
)
from plugin.engine.training.tally import ClassTally, LabelsTally
from plugin.engine.training.train_classifier import train_classifier
from plugin.engine.training.train_segmenter import train_segmenter

CPU = torch.device("cpu")


def drawn(logits: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Labels that are as frequent as the probabilities of the logits say."""
    return logits.softmax(1).multinomial(1, generator=torch.Generator().manual_seed(seed))[:, 0]


def sampled(logits: torch.Tensor, labels: torch.Tensor, chips: int = PARTS) -> Drawn:
    """A sample whose rows are those of so many chips, one after the other."""
    numbers = torch.arange(len(labels)) * chips // max(1, len(labels))
    return Drawn(logits, labels, numbers * PARTS // max(PARTS, chips))


def shuffled(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def confidences(logits: torch.Tensor, temperature: float) -> np.ndarray:
    """The probability of the likeliest class, by numpy."""
    odds = np.exp(logits.double().numpy() / temperature)
    found: np.ndarray = odds.max(1) / odds.sum(1)
    return found


def many(count: int = 50_000, classes: int = 4, spread: float = 2.0) -> torch.Tensor:
    return spread * torch.randn(count, classes, generator=torch.Generator().manual_seed(1))


# --- numbers


def test_the_calibration_error_is_the_weighted_distance_of_confidence_and_accuracy() -> None:
    shares = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.35, 0.65]], dtype=torch.float64)
    found = reliability(shares.log(), torch.tensor([0, 1, 1, 1]), 1.0)
    # Two answers of 0.9 of which one is right, one of 0.7 and one of 0.65, both right, in bins of their own.
    assert found.counts.nonzero()[0].tolist() == [9, 10, 13] and found.counts.sum() == 4
    assert found.error == pytest.approx((2 * 0.4 + 0.3 + 0.35) / 4)
    assert found.accuracy[13] == 0.5 and found.confidence[13] == pytest.approx(0.9)


def test_a_temperature_flattens_probabilities_as_computed_by_hand() -> None:
    found = reliability(torch.tensor([[2.0, 0.0]]), torch.tensor([0]), 2.0)
    assert found.confidences.sum() == pytest.approx(1 / (1 + np.exp(-1)))


def test_reliability_is_that_of_numpy() -> None:
    logits = many(5_000)
    labels = drawn(logits / 1.5)
    found = reliability(logits, labels, 0.8)
    sure = confidences(logits, 0.8)
    right = logits.numpy().argmax(1) == labels.numpy()
    edges = np.linspace(0, 1, len(found.counts) + 1)
    bins = [(sure >= low) & (sure < high) for low, high in zip(edges, edges[1:])]
    assert found.counts.tolist() == [one.sum() for one in bins] and found.right.tolist() == [
        right[one].sum() for one in bins
    ]
    gaps = [abs(sure[one].mean() - right[one].mean()) * one.mean() for one in bins if one.any()]
    assert found.error == pytest.approx(sum(gaps), abs=1e-6) and len(gaps) > 8


def test_the_temperature_of_two_classes_is_the_one_that_gives_the_share_of_right_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibration, "SURE", 0.0)
    # Of 1,000 answers, all as sure of the first class, 800 are right: logit 3 should be log(800 / 200).
    logits = torch.tensor([[3.0, 0.0]]).repeat(1000, 1)
    labels = (shuffled(1000) >= 800).long()
    assert fit_temperature(sampled(logits, labels)) == pytest.approx(
        3 / np.log(801 / 201), rel=1e-4
    )  # one more of each


def test_of_the_excess_of_confidence_only_what_is_no_chance_counts() -> None:
    logits, chips = many(4_000), 40
    labels = drawn(logits / 1.6)
    right = (logits.argmax(1) == labels).numpy()
    sure = confidences(logits, 1.0)
    share, excess = (right.sum() + 1) / 4_002, sure.mean() - (right.sum() + 1) / 4_002
    parts = (sure - right).reshape(20, -1).mean(1)  # of two chips each
    error = parts.std(ddof=1) / np.sqrt(20)
    assert excess > 4 * error
    temperature = fit_temperature(sampled(logits, labels, chips))
    assert confidences(logits, temperature).mean() == pytest.approx(share + (2 * error) ** 2 / excess, abs=1e-5)


def test_chips_that_differ_call_for_no_temperature_where_as_many_that_are_alike_do() -> None:
    # The network is too sure of three quarters of the chips, and not sure enough of the others.
    honest = many(20_000)
    logits = torch.cat([honest[:15_000] * 2, honest[15_000:] / 2])
    labels, order = drawn(honest), shuffled(20_000)
    found = calibrate({"validation": sampled(logits, labels, 8)})
    assert found is not None and found.temperature == 1
    assert str(found).startswith("temperature 1, as a difference between confidence and right answers may be chance;")
    assert fit_temperature(sampled(logits[order], labels[order], 8)) > 1.2
    assert fit_temperature(sampled(logits[:1], labels[:1])) == 1


def test_confidence_counts_and_not_what_is_said_of_the_other_classes() -> None:
    """A network that is right about its first choice, but finds the others too alike, and so is likelier colder."""
    shares = many(60_000, classes=5).double().softmax(1)
    labels = drawn(shares.log())
    first = shares == shares.max(1, keepdim=True).values
    others = torch.where(first, 0, shares**0.4)
    others *= (1 - shares.max(1, keepdim=True).values) / others.sum(1, keepdim=True)
    logits = torch.where(first, shares, others).log().float()
    found = calibrate({"validation": sampled(logits, labels)})
    assert found is not None and found.temperature == pytest.approx(1, abs=0.01)

    def loss(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / temperature, labels))

    likeliest = min(np.arange(0.5, 1.5, 0.02), key=loss)
    assert likeliest < 0.95
    assert found.splits["validation"][1].error < reliability(logits, labels, likeliest).error / 2


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_a_known_miscalibration_is_recovered(factor: float) -> None:
    honest = many()
    labels = drawn(honest)
    found = calibrate({"validation": sampled(honest * factor, labels)})
    assert found is not None and found.temperature == pytest.approx(factor, rel=0.03)
    before, after = found.splits["validation"]
    assert after.error < 0.01 and (factor == 1.0 or before.error > 5 * after.error)


def test_classes_never_change() -> None:
    logits = many()
    labels = drawn(logits / 3)
    temperature = fit_temperature(sampled(logits, labels))
    assert torch.equal((logits / temperature).argmax(1), logits.argmax(1))
    before, after = reliability(logits, labels, 1.0), reliability(logits, labels, temperature)
    assert before.right.sum() == after.right.sum()


def test_a_few_chips_that_are_all_right_do_not_make_a_network_infinitely_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = sampled(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.5]]), torch.tensor([0, 0, 1]))
    monkeypatch.setattr(calibration, "SURE", 0.0)
    assert 0.3 < fit_temperature(sample) < 3  # the likeliest is infinitely cold


def test_a_few_wrong_answers_that_are_infinitely_sure_do_not_melt_all() -> None:
    logits = torch.cat(
        [torch.tensor([[np.log(9.0), 0.0]]).repeat(10_000, 1), torch.tensor([[30.0, 0.0]]).repeat(50, 1)]
    )
    labels = torch.cat([(torch.arange(10_000) >= 9_000).long(), torch.ones(50, dtype=torch.int64)])
    order = shuffled(len(labels))
    found = calibrate({"validation": sampled(logits[order].float(), labels[order])})
    assert found is not None and 1 <= found.temperature < 1.1


def test_the_test_chips_are_only_measured() -> None:
    logits = many()
    found = calibrate(
        {"validation": sampled(logits * 2, drawn(logits)), "test": sampled(logits * 2, drawn(logits * 2))}
    )
    assert found is not None and found.temperature == pytest.approx(2, rel=0.03)
    before, after = found.splits["test"]
    assert before.error < 0.015 < 0.05 < after.error


def test_without_validation_chips_there_is_no_temperature() -> None:
    nothing = sampled(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    test = sampled(many(), drawn(many()))
    assert calibrate({"test": test}) is None
    assert calibrate({"validation": nothing, "test": test}) is None


# --- the sample


def test_a_sample_draws_labelled_pixels_of_each_chip_and_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "VALUES", 3 * 10 * 6)  # 10 pixels of each of 6 chips
    sample = Sample(3, 6, 0, CPU)
    for _ in range(3):
        logits, targets = torch.randn(2, 3, 8, 8), torch.full((2, 8, 8), IGNORE_INDEX, dtype=torch.uint8)
        targets[0] = 1
        targets[1, 0, :4] = 2  # four labels only
        logits[:, 1][targets == 1] = 50.0
        sample.add(logits, targets)
    logits, labels, parts = sample.merged()
    assert labels.tolist() == ([1] * 10 + [2] * 4) * 3
    assert parts.tolist() == np.repeat(range(6), [10, 4] * 3).tolist()
    assert (logits[labels == 1][:, 1] == 50).all() and (logits[labels == 2][:, 1] != 50).all()


def test_many_chips_are_put_into_parts_of_neighbours() -> None:
    sample = Sample(2, 50, 0, CPU)
    for _ in range(5):
        sample.add(torch.randn(10, 2, 3, 3), torch.zeros(10, 3, 3, dtype=torch.uint8))
    parts = sample.merged().parts.reshape(50, 9)
    assert (parts == torch.arange(50)[:, None] * 20 // 50).all()


def test_logits_that_are_no_numbers_are_left_out() -> None:
    sample = Sample(2, 2, 0, CPU)
    sample.add(torch.tensor([[1.0, torch.nan], [1.0, 0.0]]), torch.tensor([0, 1]))
    logits, labels, _ = sample.merged()
    assert logits.tolist() == [[1.0, 0.0]] and labels.tolist() == [1]


def test_several_classes_are_calibrated_as_yes_or_no() -> None:
    honest = many(classes=3)
    shown = (torch.rand(honest.shape, generator=torch.Generator().manual_seed(2)) < honest.sigmoid()).to(torch.uint8)
    sample = DecisionSample(len(honest), 0, CPU)
    sample.add(honest * 2.5, shown)
    found = calibrate({"validation": sample.merged()})
    assert found is not None and found.temperature == pytest.approx(2.5, rel=0.03)


@pytest.mark.parametrize(("kind", "targets"), [(ClassTally, [0, 1]), (LabelsTally, [[0, 1], [1, 1]])])
def test_the_probabilities_of_a_tally_follow_the_temperature(kind: Any, targets: list[Any]) -> None:
    tally, logits = kind(2, None, CPU), torch.tensor([[2.0, -1.0], [0.5, 0.25]])
    tally.add(logits, torch.tensor(targets, dtype=torch.uint8), torch.tensor(0.5), torch.tensor(2.0))
    tally.calibrate(2.0)
    expected = tally.to_probabilities(logits / 2)
    assert np.allclose(tally.probabilities(), expected, atol=1e-6) and tally.figures()["loss"] == 0.5


# --- training, report and model file

QUICK = {"epochs": 1, "batch_size": 4, "device": "cpu", "pretrained": "none", "seed": 1}
SEGMENTER = {**QUICK, "architecture": "fcn8s", "encoder": "mobilenet_v3_small"}


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dataset") / "chips"
    return write_chip_folder(folder, {"training": 6, "validation": 3, "test": 2}, size=32)


def test_a_training_calibrates_and_tells(chips: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SURE", 0.0)  # of three chips, chance decides
    reporter, model, report = Heard(), tmp_path / "m.safetensors", tmp_path / "r.html"
    config = {**SEGMENTER, "chips": chips, "output": str(model), "report": str(report)}
    result = train_segmenter(TrainSegmenterConfig.from_json(config), reporter)
    header = read_header(str(model))
    assert header.temperature == result["temperature"] and header.temperature not in (None, 1.0)
    kept = header.metrics["calibration"]["test"]["after"]
    assert kept["error"] == result["test"]["calibration_error"] != result["test"]["uncalibrated_error"]
    assert result["validation"]["calibration_error"] < result["validation"]["uncalibrated_error"]
    assert 0 < sum(kept["counts"]) <= 2 * 32 * 32
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert any("calibrated: temperature" in text and "of test chips" in text for text in reporter.logs)
    page = report.read_text(encoding="utf-8")
    assert "Confidence</h2>" in page and page.count("share of right answers") == 2


def test_calibration_can_be_switched_off_and_changes_only_the_temperature(chips: str, tmp_path: Path) -> None:
    heard, results = [Heard(), Heard()], []
    for calibrated, reporter in zip((True, False), heard):
        path = str(tmp_path / f"{calibrated}.safetensors")
        config = {**SEGMENTER, "chips": chips, "output": path, "calibrate": calibrated, "report": f"{path}.html"}
        results.append(train_segmenter(TrainSegmenterConfig.from_json(config), reporter))
    assert read_header(results[1]["model"]).temperature is None is results[1]["temperature"]
    assert not any("calibrat" in text for text in heard[1].logs)
    assert "Confidence</h2>" not in Path(results[1]["report"]).read_text(encoding="utf-8")
    ours, theirs = (load_file(result["model"]) for result in results)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    errors = {"calibration_error", "uncalibrated_error"}
    assert {key: value for key, value in results[0]["test"].items() if key not in errors} == results[1]["test"]


def test_a_training_without_validation_chips_says_that_nothing_is_calibrated(tmp_path: Path) -> None:
    reporter, folder = Heard(), write_chip_folder(tmp_path / "chips", {"training": 6, "test": 2}, size=32)
    config = {**SEGMENTER, "chips": folder, "output": str(tmp_path / "m.safetensors")}
    result = train_segmenter(TrainSegmenterConfig.from_json(config), reporter)
    assert result["temperature"] is None and read_header(result["model"]).temperature is None
    assert any("not calibrated: there are no labelled validation chips" in text for text in reporter.logs)


@pytest.mark.parametrize("several", [False, True])
def test_a_classifier_is_calibrated(several: bool, tmp_path: Path) -> None:
    folder = write_scene_folder(
        tmp_path / "chips",
        {"training": 8, "validation": 5, "test": 3},
        task="multilabel" if several else "classification",
    )
    report = tmp_path / "r.html"
    config = {
        **QUICK, "architecture": "lecture_cnn", "chips": str(folder), "output": str(tmp_path / "m.safetensors"),
        "report": str(report),
    }  # fmt: skip
    result = train_classifier(TrainClassifierConfig.from_json(config), Heard())
    header = read_header(result["model"])
    assert header.temperature is not None and header.temperature == result["temperature"]
    answers = 3 * (len(header.classes) if several else 1)
    assert sum(header.metrics["calibration"]["test"]["before"]["counts"]) == answers
    assert "Confidence</h2>" in report.read_text(encoding="utf-8")


# --- mapping

CLASSES = ClassTable.from_rows([(1, "a", "#000000"), (2, "b", "#ffffff"), (3, "c", "#ff0000")])
header = partial(known_segmenter.header, classes=CLASSES, chip_size=32)


class Sure(torch.nn.Module):
    """Three classes by the band's value."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, 0]
        return torch.stack([value, 2 - value, torch.full_like(value, 0.7)], 1)


@pytest.mark.parametrize("whole_window", [False, True])
def test_a_map_has_calibrated_probabilities_and_the_same_classes(
    whole_window: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.repeat(np.arange(0, 240, 5, dtype=np.uint8), 48).reshape(48, 48)
    if whole_window:
        data[:] = 130  # so that blending changes nothing
    image, maps = write_raster(tmp_path / "i.tif", data), {}
    for temperature in (None, 2.5):
        described = header(temperature=temperature, whole_window=whole_window)
        monkeypatch.setattr(segment, "load_model", lambda path, found=described: (Sure(), found))
        places = tmp_path / f"{temperature}.tif", tmp_path / f"{temperature}p.tif"
        segment.segment_raster(
            SegmentRasterConfig(
                input=image, model="m", output=str(places[0]), probabilities=str(places[1]), device="cpu"
            ),
            Heard(),
        )  # fmt: skip
        maps[temperature] = [gdal.Open(str(place)).ReadAsArray() for place in places]
    assert np.array_equal(maps[None][0], maps[2.5][0])
    logits = Sure()(torch.from_numpy((data.astype(np.float32) - 100) / 50)[None, None])
    assert np.allclose(maps[2.5][1], (logits / 2.5).softmax(1)[0], atol=1e-5)
    assert not np.allclose(maps[None][1], maps[2.5][1], atol=0.01)


def test_a_classifier_maps_with_calibrated_logits() -> None:
    network: Any = lambda images: images.mean((2, 3)) @ torch.tensor([[1.0, -1.0]])  # noqa: E731
    made = SimpleNamespace(to=lambda *_, **__: network)
    images = Images(np.full((2, 1, 4, 4), 200, np.uint8), None)
    raw, cold = (
        ChipPredictor(made, header(temperature=temperature), CPU, 1).values(images, lambda share: None)  # type: ignore[arg-type]
        for temperature in (None, 4.0)
    )
    assert torch.equal(raw, torch.tensor([[2.0, -2.0]] * 2)) and torch.equal(cold, raw / 4)


def test_reliability_is_ready_for_json() -> None:
    found = Reliability(np.array([0.0, 2.0]), np.array([0.0, 1.5]), np.array([0.0, 1.0]))
    assert found.to_json() == {"error": 0.25, "counts": [0, 2], "confidences": [0, 1.5], "right": [0, 1]}
