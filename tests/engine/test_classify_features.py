"""Classifying features on a raster, with networks with known predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from known_classifier import SIZE, Breaking, Known, header, mean
from osgeo import gdal, ogr
from synthetic import LEFT, TOP, rectangle, reference, write_raster
from torch import nn

from plugin.engine.chips.features import FeatureFile
from plugin.engine.config import ClassifyFeaturesConfig, ExportChipsConfig
from plugin.engine.errors import Cancelled, InputError
from plugin.engine.events import Reporter
from plugin.engine.mapping import features
from plugin.engine.mapping.reading import feature_chips
from plugin.engine.mapping.reading.feature_chips import FeatureChipReader
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.windows import Window


def use(monkeypatch: pytest.MonkeyPatch, network: nn.Module, **values: Any) -> nn.Module:
    made = header(**values)
    monkeypatch.setattr(features, "load_classifier", lambda path: (network, made))
    return network


@pytest.fixture
def by_mean(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    return use(monkeypatch, Known(mean))


def write_features(path: Path, shapes: dict[int, str], layer: str = "features") -> str:
    """Write {id: WKT} as the GeoPackage that the provider hands over, with two values."""
    target = gdal.GetDriverByName("GPKG").Create(str(path), 0, 0, 0, gdal.GDT_Unknown)
    made = target.CreateLayer(layer, reference(32633), ogr.wkbUnknown)
    made.CreateField(ogr.FieldDefn("value", ogr.OFTInteger))
    for number, wkt in shapes.items():
        feature = ogr.Feature(made.GetLayerDefn())
        feature.SetFID(number)
        feature.SetField("value", number % 2)
        feature.SetGeometryDirectly(ogr.CreateGeometryFromWkt(wkt))
        made.CreateFeature(feature)
    return str(path)


def box(left: float, top: float, right: float, bottom: float) -> str:
    """A rectangle by columns and rows of the raster."""
    return rectangle(LEFT + left, TOP - bottom, LEFT + right, TOP - top)


def point(x: float, y: float) -> str:
    return f"POINT({LEFT + x} {TOP - y})"


def classify(folder: Path, image: str, shapes: dict[int, str], reporter: Any = None, **settings: Any) -> dict[str, Any]:
    layer = write_features(folder / "features.gpkg", shapes)
    given = {"input": image, "model": "m", "features": layer, "output": str(folder / "a.gpkg"), "device": "cpu"}
    return features.classify_features(ClassifyFeaturesConfig(**{**given, **settings}), reporter or Heard())


def answers(folder: Path) -> dict[int, dict[str, Any]]:
    source = ogr.Open(str(folder / "a.gpkg"))
    return {feature.GetFID(): feature.items() for feature in source.GetLayer(0)}


def values(folder: Path) -> dict[int, Any]:
    return {number: row["value"] for number, row in answers(folder).items()}


def test_where_a_network_gives_no_numbers_there_is_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    use(monkeypatch, Breaking(mean))
    reporter = Heard()
    result = classify(tmp_path, image, {1: point(10, 20), 2: point(50, 20), 3: point(30, 20)}, reporter)
    assert values(tmp_path) == {1: 0, 3: 7} and (result["answered"], result["unanswered"]) == (2, 1)
    assert "no valid numbers for 1 feature:" in reporter.warnings[-1]


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Dark on the left, middling, bright on the right: 20 columns each."""
    data = np.full((40, 60), 30, np.uint8)
    data[:, 20:40], data[:, 40:] = 110, 220
    return write_raster(tmp_path / "i.tif", data)


def test_each_feature_gets_the_class_of_the_ground_around_its_middle(
    tmp_path: Path, image: str, by_mean: nn.Module
) -> None:
    shapes = {7: point(10, 20), 3: box(28, 18, 32, 22), 2**52 + 5: f"LINESTRING({LEFT + 49} {TOP - 9},{LEFT + 51} "
              f"{TOP - 11})"}  # fmt: skip
    result = classify(tmp_path, image, shapes)
    assert values(tmp_path) == {7: 0, 3: 7, 2**52 + 5: 9}
    row = answers(tmp_path)[3]
    assert row["class"] == "middling" and row["confidence"] == row["probability_7"] > 0.9
    assert result["answered"] == 3 and [kind["count"] for kind in result["classes"]] == [1, 1, 1]


def test_chips_are_those_of_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugin.engine.chips.dataset import open_dataset
    from plugin.engine.chips.export import export_chips

    data = np.random.default_rng(0).integers(20, 230, (2, 90, 110)).astype(np.int16)
    data[:, 40:50, 60:70] = -1
    image = write_raster(tmp_path / "i.tif", data, nodata=-1)
    shapes = {
        1: box(30, 30, 41, 36), 2: box(55, 35, 75, 62), 3: box(2, 3, 8, 9), 4: box(70, 10, 72, 12),
    }  # fmt: skip
    labels = write_features(tmp_path / "labels.gpkg", shapes, "labels")
    for placement in ("features", "bounding_boxes"):
        for blacken in (False, True):
            folder = str(tmp_path / f"{placement}{blacken}")
            export_chips(
                ExportChipsConfig(
                    input=(image,), labels=labels, output=folder, chip_size=16, placement=placement, blacken=blacken,
                    task="classification", background="ignore", split_method="random",
                ),
                Reporter(),
            )  # fmt: skip
            dataset = open_dataset(folder)
            exported = [gdal.Open(str(dataset.folder / name)).ReadAsArray() for name in dataset.images]
            seen: list[torch.Tensor] = []
            network = Known(lambda chips, seen=seen: mean(chips))
            network.forward = lambda chips, seen=seen: seen.append(chips) or torch.zeros(len(chips), 3)
            use(monkeypatch, network, bands=2, chip_size=16, dtype="int16", nodata=-1.0, mean=(0.0, 0.0),
                std=(10.0, 10.0), placement=dataset.info.placement)  # fmt: skip
            classify(tmp_path, image, shapes)
            found = sorted((10 * torch.cat(seen)).round().numpy().astype(int).tolist())
            assert found == sorted(np.where(chip == -1, 0, chip).tolist() for chip in exported), (placement, blacken)


def test_the_square_around_a_feature_is_scaled_to_the_chip_size(tmp_path: Path, image: str, by_mean: Known) -> None:
    classify(tmp_path, image, {1: box(21, 5, 39, 11), 2: box(0, 0, 60, 40)}, placement="bounding_boxes")
    assert values(tmp_path) == {1: 7, 2: 7} and by_mean.seen == [(2, 1, SIZE, SIZE)]


def test_a_huge_feature_is_averaged_in_strips_with_the_same_result(
    tmp_path: Path, by_mean: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).integers(20, 230, (90, 110)).astype(np.int16)
    data[10:30, 10:60] = -1
    image = write_raster(tmp_path / "i.tif", data, nodata=-1)
    shapes = {1: box(3, 5, 99, 85)}
    classify(tmp_path, image, shapes, placement="bounding_boxes", surroundings="blacken")
    whole = answers(tmp_path)[1]
    monkeypatch.setattr(feature_chips, "LARGEST_SIDE", 40)
    classify(tmp_path, image, shapes, placement="bounding_boxes", surroundings="blacken")
    assert answers(tmp_path)[1]["probability_7"] == pytest.approx(whole["probability_7"], abs=0.05)


@pytest.mark.parametrize("shape", ["POLYGON", "LINESTRING", "POINT"])
def test_a_huge_feature_is_burnt_in_strips_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    data = np.random.default_rng(0).integers(20, 230, (400, 400)).astype(np.uint8)
    reader = RasterReader(write_raster(tmp_path / "i.tif", data))
    places = {
        "POLYGON": f"(({LEFT + 9} {TOP - 300.5},{LEFT + 200} {TOP - 390},{LEFT + 380} {TOP - 60},{LEFT + 9} "
        f"{TOP - 300.5}))",
        "LINESTRING": f"({LEFT + 9} {TOP - 300},{LEFT + 390} {TOP - 300})",
        "POINT": f"({LEFT + 9} {TOP - 300})",
    }
    file = FeatureFile(write_features(tmp_path / "f.gpkg", {5: shape + places[shape]}), "features", reader.info.grid)
    burnt: list[Window] = []
    burn = FeatureFile.burn

    def watched(file: FeatureFile, window: Window, *more: Any, **named: Any) -> np.ndarray:
        burnt.append(window)
        return burn(file, window, *more, **named)

    monkeypatch.setattr(FeatureFile, "burn", watched)
    monkeypatch.setattr(feature_chips, "LARGEST_SIDE", 40)
    part, factor = Window(3, 5, 390, 391), 10
    chips = FeatureChipReader(reader, file, SIZE)
    found = chips._averaged(part, 5, factor)
    assert max(window.width * window.height for window in burnt) <= part.width * factor
    counts = (burn(file, part, 0, only=5) == 1)[None] if shape != "POINT" else np.ones((1, 391, 390), bool)
    values = np.where(counts, data[part.row_off :, part.col_off :][:391, :390], 0)
    known = np.add.reduceat(np.add.reduceat(counts, range(0, 391, 10), 1, int), range(0, 390, 10), 2, int)
    total = np.add.reduceat(np.add.reduceat(values, range(0, 391, 10), 1, int), range(0, 390, 10), 2, int)
    assert found[0] == pytest.approx(total / np.maximum(1, known))
    assert (found[1] == (2 * known < 100 * np.append(np.ones(39), 0.1)[None, :, None])).all()


def test_surroundings_can_be_blackened_but_not_those_of_points(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brightest(chips: torch.Tensor) -> torch.Tensor:
        return chips.amax((1, 2))

    use(monkeypatch, Known(brightest))
    shapes = {1: box(36, 10, 39, 13), 2: point(38, 12)}
    classify(tmp_path, image, shapes)
    assert values(tmp_path) == {1: 9, 2: 9}
    classify(tmp_path, image, shapes, surroundings="blacken")
    assert values(tmp_path) == {1: 7, 2: 9}
    use(monkeypatch, Known(brightest), placement={"method": "features", "blacken": True})
    classify(tmp_path, image, shapes)
    assert values(tmp_path) == {1: 7, 2: 9}
    classify(tmp_path, image, shapes, surroundings="keep")
    assert values(tmp_path) == {1: 9, 2: 9}


def test_points_are_told_that_they_have_neither_ground_nor_bounds(
    tmp_path: Path, image: str, by_mean: nn.Module
) -> None:
    shapes = {1: f"POINT ({LEFT + 20} {TOP - 20})", 2: rectangle(LEFT + 5, TOP - 15, LEFT + 15, TOP - 5)}
    heard = Heard()
    classify(tmp_path, image, shapes, heard, surroundings="blacken", placement="bounding_boxes")
    assert [text for text in heard.warnings if "are points" in text] == [
        "1 of 2 features are points, of which nothing would be left: their surroundings are kept.",
        "1 of 2 features are points and have no bounds: a square of 2 pixels around each is magnified to 8. "
        "To see them unscaled, set PLACEMENT to features.",
    ]


def test_chips_at_the_edge_are_moved_inside_or_filled_up_as_in_training(
    tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def remember(chips: torch.Tensor) -> torch.Tensor:
        seen.append(chips)
        return mean(chips)

    for placement in ({"method": "features", "edges": "shift"}, {"method": "features", "edges": "pad"}):
        use(monkeypatch, Known(remember), placement=placement)
        classify(tmp_path, image, {1: point(0.2, 0.3)})
    assert (seen[0] != 0).all() and int((seen[1] == 0).sum()) == SIZE * SIZE * 3 // 4


def test_features_beyond_the_data_get_no_answer(tmp_path: Path, by_mean: nn.Module) -> None:
    data = np.full((40, 60), 30, np.uint8)
    data[:, 30:] = 0
    image = write_raster(tmp_path / "i.tif", data, nodata=0)
    heard = Heard()
    result = classify(tmp_path, image, {1: point(10, 10), 2: point(50, 10), 3: point(500, 10)}, heard)
    assert values(tmp_path) == {1: 0} and (result["answered"], result["unanswered"]) == (1, 1)
    assert "Without data in the raster, and therefore without a class: 1 feature." in heard.logs
    (tmp_path / "a.gpkg").unlink()
    with pytest.raises(InputError, match="None of the 1 features lies where"):
        classify(tmp_path, image, {2: point(50, 10)})
    with pytest.raises(InputError, match="No feature lies on"):
        classify(tmp_path, image, {2: point(500, 10)})
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif", "features.gpkg"}


def test_a_feature_larger_than_the_raster_is_classified(tmp_path: Path, image: str, by_mean: nn.Module) -> None:
    classify(tmp_path, image, {1: box(-100, -100, 200, 200)}, placement="bounding_boxes")
    assert values(tmp_path) == {1: 7}


def test_many_features_come_in_batches_and_keep_their_ids(tmp_path: Path, image: str, by_mean: Known) -> None:
    places = {number: (number * 7 % 60, number * 3 % 40) for number in range(1, 101)}
    classify(tmp_path, image, {number: point(x + 0.5, y + 0.5) for number, (x, y) in places.items()}, batch_size=9)
    found = values(tmp_path)
    middle = {number: [0, 7, 9][x // 20] for number, (x, y) in places.items() if 4 <= x % 20 < 16}
    assert {number: found[number] for number in middle} == middle and len(found) == 100
    assert max(shape[0] for shape in by_mean.seen) == 9


def test_cancelling_leaves_nothing(tmp_path: Path, image: str, by_mean: nn.Module) -> None:
    shapes = {number: point(number % 60, number % 40) for number in range(1, 200)}
    with pytest.raises(Cancelled):
        classify(tmp_path, image, shapes, Heard(cancel_after=1), batch_size=2)
    assert {path.name for path in tmp_path.iterdir()} == {"i.tif", "features.gpkg"}
