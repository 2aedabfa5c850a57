"""Test-time augmentation: exact means over mirror images, turns and sizes, undone where they belong."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import known_segmenter
import numpy as np
import pytest
import torch
from heard import Heard
from known_classifier import SIZE, Known, trained_looking
from known_classifier import header as classifier_header
from osgeo import gdal
from synthetic import write_raster
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.config import ClassifyScenesConfig, SegmentRasterConfig
from plugin.engine.errors import InputError
from plugin.engine.mapping import scenes, segment
from plugin.engine.mapping.reading.steps import Steps
from plugin.engine.mapping.reading.tile_reader import Batch
from plugin.engine.mapping.reading.tiling import Tile
from plugin.engine.mapping.settings import SYMMETRIES as CHOICES
from plugin.engine.mapping.settings import SegmentationAveragingSettings
from plugin.engine.mapping.sources import averaging
from plugin.engine.mapping.sources.averaging import NUMBERS, ONE_CLASS, SEVERAL_CLASSES, SYMMETRIES, kind_of, mean
from plugin.engine.mapping.sources.dense import SharedEvaluator, layers_of
from plugin.engine.mapping.sources.evaluation import ChipPredictor, StepSource
from plugin.engine.models.header import ModelHeader
from plugin.engine.windows import Grid, Window

CLASSES = ClassTable.from_rows([(1, "a", "#000000"), (2, "b", "#ffffff"), (3, "c", "#ff0000")])


header = partial(known_segmenter.header, classes=CLASSES, chip_size=32, whole_window=False)


def image(height: int = 70, width: int = 110) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width), dtype=np.uint8)


def logits_of(value: torch.Tensor) -> torch.Tensor:
    return torch.stack([value, 0.5 - value, torch.full_like(value, 0.313)], 1)


class Pointwise(nn.Module):
    """Commutes with all symmetries."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return logits_of(images[:, 0])


class Leaning(nn.Module):
    """Looks three pixels to the left and one up."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return logits_of(images[:, 0].roll((1, 3), (-2, -1)))


def mapped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, network: nn.Module, data: np.ndarray, made: ModelHeader,
    **settings: Any,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    monkeypatch.setattr(segment, "load_model", lambda path: (network, made))
    classes, shares = folder / "classes.tif", folder / "shares.tif"
    wanted = {"probabilities": str(shares)} if made.target is None else {}
    given = {"input": write_raster(folder / "i.tif", data), "model": "m", "output": str(classes), **wanted, **settings}
    segment.segment_raster(
        SegmentRasterConfig.from_json({"device": "cpu", "tile_size": 64, "halo": 32, **given}), Heard()
    )
    read = [gdal.Open(str(path)).ReadAsArray() for path in (classes, *wanted.values())]
    return read[0], read[-1]


def softmax(value: np.ndarray) -> np.ndarray:
    return logits_of(torch.from_numpy(value.astype(np.float32))[None]).softmax(1)[0].numpy()


# --- parts


def test_each_choice_has_its_symmetries_and_says_how_often_the_network_looks() -> None:
    assert set(SYMMETRIES) == set(CHOICES)
    for name, symmetries in SYMMETRIES.items():
        assert len(set(symmetries)) == len(symmetries)
        settings = SegmentationAveragingSettings(test_time_augmentation=name, test_time_scales=(0.5, 1))
        assert settings.times == 2 * len(symmetries)


def test_symmetries_are_undone_exactly_and_are_eight_different_ones() -> None:
    maps = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    seen = set()
    for symmetry in SYMMETRIES["symmetries"]:
        turned = symmetry.apply(maps)
        assert torch.equal(symmetry.undo(turned), maps)
        seen.add((turned.shape, tuple(turned.flatten().tolist())))
    assert len(seen) == 8
    assert set(SYMMETRIES["mirror"]) < set(SYMMETRIES["flips"]) < set(SYMMETRIES["symmetries"])
    flipped = [one.apply(maps) for one in SYMMETRIES["flips"]]
    for expected in (maps, maps.flip(-1), maps.flip(-2), maps.flip((-1, -2))):
        assert any(torch.equal(expected, one) for one in flipped)


@pytest.mark.parametrize("kind", [ONE_CLASS, SEVERAL_CLASSES, NUMBERS])
def test_the_mean_is_that_of_probabilities_or_numbers(kind: averaging.Kind) -> None:
    parts = [torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    found = kind.shares(mean(iter(parts), kind))
    assert torch.allclose(found, sum(map(kind.shares, parts)) / 3, atol=1e-6)
    assert mean(iter(parts[:1]), kind) is parts[0]


def test_what_is_averaged_follows_the_task() -> None:
    target = {"mean": 0.0, "std": 1.0, "minimum": 0.0, "maximum": 1.0}
    assert kind_of(header()) is ONE_CLASS and kind_of(header(task="multilabel")) is SEVERAL_CLASSES
    assert kind_of(header(task="regression", target=target)) is NUMBERS


def test_scales_are_fractions_of_small_numbers_within_bounds() -> None:
    assert SegmentationAveragingSettings(test_time_scales=(0.75, 1, 1.25, 1.0)).scales == (
        Fraction(3, 4),
        1,
        Fraction(5, 4),
    )
    assert SegmentationAveragingSettings(test_time_scales=(1.3333,)).scales == (Fraction(4, 3),)
    assert SegmentationAveragingSettings().scales == (1,)
    for wrong in (0.1, 5.0, float("nan")):
        with pytest.raises(InputError, match=r"TEST_TIME_SCALES has .* Give numbers from 0\.25 to 4"):
            SegmentationAveragingSettings(test_time_scales=(wrong,))


# --- maps


@pytest.mark.parametrize("whole_window", [False, True])
@pytest.mark.parametrize("choice", ["mirror", "flips", "symmetries"])
def test_a_network_that_does_not_care_gives_the_same_map(
    choice: str, whole_window: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    made, data = header(whole_window=whole_window), image()
    plain, shares = mapped(tmp_path / "a", monkeypatch, Pointwise(), data, made)
    found, other = mapped(tmp_path / "b", monkeypatch, Pointwise(), data, made, test_time_augmentation=choice)
    assert np.array_equal(plain, found) and np.allclose(shares, other, atol=1e-6)


def test_a_network_that_leans_gives_the_mean_over_all_symmetries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = image()
    _, found = mapped(tmp_path, monkeypatch, Leaning(), data, header(), test_time_augmentation="symmetries")
    value = (data.astype(np.float64) - 100) / 50
    expected = np.mean(
        [
            softmax(np.roll(value, shift, (0, 1)))
            for shift in ((1, 3), (1, -3), (-1, 3), (-1, -3), (3, 1), (3, -1), (-3, 1), (-3, -1))
        ],
        axis=0,
    )
    inside = slice(4, -4), slice(4, -4)  # the raster is mirrored at its edge, which rolling does not know
    assert np.allclose(found[(slice(None), *inside)], expected[(slice(None), *inside)], atol=1e-5)


def test_numbers_are_averaged_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1].roll(1, -1)

    made = header(
        task="regression", classes=ClassTable.from_rows([]),
        target={"mean": 100.0, "std": 50.0, "minimum": 0.0, "maximum": 255.0},
    )  # fmt: skip
    data = image()
    found, _ = mapped(tmp_path, monkeypatch, Left(), data, made, test_time_augmentation="mirror")
    value = data.astype(np.float64)
    expected = (np.roll(value, 1, 1) + np.roll(value, -1, 1)) / 2
    assert np.allclose(found[:, 2:-2], expected[:, 2:-2], atol=1e-3)


@pytest.mark.parametrize("whole_window", [False, True])
def test_scales_are_seen_in_their_size_and_come_back_to_their_place(
    whole_window: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    class Looking(Pointwise):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(images.shape[-2:]))
            return super().forward(images)

    rows, cols = np.mgrid[:150, :200]
    data = (rows + cols / 2).astype(np.uint8)  # bilinear in both directions
    made = header(whole_window=whole_window)
    _, found = mapped(
        tmp_path, monkeypatch, Looking(), data, made, test_time_scales=[0.75, 1, 1.25, 0.5], halo=16, tile_size=64,
        batch_size=3,
    )  # fmt: skip
    sides = {side for shape in shapes for side in shape}
    # With 64, it is seen whether batch norms can be folded.
    assert sides == {32, 64} if whole_window else all(side % 32 == 0 for side in sides)
    expected = softmax((data.astype(np.float64) - 100) / 50)
    assert np.abs(found - expected).max() < 0.03 and np.abs(found - expected).mean() < 0.003


def test_a_scale_sees_objects_as_many_times_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(nn.Module):
        """The mean over nine columns: with half the size, over eighteen."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            padded = nn.functional.pad(images[:, :1], (4, 4, 0, 0), mode="replicate")
            return logits_of(nn.functional.avg_pool2d(padded, (1, 9), 1)[:, 0] * 20)

    data = np.full((64, 256), 100, np.uint8)
    data[:, 100:104] = 150
    reach = {}
    for scale in (0.5, 1, 2):
        (tmp_path / str(scale)).mkdir()
        _, found = mapped(tmp_path / str(scale), monkeypatch, Wide(), data, header(), test_time_scales=[scale], halo=32)
        reach[scale] = np.count_nonzero(found[0, 30] > found[0, 30, 0] + 0.05)
    assert reach[0.5] > reach[1] + 5 and reach[1] > reach[2]


def test_tiles_leave_no_seams_at_other_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)

    class Blurred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.MaxPool2d(32, 32), nn.Conv2d(4, 3, 1)
            )

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(self.layers(images) * 5, scale_factor=32, mode="nearest")

    network, data, found = Blurred().eval().requires_grad_(False), image(200, 230), []
    for tile_size in (64, 160, 512):
        (tmp_path / str(tile_size)).mkdir()
        settings = {"tile_size": tile_size, "halo": 96, "test_time_scales": [0.75, 1.25]}
        found.append(mapped(tmp_path / str(tile_size), monkeypatch, network, data, header(), **settings)[1])
    assert np.allclose(found[0], found[2], atol=1e-5) and np.allclose(found[1], found[2], atol=1e-5)


def test_the_log_says_how_often_the_network_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Pointwise(), header()))
    heard = Heard()
    config = {
        "input": write_raster(tmp_path / "i.tif", image()), "model": "m", "output": str(tmp_path / "o.tif"),
        "test_time_augmentation": "flips", "test_time_scales": [1, 1.5], "device": "cpu",
    }  # fmt: skip
    segment.segment_raster(SegmentRasterConfig.from_json(config), heard)
    assert any("seen 8 times" in text for text in heard.logs)


# --- classifiers


def corner(chips: torch.Tensor) -> torch.Tensor:
    return chips[:, 0, 0]


def test_a_classifier_sees_chips_mirrored_and_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = classifier_header()
    monkeypatch.setattr(scenes, "load_classifier", lambda path: (Known(corner), made))
    data = np.random.default_rng(0).integers(90, 130, (4 * SIZE, 5 * SIZE), dtype=np.uint8)
    config = {
        "input": write_raster(tmp_path / "i.tif", data), "model": "m", "probabilities": str(tmp_path / "p.tif"),
        "device": "cpu", "test_time_augmentation": "symmetries",
    }  # fmt: skip
    scenes.classify_scenes(ClassifyScenesConfig.from_json(config), Heard())
    found = gdal.Open(str(tmp_path / "p.tif")).ReadAsArray()
    chips = data.reshape(4, SIZE, 5, SIZE).astype(np.float32)
    corners = chips[:, 0, :, 0], chips[:, 0, :, -1], chips[:, -1, :, 0], chips[:, -1, :, -1]
    shares = [
        torch.stack([59.5 - value, torch.zeros_like(value), value - 160.5]).softmax(0)
        for value in map(torch.from_numpy, corners)
    ]
    assert np.allclose(found, sum(shares) / 4, atol=1e-5)


@pytest.mark.parametrize("every", [True, False])
def test_shared_computation_gives_the_same_as_chip_by_chip(every: bool) -> None:
    size, stride, shape = 16, 4, (5, 7)
    network = trained_looking("lecture_cnn", size, bands=1)
    made = classifier_header(chip_size=size)
    predictor = ChipPredictor(network, made, torch.device("cpu"), 8, SYMMETRIES["symmetries"])
    steps = Steps(size, stride, Grid(0, 0, 1, -1, 200, 200))
    layers = layers_of(network)
    assert layers is not None
    wanted = np.random.default_rng(1).random(shape) < (2 if every else 0.7)
    data = np.random.default_rng(0).integers(0, 255, (1, 1, 4 * 4 + size, 6 * 4 + size), dtype=np.uint8)
    core = Window(3, 3, shape[1], shape[0])
    batch = Batch(data, None, [Tile(core, steps.chips(core))], [wanted])
    one, other = (
        StepSource(predictor, steps, shared).values(batch, lambda share: None)
        for shared in (None, SharedEvaluator(layers, size, stride))
    )
    assert np.array_equal(one[0, 0].isfinite().numpy(), wanted)
    assert torch.allclose(one.nan_to_num(9), other.nan_to_num(9), atol=1e-4)
