"""Maps on the input's own pixels, where it is read at another pixel size."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from known_segmenter import CLASSES, header
from osgeo import gdal, ogr
from synthetic import LEFT, TOP, UTM, rectangle, write_polygons, write_raster
from torch import nn

from plugin.engine.classes import ClassTable
from plugin.engine.config import SegmentRasterConfig
from plugin.engine.errors import InputError, NothingToMap
from plugin.engine.mapping import segment
from plugin.engine.mapping.reading import map_grid

NODATA = 0
HEIGHT, WIDTH = 151, 203
RASTERS = ("probabilities", "confidence", "entropy", "margin")


class Soft(nn.Module):
    """The nearest of 50, 110 and 170 is the likeliest class; for numbers, the value itself."""

    def __init__(self, numbers: bool) -> None:
        super().__init__()
        self.numbers = numbers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = images[:, :1] * 50 + 100
        return value if self.numbers else -(((value - torch.tensor([50.0, 110, 170])[:, None, None]) / 40) ** 2)


def use(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    made = header(**values)
    monkeypatch.setattr(segment, "load_model", lambda path: (Soft(made.target is not None), made))


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    monkeypatch.setattr(map_grid, "SIDE", 48)  # a tile is written in several parts


def map_raster(folder: Path, image: str, reporter: Any = None, **settings: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    usual = {"input": image, "model": "m", "output": str(folder / "map.tif"), "tile_size": 64, "halo": 0}
    config = SegmentRasterConfig.from_json({**usual, "device": "cpu", **settings})
    return segment.segment_raster(config, reporter or Heard())


def both(tmp_path: Path, image: str, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results of a map on the pixels read, and on those of the input."""
    read, own = (
        map_raster(tmp_path / name, image, map_grid=name, **{**settings, **_in(tmp_path / name, settings)})
        for name in ("read", "input")
    )
    return read, own


def _in(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    return {name: str(folder / settings[name]) for name in (*RASTERS, "polygons", "areas") if name in settings}


def pixels(path: Path | str) -> np.ndarray:
    found: np.ndarray = gdal.Open(str(path)).ReadAsArray()
    return found


def smooth(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Noise of 4 × 4 pixels, without data (0) in a corner and at a hole."""
    rng = np.random.default_rng(3)
    data = np.kron(rng.integers(10, 220, (height // 4 + 1, width // 4 + 1)), np.ones((4, 4)))[:height, :width]
    data[:12, :15] = data[70:73, 80:90] = data[140:, 190:] = 0
    return data.astype(np.uint8)


def spread(values: np.ndarray, size: float) -> np.ndarray:
    """What pixels of a size give to each pixel of 1 whose centre lies in them; beyond them the last ones count."""
    row, col = (
        np.minimum(np.floor((np.arange(count) + 0.5) / size + 1e-6).astype(int), there - 1)
        for count, there in zip((HEIGHT, WIDTH), values.shape[-2:])
    )
    found: np.ndarray = values[..., row[:, None], col]
    return found


@pytest.mark.parametrize("southward", [False, True], ids=["north-up", "south-up"])
@pytest.mark.parametrize("size", [2.0, 3.0, 1.3, 7.9, 0.7, 0.5])
def test_each_pixel_of_the_input_gets_what_the_nearest_pixel_read_has(
    tmp_path: Path, size: float, southward: bool
) -> None:
    image = write_raster(tmp_path / "image.tif", smooth(), nodata=0)
    transform = (LEFT, 1, 0, TOP, 0, 1 if southward else -1)
    with_grid = gdal.Open(image, gdal.GA_Update)
    with_grid.SetGeoTransform(transform)
    del with_grid
    outputs = {name: f"{name}.tif" for name in RASTERS}
    read, own = both(tmp_path, image, pixel_size=size, **outputs)
    assert gdal.Open(read["output"]).GetGeoTransform()[1] == size
    for name in ("output", *RASTERS):
        expected = spread(pixels(read[name]), size)
        assert np.array_equal(pixels(own[name]), expected, equal_nan=name != "output"), name
        assert gdal.Open(own[name]).GetGeoTransform() == transform
    found = pixels(own["output"])
    assert own["nodata_pixels"] == np.count_nonzero(found == NODATA) > 0
    counts = [np.count_nonzero(found == value) for value in (2, 5, 9)]
    assert [row["pixels"] for row in own["classes"]] == counts == [row["area"] for row in own["classes"]]
    raster = gdal.Open(own["output"])
    band, confidence = raster.GetRasterBand(1), pixels(own["confidence"])
    table = band.GetDefaultRAT()
    column = next(one for one in range(table.GetColumnCount()) if table.GetUsageOfCol(one) == gdal.GFU_PixelCount)
    assert [table.GetValueAsInt(row, column) for row in range(table.GetRowCount())] == counts
    assert band.GetStatistics(False, False)[2] == pytest.approx(found[found != NODATA].mean())
    raster = gdal.Open(own["confidence"])
    assert raster.GetRasterBand(1).GetStatistics(False, False)[2] == pytest.approx(np.nanmean(confidence), rel=1e-6)
    names = [{path.name for path in (tmp_path / folder).iterdir()} for folder in ("read", "input")]
    assert names[0] == names[1]


def test_filters_polygons_and_areas_count_the_pixels_of_the_input(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", smooth(), nodata=0)
    settings = {"pixel_size": 2, "min_mapping_unit": 30, "majority_filter": 3, "polygons": "p.gpkg", "areas": "a.csv"}
    plain, _ = both(tmp_path, image, pixel_size=2)
    expected = spread(pixels(plain["output"]), 2)
    _, own = both(tmp_path, image, **settings)
    found = pixels(own["output"])
    padded, best = np.pad(expected, 1), np.zeros((HEIGHT, WIDTH))
    filtered = expected.copy()
    for value in (2, 5, 9):
        count = sum((padded == value)[r : r + HEIGHT, c : c + WIDTH].astype(int) for r in range(3) for c in range(3))
        score = 2 * count + (expected == value)
        filtered[score > best], best = value, np.maximum(best, score)
    filtered[expected == NODATA] = NODATA
    source = gdal.Open(write_raster(tmp_path / "filtered.tif", filtered, nodata=NODATA))
    sieved = gdal.GetDriverByName("MEM").Create("", WIDTH, HEIGHT, 1, gdal.GDT_Byte)
    band = source.GetRasterBand(1)
    gdal.SieveFilter(band, band.GetMaskBand(), sieved.GetRasterBand(1), 30, 4)
    assert np.array_equal(found, sieved.ReadAsArray()) and not np.array_equal(found, expected)
    shapes, burnt = ogr.Open(own["polygons"]), gdal.GetDriverByName("MEM").Create("", WIDTH, HEIGHT, 1, gdal.GDT_Byte)
    burnt.SetGeoTransform((LEFT, 1, 0, TOP, 0, -1))
    gdal.RasterizeLayer(burnt, [1], shapes.GetLayer("polygons"), options=["ATTRIBUTE=value"])
    assert np.array_equal(burnt.ReadAsArray(), found)
    with open(own["areas"], encoding="utf-8") as file:
        assert [int(row["pixels"]) for row in csv.DictReader(file)] == [np.sum(found == value) for value in (2, 5, 9)]


@pytest.mark.parametrize("form", ["GTiff", "COG"])
def test_numbers_and_overviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    target = {"mean": 100.0, "std": 20.0, "minimum": 0.0, "maximum": 250.0}
    use(monkeypatch, task="regression", classes=ClassTable(()), target=target)
    data = np.tile(smooth(), (1, 3))
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    read, own = both(tmp_path, image, pixel_size=3, raster_format=form)
    found, (height, width) = pixels(own["output"]), data.shape
    row, col = np.minimum(np.arange(height) // 3, height // 3 - 1), np.minimum(np.arange(width) // 3, width // 3 - 1)
    assert np.array_equal(found, pixels(read["output"])[row[:, None], col], equal_nan=True)
    assert own["statistics"]["mean"] == pytest.approx(np.nanmean(found))
    raster = gdal.Open(own["output"])
    assert raster.GetRasterBand(1).GetOverviewCount() == 1


def test_an_extent_an_area_and_a_mosaic(tmp_path: Path) -> None:
    data = smooth()
    image = write_raster(tmp_path / "image.tif", data[:, :101], nodata=0)
    other = write_raster(tmp_path / "other.tif", data[:, 101:], LEFT + 101, nodata=0)
    area = write_polygons(tmp_path / "area.gpkg", [(1, rectangle(LEFT + 90, TOP - 150, LEFT + 160, TOP))], layer="area")
    extent = (LEFT + 31, TOP - 140, LEFT + 180, TOP - 17)
    read, own = both(tmp_path, image, more_images=(other,), extent=extent, area=str(area), pixel_size=3)
    # Pixels of 3 that touch the extent and the area's: columns 30 to 53, rows 5 to 46.
    assert pixels(read["output"]).shape == (42, 24)
    assert np.array_equal(pixels(own["output"]), pixels(read["output"]).repeat(3, 0).repeat(3, 1))
    assert gdal.Open(own["output"]).GetGeoTransform() == (LEFT + 90, 1, 0, TOP - 15, 0, -1)
    tiny = (LEFT + 31.7, TOP - 40.2, LEFT + 31.8, TOP - 40.1)
    with pytest.raises(NothingToMap, match="smaller than a pixel of"):
        both(tmp_path, image, extent=tiny, pixel_size=0.25)
    assert not list((tmp_path / "input").glob(".*"))


def test_each_of_several_rasters_keeps_its_own_pixels(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "one.tif", smooth(), nodata=0)
    other = write_raster(tmp_path / "other.tif", smooth()[:, ::-1], LEFT + 900, TOP, nodata=0)
    settings = {"more_images": [other], "combine": "separate", "pixel_size": 1.3}
    read, own = both(tmp_path, image, **settings)
    for one, two in zip([read, *read["more"]], [own, *own["more"]]):
        assert np.array_equal(pixels(two["output"]), spread(pixels(one["output"]), 1.3))
        counts = [int((pixels(two["output"]) == value).sum()) for value in CLASSES.values]
        assert [row["pixels"] for row in two["classes"]] == counts
    assert gdal.Open(own["more"][0]["output"]).GetGeoTransform()[0] == LEFT + 900


def test_the_pixels_read_may_be_those_of_the_input(tmp_path: Path) -> None:
    heard = Heard()
    image = write_raster(tmp_path / "image.tif", smooth(), nodata=0)
    read, own = both(tmp_path, image)
    assert np.array_equal(pixels(own["output"]), pixels(read["output"]))
    map_raster(tmp_path / "input", image, heard, pixel_size=2, map_grid="input")
    assert any(f"The map has the pixels of {image}: {WIDTH} × {HEIGHT} of" in line for line in heard.logs)


def test_a_rotated_raster_is_refused(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", smooth(), epsg=UTM)
    turned = gdal.Open(image, gdal.GA_Update)
    turned.SetGeoTransform((LEFT, 0.8, 0.6, TOP, 0.6, -0.8))
    del turned
    with pytest.raises(InputError, match=r"MAP_GRID is input, but .* is rotated") as caught:
        map_raster(tmp_path / "input", image, pixel_size=2, map_grid="input")
    assert "read" in caught.value.remedy
    assert not list((tmp_path / "input").iterdir())
