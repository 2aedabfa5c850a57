"""Regression: from chips with numbers to a model file, its figures, and maps in the target's units."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import known_segmenter
import numpy as np
import pytest
import torch
from heard import Heard
from osgeo import gdal

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.classes import ClassTable
from plugin.engine.config import (
    ActivationMapsConfig,
    ExportChipsConfig,
    FindLearningRateConfig,
    SegmentRasterConfig,
    TrainSegmenterConfig,
)
from plugin.engine.errors import InputError
from plugin.engine.mapping.early_checks import check_activation, check_segmentation
from plugin.engine.mapping.segment import segment_raster
from plugin.engine.mapping.sources.inference import Inference
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import ModelHeader, read_header
from plugin.engine.models.model_file import load_model, save_model
from plugin.engine.models.normalisation import Normaliser
from plugin.engine.recipe.sampling import SamplingSettings
from plugin.engine.training.early_checks import check_range_test, check_segmenter
from plugin.engine.training.regression import RegressionTally, RegressionTask, TargetReader
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.train_segmenter import train_segmenter

CPU = torch.device("cpu")
SIDE = 160
TARGET = {"mean": 50.0, "std": 4.0, "minimum": 30.0, "maximum": 70.0}


def write(path: Path, data: np.ndarray, nodata: float | None = None) -> str:
    kind = {"uint8": gdal.GDT_Byte, "float32": gdal.GDT_Float32}[data.dtype.name]
    target = gdal.GetDriverByName("GTiff").Create(str(path), SIDE, SIDE, len(data), kind)
    target.SetGeoTransform((0, 1, 0, SIDE, 0, -1))
    target.WriteArray(data)
    if nodata is not None:
        target.GetRasterBand(1).SetNoDataValue(nodata)
    target.FlushCache()
    return str(path)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """An image, its target (twice the first band + 1000, in places unknown), and the chips of both."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(1)
    rough = rng.integers(20, 235, (3, 5, 5)).repeat(32, axis=1).repeat(32, axis=2)
    image = rough.astype(np.uint8)
    heights = (2.0 * rough[:1] + 1000).astype(np.float32)
    heights[:, :5] = -1
    paths = write(folder / "image.tif", image), write(folder / "heights.tif", heights, nodata=-1)
    config = ExportChipsConfig(
        input=(paths[0],), label_rasters=(paths[1],), output=str(folder / "chips"), task="regression", chip_size=32,
        block_size=32, seed=2,
    )  # fmt: skip
    export_chips(config, Heard())
    return SimpleNamespace(image=paths[0], heights=heights[0], chips=config.output, data=image)


def settings(scene, folder, **values):
    common = {
        "chips": scene.chips, "output": str(folder / "model.safetensors"), "architecture": "fcn8s", "epochs": 2,
        "encoder": "mobilenet_v2", "pretrained": "none", "device": "cpu", "batch_size": 4,
    }  # fmt: skip
    return TrainSegmenterConfig.from_json({**common, **values})


@pytest.fixture(scope="module")
def trained(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    reporter = Heard()
    report = str(folder / "report.html")
    result = train_segmenter(
        settings(scene, folder, report=report, loss="huber", epochs=5, learning_rate=0.01), reporter
    )
    return SimpleNamespace(result=result, reporter=reporter, report=report)


def test_the_tally_counts_as_numpy_does():
    rng = np.random.default_rng(0)
    tally = RegressionTally(50.0, 4.0, CPU)
    told, true = [], []
    for _ in range(3):
        answers, targets = rng.normal(0, 1, (2, 1, 6, 5)), rng.normal(0.5, 2, (2, 6, 5))
        targets[0, :2] = np.nan
        tally.add(torch.tensor(answers), torch.tensor(targets), torch.tensor(0.5), torch.tensor(3.0))
        known = np.isfinite(targets)
        told.append((answers[:, 0] * 4 + 50)[known])
        true.append((targets * 4 + 50)[known])
    found, target = np.concatenate(told), np.concatenate(true)
    errors = found - target
    figures = tally.figures()
    assert figures["r2"] == pytest.approx(1 - (errors**2).sum() / ((target - target.mean()) ** 2).sum())
    assert figures["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert figures["mae"] == pytest.approx(np.abs(errors).mean())
    assert figures["bias"] == pytest.approx(errors.mean())
    assert figures["pixels"] == len(errors) == tally.pair_counts().sum() == tally.error_counts().sum()
    edges = np.linspace(50 - 16, 50 + 16, len(tally.pair_counts()) + 1)
    inside = [np.clip(values, edges[0] + 1e-9, edges[-1] - 1e-9) for values in (found, target)]
    assert (tally.pair_counts() == np.histogram2d(*inside, bins=(edges, edges))[0]).all()
    again = RegressionTally(50.0, 4.0, CPU)
    again.restore(tally.state())
    assert again.figures() == figures


def test_an_answer_that_is_no_number_counts_nowhere_and_no_label_gives_no_figures():
    tally = RegressionTally(0.0, 1.0, CPU)
    nothing = torch.full((1, 1, 1), torch.nan)
    tally.add(torch.tensor([[[[float("inf")]]]]), torch.zeros(1, 1, 1), torch.tensor(1.0), torch.tensor(1.0))
    tally.add(torch.zeros(1, 1, 1, 1), nothing, torch.tensor(0.0), torch.tensor(0.0))
    figures = tally.figures()
    assert figures["pixels"] == 0 and figures["r2"] is figures["rmse"] is figures["bias"] is None
    tally.add(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1), torch.tensor(0.0), torch.tensor(1.0))
    assert tally.figures()["r2"] is None and tally.figures()["rmse"] == 0  # one target has no variance
    json.dumps(tally.figures(), allow_nan=False)


def test_the_loss_is_that_of_standardised_targets(scene, tmp_path):
    info = open_dataset(scene.chips).info
    drawn = Sampling(SamplingSettings(), info, np.zeros((3, 0)))
    task = RegressionTask(info, drawn, settings(scene, tmp_path), CPU)
    images, targets = TargetReader(open_dataset(scene.chips)).read([0, 1])
    assert targets.dtype == torch.float32 and np.array_equal(np.isnan(targets), targets.numpy() != targets.numpy())

    def network(images):
        return 0.1 * images[:, :1]

    answers = task.answer(network, (images, targets))
    standard = (targets.double() - info.target["mean"]) / info.target["std"]
    squares = ((answers.logits[:, 0] - standard) ** 2)[~targets.isnan()]
    assert answers.loss.item() == pytest.approx(squares.mean().item(), rel=1e-5)
    assert task.readable(answers.logits).shape == targets.shape


def test_a_network_learns_numbers_and_its_file_and_report_tell_them(scene, trained):
    figures = trained.result["test"]
    assert figures["rmse"] > 0 and figures["pixels"] > 0 and set(figures) >= {"r2", "rmse", "mae", "bias", "loss"}
    losses = [record["training"]["loss"] for record in trained.reporter.epochs]
    assert losses[-1] < 0.8 * losses[0]
    scores = [-record["validation"]["rmse"] for record in trained.reporter.epochs]
    assert trained.result["best_epoch"] == 1 + int(np.argmax(scores))
    assert any(line.startswith("Test chips: R² ") and "RMSE" in line for line in trained.reporter.logs)
    header = read_header(trained.result["model"])
    info = open_dataset(scene.chips).info
    assert header.target == info.target and not len(header.classes) and header.outputs == 1
    known = scene.heights[scene.heights > 0]
    assert known.min() <= header.target["minimum"] <= header.target["mean"] <= header.target["maximum"] <= known.max()
    page = Path(trained.report).read_text(encoding="utf-8")
    assert "R²" in page and "prediction − target" in page and "Confusion matrix" not in page


def test_a_map_has_the_units_of_the_target(scene, trained, tmp_path):
    output = str(tmp_path / "map.tif")
    result = segment_raster(
        SegmentRasterConfig(input=scene.image, model=trained.result["model"], output=output, device="cpu", halo=0),
        Heard(),
    )
    network, header = load_model(trained.result["model"])
    network = Inference(network, header, CPU, False, Heard())
    network.continue_edges()
    normalise = Normaliser(header.mean, header.std, CPU)
    expected = network(normalise(torch.from_numpy(scene.data[None]), None))[0, 0].numpy()
    expected = expected * header.target["std"] + header.target["mean"]
    source = gdal.Open(output)
    found = source.ReadAsArray()
    assert found.dtype == np.float32 and np.isnan(source.GetRasterBand(1).GetNoDataValue())
    assert np.abs(found - expected).max() < 1e-4 * header.target["std"]
    told = result["statistics"]
    assert [told["minimum"], told["maximum"]] == pytest.approx([found.min(), found.max()])
    assert [told["mean"], told["std"]] == pytest.approx([found.mean(), found.std()], rel=1e-4)
    assert source.GetRasterBand(1).GetStatistics(False, False) == pytest.approx(list(told.values()))
    assert "singlebandpseudocolor" in (tmp_path / "map.qml").read_text(encoding="utf-8")
    assert result["classes"] == [] and result["nodata_pixels"] == 0


number_header = partial(
    known_segmenter.header, task="regression", architecture="fcn8s", encoder="mobilenet_v2", classes=ClassTable(()),
    target=TARGET,
)  # fmt: skip


def made(tmp_path, whole_window=False, **values):
    """A model file of numbers from random weights."""
    torch.manual_seed(0)
    described = number_header(("a", "b", "c"), whole_window=whole_window, **values)
    path = tmp_path / "made.safetensors"
    save_model(path, create_model("fcn8s", "mobilenet_v2", 3, 1).eval(), described)
    return str(path)


def test_a_network_that_sees_its_whole_window_is_mapped_in_blended_windows(scene, tmp_path):
    output = str(tmp_path / "map.tif")
    model = made(tmp_path, whole_window=True)
    segment_raster(SegmentRasterConfig(input=scene.image, model=model, output=output, device="cpu"), Heard())
    found = gdal.Open(output).ReadAsArray()
    assert np.isfinite(found).all() and found.std() > 0 and abs(found.mean() - TARGET["mean"]) < 10 * TARGET["std"]


def test_what_is_for_classes_is_refused_with_a_model_of_numbers(scene, tmp_path):
    model = made(tmp_path)
    config = SegmentRasterConfig(
        input=scene.image, model=model, output=str(tmp_path / "map.tif"), probabilities=str(tmp_path / "p.tif")
    )
    for check in (lambda: check_segmentation(config, read_header(model)), lambda: segment_raster(config, Heard())):
        with pytest.raises(InputError, match=r"PROBABILITIES is given.*predicts numbers.*Leave PROBABILITIES empty"):
            check()
    activation = ActivationMapsConfig(model=model, input=scene.image, output=str(tmp_path / "a.tif"), target_class="1")
    with pytest.raises(InputError, match="predicts numbers"):
        check_activation(activation, read_header(model))


@pytest.mark.parametrize(
    "target",
    [
        None, {}, {**TARGET, "std": 0.0}, {**TARGET, "std": -1}, {**TARGET, "mean": "high"}, {**TARGET, "more": 1},
        {**TARGET, "mean": 1e400}, [50, 4],
    ],
)  # fmt: skip
def test_a_target_that_no_map_could_rely_on_is_refused(tmp_path, target):
    text = number_header().to_metadata()["terrazzo"]
    assert ModelHeader.from_metadata(text, "m").target == TARGET
    values = json.loads(text)
    values["output"]["target"] = target
    with pytest.raises(InputError, match=r"target|damaged"):
        ModelHeader.from_metadata(json.dumps(values), "m")
    values["output"].update(target=TARGET, task="segmentation")
    with pytest.raises(InputError, match="it is for segmentation and has a target"):
        ModelHeader.from_metadata(json.dumps(values), "m")


def test_chips_and_settings_that_will_not_do_are_refused_early(scene, tmp_path):
    info = open_dataset(scene.chips).info
    check_segmenter(settings(scene, tmp_path), scene.chips, info)
    flat = dataclasses.replace(info, target={**info.target, "std": 0.0})
    with pytest.raises(InputError, match=r"targets of the training chips .* do not differ"):
        check_segmenter(settings(scene, tmp_path), scene.chips, flat)
    for values, message in (
        ({"loss": "dice"}, "LOSS is \"dice\", and the chips are for regression.*mse, mae, huber"),
        ({"class_weights": "balanced"}, "CLASS_WEIGHTS is given"), ({"sampling": "root"}, "SAMPLING is given"),
        ({"monitor": "mean_iou"}, "MONITOR is \"mean_iou\".*rmse"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            check_segmenter(settings(scene, tmp_path, **values), scene.chips, info)
    check_segmenter(settings(scene, tmp_path, monitor="r2"), scene.chips, info)
    tried = FindLearningRateConfig.from_json({"chips": scene.chips, "loss": "huber"})
    assert isinstance(check_range_test(tried, info), TrainSegmenterConfig)
