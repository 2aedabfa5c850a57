"""The outputs of a map beside its classes, and what is done to the classes, against calculations of their own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from osgeo import gdal, osr
from synthetic import reference, write_raster
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.config import SegmentRasterConfig
from plugin.engine.drafts import hidden_folder
from plugin.engine.errors import Cancelled, InputError
from plugin.engine.mapping import refining, segment, writer
from plugin.engine.mapping.phases import Phases
from plugin.engine.models.header import ModelHeader

CLASSES = ClassTable.from_rows([(2, "water", "#3366cc"), (5, "field", "#cccc33"), (9, "forest", "#116622")])
NODATA = 0


class Soft(nn.Module):
    """Logits that follow from the band: the nearest of 50, 110 and 170 is the likeliest class."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, :1] * 50 + 100
        return -(((value - torch.tensor([50.0, 110, 170])[:, None, None]) / 40) ** 2)


def shares_of(data: np.ndarray) -> np.ndarray:
    """(H, W) → (3, H, W) probabilities that `Soft` gives."""
    logits = -(((data.astype(np.float64) - np.array([50, 110, 170])[:, None, None]) / 40) ** 2)
    odds: np.ndarray = np.exp(logits - logits.max(0))
    return odds / odds.sum(0)


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    header = ModelHeader(
        task="segmentation", architecture="unet", encoder="resnet18", dtype="uint8", nodata=None,
        band_names=("band 1",), mean=(100.0,), std=(50.0,), classes=CLASSES, chip_size=64, pixel_size=1.0, crs="",
    )  # fmt: skip
    monkeypatch.setattr(segment, "load_model", lambda path: (Soft(), header))


def map_raster(folder: Path, image: str, reporter: Any = None, **settings: Any) -> dict[str, Any]:
    usual = {"input": image, "model": "m", "output": str(folder / "map.tif"), "tile_size": 64, "halo": 0}
    config = SegmentRasterConfig.from_json({**usual, "device": "cpu", **settings})
    return segment.segment_raster(config, reporter or Heard())


def pixels(path: Path | str) -> np.ndarray:
    found: np.ndarray = gdal.Open(str(path)).ReadAsArray()
    return found


def noise(height: int = 150, width: int = 200) -> np.ndarray:
    return np.random.default_rng(0).integers(10, 220, (height, width)).astype(np.uint8)


def smooth(height: int = 150, width: int = 200) -> np.ndarray:
    """Regions of many sizes, and a corner and a hole without data (0)."""
    rng = np.random.default_rng(3)
    data = np.kron(rng.integers(10, 220, (height // 10, width // 10)), np.ones((10, 10)))
    specks = rng.random((height, width)) < 0.1
    data[specks] = rng.integers(10, 220, np.count_nonzero(specks))
    data[:12, :15] = data[70:73, 80:90] = 0
    return data.astype(np.uint8)


def classes_of(data: np.ndarray) -> np.ndarray:
    return np.where(data == 0, NODATA, CLASSES.values[shares_of(data).argmax(0)])


def test_confidence_entropy_and_margin(tmp_path: Path) -> None:
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    names = ("confidence", "entropy", "margin")
    result = map_raster(tmp_path, image, **{name: str(tmp_path / f"{name}.tif") for name in names})
    shares = shares_of(data)
    ordered = np.sort(shares, 0)
    expected = {
        "confidence": ordered[-1], "entropy": -(shares * np.log(shares)).sum(0) / np.log(3),
        "margin": ordered[-1] - ordered[-2],
    }  # fmt: skip
    for name in names:
        found = pixels(result[name])
        assert np.array_equal(np.isnan(found), data == 0)
        assert np.allclose(found[data > 0], expected[name][data > 0], atol=1e-5)
        source = gdal.Open(result[name])
        band = source.GetRasterBand(1)
        known = expected[name][data > 0]
        said = [float(band.GetMetadataItem(f"STATISTICS_{key}")) for key in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")]
        assert np.allclose(said, [known.min(), known.max(), known.mean(), known.std()], atol=1e-5)
        assert band.GetDescription() == name and Path(result[name]).with_suffix(".qml").exists()
    assert np.array_equal(pixels(tmp_path / "map.tif"), classes_of(data))


@pytest.mark.parametrize("form", ["GTiff", "COG"])
@pytest.mark.parametrize("kind, step", [("float32", 0.0), ("float16", 2**-12), ("uint8", 0.0025)])
def test_probabilities_in_each_type(tmp_path: Path, kind: str, step: float, form: str) -> None:
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    map_raster(tmp_path, image, probabilities=str(tmp_path / "p.tif"), probability_type=kind, raster_format=form)
    source = gdal.Open(str(tmp_path / "p.tif"))
    bands = [source.GetRasterBand(number) for number in (1, 2, 3)]
    scale = [1.0 if band.GetScale() is None else band.GetScale() for band in bands]
    found, shares = source.ReadAsArray(), shares_of(data)
    assert scale == [0.005 if kind == "uint8" else 1.0] * 3
    missing = found == 255 if kind == "uint8" else np.isnan(found)
    assert np.array_equal(missing, np.broadcast_to(data == 0, found.shape))
    assert np.abs(found * scale[0] - shares)[:, data > 0].max() <= step + 1e-5
    if kind == "float16":
        assert np.array_equal(found, found.astype(np.float16).astype(np.float32), equal_nan=True)
    assert gdal.Info(source, format="json")["metadata"]["IMAGE_STRUCTURE"].get("LAYOUT") == (
        "COG" if form == "COG" else None
    )


def test_pixels_below_the_least_confidence_have_no_class(tmp_path: Path) -> None:
    data, reporter = smooth(), Heard()
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    result = map_raster(tmp_path, image, reporter, min_confidence=0.6)
    sure = shares_of(data).max(0) >= 0.6
    assert 0.2 < sure[data > 0].mean() < 0.95
    assert np.array_equal(pixels(tmp_path / "map.tif"), np.where(sure, classes_of(data), NODATA))
    unsure = np.count_nonzero(~sure & (data > 0))
    assert f"{unsure:,} pixels have a lower confidence than MIN_CONFIDENCE and get no class." in reporter.logs
    assert not reporter.warnings
    assert result["nodata_pixels"] == np.count_nonzero((data == 0) | ~sure)
    with pytest.raises(InputError, match=r"All 29,790 pixels have a lower confidence.*smaller MIN_CONFIDENCE"):
        map_raster(tmp_path, image, min_confidence=0.999)


def majority(classes: np.ndarray, side: int) -> np.ndarray:
    """The filter pixel by pixel."""
    found, margin = classes.copy(), side // 2
    for row, col in itertools.product(*map(range, classes.shape)):
        own = classes[row, col]
        part = classes[max(0, row - margin) : row + margin + 1, max(0, col - margin) : col + margin + 1]
        values, counts = np.unique(part[part != NODATA], return_counts=True)
        if own != NODATA:
            best = values[counts == counts.max()]
            found[row, col] = own if own in best else best[0]
    return found


@pytest.mark.parametrize("side", [3, 5, 15])
def test_the_majority_filter_has_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setattr(refining, "STRIP", 200 * 32)  # of 64 rows, the height of a block
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    result = map_raster(tmp_path, image, majority_filter=side)
    expected = majority(classes_of(data), side)
    assert np.array_equal(pixels(tmp_path / "map.tif"), expected) and (expected != classes_of(data)).mean() > 0.02
    assert [row["pixels"] for row in result["classes"]] == [np.count_nonzero(expected == v) for v in CLASSES.values]
    with pytest.raises(InputError, match=r"MAJORITY_FILTER is 4.*odd number"):
        map_raster(tmp_path, image, majority_filter=4)


def regions(classes: np.ndarray, diagonal: bool) -> np.ndarray:
    """The number of pixels of each pixel's region; 0 for nodata."""
    sizes = np.zeros(classes.shape, int)
    near = [step for step in itertools.product((-1, 0, 1), repeat=2) if any(step) and (diagonal or not all(step))]
    for start in zip(*np.nonzero(classes != NODATA)):
        if sizes[start]:
            continue
        region, waiting = {start}, [start]
        while waiting:
            row, col = waiting.pop()
            for down, right in near:
                place = row + down, col + right
                inside = 0 <= place[0] < classes.shape[0] and 0 <= place[1] < classes.shape[1]
                if inside and place not in region and classes[place] == classes[start]:
                    region.add(place)
                    waiting.append(place)
        sizes[tuple(np.array(list(region)).T)] = len(region)
    return sizes


@pytest.mark.parametrize("connectedness", ["4", "8"])
def test_small_regions_join_a_neighbour(tmp_path: Path, connectedness: str) -> None:
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    result = map_raster(tmp_path, image, min_mapping_unit=12, connectedness=connectedness)
    found, before = pixels(tmp_path / "map.tif"), classes_of(data)
    sizes = regions(before, connectedness == "8")
    assert np.array_equal(found == NODATA, before == NODATA)
    assert np.array_equal(found[sizes >= 12], before[sizes >= 12])
    assert np.count_nonzero(sizes[before != NODATA] < 12) > 0
    assert regions(found, connectedness == "8")[before != NODATA].min() >= 12
    assert [row["pixels"] for row in result["classes"]] == [np.count_nonzero(found == v) for v in CLASSES.values]
    source = gdal.Open(str(tmp_path / "map.tif"))
    table = source.GetRasterBand(1).GetDefaultRAT()
    assert [table.GetValueAsInt(row, 1) for row in range(3)] == [row["pixels"] for row in result["classes"]]


def test_the_mapping_unit_as_an_area(tmp_path: Path) -> None:
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data, step=10, nodata=0)  # a pixel has 0.01 ha
    map_raster(tmp_path, image, min_mapping_unit=12)
    expected = pixels(tmp_path / "map.tif")
    for size, unit in ((0.115, "hectares"), (1150, "square_metres")):
        map_raster(tmp_path, image, min_mapping_unit=size, area_unit=unit)
        assert np.array_equal(pixels(tmp_path / "map.tif"), expected)
    unplaced = write_raster(tmp_path / "unplaced.tif", data, epsg=None, nodata=0)
    with pytest.raises(InputError, match="AREA_UNIT is hectares, but the raster's CRS does not tell"):
        map_raster(tmp_path, unplaced, min_mapping_unit=1, area_unit="hectares")


def ellipsoid_areas(data: np.ndarray, transform: tuple[float, ...], epsg: int) -> np.ndarray:
    """(H, W) m²: each pixel as a parallelogram in metres along the meridian and the parallel of its place."""
    source, target = reference(epsg), reference(4326)
    row, col = (part + 0.5 for part in np.mgrid[: data.shape[0], : data.shape[1]])
    moved = osr.CoordinateTransformation(source, target)

    def places(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        x = transform[0] + cols * transform[1] + rows * transform[2]
        y = transform[3] + cols * transform[4] + rows * transform[5]
        return np.radians(np.array(moved.TransformPoints(np.stack([x.ravel(), y.ravel()], 1).tolist()))[:, :2])

    middle = places(row, col)
    across, along = places(row, col + 0.5) - places(row, col - 0.5), places(row + 0.5, col) - places(row - 0.5, col)
    a, f = 6378137.0, 1 / 298.257223563
    squared = f * (2 - f)
    bend = 1 - squared * np.sin(middle[:, 1]) ** 2
    metres = np.stack([a / np.sqrt(bend) * np.cos(middle[:, 1]), a * (1 - squared) / bend**1.5], 1)
    across, along = across * metres, along * metres
    return np.abs(across[:, 0] * along[:, 1] - across[:, 1] * along[:, 0]).reshape(data.shape)


@pytest.mark.parametrize(
    "epsg, left, top, step",
    [(4326, 13.0, 52.0, 0.01), (32633, 400000.0, 5500000.0, 100.0), (3857, 1.4e6, 6.5e6, 2000.0),
     (4326, 179.0, 60.0, 0.05), (3031, 1e6, 1e6, 1000.0)],
)  # fmt: skip
def test_hectares_are_those_of_the_ellipsoid(tmp_path: Path, epsg: int, left: float, top: float, step: float) -> None:
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data, left, top, step, epsg, nodata=0)
    result = map_raster(tmp_path, image)
    areas, classes = ellipsoid_areas(data, (left, step, 0, top, 0, -step), epsg), classes_of(data)
    expected = [areas[classes == value].sum() / 1e4 for value in CLASSES.values]
    assert [row["hectares"] for row in result["classes"]] == pytest.approx(expected, rel=2e-5)
    refined = map_raster(tmp_path, image, majority_filter=3)
    found = majority(classes, 3)
    expected = [areas[found == value].sum() / 1e4 for value in CLASSES.values]
    assert [row["hectares"] for row in refined["classes"]] == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("form", ["GTiff", "COG"])
def test_overviews_and_all_that_belongs_to_a_class_raster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(writer, "SCREEN", 128)
    data = np.kron(noise(30, 40), np.ones((10, 10))).astype(np.uint8)
    data[:12, :15] = 0
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    confidence = str(tmp_path / "c.tif")
    settings = {"raster_format": form, "confidence": confidence, "min_mapping_unit": 5}
    map_raster(tmp_path, image, **settings)
    source, sure = gdal.Open(str(tmp_path / "map.tif")), gdal.Open(confidence)
    band = source.GetRasterBand(1)
    assert [band.GetOverview(place).XSize for place in range(band.GetOverviewCount())] == [200, 100]
    expected = classes_of(data)
    assert np.array_equal(band.ReadAsArray(), expected) and band.GetNoDataValue() == NODATA
    smaller = band.GetOverview(0).ReadAsArray()
    blocks = expected.reshape(150, 2, 200, 2).swapaxes(1, 2).reshape(150, 200, 4)
    uniform = (blocks == blocks[..., :1]).all(2)
    assert uniform.mean() > 0.9 and np.array_equal(smaller[uniform], blocks[..., 0][uniform])
    assert band.GetColorTable().GetColorEntry(9)[:3] == (0x11, 0x66, 0x22)
    assert band.GetCategoryNames()[5] == "field" and band.GetDescription() == "class"
    table = band.GetDefaultRAT()
    assert [table.GetValueAsInt(row, 1) for row in range(3)] == [np.count_nonzero(expected == v) for v in (2, 5, 9)]
    known = expected[expected != NODATA]
    said = [float(band.GetMetadataItem(f"STATISTICS_{key}")) for key in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")]
    assert np.allclose(said, [known.min(), known.max(), known.mean(), known.std()])
    mean = sure.GetRasterBand(1).GetOverview(0).ReadAsArray()
    whole = pixels(confidence)[20:60, 20:60].reshape(20, 2, 20, 2).mean((1, 3))
    assert np.allclose(mean[10:30, 10:30], whole, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix not in (".xml", ".qml")) == [
        "c.tif", "image.tif", "map.tif",
    ]  # fmt: skip
    map_raster(tmp_path, image, **settings, overviews=False)
    source = gdal.Open(str(tmp_path / "map.tif"))
    assert source.GetRasterBand(1).GetOverviewCount() == 0


@pytest.mark.parametrize(
    "text", ["Majority filter", "Removing small regions", "Counting the classes", "overviews", "Cloud"]
)
def test_cancelling_late_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Stopped(Heard):
        """Is cancelled while a phase runs."""

        seen = False

        def progress(self, fraction: float, words: str = "", seconds_left: float | None = None) -> None:
            self.seen = self.seen or text in words

        def cancel_requested(self) -> bool:
            return self.seen

    monkeypatch.setattr(writer, "SCREEN", 64)
    image = write_raster(tmp_path / "image.tif", smooth(), nodata=0)
    (tmp_path / "map.tif").write_text("earlier")
    settings = {"raster_format": "COG" if text == "Cloud" else "GTiff", "majority_filter": 3, "min_mapping_unit": 5}
    with pytest.raises(Cancelled):
        map_raster(tmp_path, image, Stopped(), confidence=str(tmp_path / "c.tif"), **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "map.tif"]
    assert not hidden_folder(tmp_path / "map.tif").exists()


def test_progress_rises_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SCREEN", 64)
    reporter = Heard()
    image = write_raster(tmp_path / "image.tif", smooth(), nodata=0)
    confidence = str(tmp_path / "c.tif")
    map_raster(tmp_path, image, reporter, confidence=confidence, majority_filter=3, min_mapping_unit=5)
    assert np.diff(reporter.fractions).min() > -1e-9 and reporter.fractions[-1] == pytest.approx(1)
    assert 1 - 0.15 in reporter.fractions and len({round(share, 3) for share in reporter.fractions}) > 6


def test_phases_divide_the_rest_of_the_progress() -> None:
    reporter = Heard()
    phases = Phases(reporter)
    assert phases.begin == 1
    phases.plan(2)
    for text in ("one", "two"):
        with phases.one(text) as phase:
            phase.reach(1)
    assert reporter.fractions == pytest.approx([0.85, 0.925, 0.925, 1])


@pytest.mark.parametrize("name, value", [("confidence", "c.tif"), ("min_confidence", 0.5), ("min_mapping_unit", 4)])
def test_numbers_have_no_classes_to_refine(tmp_path: Path, name: str, value: Any, monkeypatch: Any) -> None:
    network, found = segment.load_model("m")
    numbers = ModelHeader(**{**found.__dict__, "task": "regression", "classes": ClassTable(()),
                             "target": {"mean": 0.0, "std": 1.0}})  # fmt: skip
    monkeypatch.setattr(segment, "load_model", lambda path: (network, numbers))
    image = write_raster(tmp_path / "image.tif", smooth())
    with pytest.raises(InputError, match=f"{name.upper()} is given, but the model m predicts numbers"):
        map_raster(tmp_path, image, **{name: str(tmp_path / value) if isinstance(value, str) else value})
