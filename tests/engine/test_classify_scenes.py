"""Classifying a raster in steps, and photographs, with networks with known predictions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from known_classifier import CLASSES, NODATA, SIZE, Breaking, Known, header, mean, middle, trained_looking
from osgeo import gdal, ogr
from synthetic import LEFT, TOP, rectangle, write_polygons, write_raster
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.config import ClassifyScenesConfig
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.events import Stage
from plugin.engine.mapping import photographs, scenes
from plugin.engine.mapping.sources import evaluation
from plugin.engine.models.model_file import save_model


def use(monkeypatch: pytest.MonkeyPatch, network: nn.Module, **values: Any) -> nn.Module:
    made = header(**values)
    for room in (scenes, photographs):
        monkeypatch.setattr(room, "load_classifier", lambda path: (network, made))
    return network


@pytest.fixture
def by_middle(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    return use(monkeypatch, Known(middle))


@pytest.fixture
def by_mean(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    return use(monkeypatch, Known(mean))


def classify(folder: Path, image: str, reporter: Any = None, **settings: Any) -> dict[str, Any]:
    usual = {"input": image, "model": "m", "output": str(folder / "map.tif"), "device": "cpu"}
    return scenes.classify_scenes(ClassifyScenesConfig(**{**usual, **settings}), reporter or Heard())


def pixels(path: Path | str) -> np.ndarray:
    found: np.ndarray = gdal.Open(str(path)).ReadAsArray()
    return found


def noise(height: int = 48, width: int = 64, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(10, 250, (height, width)).astype(dtype)


def expected(data: np.ndarray) -> np.ndarray:
    return np.select([data < 60, data > 160], [0, 9], 7)


def tones(rows: int, cols: int) -> np.ndarray:
    """One tone a chip."""
    return np.random.default_rng(1).integers(10, 250, (rows, cols)).astype(np.uint8)


def rows_of(path: Path | str) -> list[dict[str, Any]]:
    if Path(path).suffix == ".csv":  # not each GDAL reads it
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    source = ogr.Open(str(path))
    return [feature.items() for feature in source.GetLayer(0)]


def test_how_sure_the_network_is_of_each_step(tmp_path: Path, by_mean: nn.Module) -> None:
    tone = tones(6, 8)
    names = {name: str(tmp_path / f"{name}.tif") for name in ("confidence", "entropy", "margin")}
    settings = {**names, "probabilities": str(tmp_path / "p.tif"), "raster_format": "COG"}
    image = write_raster(tmp_path / "i.tif", tone.repeat(SIZE, 0).repeat(SIZE, 1))
    config = {"input": image, "model": "m", "output": str(tmp_path / "map.tif"), "device": "cpu", **settings}
    result = scenes.classify_scenes(ClassifyScenesConfig.from_json(config), Heard())
    shares = pixels(tmp_path / "p.tif").astype(float)
    ordered = np.sort(shares, 0)
    parts = shares * np.log(np.where(shares > 0, shares, 1))
    expected = {
        "confidence": ordered[-1], "entropy": -parts.sum(0) / np.log(len(shares)), "margin": ordered[-1] - ordered[-2],
    }  # fmt: skip
    for name, path in names.items():
        assert result[name] == path and np.allclose(pixels(path), expected[name], atol=1e-5)
    stored = {**config, "confidence": str(tmp_path / "b.tif"), "probability_type": "uint8"}
    scenes.classify_scenes(ClassifyScenesConfig.from_json(stored), Heard())
    assert np.array_equal(pixels(tmp_path / "b.tif"), np.rint(pixels(names["confidence"]) * 200))


def test_several_classes_per_chip_have_no_confidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Known(mean), task="multilabel")
    config = {"input": "i.tif", "model": "m", "device": "cpu", "confidence": str(tmp_path / "c.tif")}
    with pytest.raises(InputError, match="CONFIDENCE is given, but the model m gives several classes per chip"):
        scenes.classify_scenes(ClassifyScenesConfig.from_json(config), Heard())


def test_regions_and_areas_follow_from_the_refined_raster(tmp_path: Path, by_mean: nn.Module) -> None:
    tone = np.full((12, 16), 30, np.uint8)  # dark
    tone[:, 8:] = 200  # and bright
    tone[5, 3], tone[2:4, 12:14] = 100, 100  # with a speck and a patch of middling
    image, reporter = write_raster(tmp_path / "i.tif", tone.repeat(SIZE, 0).repeat(SIZE, 1)), Heard()
    files = {"polygons": str(tmp_path / "p.gpkg"), "areas": str(tmp_path / "a.gpkg")}
    settings = {
        **files,
        "min_mapping_unit": 2,
        "raster_format": "COG",
        "polygon_classes": "7, bright",
        "area_unit": "pixels",
    }
    config = {"input": image, "model": "m", "output": str(tmp_path / "map.tif"), "device": "cpu", **settings}
    result = scenes.classify_scenes(ClassifyScenesConfig.from_json(config), reporter)
    answers = expected(tone)
    answers[5, 3] = 0
    assert np.array_equal(pixels(tmp_path / "map.tif"), answers)
    counts = [int((answers == value).sum()) for value in (0, 7, 9)]
    assert [row["pixels"] for row in result["classes"]] == counts == [96, 4, 92]
    hectares = [row["hectares"] for row in result["classes"]]
    assert hectares == pytest.approx([count * SIZE**2 / 1e4 for count in counts], rel=2e-3)  # UTM is not true to scale
    table = rows_of(files["areas"])
    assert [row["pixels"] for row in table] == counts and [row["hectares"] for row in table] == pytest.approx(hectares)
    regions = rows_of(files["polygons"])
    assert [(row["value"], row["class"]) for row in regions] == [(7, "middling"), (9, "bright")]
    assert [row["hectares"] for row in regions] == pytest.approx(hectares[1:], rel=1e-6)
    assert result["polygons"] == files["polygons"] and result["areas"] == files["areas"]
    assert "dark 50 % (6,1" in reporter.logs[-1] and "middling 2.08 % (256 m²)" in reporter.logs[-1]
    assert "Regions of fewer than 2 pixels will join their largest neighbour." in reporter.logs
    filtered = {**config, "min_mapping_unit": None, "majority_filter": 3, "areas": str(tmp_path / "a.csv")}
    scenes.classify_scenes(ClassifyScenesConfig.from_json(filtered), Heard())
    assert pixels(tmp_path / "map.tif")[5, 3] == 0
    assert [int(row["pixels"]) for row in rows_of(tmp_path / "a.csv")] == [
        np.count_nonzero(pixels(tmp_path / "map.tif") == value) for value in (0, 7, 9)
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"polygons": "{}/p.gpkg"}, "POLYGONS is given, but no OUTPUT"),
        ({"areas": "{}/a.csv", "majority_filter": 3}, "AREAS is given, but no OUTPUT.*leave AREAS and MAJORITY_FILTER"),
        ({"output": "{}/m.tif", "areas": "{}/a.txt"}, "AREAS"),
        ({"output": "{}/m.tif", "polygons": "{}/p.gpkg", "polygon_classes": "8"}, 'POLYGON_CLASSES names "8"'),
        ({"output": "{}/m.tif", "polygons": "{}/a.gpkg", "areas": "{}/a.gpkg"}, "POLYGONS and AREAS are both"),
    ],
)
def test_what_follows_from_a_class_raster_is_checked(
    tmp_path: Path, by_mean: nn.Module, settings: dict[str, Any], said: str
) -> None:
    given = {name: value.format(tmp_path) if isinstance(value, str) else value for name, value in settings.items()}
    config = {"input": write_raster(tmp_path / "i.tif", noise()), "model": "m", "device": "cpu", "grid": None, **given}
    if "output" not in config:
        config["probabilities"] = str(tmp_path / "p.tif")
    with pytest.raises(InputError, match=said):
        scenes.classify_scenes(ClassifyScenesConfig.from_json(config), Heard())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.tif"]


@pytest.mark.parametrize("settings", [{"areas": "a.csv"}, {"polygons": "p.gpkg"}, {"min_mapping_unit": 3}])
def test_several_classes_per_chip_have_no_regions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    use(monkeypatch, Known(mean), task="multilabel")
    config = {"input": "i.tif", "model": "m", "device": "cpu", "output": str(tmp_path / "c.tif"), **settings}
    with pytest.raises(InputError, match=f"{next(iter(settings)).upper()} is given, but the model m gives several"):
        scenes.classify_scenes(ClassifyScenesConfig.from_json(config), Heard())


# --- a class raster


def test_each_chip_becomes_one_pixel_of_its_own_ground(tmp_path: Path, by_mean: nn.Module) -> None:
    tone = tones(6, 8)
    result = classify(tmp_path, write_raster(tmp_path / "i.tif", tone.repeat(SIZE, 0).repeat(SIZE, 1)))
    assert np.array_equal(pixels(tmp_path / "map.tif"), expected(tone))
    source = gdal.Open(str(tmp_path / "map.tif"))
    assert source.GetGeoTransform() == (LEFT, SIZE, 0, TOP, 0, -SIZE)
    assert source.GetSpatialRef().GetAuthorityCode(None) == "32633"
    assert result["answered"] == 48 and sum(kind["pixels"] for kind in result["classes"]) == 48
    assert result["classes"][0]["area"] == result["classes"][0]["pixels"] * SIZE**2


def test_the_class_raster_is_styled_like_that_of_segmentation(tmp_path: Path, by_mean: nn.Module) -> None:
    classify(tmp_path, write_raster(tmp_path / "i.tif", noise()))
    source = gdal.Open(str(tmp_path / "map.tif"))
    band = source.GetRasterBand(1)
    assert band.GetColorTable().GetColorEntry(7) == (128, 128, 128, 255)
    assert band.GetCategoryNames()[9] == "bright" and band.GetNoDataValue() == NODATA
    assert band.GetDefaultRAT().GetValueAsString(2, 2) == "bright"
    assert 'label="middling"' in (tmp_path / "map.qml").read_text()


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8, 13, 40])
def test_the_answer_lies_at_the_middle_of_its_chip(tmp_path: Path, by_middle: nn.Module, stride: int) -> None:
    data = noise(50, 61)
    classify(tmp_path, write_raster(tmp_path / "i.tif", data), stride=stride)
    rows, cols = (np.arange(-(-side // stride)) * stride + (stride - SIZE) // 2 + SIZE // 2 for side in data.shape)
    rows, cols = rows[rows < 50], cols[cols < 61]  # beyond, the raster is mirrored
    assert np.array_equal(pixels(tmp_path / "map.tif")[: len(rows), : len(cols)], expected(data[np.ix_(rows, cols)]))
    if stride == 1:
        assert np.array_equal(pixels(tmp_path / "map.tif"), expected(data))
    step = gdal.Open(str(tmp_path / "map.tif")).GetGeoTransform()
    assert step == (LEFT, stride, 0, TOP, 0, -stride)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_where_a_network_gives_no_numbers_there_is_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    use(monkeypatch, Breaking(mean), task=task)
    tone, reporter = tones(6, 8), Heard()
    broken = tone >= 200
    image = write_raster(tmp_path / "i.tif", tone.repeat(SIZE, 0).repeat(SIZE, 1))
    more = {"grid": str(tmp_path / "g.gpkg"), "probabilities": str(tmp_path / "p.tif")}
    result = classify(tmp_path, image, reporter, **more)
    found = pixels(tmp_path / "map.tif")
    none = (found == NODATA).all(axis=0) if task == "multilabel" else found == NODATA
    assert np.array_equal(none, broken) and np.array_equal(np.isnan(pixels(more["probabilities"]))[0], broken)
    assert result["answered"] == len(rows_of(more["grid"])) == np.count_nonzero(~broken)
    assert f"no valid numbers for {np.count_nonzero(broken)} steps" in reporter.warnings[-1]


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_blocks_do_not_show(tmp_path: Path, by_mean: nn.Module, monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    image = write_raster(tmp_path / "i.tif", tones(6, 8).repeat(12, 0).repeat(12, 1)[:70, :90])
    classify(tmp_path, image, stride=stride, batch_size=1000)
    whole = pixels(tmp_path / "map.tif")
    monkeypatch.setattr(evaluation, "BLOCK_PIXELS", 16)
    classify(tmp_path, image, stride=stride, batch_size=7)
    assert np.array_equal(pixels(tmp_path / "map.tif"), whole) and len(np.unique(whole)) > 1


@pytest.mark.parametrize("height, width", [(1, 1), (3, 20), (8, 8), (9, 7)])
def test_a_raster_smaller_than_a_chip_gets_an_answer(
    tmp_path: Path, by_middle: nn.Module, height: int, width: int
) -> None:
    data = noise(height, width)
    classify(tmp_path, write_raster(tmp_path / "i.tif", data), stride=1)
    assert np.array_equal(pixels(tmp_path / "map.tif").reshape(height, width), expected(data))


def test_chips_that_reach_out_can_be_left_out(tmp_path: Path, by_mean: nn.Module) -> None:
    classify(tmp_path, write_raster(tmp_path / "i.tif", noise(20, 31)), stride=2, edges="leave_out")
    rows, cols = (np.arange(-(-side // 2)) * 2 - 3 for side in (20, 31))
    inside = ((rows >= 0) & (rows + SIZE <= 20))[:, None] & ((cols >= 0) & (cols + SIZE <= 31))
    assert np.array_equal(pixels(tmp_path / "map.tif") != NODATA, inside)


def test_a_part_is_classified_as_it_is_in_the_whole(tmp_path: Path, by_mean: nn.Module) -> None:
    image = write_raster(tmp_path / "i.tif", noise(60, 80))
    classify(tmp_path, image, stride=4)
    whole = pixels(tmp_path / "map.tif")
    classify(tmp_path, image, stride=4, extent=(LEFT + 21, TOP - 43, LEFT + 62, TOP - 9))
    assert np.array_equal(pixels(tmp_path / "map.tif"), whole[2:11, 5:16])
    assert gdal.Open(str(tmp_path / "map.tif")).GetGeoTransform() == (LEFT + 20, 4, 0, TOP - 8, 0, -4)


def test_steps_whose_middle_is_outside_of_the_area_have_no_answer(tmp_path: Path, by_mean: nn.Module) -> None:
    image = write_raster(tmp_path / "i.tif", noise(48, 64))
    shape = rectangle(LEFT + 9, TOP - 30, LEFT + 40, TOP - 3)
    area = write_polygons(tmp_path / "area.gpkg", [(1, shape)], layer="area")
    classify(tmp_path, image, area=area)
    found = pixels(tmp_path / "map.tif")  # steps 1 to 4 across, 0 to 3 down touch the area
    middles = np.arange(0, 64, SIZE) + SIZE / 2
    inside = ((middles > 3) & (middles < 30))[:4, None] & ((middles > 9) & (middles < 40))[1:5]
    assert np.array_equal(found != NODATA, inside)


def test_steps_with_too_little_data_have_no_answer(tmp_path: Path, by_mean: nn.Module) -> None:
    data = noise(24, 32, "int16")
    data[:, :3] = -1  # 5 of 8 columns of the first step are there
    data[:8, 8:14] = -1  # 2 of 8
    image = write_raster(tmp_path / "i.tif", data, nodata=-1)
    classify(tmp_path, image)
    missing = np.zeros((3, 4), bool)
    missing[0, 1] = True
    assert np.array_equal(pixels(tmp_path / "map.tif") == NODATA, missing)
    classify(tmp_path, image, min_valid_share=0.7)
    missing[:, 0] = True
    assert np.array_equal(pixels(tmp_path / "map.tif") == NODATA, missing)
    classify(tmp_path, image, min_valid_share=0)
    assert (pixels(tmp_path / "map.tif") != NODATA).all()


@pytest.mark.parametrize("width, columns", [(70, 1), (92, 1), (93, 2), (128, 2)])
def test_a_step_whose_chip_lies_beyond_the_raster_has_no_answer_whatever_is_missing_elsewhere(
    tmp_path: Path, by_mean: nn.Module, width: int, columns: int
) -> None:
    data = np.full((64, width), 200, np.uint8)
    whole = write_raster(tmp_path / "whole.tif", data, nodata=0)
    data[30, 30] = 0
    gap = write_raster(tmp_path / "gap.tif", data, nodata=0)
    for image in (whole, gap):
        classify(tmp_path, image, stride=64, min_valid_share=0.5)
        found = pixels(tmp_path / "map.tif")
        assert found.tolist() == [[9] * columns + [NODATA] * (2 - columns)], image


def test_bands_that_the_raster_does_not_have_are_refused(tmp_path: Path, by_mean: nn.Module) -> None:
    image = write_raster(tmp_path / "i.tif", noise())
    for number in (-1, 0, 2):
        with pytest.raises(InputError, match=f"Band {number} does not exist"):
            classify(tmp_path, image, bands=(number,))


def test_pixels_without_data_are_missing_to_the_network_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    use(monkeypatch, Known(lambda chips: seen.append(chips) or mean(chips)), dtype="int16")
    data = np.full((8, 8), 200, np.int16)
    data[2, 3] = -1
    classify(tmp_path, write_raster(tmp_path / "i.tif", data, nodata=-1))
    assert seen[0][0, 2, 3] == 0 and (seen[0] == 2).sum() == 63


def test_the_area_of_nodata_never_reaches_the_network(tmp_path: Path, by_mean: Known) -> None:
    data = noise(64, 64)
    data[:, 16:] = 0
    classify(tmp_path, write_raster(tmp_path / "i.tif", data, nodata=0))
    assert sum(shape[0] for shape in by_mean.seen) == 16


def test_probabilities_have_a_band_a_class(tmp_path: Path, by_mean: nn.Module) -> None:
    data = noise(24, 32, "int16")
    data[:8, :8] = -1
    image = write_raster(tmp_path / "i.tif", data, nodata=-1)
    classify(tmp_path, image, probabilities=str(tmp_path / "p.tif"))
    source = gdal.Open(str(tmp_path / "p.tif"))
    assert [source.GetRasterBand(band).GetDescription() for band in (1, 2, 3)] == CLASSES.names
    shares, found = source.ReadAsArray(), pixels(tmp_path / "map.tif")
    assert np.isnan(shares[:, 0, 0]).all() and found[0, 0] == NODATA
    valid = found != NODATA
    assert np.allclose(shares[:, valid].sum(0), 1, atol=1e-5)
    assert np.array_equal(CLASSES.values[shares[:, valid].argmax(0)], found[valid])


# --- a grid


def test_the_grid_holds_the_same_answers_as_the_raster(tmp_path: Path, by_mean: nn.Module) -> None:
    data = noise(24, 32, "int16")
    data[:8, :8] = -1
    image = write_raster(tmp_path / "i.tif", data, nodata=-1)
    result = classify(tmp_path, image, grid=str(tmp_path / "g.gpkg"), probabilities=str(tmp_path / "p.tif"))
    found, shares = pixels(tmp_path / "map.tif"), pixels(tmp_path / "p.tif")
    source = ogr.Open(str(tmp_path / "g.gpkg"))
    layer = source.GetLayer(0)
    assert layer.GetSpatialRef().GetAuthorityCode(None) == "32633" and layer.GetFeatureCount() == result["answered"]
    names = ["value", "class", "confidence", "probability_0", "probability_7", "probability_9"]
    definition = layer.GetLayerDefn()
    assert [definition.GetFieldDefn(place).GetName() for place in range(6)] == names
    for feature in layer:
        left, right, bottom, top = feature.GetGeometryRef().GetEnvelope()
        col, row = int((left - LEFT) / SIZE), int((TOP - top) / SIZE)
        assert (right - left, top - bottom) == (SIZE, SIZE)
        assert feature["value"] == found[row, col]
        assert feature["class"] == dict(zip(CLASSES.values.tolist(), CLASSES.names))[found[row, col]]
        assert feature["confidence"] == pytest.approx(shares[:, row, col].max(), abs=1e-5)
        assert feature["probability_9"] == pytest.approx(shares[2, row, col], abs=1e-5)


def test_a_grid_alone_will_do(tmp_path: Path, by_mean: nn.Module) -> None:
    image = write_raster(tmp_path / "i.tif", noise(16, 16))
    result = classify(tmp_path, image, output=None, grid=str(tmp_path / "g.csv"))
    assert result["output"] is None and len(rows_of(tmp_path / "g.csv")) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif", "g.csv", "g.qml"}


# --- how probabilities are read


def test_a_model_of_several_classes_gives_a_band_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Known(mean), task="multilabel")
    tone = tones(3, 4)
    image = write_raster(tmp_path / "i.tif", tone.repeat(SIZE, 0).repeat(SIZE, 1).astype(np.int16), nodata=-1)
    shown = np.stack([tone <= 59, np.ones((3, 4)), tone >= 161])  # the logit of "middling" is always 0, so p = 0.5
    result = classify(tmp_path, image, grid=str(tmp_path / "g.gpkg"))
    source = gdal.Open(str(tmp_path / "map.tif"))
    assert np.array_equal(source.ReadAsArray(), shown) and result["several"]
    assert [source.GetRasterBand(band).GetDescription() for band in (1, 2, 3)] == CLASSES.names
    assert [kind["pixels"] for kind in result["classes"]] == shown.sum((1, 2)).tolist()
    row = rows_of(tmp_path / "g.gpkg")[0]
    values = [str(value) for value, here in zip((0, 7, 9), shown[:, 0, 0]) if here]
    assert row["values"] == ",".join(values) and "middling" in row["classes"] and row["probability_7"] == 0.5
    classify(tmp_path, image, threshold=0.6)
    assert np.array_equal(pixels(tmp_path / "map.tif")[1], np.zeros((3, 4)))


def test_a_threshold_leaves_unsure_steps_without_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsure(Known):
        def forward(self, chips: torch.Tensor) -> torch.Tensor:
            return super().forward(chips) * 0.01

    use(monkeypatch, Unsure(mean))
    tone = np.array([[20, 100, 245]], np.uint8)
    image = write_raster(tmp_path / "i.tif", tone.repeat(SIZE, 0).repeat(SIZE, 1))
    classify(tmp_path, image, threshold=0.6, grid=str(tmp_path / "g.gpkg"))
    assert pixels(tmp_path / "map.tif").tolist() == [[NODATA, NODATA, 9]]
    assert [row["value"] for row in rows_of(tmp_path / "g.gpkg")] == [None, None, 9]


def test_the_second_of_two_classes_counts_from_the_models_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Two(nn.Module):
        network = nn.Identity()

        def forward(self, chips: torch.Tensor) -> torch.Tensor:
            share = mean(chips[:, 0]) * 50 + 100
            return torch.stack([torch.zeros_like(share), torch.logit(share / 255)], 1)

    table = ClassTable.from_rows([(1, "no", None), (2, "yes", None)])
    use(monkeypatch, Two(), classes=table, threshold=0.3)
    image = write_raster(tmp_path / "i.tif", np.array([[60, 90, 200]], np.uint8).repeat(SIZE, 0).repeat(SIZE, 1))
    classify(tmp_path, image)
    assert pixels(tmp_path / "map.tif").tolist() == [[1, 2, 2]]
    classify(tmp_path, image, threshold=0.9)
    assert pixels(tmp_path / "map.tif").tolist() == [[1, 1, 1]]


# --- dense, with real networks


@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize(
    "name, size, arguments",
    [
        ("lecture_cnn", 32, {"filters": [4, 8, 8]}),
        ("lecture_cnn", 34, {"filters": [4, 8], "padding": 0, "activation": "prelu"}),
        ("lecture_cnn", 33, {"filters": [4, 8], "kernel_size": 5, "stride": 2, "hidden_sizes": []}),
        ("keras_cnn", 24, {"filters": [4, 4], "hidden_sizes": [8]}),
    ],
)
def test_shared_work_gives_the_same_raster_as_every_window_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, arguments: dict[str, Any], stride: int
) -> None:
    made = header(2, architecture=name, chip_size=size, arguments=arguments)
    save_model(tmp_path / "m.safetensors", trained_looking(name, size, **arguments), made)
    data = np.random.default_rng(3).integers(0, 255, (2, 61, 83)).astype(np.int16)
    data[:, 20:30, 50:] = -1
    image = write_raster(tmp_path / "i.tif", data, nodata=-1)
    given = {"model": str(tmp_path / "m.safetensors"), "stride": stride, "probabilities": str(tmp_path / "p.tif")}
    found = []
    for worthwhile, block in ((0, 1024), (0, 24), (1e9, 1024)):
        monkeypatch.setattr("plugin.engine.mapping.sources.dense.WORTHWHILE", worthwhile)
        monkeypatch.setattr(evaluation, "BLOCK_PIXELS", block)
        heard = Heard()
        classify(tmp_path, image, heard, **given)
        assert any("share computations" in text for text in heard.logs) == (worthwhile == 0)
        found.append((pixels(tmp_path / "map.tif"), pixels(tmp_path / "p.tif")))
    naive = found[-1]
    for values, shares in found[:-1]:
        assert np.array_equal(values, naive[0])
        assert np.allclose(shares, naive[1], atol=1e-5, equal_nan=True)
    assert len(np.unique(naive[0])) > 1


@pytest.mark.parametrize("name", ["resnet18", "mlp", "vit_b_32"])
def test_networks_that_cannot_share_say_so(tmp_path: Path, name: str) -> None:
    arguments = {"hidden_sizes": [4]} if name == "mlp" else {}
    network = trained_looking(name, 32, 1, **arguments)
    save_model(tmp_path / "m.safetensors", network, header(architecture=name, chip_size=32, arguments=arguments))
    heard = Heard()
    classify(tmp_path, write_raster(tmp_path / "i.tif", noise(40, 40)), heard, model=str(tmp_path / "m.safetensors"),
             stride=16)  # fmt: skip
    assert any("is processed separately" in text for text in heard.logs)


def test_chips_side_by_side_have_nothing_to_share(tmp_path: Path, by_mean: nn.Module) -> None:
    heard = Heard()
    classify(tmp_path, write_raster(tmp_path / "i.tif", noise()), heard)
    assert not any("processed separately" in text for text in heard.logs)


# --- photographs


def write_photograph(path: Path, data: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    memory = gdal.GetDriverByName("MEM").Create("", data.shape[2], data.shape[1], len(data), gdal.GDT_Byte)
    memory.WriteArray(data)
    gdal.GetDriverByName("PNG").CreateCopy(str(path), memory)
    Path(f"{path}.aux.xml").unlink(missing_ok=True)


def grey(tone: int, height: int = 12, width: int = 16, bands: int = 1) -> np.ndarray:
    return np.full((bands, height, width), tone, np.uint8)


def test_a_folder_of_photographs_becomes_a_table(tmp_path: Path, by_mean: nn.Module) -> None:
    folder = tmp_path / "photos"
    for name, tone in (("b/dark.png", 20), ("a.png", 200), ("b/c/grey.png", 100), (".hidden/x.png", 1)):
        write_photograph(folder / name, grey(tone))
    result = classify(tmp_path, None, output=None, input_folder=str(folder), table=str(tmp_path / "t.csv"))
    rows = rows_of(tmp_path / "t.csv")
    assert [(row["file"], row["value"], row["class"]) for row in rows] == [
        ("a.png", "9", "bright"), ("b/c/grey.png", "7", "middling"), ("b/dark.png", "0", "dark"),
    ]  # fmt: skip
    assert float(rows[0]["probability_9"]) > 0.99 and result["table"] and result["answered"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "t.csv"}
    assert {path.name for path in (folder / "b").iterdir()} == {"dark.png", "c"}  # nothing is written beside them


def test_the_square_in_the_middle_is_what_the_network_sees(tmp_path: Path, by_mean: Known) -> None:
    data = grey(0, 16, 48)
    data[:, :, 16:32] = 200
    write_photograph(tmp_path / "photos" / "a.png", data)
    heard = Heard()
    classify(tmp_path, None, heard, output=None, input_folder=str(tmp_path / "photos"), table=str(tmp_path / "t.gpkg"))
    assert rows_of(tmp_path / "t.gpkg")[0]["value"] == 9 and by_mean.seen == [(1, 1, SIZE, SIZE)]
    assert any("central square" in text for text in heard.logs)


def test_a_photograph_without_numbers_is_told_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Breaking(mean))
    for name, tone in (("dark.png", 20), ("light.png", 230)):
        write_photograph(tmp_path / "photos" / name, grey(tone))
    table, reporter = str(tmp_path / "t.csv"), Heard()
    classify(tmp_path, None, reporter, output=None, input_folder=str(tmp_path / "photos"), table=table)
    assert [row["file"] for row in rows_of(table)] == ["dark.png"]
    assert "no valid numbers for 1 photograph:" in reporter.warnings[-1]


def test_photographs_that_cannot_be_read_are_told_and_left_out(tmp_path: Path, by_mean: nn.Module) -> None:
    folder = tmp_path / "photos"
    write_photograph(folder / "a.png", grey(20))
    (folder / "broken.png").write_bytes(b"no image")
    heard = Heard()
    classify(tmp_path, None, heard, output=None, input_folder=str(folder), table=str(tmp_path / "t.csv"))
    assert len(rows_of(tmp_path / "t.csv")) == 1 and "broken.png" in " ".join(heard.warnings)
    (folder / "a.png").unlink()
    with pytest.raises(InputError, match="None of the 1 images"):
        classify(tmp_path, None, output=None, input_folder=str(folder), table=str(tmp_path / "u.csv"))
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "t.csv"}


def test_bands_of_photographs_go_by_name_number_or_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "photos"
    write_photograph(folder / "a.png", np.concatenate([grey(20), grey(100), grey(200)]))
    given = {"output": None, "input_folder": str(folder), "table": str(tmp_path / "t.gpkg")}
    use(monkeypatch, Known(mean), bands=2, band_names=("blue", "red"))
    classify(tmp_path, None, **given)
    assert rows_of(tmp_path / "t.gpkg")[0]["value"] == 9
    classify(tmp_path, None, bands=(2, 1), **given)
    assert rows_of(tmp_path / "t.gpkg")[0]["value"] == 7
    use(monkeypatch, Known(mean), bands=2)
    classify(tmp_path, None, **given)
    assert rows_of(tmp_path / "t.gpkg")[0]["value"] == 0
    use(monkeypatch, Known(mean), bands=4)
    with pytest.raises(InputError, match="has 3 bands, but the model needs 4 bands"):
        classify(tmp_path, None, **given)


# --- what is refused, and how it ends


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"input": None}, "Neither INPUT nor INPUT_FOLDER"),
        ({"input_folder": "/photos"}, "INPUT and INPUT_FOLDER are both given"),
        ({"output": None}, "No output is given"),
        ({"table": "t.csv"}, "TABLE is for photographs"),
        ({"output": "map.img"}, r"Use the extension \.tif"),
        ({"grid": "grid.shp"}, r"extension \.gpkg"),
        ({"input": None, "input_folder": "/no/such", "table": "/tmp/t.csv"}, "is not a folder"),
        ({"input": None, "input_folder": "/no/such"}, "no TABLE to write"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    tmp_path: Path, by_mean: nn.Module, settings: dict[str, Any], words: str
) -> None:
    image = write_raster(tmp_path / "i.tif", noise())
    with pytest.raises(InputError, match=words):
        classify(tmp_path, image, **settings)
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif"}


def test_a_model_for_segmentation_is_refused(tmp_path: Path) -> None:
    network = trained_looking("lecture_cnn", 16, 1)
    save_model(tmp_path / "m.safetensors", network, header(task="segmentation"))
    with pytest.raises(InputError, match="is for segmentation, not for classification or multilabel"):
        classify(tmp_path, write_raster(tmp_path / "i.tif", noise()), model=str(tmp_path / "m.safetensors"))


def test_a_raster_without_data_is_refused_and_nothing_is_written(tmp_path: Path, by_mean: nn.Module) -> None:
    image = write_raster(tmp_path / "i.tif", np.zeros((20, 20), np.uint8), nodata=0)
    with pytest.raises(InputError, match=r"No step over .* gets an answer"):
        classify(tmp_path, image, grid=str(tmp_path / "g.gpkg"))
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif"}


def test_another_pixel_size_than_in_training_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthetic import reference

    use(monkeypatch, Known(mean), pixel_size=10.0, crs=reference(32633).ExportToWkt())
    heard = Heard()
    classify(tmp_path, write_raster(tmp_path / "i.tif", noise()), heard)
    assert any("trained on 10 m" in text for text in heard.warnings)


def test_cancelling_leaves_earlier_results_whole_and_nothing_else(tmp_path: Path, by_mean: nn.Module) -> None:
    image = write_raster(tmp_path / "i.tif", noise(3000, 3000))
    for name in ("map.tif", "g.gpkg"):
        (tmp_path / name).write_text("earlier")
    with pytest.raises(Cancelled):
        classify(tmp_path, image, Heard(cancel_after=1), grid=str(tmp_path / "g.gpkg"))
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif", "map.tif", "g.gpkg"}
    assert (tmp_path / "map.tif").read_text() == (tmp_path / "g.gpkg").read_text() == "earlier"


def test_ground_between_the_chips_is_told(tmp_path: Path, by_mean: nn.Module) -> None:
    heard = Heard()
    classify(tmp_path, write_raster(tmp_path / "i.tif", noise()), heard, stride=16)
    assert any("75 % of the ground is not seen. To see all of it, give 8 or less" in text for text in heard.warnings)


def test_cancelling_is_heard_between_the_batches_of_a_block(
    tmp_path: Path, by_mean: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stage, "INTERVAL", 0)
    image = write_raster(tmp_path / "i.tif", noise())
    with pytest.raises(Cancelled):
        classify(tmp_path, image, Heard(cancel_after=2), stride=1, batch_size=10)
    assert len(by_mean.seen) == 3  # of 308 batches, in one block


def test_a_worker_whose_qgis_is_gone_stops(tmp_path: Path, by_mean: nn.Module) -> None:
    reporter = Heard()
    reporter.orphaned = lambda: True
    with pytest.raises(Cancelled):
        classify(tmp_path, write_raster(tmp_path / "i.tif", noise()), reporter)


def test_a_lack_of_memory_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(chips: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")

    use(monkeypatch, Known(fail))
    with pytest.raises(ResourceError, match="32 chips of 8 × 8 pixels in 1 band"):
        classify(tmp_path, write_raster(tmp_path / "i.tif", noise()))
