"""Ensembles: models that fit together, and the mean of what they say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import known_segmenter
import numpy as np
import pytest
import torch
from heard import Heard
from known_classifier import SIZE, Known
from known_classifier import header as classifier_header
from osgeo import gdal
from synthetic import write_raster
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.config import ClassifyFeaturesConfig, ClassifyScenesConfig, SegmentRasterConfig
from plugin.engine.errors import InputError
from plugin.engine.mapping import scenes, segment
from plugin.engine.mapping.reading.tile_reader import Images
from plugin.engine.mapping.sources.averaging import ONE_CLASS
from plugin.engine.mapping.sources.ensembles import combine
from plugin.engine.mapping.sources.loading import load_all, mean_values
from plugin.engine.models.header import ModelHeader
from plugin.engine.rasters.raster_io import RasterReader

ROWS = [(1, "a", "#000000"), (2, "b", "#ffffff"), (3, "c", "#ff0000")]
OTHER_ROWS = [(1, "c", "#000001"), (5, "a", "#ffffff"), (9, "b", "#ff0000")]  # names in another order


def header(*bands: str, rows: list[tuple[int, str, str]] = ROWS, **values: Any) -> ModelHeader:
    usual: dict[str, Any] = {"classes": ClassTable.from_rows(rows), "chip_size": 32, "whole_window": False}
    return known_segmenter.header(bands or ("one", "two"), **{**usual, **values})


class Weighted(nn.Module):
    """Logits of three classes from weights (3, B) of the bands; keeps the shapes that it saw."""

    def __init__(self, weights: list[list[float]]) -> None:
        super().__init__()
        self.weights = torch.tensor(weights)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(images.shape))
        return torch.einsum("kb,nbhw->nkhw", self.weights, images)


FIRST = [[1.0, 0.5], [-1.0, 0.2], [0.3, -0.7]]
SECOND = [[0.4, -2.0], [1.5, 0.1], [-0.6, 0.9]]


def image(bands: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (bands, 70, 90), dtype=np.uint8)


def mapped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, models: dict[str, tuple[nn.Module, ModelHeader]], raster: str,
    reporter: Any = None, **settings: Any,
) -> dict[str, np.ndarray]:  # fmt: skip
    monkeypatch.setattr(segment, "load_model", models.__getitem__)
    first, *more = models
    files = {"output": "o.tif", "probabilities": "p.tif", "entropy": "e.tif"}
    if more and next(iter(models.values()))[1].target is None:
        files["disagreement"] = "d.tif"
    if next(iter(models.values()))[1].target is not None:
        files = {"output": "o.tif"}
    paths = {name: str(folder / file) for name, file in files.items()}
    given = {
        "input": raster,
        "model": first,
        "ensemble": more,
        "device": "cpu",
        "tile_size": 64,
        "halo": 32,
        **paths,
        **settings,
    }
    segment.segment_raster(SegmentRasterConfig.from_json(given), reporter or Heard())
    return {name: gdal.Open(path).ReadAsArray() for name, path in paths.items()}


def shares(weights: list[list[float]], data: np.ndarray, mean: float = 100.0, std: float = 50.0) -> torch.Tensor:
    images = (torch.from_numpy(data.astype(np.float32))[None] - mean) / std
    return Weighted(weights)(images).softmax(1)[0]


def entropy(probabilities: torch.Tensor) -> np.ndarray:
    found: np.ndarray = (torch.special.entr(probabilities).sum(0) / np.log(3)).numpy()
    return found


def written(path: Path, data: np.ndarray) -> str:
    """A raster with named bands."""
    raster = write_raster(path, data)
    if data.ndim == 3:
        dataset = gdal.Open(raster, gdal.GA_Update)
        for number, name in enumerate(("one", "two", "three")[: len(data)], 1):
            dataset.GetRasterBand(number).SetDescription(name)
    return raster


# --- maps


def test_the_mean_of_probabilities_counts_and_disagreement_is_the_mutual_information(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, heard = image(), Heard()
    models = {"a": (Weighted(FIRST), header()), "b": (Weighted(SECOND), header())}
    raster = written(tmp_path / "i.tif", data)
    found = mapped(tmp_path, monkeypatch, models, raster, heard)
    ours, theirs = shares(FIRST, data), shares(SECOND, data)
    mean = (ours + theirs) / 2
    assert np.allclose(found["probabilities"], mean, atol=1e-5)
    certain = mean.sort(0).values[-1] - mean.sort(0).values[-2] > 1e-4
    assert np.array_equal(found["output"][certain], (mean.argmax(0) + 1).numpy()[certain])
    expected = entropy(mean) - (entropy(ours) + entropy(theirs)) / 2
    assert np.allclose(found["disagreement"], expected, atol=1e-5) and expected.max() > 0.1
    assert np.allclose(found["entropy"], entropy(mean), atol=1e-5)
    assert any("ensemble of 2 models" in text for text in heard.logs) and not heard.warnings


def test_a_model_with_itself_changes_nothing_and_does_not_disagree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raster = written(tmp_path / "i.tif", image())
    for name in ("alone", "twice"):
        (tmp_path / name).mkdir()
    one = {"a": (Weighted(FIRST), header())}
    alone = mapped(tmp_path / "alone", monkeypatch, one, raster)
    twice = mapped(tmp_path / "twice", monkeypatch, {**one, "b": (Weighted(FIRST), header())}, raster)
    assert np.array_equal(alone["output"], twice["output"])
    assert np.allclose(alone["probabilities"], twice["probabilities"], atol=1e-6)
    assert np.abs(twice["disagreement"]).max() < 1e-5


def test_classes_in_another_order_other_bands_normalisation_and_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = image(3)
    raster = written(tmp_path / "i.tif", data)
    other = header("Three", "ONE", rows=OTHER_ROWS, mean=(90.0, 120.0), std=(40.0, 60.0), temperature=2.0)
    models = {"a": (Weighted(FIRST), header()), "b": (Weighted(SECOND), other)}
    found = mapped(tmp_path, monkeypatch, models, raster)
    assert models["b"][0].seen[0][1] == 2  # type: ignore[union-attr]
    seen = np.stack([(data[2] - 90.0) / 40, (data[0] - 120.0) / 60]).astype(np.float32)
    logits = torch.einsum("kb,bhw->khw", torch.tensor(SECOND), torch.from_numpy(seen))
    theirs = (logits / 2).softmax(0)[[1, 2, 0]]  # c, a, b → a, b, c
    assert np.allclose(found["probabilities"], (shares(FIRST, data[:2]) + theirs) / 2, atol=1e-5)
    assert set(np.unique(found["output"])) <= {1, 2, 3}


def test_the_raster_is_read_once_and_each_window_as_far_as_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raster = written(tmp_path / "i.tif", image())
    read: dict[str, int] = {}
    for name in ("alone", "three"):
        (tmp_path / name).mkdir()
        count = 0
        plain = RasterReader.read

        def counted(self: RasterReader, *given: Any) -> Any:
            nonlocal count
            count += 1
            return plain(self, *given)  # noqa: B023

        monkeypatch.setattr(RasterReader, "read", counted)
        models = {key: (Weighted(FIRST), header()) for key in ("a", "b", "c")[: 1 if name == "alone" else 3]}
        mapped(tmp_path / name, monkeypatch, models, raster)
        monkeypatch.setattr(RasterReader, "read", plain)
        read[name] = count
    assert read["alone"] == read["three"] > 0


def test_networks_with_windows_and_with_tiles_map_together_at_several_scales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.full((2, 70, 90), 130, np.uint8)
    raster = written(tmp_path / "i.tif", data)
    models = {"a": (Weighted(FIRST), header()), "b": (Weighted(SECOND), header(whole_window=True))}
    settings = {"test_time_scales": [0.75, 1], "test_time_augmentation": "flips"}
    found = mapped(tmp_path, monkeypatch, models, raster, **settings)
    assert np.allclose(found["probabilities"], (shares(FIRST, data) + shares(SECOND, data)) / 2, atol=1e-4)


def test_numbers_are_averaged_in_the_units_of_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(mean: float, std: float) -> ModelHeader:
        target = {"mean": mean, "std": std, "minimum": 0.0, "maximum": 9.0}
        return header(task="regression", rows=[], target=target)

    class Number(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1]

    data = image()
    raster = written(tmp_path / "i.tif", data)
    models = {"a": (Number(), of(10.0, 2.0)), "b": (Number(), of(20.0, 5.0))}
    found = mapped(tmp_path, monkeypatch, models, raster)
    z = (data[0] - 100.0) / 50
    assert np.allclose(found["output"], ((10 + 2 * z) + (20 + 5 * z)) / 2, atol=1e-4)


# --- what fits together

NO_TARGET = {"mean": 1.0, "std": 1.0, "minimum": 0.0, "maximum": 2.0}


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (header(task="regression", rows=[], target=NO_TARGET), "b is for regression, but a is for segmentation"),
        (header(rows=ROWS[:2]), r"b has the classes a, b, but a has a, b, c"),
        (header(rows=[*ROWS[:2], (3, "d", "#ff0000")]), r"b has the classes a, b, d, but a has a, b, c"),
        (header("x", "x", "y"), "b has 3 bands and a has 2, and some have the same name"),
        (header(scales=((0.1, 0.0), (0.1, 0.0))), "b was trained on rasters with a scale of 0.1"),
    ],
)  # fmt: skip
def test_models_that_do_not_fit_are_refused(other: ModelHeader, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        combine(["a", "b"], [header(), other])


def test_a_model_given_twice_and_scales_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="b is given twice"):
        combine(["a", "b", "b"], [header()] * 3)
    ours, theirs = header(scales=((0.1, 0.0), (1.0, 0.0))), header(scales=((0.2, 0.0), (1.0, 0.0)))
    with pytest.raises(InputError, match="the band one with another scale or offset"):
        combine(["a", "b"], [ours, theirs])


def test_bands_of_all_are_joined_by_name_or_in_order() -> None:
    joined, members = combine(
        ["a", "b"], [header(), header("Three", "one", mean=(7.0, 8.0), std=(2.0, 3.0), nodata=5.0)]
    )
    assert joined.band_names == ("one", "two", "Three") and joined.mean == (100.0, 100.0, 7.0)
    assert [member.bands for member in members] == [(0, 1), (2, 0)] and joined.nodata == 5
    joined, members = combine(["a", "b"], [header("x", "x"), header("y", "z")])
    assert joined.band_names == ("x", "x") and [member.bands for member in members] == [(0, 1), (0, 1)]
    single = header()
    assert combine(["a"], [single])[0] is single


def test_classes_of_the_same_name_go_by_value() -> None:
    same = [(1, "a", "#000000"), (2, "a", "#ffffff"), (3, "c", "#ff0000")]
    assert combine(["a", "b"], [header(rows=same), header(rows=same)])[1][1].order == (0, 1, 2)
    moved = [(1, "a", "#000000"), (2, "c", "#ffffff"), (3, "a", "#ff0000")]
    with pytest.raises(InputError, match="several classes of the same name"):
        combine(["a", "b"], [header(rows=same), header(rows=moved)])


def test_members_trained_on_other_values_or_pixels_are_named() -> None:
    heard, network = Heard(), nn.Identity()
    far = {"a": (network, header()), "b": (network, header(mean=(9000.0, 100.0), pixel_size=2.0))}
    load_all(far.__getitem__, ["a", "b"], heard)
    assert len(heard.warnings) == 2
    assert "b was trained on values of 9000 ± 50 in the band one" in heard.warnings[0]
    assert "b was trained on pixels of 2 units, but the first one on 1" in heard.warnings[1]


def test_disagreement_needs_an_ensemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = written(tmp_path / "i.tif", image())
    with pytest.raises(InputError, match="only one model"):
        mapped(tmp_path, monkeypatch, {"a": (Weighted(FIRST), header())}, raster, disagreement=str(tmp_path / "d.tif"))


def test_no_model_of_an_ensemble_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = written(tmp_path / "i.tif", image())
    path = str(tmp_path / "o.tif")  # odd, but a file of any name can be a model
    Path(path).write_bytes(b"")
    with pytest.raises(InputError, match="the model file"):
        mapped(tmp_path, monkeypatch, {"a": (Weighted(FIRST), header()), path: (Weighted(FIRST), header())}, raster)


# --- classifiers


def middle(chips: torch.Tensor) -> torch.Tensor:
    return chips[:, SIZE // 2, SIZE // 2]


def corner(chips: torch.Tensor) -> torch.Tensor:
    return chips[:, 0, 0]


def test_classifiers_map_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"a": (Known(middle), classifier_header()), "b": (Known(corner), classifier_header(temperature=2.0))}
    monkeypatch.setattr(scenes, "load_classifier", models.__getitem__)
    data = np.random.default_rng(0).integers(90, 130, (4 * SIZE, 5 * SIZE), dtype=np.uint8)
    config = {
        "input": written(tmp_path / "i.tif", data), "model": "a", "ensemble": ["b"],
        "probabilities": str(tmp_path / "p.tif"), "device": "cpu",
    }  # fmt: skip
    scenes.classify_scenes(ClassifyScenesConfig.from_json(config), Heard())
    found = gdal.Open(str(tmp_path / "p.tif")).ReadAsArray()
    chips = torch.from_numpy(data.reshape(4, SIZE, 5, SIZE).astype(np.float32))

    def said(value: torch.Tensor, temperature: float) -> torch.Tensor:
        return (torch.stack([59.5 - value, torch.zeros_like(value), value - 160.5]) / temperature).softmax(0)

    expected = (said(chips[:, SIZE // 2, :, SIZE // 2], 1) + said(chips[:, 0, :, 0], 2)) / 2
    assert np.allclose(found, expected, atol=1e-5)


def test_chips_of_photographs_and_features_get_the_mean() -> None:
    headers = [classifier_header(2), classifier_header(1, band_names=("band 2",))]
    _, members = combine(["a", "b"], headers)
    models, _ = load_all(lambda path: (nn.Identity(), headers["ab".index(path)]), ["a", "b"], Heard())
    assert [model.member for model in models] == members
    done: list[float] = []
    said = [lambda images, advance: advance(1) or torch.from_numpy(images.data[:, -1, 0, :3]).float()] * 2
    images = Images(np.random.default_rng(0).integers(0, 5, (4, 2, 8, 8)).astype(np.uint8), None)
    found = mean_values(models, said, ONE_CLASS)(images, done.append)  # type: ignore[arg-type]
    expected = torch.from_numpy(images.data[:, 1, 0, :3]).float().softmax(1)
    assert torch.allclose(found.softmax(1), expected, atol=1e-6) and done == [0.5, 0.5]


def test_classifiers_see_chips_of_one_size() -> None:
    with pytest.raises(InputError, match="b sees chips of 16 pixels, but a of 8"):
        combine(["a", "b"], [classifier_header(), classifier_header(chip_size=16)])


def test_the_first_model_comes_first() -> None:
    config = ClassifyFeaturesConfig.from_json(
        {"input": "i", "features": "f", "output": "o", "model": "a", "ensemble": ["b", "c"]}
    )
    assert config.models == ("a", "b", "c")
    assert dataclasses.replace(config).models == config.models
