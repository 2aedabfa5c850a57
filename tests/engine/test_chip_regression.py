"""One number a chip: from labels to a CNN, its figures, and maps in the target's units."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from heard import Heard
from known_classifier import Known, header, mean, trained_looking
from osgeo import gdal, ogr
from synthetic import LEFT, TOP, rectangle, write_polygons, write_raster

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.classes import ClassTable
from plugin.engine.config import (
    ActivationMapsConfig,
    ClassifyFeaturesConfig,
    ClassifyScenesConfig,
    ExportChipsConfig,
    FindLearningRateConfig,
    InspectChipsConfig,
    TrainClassifierConfig,
)
from plugin.engine.errors import InputError
from plugin.engine.inspection.inspect_chips import inspect_chips
from plugin.engine.mapping import features, scenes
from plugin.engine.mapping.early_checks import check_activation, check_scenes
from plugin.engine.models.classifier_network import create_classifier
from plugin.engine.models.header import ModelHeader, read_header
from plugin.engine.models.model_file import load_classifier, save_model
from plugin.engine.training.early_checks import check_classifier, check_range_test, check_segmenter
from plugin.engine.training.regression import ChipRegressionTally, RegressionTally
from plugin.engine.training.train_classifier import train_classifier

CPU = torch.device("cpu")
SIDE, CHIP = 256, 16
TARGET = {"mean": 100.0, "std": 50.0, "minimum": 0.0, "maximum": 255.0}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """An image, its numbers (three times the first band − 50, in places unknown), and the chips of both."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(1)
    coarse = rng.integers(20, 235, (2, SIDE // CHIP, SIDE // CHIP)).repeat(CHIP, axis=1).repeat(CHIP, axis=2)
    image = np.clip(coarse + rng.integers(-9, 10, coarse.shape), 0, 255).astype(np.uint8)
    numbers = (3.0 * image[0] - 50).astype(np.float32)
    numbers[:CHIP, :CHIP] = -999
    numbers[CHIP : CHIP + 5, :CHIP] = -999
    image_path = write_raster(folder / "image.tif", image)
    labels = write_raster(folder / "numbers.tif", numbers, nodata=-999)
    config = ExportChipsConfig(
        input=(image_path,), label_rasters=(labels,), output=str(folder / "chips"), task="chip_regression",
        chip_size=CHIP, block_size=CHIP, seed=2,
    )  # fmt: skip
    export_chips(config, Heard())
    return SimpleNamespace(image=image_path, numbers=numbers, chips=config.output, data=image, config=config)


def settings(scene, folder, **values):
    common = {
        "chips": scene.chips, "output": str(folder / "model.safetensors"), "architecture": "lecture_cnn", "epochs": 2,
        "filters": (8, 8), "pretrained": "none", "device": "cpu", "batch_size": 16,
    }  # fmt: skip
    return TrainClassifierConfig.from_json({**common, **values})


@pytest.fixture(scope="module")
def trained(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    reporter, report = Heard(), str(folder / "report.html")
    asked = settings(scene, folder, report=report, epochs=30, learning_rate=0.01)
    return SimpleNamespace(result=train_classifier(asked, reporter), reporter=reporter, report=report)


def test_a_chip_has_the_mean_of_its_known_pixels(scene):
    dataset = open_dataset(scene.chips)
    assert len(dataset.images) == (SIDE // CHIP) ** 2 - 1  # one has no number
    assert not (Path(scene.chips) / "labels").exists() or not list((Path(scene.chips) / "labels").iterdir())
    for place in (0, 17, 200):
        transform = gdal.Open(str(dataset.image_path(place))).GetGeoTransform()
        col, row = round(transform[0] - LEFT), round(TOP - transform[3])
        pixels = scene.numbers[row : row + CHIP, col : col + CHIP].astype(np.float64)
        assert dataset.targets[place] == pytest.approx(pixels[pixels != -999].mean())
    learned = dataset.targets[dataset.splits == "training"]
    told = dataset.info.target
    assert [told["mean"], told["std"]] == pytest.approx([learned.mean(), learned.std()])
    assert [told["minimum"], told["maximum"]] == pytest.approx([learned.min(), learned.max()])
    assert dataset.info.outputs == 1 and dataset.shown.shape == (len(dataset.images), 0)


def test_a_chip_around_a_feature_has_its_number(scene, tmp_path):
    places = [(30, 30), (100, 40), (60, 200), (200, 200), (220, 60)]
    numbers = [1.25, -7.5, 1e6, 0.0, float("inf")]
    shapes = [
        (number, rectangle(LEFT + x, TOP - y - 6, LEFT + x + 6, TOP - y)) for (x, y), number in zip(places, numbers)
    ]
    labels = write_polygons(tmp_path / "labels.gpkg", shapes, kind=ogr.OFTReal)
    config = dataclasses.replace(
        scene.config, label_rasters=(), labels=labels, placement="features", output=str(tmp_path / "chips"),
        split_method="random",
    )  # fmt: skip
    export_chips(config, Heard())
    assert sorted(open_dataset(config.output).targets.tolist()) == sorted(numbers[:4])  # an infinite one is none


def test_the_tally_of_chips_counts_as_that_of_pixels_and_keeps_the_answers():
    rng = np.random.default_rng(0)
    plain, total, again = (kind(50.0, 4.0, CPU) for kind in (RegressionTally, ChipRegressionTally, ChipRegressionTally))
    told = []
    for count in (3, 5):
        answers, targets = torch.tensor(rng.normal(0, 1, (count, 1))), torch.tensor(rng.normal(0, 1, count))
        answers[0] = torch.nan
        found = torch.tensor(0.5), torch.tensor(float(count))
        plain.add(answers[..., None, None], targets[:, None, None], *found)
        step = ChipRegressionTally(50.0, 4.0, CPU)
        step.add(answers.float(), targets.float(), *found)
        total.include(step)
        told.append(torch.stack([answers[:, 0], targets], dim=1))
    ours = total.figures()
    assert ours.pop("chips") == 6
    expected = plain.figures()
    assert expected.pop("pixels") == 6 and ours == pytest.approx(expected, rel=1e-5)
    assert np.allclose(total.answers(), torch.cat(told) * 4 + 50, equal_nan=True)
    again.restore(total.state())
    assert np.array_equal(again.answers(), total.answers(), equal_nan=True) and again.figures() == total.figures()


def test_a_cnn_learns_numbers_and_its_file_and_report_tell_them(scene, trained):
    figures = trained.result["test"]
    assert figures["r2"] > 0.8 and figures["chips"] > 10 and set(figures) >= {"rmse", "mae", "bias", "loss"}
    assert any(line.startswith("Test chips: R² ") and "RMSE" in line for line in trained.reporter.logs)
    described = read_header(trained.result["model"])
    assert described.task == "chip_regression" and described.outputs == 1 and described.threshold is None
    assert described.target == open_dataset(scene.chips).info.target
    page = Path(trained.report).read_text(encoding="utf-8")
    assert "Largest errors" in page and "<th>chips</th>" in page and "layers and blocks" in page
    assert "Confusion matrix" not in page


def test_a_map_has_the_units_of_the_target(scene, trained, tmp_path):
    output, grid = str(tmp_path / "map.tif"), str(tmp_path / "grid.gpkg")
    heard = Heard()
    result = scenes.classify_scenes(
        ClassifyScenesConfig(input=scene.image, model=trained.result["model"], output=output, grid=grid, device="cpu"),
        heard,
    )
    network, described = load_classifier(trained.result["model"])
    chips = scene.data.reshape(2, SIDE // CHIP, CHIP, SIDE // CHIP, CHIP).transpose(1, 3, 0, 2, 4)
    chips = torch.from_numpy(chips.reshape(-1, 2, CHIP, CHIP).astype(np.float32))
    middle, width = (torch.tensor(row)[:, None, None] for row in (described.mean, described.std))
    with torch.no_grad():
        expected = network((chips - middle) / width)[:, 0].numpy()
    expected = expected * described.target["std"] + described.target["mean"]
    source = gdal.Open(output)
    found = source.ReadAsArray()
    assert found.dtype == np.float32 and np.isnan(source.GetRasterBand(1).GetNoDataValue())
    assert np.abs(found.ravel() - expected).max() < 1e-3 * described.target["std"]
    told = result["statistics"]
    assert [told["minimum"], told["maximum"]] == pytest.approx([found.min(), found.max()])
    assert result["classes"] == [] and result["answered"] == found.size
    assert any(line.startswith("Predicted 256 steps in ") for line in heard.logs)
    layer = ogr.Open(grid)
    rows = [row.GetField("value") for row in layer.GetLayerByName("scenes")]
    assert sorted(rows) == pytest.approx(sorted(found.ravel().tolist()), rel=1e-6)
    assert 'type="graduatedSymbol"' in layer.GetLayerByName("layer_styles").GetNextFeature().GetField("styleQML")


class Average(Known):
    """The mean of a chip, standardised as the band is, so that the number is the mean in stored values."""

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        return mean(chips[:, 0])[:, None]


def numbers_header(**values):
    return header(**{"task": "chip_regression", "classes": ClassTable(()), "target": TARGET, **values})


def test_features_and_photographs_get_numbers(tmp_path, monkeypatch):
    for job in (features, scenes, scenes.classify_photographs.__globals__):
        name = "load_classifier"
        loaded = lambda path: (Average(mean), numbers_header())  # noqa: E731
        monkeypatch.setitem(job, name, loaded) if isinstance(job, dict) else monkeypatch.setattr(job, name, loaded)
    data = np.full((32, 32), 30, np.uint8)
    data[:, 16:] = 220
    (tmp_path / "photographs").mkdir()
    image = write_raster(tmp_path / "photographs" / "image.tif", data)
    shapes = [(number, rectangle(LEFT + x, TOP - 20, LEFT + x + 4, TOP - 16)) for number, x in enumerate((3, 26))]
    path = write_polygons(tmp_path / "features.gpkg", shapes, layer="features")
    output = str(tmp_path / "answers.gpkg")
    config = ClassifyFeaturesConfig(input=image, model="m", features=path, output=output, device="cpu")
    result = features.classify_features(config, Heard())
    source = ogr.Open(output)
    assert [row.GetField("value") for row in source.GetLayer(0)] == pytest.approx([30, 220])
    assert result["classes"] == [] and result["statistics"]["maximum"] == pytest.approx(220)
    table = str(tmp_path / "table.csv")
    config = ClassifyScenesConfig(input_folder=str(tmp_path / "photographs"), model="m", table=table, device="cpu")
    assert scenes.classify_scenes(config, Heard())["statistics"]["mean"] == pytest.approx(data[12:20, 12:20].mean())
    assert Path(table).read_text(encoding="utf-8").splitlines()[0] == "file,value"


def made(tmp_path) -> str:
    """A model file of numbers from random weights."""
    path = tmp_path / "made.safetensors"
    described = numbers_header(bands=2, chip_size=CHIP, arguments={"filters": [8, 8]})
    save_model(path, trained_looking("lecture_cnn", CHIP, 2, 1, filters=(8, 8)), described)
    return str(path)


def test_what_is_for_classes_is_refused_with_a_model_of_numbers(scene, tmp_path):
    model = made(tmp_path)
    common = {"input": scene.image, "model": model, "device": "cpu"}
    for name, value in (("probabilities", str(tmp_path / "p.tif")), ("threshold", 0.5)):
        config = ClassifyScenesConfig(**common, output=str(tmp_path / "map.tif"), **{name: value})
        for check in (
            lambda config=config: check_scenes(config, read_header(model)),
            lambda config=config: scenes.classify_scenes(config, Heard()),
        ):
            with pytest.raises(InputError, match=f"{name.upper()} is given.*predicts numbers.*Leave {name.upper()}"):
                check()
    for values in (
        {"input": scene.image, "output": str(tmp_path / "a.tif")},
        {"input_folder": str(Path(scene.image).parent), "pictures": str(tmp_path / "pictures")},
    ):
        with pytest.raises(InputError, match="predicts numbers, which have no class"):
            check_activation(ActivationMapsConfig(model=model, **values), read_header(model))
    kept = ActivationMapsConfig(model=model, input=scene.image, output=str(tmp_path / "a.tif"), kind="feature_maps")
    check_activation(kept, read_header(model))


def test_chips_and_settings_that_will_not_do_are_refused_early(scene, tmp_path):
    info = open_dataset(scene.chips).info
    check_classifier(settings(scene, tmp_path), scene.chips, info)
    with pytest.raises(InputError, match=r"targets of the training chips .* do not differ"):
        check_classifier(
            settings(scene, tmp_path), scene.chips, dataclasses.replace(info, target={**info.target, "std": 0.0})
        )
    with pytest.raises(InputError, match=r"are for chip_regression.*use “Train a classifier”"):
        check_segmenter(SimpleNamespace(), scene.chips, info)
    for values, message in (
        ({"loss": "focal"}, "LOSS is \"focal\", and the chips are for chip_regression.*mse, mae, huber"),
        ({"class_weights": "root"}, "CLASS_WEIGHTS is given"), ({"sampling": "root"}, "SAMPLING is given"),
        ({"threshold": 0.5}, "THRESHOLD is 0.5, and each chip has a number"),
        ({"monitor": "mean_f1"}, "MONITOR is \"mean_f1\".*rmse"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            check_classifier(settings(scene, tmp_path, **values), scene.chips, info)
    check_classifier(settings(scene, tmp_path, monitor="r2", loss="huber"), scene.chips, info)
    tried = FindLearningRateConfig.from_json({"chips": scene.chips, "loss": "mae"})
    assert isinstance(check_range_test(tried, info), TrainClassifierConfig)


def test_no_architecture_keeps_its_number_from_being_negative():
    torch.manual_seed(0)
    network = create_classifier("squeezenet1_1", 3, 1, 32).eval()
    network.output.bias.data.fill_(-1.0)
    assert network(torch.zeros(1, 3, 32, 32)).item() < 0
    assert isinstance(numbers_header(), ModelHeader)


def test_the_inspection_shows_the_numbers(scene, tmp_path):
    report = tmp_path / "report.html"
    inspect_chips(InspectChipsConfig(chips=scene.chips, report=str(report)), Heard())
    page = report.read_text(encoding="utf-8")
    assert "Values to predict" in page and f"{open_dataset(scene.chips).targets[0]:.4g}" in page
