"""Mosaics: each raster keeps its own nodata values, mask or alpha, also where others have such values as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from heard import Heard
from known_segmenter import header
from osgeo import gdal
from synthetic import LEFT, TOP, write_raster

from plugin.engine.chips.dataset import read_info
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.sources import open_sources
from plugin.engine.config import ExportChipsConfig
from plugin.engine.mapping.reading.checks import open_for
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.windows import Window

KINDS = ("nothing", "nodata", "nodata of each band", "mask", "alpha")
HIDDEN = np.zeros((12, 16), bool)
HIDDEN[3:6, 2:13] = True


def raster(
    path: Path, kind: str, dtype: str, seed: int, value: int, left: float = LEFT
) -> tuple[str, np.ndarray, np.ndarray]:
    """Write a raster of two bands; gives its path, its data and which values are missing."""
    data = np.random.default_rng(seed).integers(0, 12, (2, 12, 16)).astype(dtype)
    missing = np.broadcast_to(HIDDEN, data.shape).copy() if kind in ("mask", "alpha") else np.zeros(data.shape, bool)
    extra = np.where(HIDDEN, 0, 255)[None].astype(dtype)
    write_raster(path, np.concatenate([data, extra]) if kind == "alpha" else data, left)
    source = gdal.Open(str(path), gdal.GA_Update)
    if kind == "alpha":
        source.GetRasterBand(3).SetColorInterpretation(gdal.GCI_AlphaBand)
    if kind == "mask":
        source.CreateMaskBand(gdal.GMF_PER_DATASET)
        source.GetRasterBand(1).GetMaskBand().WriteArray(extra[0].astype(np.uint8))
    if kind == "nodata":
        source.GetRasterBand(1).SetNoDataValue(value)
        missing = data == value
    source = None
    if kind != "nodata of each band":
        return str(path), data, missing
    text = gdal.Translate("", str(path), format="VRT")
    for band in (1, 2):
        text.GetRasterBand(band).SetNoDataValue(value + band)
        missing[band - 1] = data[band - 1] == value + band
    path.with_suffix(".vrt").write_text(text.GetMetadata("xml:VRT")[0])
    return str(path.with_suffix(".vrt")), data, missing


def mosaic(*paths: str, **settings: Any) -> RasterReader:
    config = ExportChipsConfig(input=paths, output="unused", combine="mosaic", **settings)
    (reader,) = open_sources(config, Heard())
    return reader


def known(reader: RasterReader, window: Optional[Window] = None) -> tuple[np.ndarray, np.ndarray]:
    """The values of a window as float64, NaN where there is none, and (H, W) bool, true where there is data."""
    window = window or reader.info.grid.window
    data, missing = reader.read_marked(window)
    valid = reader.valid(window, missing)
    found = data.astype(np.float64)
    if missing is not None:
        found[missing] = np.nan
    return found, np.ones(data.shape[1:], bool) if valid is None else valid


@pytest.mark.parametrize("types", [("uint8", "uint8"), ("int16", "uint8"), ("uint8", "float32")])
@pytest.mark.parametrize("kind", KINDS)
def test_no_raster_of_a_mosaic_loses_what_is_nodata_in_another(
    tmp_path: Path, kind: str, types: tuple[str, str]
) -> None:
    first = raster(tmp_path / "a.tif", kind, types[0], 1, value=5)
    for number, other in enumerate(KINDS):
        second = raster(tmp_path / f"b{number}.tif", other, types[1], 2, value=8, left=LEFT + 10)
        expected = np.full((2, 12, 26), np.nan)
        for (_, data, missing), cols in ((first, slice(0, 16)), (second, slice(10, 26))):
            np.copyto(expected[:, :, cols], data, where=~missing)
        reader = mosaic(first[0], second[0])
        found, valid = known(reader)
        np.testing.assert_array_equal(found, expected, f"{kind} below {other}")
        assert np.array_equal(valid, ~np.isnan(expected).all(axis=0)), f"{kind} below {other}"
        part = known(reader, Window(7, 2, 9, 7))[0]
        np.testing.assert_array_equal(part, expected[:, 2:9, 7:16])


@pytest.mark.parametrize("kind", KINDS)
def test_a_mosaic_at_another_pixel_size_averages_what_each_raster_knows(tmp_path: Path, kind: str) -> None:
    first = raster(tmp_path / "a.tif", kind, "uint8", 1, value=5)
    second = raster(tmp_path / "b.tif", "nodata", "uint8", 2, value=8, left=LEFT + 16)
    both = np.concatenate([np.where(missing, np.nan, data) for _, data, missing in (first, second)], axis=2)
    squares = both.reshape(2, 6, 2, 16, 2).transpose(0, 1, 3, 2, 4).reshape(2, 6, 16, 4)
    some = ~np.isnan(squares).all(axis=3)
    expected = np.full(some.shape, np.nan)
    expected[some] = np.rint(np.nanmean(squares[some], axis=1))
    found, valid = known(mosaic(first[0], second[0], pixel_size=2))
    np.testing.assert_array_equal(found, expected)
    assert np.array_equal(valid, some.any(axis=0))


def test_chips_of_a_mosaic_hold_what_is_nodata_in_another_raster(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 3, (1, 32, 64)).astype(np.uint8)
    paths = (
        write_raster(tmp_path / "a.tif", data[:, :, :32], nodata=0),
        write_raster(tmp_path / "b.tif", data[:, :, 32:], LEFT + 32, nodata=2),
    )
    labels = write_raster(tmp_path / "l.tif", np.arange(64, dtype=np.uint8).repeat(32).reshape(64, 32).T // 8 % 2)
    output = str(tmp_path / "chips")
    shares = {"validation_share": 0.0, "test_share": 0.0}
    export_chips(
        ExportChipsConfig(paths, output, combine="mosaic", label_rasters=(labels,), chip_size=32, **shares), Heard()
    )
    assert read_info(output).nodata == 0
    left, right = (gdal.Open(str(path)).ReadAsArray() for path in sorted((tmp_path / "chips/images").iterdir()))
    assert np.array_equal(left, data[0, :, :32])
    there = data[0, :, 32:]
    assert np.array_equal(right == 0, there == 2) and (right[there == 0] == 1).all() and (right[there == 1] == 1).all()


def test_label_rasters_of_a_mosaic_keep_their_own_nodata(tmp_path: Path) -> None:
    classes = np.random.default_rng(0).integers(0, 3, (32, 64)).astype(np.uint8)
    image = write_raster(tmp_path / "image.tif", classes + 50)
    half = write_raster(tmp_path / "half.tif", classes[:, :32] + 50)
    labels = (
        write_raster(tmp_path / "l.tif", classes[:, :32], nodata=0),
        write_raster(tmp_path / "r.tif", classes[:, 32:], LEFT + 32, nodata=2),
    )
    config = ExportChipsConfig(
        (half, image), str(tmp_path / "chips"), combine="mosaic", label_rasters=labels, chip_size=32,
        validation_share=0.0, test_share=0.0,
    )  # fmt: skip
    export_chips(config, Heard())
    left, right = (gdal.Open(str(path)).ReadAsArray() for path in sorted((tmp_path / "chips/labels").iterdir()))
    info = read_info(config.output)
    unlabelled = info.label_nodata
    assert info.classes.values.tolist() == [0, 1, 2] and unlabelled == 255
    assert np.array_equal(left, np.where(classes[:, :32] == 0, unlabelled, classes[:, :32]))
    assert np.array_equal(right, np.where(classes[:, 32:] == 2, unlabelled, classes[:, 32:]))


def test_filling_that_only_the_model_knows_is_not_mixed_into_its_surroundings(tmp_path: Path) -> None:
    data = np.full((1, 8, 8), 100, np.int16)
    data[0, 2:5, 2:5] = -9999
    path = write_raster(tmp_path / "a.tif", data)
    model = header(dtype="int16", nodata=-9999)
    for more, size in (((), None), ((), 2.0), ((), 0.5), (((path, ""),), None), (((path, ""),), 2.0)):
        reader = open_for(model, path, "", (), Heard(), size, more)
        found, valid = known(reader)
        assert set(np.unique(found[:, valid])) == {100}
        scale = int(1 / (size or 1)) or 1
        wanted = data[0] != -9999 if size != 2.0 else ~(data[0] == -9999).reshape(4, 2, 4, 2).all(axis=(1, 3))
        assert np.array_equal(valid, wanted.repeat(scale, 0).repeat(scale, 1))


def test_south_up_and_rotated_rasters_lie_where_they_belong_in_a_mosaic(tmp_path: Path) -> None:
    col, row = np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5)
    turned = 0.6, 0.8  # cosine and sine
    transforms = {
        "north": (LEFT, 1, 0, TOP, 0, -1),
        "south": (LEFT + 40, 1, 0, TOP - 40, 0, 1),
        "turned": (LEFT + 90, turned[0], turned[1], TOP - 40, turned[1], -turned[0]),
    }
    paths = {}
    for name, transform in transforms.items():
        x = transform[0] + transform[1] * col + transform[2] * row - LEFT
        y = TOP - transform[3] - transform[4] * col - transform[5] * row
        paths[name] = write_raster(tmp_path / f"{name}.tif", np.stack([x, y]).astype(np.float32))
        source = gdal.Open(paths[name], gdal.GA_Update)
        source.SetGeoTransform(transform)
        source = None
    for order in (("north", "south", "turned"), ("south", "turned", "north"), ("turned", "north", "south")):
        reader = mosaic(*(paths[name] for name in order))
        grid = reader.info.grid
        found, valid = known(reader)
        x = grid.left + grid.step_x * (np.arange(grid.width) + 0.5) - LEFT
        y = TOP - grid.top - grid.step_y * (np.arange(grid.height) + 0.5)
        assert np.abs(found - np.stack(np.meshgrid(x, y)))[:, valid].max() < 0.51, order  # half a pixel at the edges
        inner = (x > 0) & (x < 80)
        assert valid[(y > 0) & (y < 40)][:, inner].all(), "no gap where they meet"
        assert 4500 < valid.sum() < 5100
