"""The outputs of a map beside its classes, and what is done to the classes, against calculations of their own."""

from __future__ import annotations

import csv
import gc
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from known_segmenter import CLASSES, header
from osgeo import gdal, ogr, osr
from synthetic import reference, write_raster
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.config import SegmentRasterConfig
from plugin.engine.drafts import hidden_folder
from plugin.engine.errors import Cancelled, InputError
from plugin.engine.mapping import segment
from plugin.engine.mapping.outputs import borders, map_raster, refining, segmented_files
from plugin.engine.mapping.outputs.phases import Phases
from plugin.engine.windows import Grid

NODATA = 0
ROOT = Path(__file__).resolve().parents[2]


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
    monkeypatch.setattr(segment, "load_model", lambda path: (Soft(), header()))


def mapped(folder: Path, image: str, reporter: Any = None, **settings: Any) -> dict[str, Any]:
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
    result = mapped(tmp_path, image, **{name: str(tmp_path / f"{name}.tif") for name in names})
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
    mapped(tmp_path, image, probabilities=str(tmp_path / "p.tif"), probability_type=kind, raster_format=form)
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


@pytest.mark.parametrize("form, kind", [("GTiff", "float32"), ("GTiff", "float16"), ("COG", "float32")])
def test_the_disk_is_asked_for_enough_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, kind: str
) -> None:
    class Speckled(Soft):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images + 0.1 * torch.randn_like(images))

    class Weighing(Heard):
        def progress(self, *_: Any) -> None:
            taken.append(sum(path.stat().st_size for path in (tmp_path / "maps").rglob("*.tif*")))

    asked, taken = list[int](), list[int]()
    monkeypatch.setattr(segment, "load_model", lambda path: (Speckled(), header()))
    monkeypatch.setattr(segmented_files, "check_writable", lambda path, needed: asked.append(needed))
    image = write_raster(tmp_path / "image.tif", noise(1024, 1024))
    given = {"raster_format": form, "probability_type": kind, "probabilities": str(tmp_path / "maps" / "p.tif")}
    mapped(tmp_path / "maps", image, Weighing(), tile_size=512, **given)
    assert 0.7 < max(taken) / asked[0] < 1


def test_the_disk_is_asked_for_what_a_map_of_classes_needs_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its halves are not compressed."""

    class Weighing(Heard):
        def progress(self, *_: Any) -> None:
            taken.append(sum(path.stat().st_size for path in (tmp_path / "maps").rglob("*") if path.is_file()))

    asked, taken = list[int](), list[int]()
    monkeypatch.setattr(segmented_files, "check_writable", lambda path, needed: asked.append(needed))
    mapped(
        tmp_path / "maps",
        write_raster(tmp_path / "image.tif", np.full((1024, 1024), 50, np.uint8)),
        Weighing(),
        tile_size=512,
    )
    assert 0.6 < max(taken) / asked[0] < 1


def test_pixels_below_the_least_confidence_have_no_class(tmp_path: Path) -> None:
    data, reporter = smooth(), Heard()
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    result = mapped(tmp_path, image, reporter, min_confidence=0.6)
    sure = shares_of(data).max(0) >= 0.6
    assert 0.2 < sure[data > 0].mean() < 0.95
    assert np.array_equal(pixels(tmp_path / "map.tif"), np.where(sure, classes_of(data), NODATA))
    unsure = np.count_nonzero(~sure & (data > 0))
    assert f"{unsure:,} pixels have a lower confidence than MIN_CONFIDENCE and get no class." in reporter.logs
    assert not reporter.warnings
    assert result["nodata_pixels"] == np.count_nonzero((data == 0) | ~sure)
    with pytest.raises(InputError, match=r"All 29,790 pixels have a lower confidence.*smaller MIN_CONFIDENCE"):
        mapped(tmp_path, image, min_confidence=0.999)


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
    result = mapped(tmp_path, image, majority_filter=side)
    expected = majority(classes_of(data), side)
    assert np.array_equal(pixels(tmp_path / "map.tif"), expected) and (expected != classes_of(data)).mean() > 0.02
    assert [row["pixels"] for row in result["classes"]] == [np.count_nonzero(expected == v) for v in CLASSES.values]
    with pytest.raises(InputError, match=r"MAJORITY_FILTER is 4.*odd number"):
        mapped(tmp_path, image, majority_filter=4)


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
    result = mapped(tmp_path, image, min_mapping_unit=12, connectedness=connectedness)
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
    mapped(tmp_path, image, min_mapping_unit=12)
    expected = pixels(tmp_path / "map.tif")
    for size, unit in ((0.115, "hectares"), (1150, "square_metres")):
        mapped(tmp_path, image, min_mapping_unit=size, area_unit=unit)
        assert np.array_equal(pixels(tmp_path / "map.tif"), expected)
    unplaced = write_raster(tmp_path / "unplaced.tif", data, epsg=None, nodata=0)
    with pytest.raises(InputError, match="AREA_UNIT is hectares, but the raster's CRS does not tell"):
        mapped(tmp_path, unplaced, min_mapping_unit=1, area_unit="hectares")


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
    result = mapped(tmp_path, image)
    areas, classes = ellipsoid_areas(data, (left, step, 0, top, 0, -step), epsg), classes_of(data)
    expected = [areas[classes == value].sum() / 1e4 for value in CLASSES.values]
    assert [row["hectares"] for row in result["classes"]] == pytest.approx(expected, rel=2e-5)
    refined = mapped(tmp_path, image, majority_filter=3)
    found = majority(classes, 3)
    expected = [areas[found == value].sum() / 1e4 for value in CLASSES.values]
    assert [row["hectares"] for row in refined["classes"]] == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("form", ["GTiff", "COG"])
def test_overviews_and_all_that_belongs_to_a_class_raster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(map_raster, "SCREEN", 128)
    data = np.kron(noise(30, 40), np.ones((10, 10))).astype(np.uint8)
    data[:12, :15] = 0
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    confidence = str(tmp_path / "c.tif")
    settings = {"raster_format": form, "confidence": confidence, "min_mapping_unit": 5}
    mapped(tmp_path, image, **settings)
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
    mapped(tmp_path, image, **settings, overviews=False)
    source = gdal.Open(str(tmp_path / "map.tif"))
    assert source.GetRasterBand(1).GetOverviewCount() == 0


@pytest.mark.parametrize("form", ["GTiff", "COG"])
@pytest.mark.parametrize("refined", [{}, {"majority_filter": 3, "min_mapping_unit": 5}])
def test_gdal_warns_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, refined: dict[str, Any]
) -> None:
    monkeypatch.setattr(map_raster, "SCREEN", 128)
    image, heard = write_raster(tmp_path / "image.tif", smooth(300, 400), nodata=0), []
    results = {name: str(tmp_path / f"{name}.tif") for name in ("probabilities", "confidence")}
    results.update(polygons=str(tmp_path / "p.gpkg"), areas=str(tmp_path / "a.csv"))
    gdal.PushErrorHandler(lambda kind, _number, text: heard.append((kind, text)) if kind > gdal.CE_Debug else None)
    try:
        mapped(tmp_path, image, raster_format=form, simplify=1, **results, **refined)
    finally:
        gdal.PopErrorHandler()
    assert heard == []


LARGE = """
import sys
import numpy as np
from osgeo import gdal
from plugin.engine.mapping.outputs.map_raster import Form
from plugin.engine.mapping.outputs.number_rasters import ShareRaster
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.windows import Window

gdal.SetConfigOption("GDAL_NUM_THREADS", "ALL_CPUS")
like, window = RasterReader(sys.argv[1]), Window(0, 0, 1500, 1500)
with ShareRaster(sys.argv[2], like.info, window, ["a", "b", "c"], 512, np.asarray, form=Form(overviews=True)) as found:
    found.write_tile(window, None, np.random.default_rng(0).random((3, 1500, 1500), np.float32))
    gdal.SetCacheMax(2**23)
    found.finish()
    written = gdal.Open(str(found.draft.path))
    assert written.GetRasterBand(3).GetOverviewCount() == 2
"""


def test_overviews_are_written_where_the_cache_is_smaller_than_the_raster(tmp_path: Path) -> None:
    """In a process of its own, because GDAL would wait for itself forever."""
    image = write_raster(tmp_path / "image.tif", np.zeros((1500, 1500), np.uint8))
    command = [sys.executable, "-c", LARGE, image, str(tmp_path / "map.tif")]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0


def features(path: Path | str) -> list[tuple[int, str, float, float, ogr.Geometry]]:
    source = ogr.Open(str(path))
    layer = source.GetLayer("polygons")
    return [(*(row.GetField(place) for place in range(4)), row.GetGeometryRef().Clone()) for row in layer]


def burnt(path: Path | str, like: Path | str) -> np.ndarray:
    """The values of polygons on the pixels of a raster."""
    raster, source = gdal.Open(str(like)), ogr.Open(str(path))
    target = gdal.GetDriverByName("MEM").Create("", raster.RasterXSize, raster.RasterYSize, 1, gdal.GDT_Int32)
    target.SetGeoTransform(raster.GetGeoTransform())
    gdal.RasterizeLayer(target, [1], source.GetLayer("polygons"), options=["ATTRIBUTE=value"])
    found: np.ndarray = target.ReadAsArray()
    return found


@pytest.mark.parametrize("connectedness", ["4", "8"])
@pytest.mark.parametrize("epsg, left, top, step", [(32633, 4e5, 5.5e6, 10.0), (4326, 13.0, 52.0, 0.001)])
def test_polygons_are_the_regions_of_the_map(
    tmp_path: Path, connectedness: str, epsg: int, left: float, top: float, step: float
) -> None:
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data, left, top, step, epsg, nodata=0)
    path = str(tmp_path / "p.gpkg")
    result = mapped(tmp_path, image, polygons=path, connectedness=connectedness)
    classes, found = classes_of(data), features(path)
    assert np.array_equal(burnt(path, result["output"]), classes) and all(row[4].IsValid() for row in found)
    sizes = regions(classes, connectedness == "8")
    expected = {value: round(sum(1 / size for size in sizes[classes == value])) for value in (2, 5, 9)}
    assert {value: sum(row[0] == value for row in found) for value in (2, 5, 9)} == expected
    areas = ellipsoid_areas(data, (left, step, 0, top, 0, -step), epsg)
    for value, name in ((2, "water"), (5, "field"), (9, "forest")):
        rows = [row for row in found if row[0] == value]
        assert {row[1] for row in rows} == {name}
        assert sum(row[2] for row in rows) == pytest.approx(areas[classes == value].sum(), rel=1e-5)
        assert sum(row[3] for row in rows) == pytest.approx(areas[classes == value].sum() / 1e4, rel=1e-5)
    source = ogr.Open(path)
    assert source.GetLayer("polygons").GetSpatialRef().GetAuthorityCode(None) == str(epsg)
    style = source.GetLayer("layer_styles").GetNextFeature().GetField("styleQML")
    assert all(f'label="{name}"' in style for name in CLASSES.names) and "51,102,204" in style


def test_chosen_classes_and_small_polygons_and_holes(tmp_path: Path) -> None:
    data = np.full((60, 80), 50, np.uint8)  # water
    data[10:40, 10:50] = 110  # a field of 1200 pixels
    data[15:18, 15:18] = 50  # with a pond of 9
    data[20:30, 20:40] = 170  # a wood of 200
    data[50:52, 60:62] = 110  # and a small field
    image = write_raster(tmp_path / "image.tif", data, step=10)
    path = str(tmp_path / "p.gpkg")
    mapped(tmp_path, image, polygons=path, polygon_classes="5, Forest")
    assert sorted((row[0], round(row[4].GetArea() / 100)) for row in features(path)) == [(5, 4), (5, 991), (9, 200)]
    mapped(tmp_path, image, polygons=path, polygon_classes="field", min_polygon_area=5, fill_holes=9.5)
    assert [(row[0], round(row[4].GetArea() / 100)) for row in features(path)] == [(5, 1000)]
    small = {"min_polygon_area": 0.05, "fill_holes": 0.091, "area_unit": "hectares"}
    mapped(tmp_path, image, polygons=path, polygon_classes="field", **small)
    assert [(row[0], round(row[4].GetArea() / 100)) for row in features(path)] == [(5, 1000)]
    with pytest.raises(InputError, match=r'POLYGON_CLASSES names "roads".*Choose from 2 water, 5 field, 9 forest'):
        mapped(tmp_path, image, polygons=path, polygon_classes="5,roads")
    with pytest.raises(InputError, match=r"Use the extension \.gpkg"):
        mapped(tmp_path, image, polygons=str(tmp_path / "p.shp"))


def test_a_map_without_a_chosen_class_gives_an_empty_layer(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", np.full((60, 80), 50, np.uint8))
    path = str(tmp_path / "p.gpkg")
    mapped(tmp_path, image, polygons=path, polygon_classes="9", simplify=1)
    assert features(path) == []


@pytest.mark.parametrize("side", [1024, 32])
def test_simplified_polygons_share_their_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setattr(borders, "SIDE", side)
    row, col = np.mgrid[:150, :200]
    data = np.where(np.hypot(row - 75, col - 100) < 50, 110, np.where(col * 0.7 + row < 130, 50, 170))
    data[np.hypot(row - 60, col - 90) < 20] = 170
    data[np.hypot(row - 130, col - 170) < 9] = 50
    image = write_raster(tmp_path / "image.tif", data.astype(np.uint8), step=10)
    path = str(tmp_path / "p.gpkg")
    mapped(tmp_path, image, polygons=path)
    steps = features(path)
    mapped(tmp_path, image, polygons=path, simplify=1)
    found = features(path)
    assert len(found) == len(steps) == 5 and all(row[4].IsValid() for row in found)
    together = ogr.Geometry(ogr.wkbMultiPolygon)
    for shape in (part for row in found for part in row[4]):
        together.AddGeometry(shape)
    whole = 150 * 200 * 100
    assert sum(row[4].GetArea() for row in found) == pytest.approx(whole, abs=1e-3)
    assert together.UnionCascaded().GetArea() == pytest.approx(whole, abs=1e-3)
    corners = [sum(ring.GetPointCount() for part in row[4] for ring in part) for row in (*steps, *found)]
    assert sum(corners[5:]) < sum(corners[:5]) / 3
    assert (burnt(path, tmp_path / "map.tif") != pixels(tmp_path / "map.tif")).mean() < 0.02
    for before, after in zip(steps, found):
        assert before[4].Boundary().Buffer(10.01).Contains(after[4].Boundary())


def test_simplified_noise_stays_valid_and_whole(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", smooth(), step=10, nodata=0)
    path = str(tmp_path / "p.gpkg")
    for connectedness in ("4", "8"):
        mapped(tmp_path, image, polygons=path, simplify=1.5, connectedness=connectedness)
        found = features(path)
        assert all(row[4].IsValid() for row in found)
        total = 100 * np.count_nonzero(smooth())
        assert sum(row[4].GetArea() for row in found) == pytest.approx(total, rel=0.02)


def test_a_turned_or_upside_down_grid_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transforms = {"south_up": (4e5, 10, 0, 5.5e6, 0, 10), "turned": (4e5, 8, 6, 5.5e6, 6, -8)}
    for name, transform in transforms.items():
        image = write_raster(tmp_path / "image.tif", smooth(), step=10, nodata=0)
        monkeypatch.setattr(Grid, "geotransform", lambda self, window, chosen=transform: chosen)
        path = str(tmp_path / f"{name}.gpkg")
        result = mapped(tmp_path, image, polygons=path, output=str(tmp_path / f"{name}.tif"))
        classes = classes_of(smooth())
        assert gdal.Open(result["output"]).GetGeoTransform() == transform
        assert np.array_equal(burnt(path, result["output"]), classes)
        areas = ellipsoid_areas(classes, transform, 32633)
        expected = [areas[classes == value].sum() / 1e4 for value in CLASSES.values]
        assert [row["hectares"] for row in result["classes"]] == pytest.approx(expected, rel=2e-5)
        sizes = [sum(row[3] for row in features(path) if row[0] == value) for value in CLASSES.values]
        assert sizes == pytest.approx(expected, rel=1e-5)


def test_the_table_of_areas(tmp_path: Path) -> None:
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data, 13.0, 52.0, 0.001, 4326, nodata=0)
    table = tmp_path / "areas.csv"
    result = mapped(tmp_path, image, areas=str(table), min_mapping_unit=5)
    head, *rows = csv.reader(table.read_text(encoding="utf-8").splitlines())
    assert head == ["value", "class", "pixels", "share", "hectares"]
    classes = pixels(tmp_path / "map.tif")
    areas = ellipsoid_areas(data, (13.0, 0.001, 0, 52.0, 0, -0.001), 4326) / 1e4
    for row, kind in zip(rows, CLASSES.classes):
        there = classes == kind.value
        assert row[:3] == [str(kind.value), kind.name, str(np.count_nonzero(there))]
        assert float(row[4]) == pytest.approx(areas[there].sum(), rel=1e-5)
        assert float(row[3]) == pytest.approx(areas[there].sum() / areas[classes != NODATA].sum(), rel=1e-5)
    assert [row["hectares"] for row in result["classes"]] == pytest.approx([float(row[4]) for row in rows])
    unplaced = write_raster(tmp_path / "unplaced.tif", data, epsg=None, nodata=0)
    mapped(tmp_path, unplaced, areas=str(table))
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))[1:]
    counts = [np.count_nonzero(classes_of(data) == value) for value in CLASSES.values]
    assert [(int(row[2]), float(row[3]), row[4]) for row in rows] == [
        (count, pytest.approx(count / sum(counts)), "") for count in counts
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Majority filter",
        "Removing small regions",
        "Counting the classes",
        "overviews",
        "Cloud",
        "Outlining",
        "Writing polygons",
    ],
)
def test_cancelling_late_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Stopped(Heard):
        """Is cancelled while a phase runs."""

        seen = False

        def progress(self, fraction: float, words: str = "", seconds_left: float | None = None) -> None:
            self.seen = self.seen or text in words

        def cancel_requested(self) -> bool:
            return self.seen

    monkeypatch.setattr(map_raster, "SCREEN", 64)
    image = write_raster(tmp_path / "image.tif", smooth(), nodata=0)
    (tmp_path / "map.tif").write_text("earlier")
    settings = {"raster_format": "COG" if text == "Cloud" else "GTiff", "majority_filter": 3, "min_mapping_unit": 5}
    outputs = {"confidence": str(tmp_path / "c.tif"), "polygons": str(tmp_path / "p.gpkg")}
    said: list[str] = []
    gdal.PushErrorHandler(lambda kind, number, message: said.append(message))
    try:
        with pytest.raises(Cancelled):
            mapped(tmp_path, image, Stopped(), **outputs, **settings)
        gc.collect()
    finally:
        gdal.PopErrorHandler()
    assert not [message for message in said if "nable to save" in message], "rasters closed after their folder is gone"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "map.tif"]
    assert not hidden_folder(tmp_path / "map.tif").exists()


def test_progress_rises_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_raster, "SCREEN", 64)
    reporter = Heard()
    image = write_raster(tmp_path / "image.tif", smooth(), nodata=0)
    confidence = str(tmp_path / "c.tif")
    mapped(tmp_path, image, reporter, confidence=confidence, majority_filter=3, min_mapping_unit=5)
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
    numbers = header(task="regression", classes=ClassTable(()), target={"mean": 0.0, "std": 1.0})
    monkeypatch.setattr(segment, "load_model", lambda path: (Soft(), numbers))
    image = write_raster(tmp_path / "image.tif", smooth())
    with pytest.raises(InputError, match=f"{name.upper()} is given, but the model m predicts numbers"):
        mapped(tmp_path, image, **{name: str(tmp_path / value) if isinstance(value, str) else value})
