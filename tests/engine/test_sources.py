from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from heard import Heard
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from osgeo import gdal, osr
from synthetic import LEFT, TOP, UTM, reference, write_raster

from plugin.engine.chips.export import export_chips
from plugin.engine.chips.sources import open_sources
from plugin.engine.config import ExportChipsConfig
from plugin.engine.errors import InputError
from plugin.engine.rasters.raster_io import RasterReader, crs_text
from plugin.engine.windows import Grid, Window

MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def opened(*paths: Path | str, heard: Optional[Heard] = None, **given_settings: Any) -> list[RasterReader]:
    config = ExportChipsConfig(input=tuple(map(str, paths)), output="unused", **given_settings)
    return open_sources(config, heard or Heard())


def one(*paths: Path | str, **given_settings: Any) -> RasterReader:
    (reader,) = opened(*paths, **given_settings)
    return reader


def write_places(
    path: Path | str,
    transform: Sequence[float],
    width: int,
    height: int,
    epsg: Optional[int] = UTM,
    nodata: Optional[float] = None,
    overviews: bool = False,
) -> str:
    """A raster whose two bands hold x and y of each pixel's centre: what is read tells where it was read."""
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x = transform[0] + transform[1] * col + transform[2] * row
    y = transform[3] + transform[4] * col + transform[5] * row
    target = gdal.GetDriverByName("GTiff").Create(str(path), width, height, 2, gdal.GDT_Float64)
    target.SetGeoTransform(tuple(transform))
    if epsg is not None:
        target.SetSpatialRef(reference(epsg))
    if nodata is not None:
        target.GetRasterBand(1).SetNoDataValue(nodata)
    target.WriteArray(np.stack([x, y]))
    if overviews:
        target.BuildOverviews("AVERAGE", [2, 4])
        for level in range(2):
            for band in (1, 2):
                lower = target.GetRasterBand(band).GetOverview(level)
                lower.WriteArray(np.zeros((lower.YSize, lower.XSize)))
    target.FlushCache()
    return str(path)


def centres(grid: Grid, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) x and y of the centres of a window's pixels."""
    cols = np.arange(window.col_off, window.col_end) + 0.5
    rows = np.arange(window.row_off, window.row_end) + 0.5
    return np.meshgrid(grid.left + cols * grid.step_x, grid.top + rows * grid.step_y)


def off(reader: RasterReader, window: Optional[Window] = None, channels: tuple[int, int] = (0, 1)) -> np.ndarray:
    """(H, W): how far, in units of the CRS, the values read lie beside the places of their pixels; NaN = no data."""
    window = window or reader.info.grid.window
    data, missing = reader.read_marked(window)
    valid = reader.valid(window, missing)
    x, y = centres(reader.info.grid, window)
    found = np.hypot(data[channels[0]] - x, data[channels[1]] - y)
    if missing is not None:
        found[missing[list(channels)].any(axis=0)] = math.nan
    if valid is not None:
        found[~valid] = math.nan
    return found


@st.composite
def windows(draw: st.DrawFn, width: int, height: int) -> Window:
    col, row = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return Window(col, row, draw(st.integers(1, width - col)), draw(st.integers(1, height - row)))


# --- where pixels lie


@MANY
@given(data=st.data(), step=st.floats(0.01, 90), south_up=st.booleans(), mirrored=st.booleans())
def test_a_raster_on_its_own_grid_is_read_as_it_is(
    tmp_path: Path, data: st.DataObject, step: float, south_up: bool, mirrored: bool
) -> None:
    transform = (LEFT, -step if mirrored else step, 0, TOP, 0, step if south_up else -step)
    reader = one(write_places(tmp_path / "a.tif", transform, 23, 17))
    assert reader.source == str(tmp_path / "a.tif")
    assert np.nanmax(off(reader, data.draw(windows(23, 17)))) == 0


@MANY
@given(data=st.data(), factor=st.floats(0.3, 7), south_up=st.booleans(), nodata=st.sampled_from([None, -9.0]))
def test_pixels_of_another_size_lie_where_their_grid_says(
    tmp_path: Path, data: st.DataObject, factor: float, south_up: bool, nodata: Optional[float]
) -> None:
    step = 0.5
    path = write_places(tmp_path / "a.tif", (LEFT, step, 0, TOP, 0, step if south_up else -step), 61, 47, nodata=nodata)
    reader = one(path, pixel_size=step * factor)
    grid = reader.info.grid
    around = Grid(LEFT, TOP, step, step if south_up else -step, 61, 47)
    inner, outer = grid.bounds, around.bounds
    assert (grid.left, grid.top) == (LEFT, TOP), "the corner stays"
    assert inner[0] >= outer[0] - 1e-3 and inner[1] >= outer[1] - 1e-3
    assert inner[2] <= outer[2] + 1e-3 and inner[3] <= outer[3] + 1e-3
    assert outer[2] - inner[2] < step * factor, "no pixel more would fit"
    window = data.draw(windows(grid.width, grid.height))
    beside = off(reader, window)
    assert not np.isnan(beside).any(), "every pixel has data"
    x, y = centres(grid, window)
    at_edge = (
        (x < outer[0] + step) | (x > outer[2] - step) | (y < outer[1] + step) | (y > outer[3] - step)
    )  # where nothing lies beyond to interpolate with
    assert beside[at_edge].max(initial=0) <= step * 0.75
    # A pixel that is averaged in part counts with its whole value: an eighth of its size at most.
    assert beside[~at_edge].max(initial=0) < (0.18 if factor > 1 else 1e-3) * step


@MANY
@given(data=st.data(), factor=st.floats(0.4, 5))
def test_a_window_does_not_depend_on_what_else_is_read(tmp_path: Path, data: st.DataObject, factor: float) -> None:
    rng = np.random.default_rng(0)
    path = write_raster(tmp_path / "a.tif", rng.integers(0, 255, (3, 61, 47)).astype(np.uint8))
    reader = one(path, pixel_size=factor)
    window = data.draw(windows(reader.info.grid.width, reader.info.grid.height))
    rows, cols = window.slices_in(reader.info.grid.window)
    whole = one(path, pixel_size=factor).read(reader.info.grid.window)[:, rows, cols]
    # GDAL 3.10 rounds a value now and then in another way.
    assert np.abs(reader.read(window).astype(int) - whole).max() <= 1


@MANY
@given(
    angle=st.floats(-180, 180), shape=st.sampled_from([(1.0, 1.0), (0.5, 2.0)]), pixel_size=st.sampled_from([None, 3])
)
def test_rotated_rasters_become_north_up(
    tmp_path: Path, angle: float, shape: tuple[float, float], pixel_size: Optional[float]
) -> None:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    assume(abs(sin) > 1e-6)
    wide, high = shape
    transform = (LEFT, wide * cos, high * sin, TOP, wide * sin, -high * cos)
    reader = one(write_places(tmp_path / "a.tif", transform, 60, 40), pixel_size=pixel_size)
    grid = reader.info.grid
    assert grid.step_x > 0 > grid.step_y
    beside = off(reader)
    known = ~np.isnan(beside)
    ground = np.count_nonzero(known) * abs(grid.step_x * grid.step_y)
    assert ground == pytest.approx(60 * wide * 40 * high, rel=0.35), "all of it is there, and nothing else"
    x, y = centres(grid, grid.window)
    inverse = gdal.InvGeoTransform(transform)
    col, row = inverse[0] + inverse[1] * x + inverse[2] * y, inverse[3] + inverse[4] * x + inverse[5] * y
    margin = 4 * max(pixel_size or 1, 1)
    inner = (col > margin / wide) & (col < 60 - margin / wide) & (row > margin / high) & (row < 40 - margin / high)
    assert known[inner].all()
    # The average of a turned pixel's ground takes the axis-parallel pixels around it.
    assert beside[inner].max(initial=0) <= (1e-3 if pixel_size is None else 1.5)


@MANY
@given(data=st.data())
def test_a_mosaic_lays_each_raster_where_it_belongs(tmp_path: Path, data: st.DataObject) -> None:
    paths = []
    for number in range(data.draw(st.integers(1, 4))):
        col, row = data.draw(st.integers(-40, 40)), data.draw(st.integers(-40, 40))
        width, height = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
        transform = (LEFT + col * 2, 2, 0, TOP + row * 2, 0, -2)
        paths.append(write_places(tmp_path / f"{number}.tif", transform, width, height))
    reader = one(*paths, combine="mosaic")
    bounds = np.array([one(path).info.grid.bounds for path in paths])
    assert reader.info.grid.bounds == (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))
    x, y = centres(reader.info.grid, reader.info.grid.window)
    covered = np.zeros(x.shape, bool)
    for left, bottom, right, top in bounds:
        covered |= (x > left) & (x < right) & (y > bottom) & (y < top)
    beside = off(reader)
    assert (np.isnan(beside) == ~covered).all()
    assert beside[covered].max() == 0


@MANY
@given(
    data=st.data(),
    step=st.sampled_from([0.5, 1.0, 1.5, 3.0]),
    moved=st.tuples(st.floats(-10, 10), st.floats(-10, 10)),
    whole=st.booleans(),
    south_up=st.booleans(),
)
def test_all_bands_of_a_stack_show_the_same_ground(
    tmp_path: Path, data: st.DataObject, step: float, moved: tuple[float, float], whole: bool, south_up: bool
) -> None:
    first = write_places(tmp_path / "image.tif", (LEFT, 1, 0, TOP, 0, 1 if south_up else -1), 40, 40)
    right, up = (round(moved[0]), round(moved[1])) if whole else moved
    top = TOP + up + (40 if south_up else 0)
    other = write_places(tmp_path / "height.tif", (LEFT + right, step, 0, top, 0, -step), 60, 60)
    reader = one(first, other, combine="stack")
    assert reader.info.grid == one(first).info.grid and len(reader.info.bands) == 4
    window = data.draw(windows(40, 40))
    assert np.nanmax(off(reader, window), initial=0) == 0
    beside = off(reader, window, (2, 3))
    x, y = centres(reader.info.grid, window)
    left, bottom, right, top = one(other).info.grid.bounds
    margin = max(1.0, step)
    inner = (x > left + margin) & (x < right - margin) & (y > bottom + margin) & (y < top - margin)
    assert not np.isnan(beside[inner]).any()
    assert beside[inner].max(initial=0) < 1e-3
    beyond = (x < left - margin) | (x > right + margin) | (y < bottom - margin) | (y > top + margin)
    assert np.isnan(beside[beyond]).all()


def test_rasters_in_another_crs_come_into_the_first_ones(tmp_path: Path) -> None:
    first = write_places(tmp_path / "a.tif", (LEFT, 10, 0, TOP, 0, -10), 50, 50)
    degrees = osr.CoordinateTransformation(reference(UTM), reference(4326))
    left, top, _ = degrees.TransformPoint(LEFT + 100, TOP - 100)
    other = write_places(tmp_path / "b.tif", (left, 1.3e-4, 0, top, 0, -0.9e-4), 40, 30, epsg=4326)
    heard = Heard()
    _, reader = opened(first, other, heard=heard)
    assert crs_text(reader.info.crs) == crs_text(one(first).info.crs)
    grid = reader.info.grid
    assert (grid.step_x, grid.step_y) == (10, -10)
    assert (grid.left - LEFT) % 10 == 0 and (TOP - grid.top) % 10 == 0, "both share one raster of pixels"
    data = reader.read(grid.window)
    known = ~np.isnan(data).any(axis=0)
    assert known.mean() > 0.75
    x, y = centres(grid, grid.window)
    there = np.array([degrees.TransformPoint(*point)[:2] for point in zip(x[known], y[known])])
    inner = (abs(there[:, 0] - left - 20 * 1.3e-4) < 18 * 1.3e-4) & (abs(top - 15 * 0.9e-4 - there[:, 1]) < 13 * 0.9e-4)
    assert inner.sum() > 600
    assert abs(data[:, known].T[inner] - there[inner]).max() < 0.05 * 1e-4
    assert any("warped from EPSG:4326 (WGS 84) to EPSG:32633" in line for line in heard.logs)


def test_a_mosaic_takes_rasters_in_another_crs_and_of_other_pixels(tmp_path: Path) -> None:
    whole = write_places(tmp_path / "a.tif", (LEFT, 10, 0, TOP, 0, -10), 50, 50)
    coarse = write_places(tmp_path / "b.tif", (LEFT + 503, 20, 0, TOP - 7, 0, -20), 20, 20)
    gdal.Warp(str(tmp_path / "c.tif"), whole, dstSRS="EPSG:4326", dstNodata=-1)
    reader = one(whole, coarse, tmp_path / "c.tif", combine="mosaic")
    grid = reader.info.grid
    assert (grid.step_x, grid.step_y) == (10, -10) and (grid.left - LEFT) % 10 == 0 == (grid.top - TOP) % 10
    beside = off(reader)
    col, row = round((LEFT - grid.left) / 10), round((grid.top - TOP) / 10)
    beside = beside[row:, col:]
    right = beside[5:35, 55:85]
    assert not np.isnan(right).any() and right.max() < 1e-3
    # The last raster lies on the first and holds that one's coordinates, resampled twice.
    assert np.nanmax(beside[5:45, 5:45]) < 10


def test_tiles_between_the_first_ones_pixels_are_moved_by_half_a_pixel_at_most(tmp_path: Path) -> None:
    first = write_places(tmp_path / "a.tif", (LEFT, 1, 0, TOP, 0, -1), 10, 10)
    other = write_places(tmp_path / "b.tif", (LEFT + 10.3, 1, 0, TOP + 0.2, 0, -1), 10, 10)
    heard = Heard()
    reader = one(first, other, combine="mosaic", heard=heard)
    assert any("shifted by less than half a pixel" in line for line in heard.logs)
    assert (reader.info.grid.width, reader.info.grid.height) == (20, 10)
    assert off(reader)[:, 10:].max() == pytest.approx(math.hypot(0.3, 0.2), abs=1e-6)


# --- what pixels hold


def test_overviews_are_never_read(tmp_path: Path) -> None:
    path = write_places(tmp_path / "a.tif", (LEFT, 1, 0, TOP, 0, -1), 128, 128, overviews=True)
    with gdal.Open(path) if hasattr(gdal.Dataset, "__enter__") else _Kept(gdal.Open(path)) as dataset:
        assert dataset.ReadAsArray(buf_xsize=64, buf_ysize=64).max() == 0, "the overviews are wrong on purpose"
    other = write_places(tmp_path / "b.tif", (LEFT, 4, 0, TOP, 0, -4), 32, 32)
    assert off(one(path, pixel_size=2)).max() < 1e-3
    assert off(one(path, pixel_size=4)).max() < 1e-3
    assert off(one(other, path, combine="stack"), channels=(2, 3)).max() < 1e-3
    assert off(one(other, path, combine="mosaic")).max() < 1e-3
    assert off(one(path, combine="mosaic", pixel_size=4)).max() < 1e-3


class _Kept:
    """A dataset as a context, which GDAL before 3.8 has not."""

    def __init__(self, dataset: gdal.Dataset) -> None:
        self.dataset = dataset

    def __enter__(self) -> gdal.Dataset:
        return self.dataset

    def __exit__(self, *_: object) -> None:
        self.dataset = None


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_averages_leave_nodata_out(tmp_path: Path, dtype: str) -> None:
    data = np.full((1, 4, 4), 100, dtype)
    data[0, 0, 0] = data[0, 2:, 2:] = 7
    reader = one(write_raster(tmp_path / "a.tif", data, nodata=7), pixel_size=2)
    window = Window(0, 0, 2, 2)
    found, missing = reader.read_marked(window)
    assert found.dtype == dtype and reader.info.nodata == (7,)
    assert found.tolist() == [[[100, 100], [100, 7]]]
    assert missing is not None and missing.tolist() == [[[False, False], [False, True]]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("kind", ["alpha", "mask"])
def test_averages_leave_out_what_alpha_or_a_mask_hides(tmp_path: Path, dtype: str, kind: str) -> None:
    shown = np.full((4, 4), 255)
    shown[0, 0] = 0
    shown[2:, 2:] = 0
    data = np.where(shown == 0, 0, 100)
    path = write_raster(
        tmp_path / "a.tif", np.stack([data, data, shown] if kind == "alpha" else [data, data]).astype(dtype)
    )
    dataset = gdal.Open(path, gdal.GA_Update)
    if kind == "alpha":
        dataset.GetRasterBand(3).SetColorInterpretation(gdal.GCI_AlphaBand)
    else:
        dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
        dataset.GetRasterBand(1).GetMaskBand().WriteArray(shown.astype(np.uint8))
    dataset = None
    reader = one(path, pixel_size=2)
    window = Window(0, 0, 2, 2)
    found, missing = reader.read_marked(window)
    assert found.dtype == dtype and found.shape == (2, 2, 2)
    valid = reader.valid(window, missing)
    assert valid is not None and valid.tolist() == [[True, True], [True, False]]
    assert (found[:, valid] == 100).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_does_not_spread(tmp_path: Path, value: float) -> None:
    data = np.full((1, 8, 8), 5, np.float32)
    data[0, 4, 4] = value
    path = write_raster(tmp_path / "a.tif", data)
    assert np.isfinite(one(path, pixel_size=2).read(Window(0, 0, 4, 4))).all(), "an average of the other three"
    finer = one(path, pixel_size=0.5).read(Window(0, 0, 16, 16))
    assert 0 < np.isnan(finer).sum() <= 4


def test_each_band_keeps_its_own_nodata(tmp_path: Path) -> None:
    data = np.array([[[1, 2], [3, 9]], [[8, 2], [3, 4]]], np.int16)
    write_raster(tmp_path / "a.tif", data)
    text = gdal.Translate("", str(tmp_path / "a.tif"), format="VRT")
    text.GetRasterBand(1).SetNoDataValue(9)
    text.GetRasterBand(2).SetNoDataValue(8)
    (tmp_path / "a.vrt").write_text(text.GetMetadata("xml:VRT")[0])
    for finer, scale in ((None, 1), (0.5, 2)):
        reader = one(tmp_path / "a.vrt", pixel_size=finer)
        assert reader.info.nodata == (9, 8)
        missing = reader.read_marked(reader.info.grid.window)[1]
        assert missing is not None
        corners = missing[:, :: 2 * scale - 1, :: 2 * scale - 1]
        assert corners.tolist() == [[[False, False], [False, True]], [[True, False], [False, False]]]
    both = one(tmp_path / "a.vrt", tmp_path / "a.vrt", combine="stack")
    assert both.info.nodata == (9, 8, 9, 8)


def test_classes_are_never_averaged(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", (np.indices((9, 9)).sum(axis=0) % 2 * 200 + 10).astype(np.uint8))
    dataset = gdal.Open(path, gdal.GA_Update)
    table = gdal.ColorTable()
    table.SetColorEntry(10, (255, 0, 0, 255))
    dataset.GetRasterBand(1).SetColorTable(table)
    dataset.GetRasterBand(1).SetCategoryNames([""] * 10 + ["water"] + [""] * 199 + ["field"])
    dataset = None
    for size in (0.7, 3):
        reader = one(path, pixel_size=size)
        assert set(np.unique(reader.read(reader.info.grid.window))) == {10, 210}
    other = write_raster(tmp_path / "b.tif", np.zeros((5, 5), np.uint8), left=LEFT + 1.2, step=1.3)
    assert set(np.unique(one(other, path, combine="stack").read(Window(0, 0, 3, 3))[1])) == {10, 210}


# --- mosaics


def test_in_a_mosaic_the_later_raster_lies_on_top_where_it_has_data(tmp_path: Path) -> None:
    low = write_raster(tmp_path / "low.tif", np.full((1, 4, 4), 10, np.int16), nodata=-1)
    high = np.full((1, 4, 4), 20, np.int16)
    high[0, 0, 0] = -5
    top = write_raster(tmp_path / "top.tif", high, left=LEFT + 2, nodata=-5)
    reader = one(low, top, combine="mosaic")
    assert reader.info.nodata == (-1,)
    assert reader.read(Window(0, 0, 6, 2)).tolist() == [[[10, 10, 10, 20, 20, 20], [10, 10, 20, 20, 20, 20]]]
    assert reader.info.path == "low.tif + top.tif"
    reversed_order = one(top, low, combine="mosaic")
    assert reversed_order.read(Window(0, 0, 6, 1)).tolist() == [[[10, 10, 10, 10, 20, 20]]]


@pytest.mark.parametrize("pixel_size", [None, 0.5])
def test_gaps_of_a_mosaic_are_no_data_though_black_is_a_value(tmp_path: Path, pixel_size: Optional[float]) -> None:
    black = np.zeros((3, 4, 4), np.uint8)
    first = write_raster(tmp_path / "a.tif", black)
    other = write_raster(tmp_path / "b.tif", black + 9, left=LEFT + 6, top=TOP - 2)
    reader = one(first, other, combine="mosaic", pixel_size=pixel_size)
    scale = 1 if pixel_size is None else 2
    window = reader.info.grid.window
    data, missing = reader.read_marked(window)
    valid = reader.valid(window, missing)
    expected = np.zeros((6, 10), bool)
    expected[:4, :4] = expected[2:, 6:] = True
    assert valid is not None and (valid[::scale, ::scale] == expected).all()
    assert (data[:, ::scale, ::scale][:, expected].max(axis=1) == 9).all()


def test_alpha_lets_the_lower_raster_of_a_mosaic_through(tmp_path: Path) -> None:
    options = ["PHOTOMETRIC=RGB", "ALPHA=YES"]
    low = write_raster(tmp_path / "low.tif", np.full((4, 4, 4), 255, np.uint8), options=options)
    high = np.full((4, 4, 4), 7, np.uint8)
    high[3] = 255
    high[3, 0] = 0
    top = write_raster(tmp_path / "top.tif", high, options=options)
    reader = one(low, top, combine="mosaic")
    assert reader.info.bands == (1, 2, 3)
    assert reader.read(Window(0, 0, 1, 2))[:, :, 0].tolist() == [[255, 7]] * 3
    assert reader.valid(Window(0, 0, 4, 4), None) is None


def test_a_raster_of_bytes_warped_into_a_mosaic_leaves_no_black_corners(tmp_path: Path) -> None:
    first = write_raster(tmp_path / "a.tif", np.full((3, 40, 40), 90, np.uint8))
    path = write_raster(tmp_path / "b.tif", np.full((3, 20, 20), 200, np.uint8))
    cos, sin = math.cos(0.5), math.sin(0.5)
    gdal.Open(path, gdal.GA_Update).SetGeoTransform((LEFT + 8, cos, sin, TOP - 15, sin, -cos))
    data = one(first, path, combine="mosaic").read(Window(0, 0, 40, 40))
    assert set(np.unique(data)) == {90, 200}
    assert (data == 200).mean() == pytest.approx(400 / 1600, abs=0.04)


def test_a_mosaic_of_different_types_holds_all_values(tmp_path: Path) -> None:
    small = write_raster(tmp_path / "a.tif", np.full((1, 2, 2), 200, np.uint8))
    large = write_raster(tmp_path / "b.tif", np.full((1, 2, 2), -300, np.int16), left=LEFT + 2)
    reader = one(small, large, combine="mosaic")
    assert reader.info.dtype == np.int16
    assert reader.read(Window(0, 0, 4, 1)).ravel().tolist() == [200, 200, -300, -300]


def test_a_mosaic_of_rasters_with_other_bands_is_refused(tmp_path: Path) -> None:
    first = write_raster(tmp_path / "a.tif", np.zeros((3, 2, 2), np.uint8))
    other = write_raster(tmp_path / "b.tif", np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(InputError, match=r"has 3 bands, but .* has 1\."):
        opened(first, other, combine="mosaic")


def test_a_mosaic_opens_many_rasters_few_at_a_time(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    paths = [
        write_raster(tmp_path / f"{number:03}.tif", np.full((1, 4, 4), number % 200, np.uint8), left=LEFT + 4 * number)
        for number in range(300)
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))  # what macOS allows
    try:
        mosaic = one(*paths, combine="mosaic").read(Window(0, 0, 1200, 1))[0, 0, ::4]
        separate = [int(reader.read(Window(0, 0, 1, 1))[0, 0, 0]) for reader in opened(*paths)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert mosaic.tolist() == separate == [number % 200 for number in range(300)]


# --- stacks


def test_a_stack_holds_every_value_of_every_type_and_nodata(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", np.full((2, 3, 3), 7, np.uint8))
    height = np.full((3, 3), 1.5, np.float32)
    height[0, 0] = -9999
    dsm = write_raster(tmp_path / "dsm.tif", height, nodata=-9999)
    reader = one(image, dsm, combine="stack")
    assert reader.info.dtype == np.float32 and reader.info.nodata == (None, None, -9999)
    window = Window(0, 0, 3, 3)
    data, missing = reader.read_marked(window)
    assert data[:, 1, 1].tolist() == [7, 7, 1.5]
    assert missing is not None and missing[:, 0, 0].tolist() == [False, False, True] and missing.sum() == 1
    assert reader.valid(window, missing) is not None and reader.info.path == "image.tif + dsm.tif"


def test_bands_of_a_stack_are_numbered_through_and_taken_in_any_order(tmp_path: Path) -> None:
    layers = np.arange(4, dtype=np.uint8)[:, None, None] + np.zeros((4, 2, 2), np.uint8)
    rgba = write_raster(tmp_path / "a.tif", layers + 250, options=["PHOTOMETRIC=RGB", "ALPHA=YES"])
    other = write_raster(tmp_path / "b.tif", layers[:2])
    whole = one(rgba, other, combine="stack")
    assert whole.info.bands == (1, 2, 3, 4, 5), "an alpha band is none"
    assert whole.read(Window(0, 0, 1, 1)).ravel().tolist() == [250, 251, 252, 0, 1]
    some = one(rgba, other, combine="stack", bands=(5, 1, 3, 4))
    assert some.info.bands == (5, 1, 3, 4)
    assert some.info.band_names == ("b band 2", "red", "blue", "b band 1")
    assert some.read(Window(0, 0, 1, 1)).ravel().tolist() == [1, 250, 252, 0]
    with pytest.raises(InputError, match=r"Band 6 does not exist: a.tif \+ b.tif has 5 bands"):
        opened(rgba, other, combine="stack", bands=(6,))


def test_names_of_stacked_bands_are_distinct(tmp_path: Path) -> None:
    for folder in ("2020", "2021"):
        (tmp_path / folder).mkdir()
        write_raster(tmp_path / folder / "image.tif", np.zeros((3, 2, 2), np.uint8), options=["PHOTOMETRIC=RGB"])
    dsm = write_raster(tmp_path / "dsm.tif", np.zeros((2, 2), np.float32))
    names = one(tmp_path / "2020/image.tif", tmp_path / "2021/image.tif", dsm, combine="stack").info.band_names
    assert len(set(names)) == 7
    assert names[0] == "image red" and names[-1] == "dsm"


def test_a_stack_has_no_data_where_a_raster_without_nodata_ends(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", np.full((1, 4, 4), 9, np.uint8))
    radar = write_raster(tmp_path / "b.tif", np.full((1, 4, 4), 3, np.uint8), left=LEFT + 1)
    heard = Heard()
    reader = one(image, radar, combine="stack", heard=heard)
    valid = reader.valid(Window(0, 0, 4, 4), None)
    assert valid is not None and valid[0].tolist() == [False, True, True, True]
    assert any("covers 75% of" in line for line in heard.logs)


def test_stacked_rasters_must_share_ground(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", np.zeros((1, 4, 4), np.uint8))
    away = write_raster(tmp_path / "b.tif", np.zeros((1, 4, 4), np.uint8), left=LEFT + 100)
    with pytest.raises(InputError, match="does not overlap"):
        opened(image, away, combine="stack")


def test_a_stack_takes_another_pixel_size(tmp_path: Path) -> None:
    first = write_places(tmp_path / "a.tif", (LEFT, 1, 0, TOP, 0, -1), 40, 40)
    other = write_places(tmp_path / "b.tif", (LEFT - 3, 2, 0, TOP + 3, 0, -2), 30, 30)
    reader = one(first, other, combine="stack", pixel_size=4)
    assert reader.info.grid == Grid(LEFT, TOP, 4, -4, 10, 10)
    assert off(reader).max() < 1e-3 and off(reader, channels=(2, 3)).max() < 1e-3


# --- words


def test_pixels_in_degrees_are_warned_of_once(tmp_path: Path) -> None:
    paths = [
        write_raster(tmp_path / f"{name}.tif", np.zeros((16, 16), np.uint8), left=9, top=44.6, step=8.98e-5, epsg=4326)
        for name in "ab"
    ]
    heard = Heard()
    output = str(tmp_path / "chips")
    export_chips(ExportChipsConfig(input=tuple(paths), output=output, task="unlabelled", chip_size=16), heard)
    (warning,) = [text for text in heard.warnings if "degrees" in text]
    assert "8.98e-05 degrees wide, at latitude 44.6 about 7.12 m × 10 m" in warning
    assert "114 m × 160 m" in warning


def test_a_raster_without_a_crs_works_and_is_spoken_of(tmp_path: Path) -> None:
    heard = Heard()
    reader = one(write_raster(tmp_path / "a.tif", np.zeros((2, 4, 4), np.uint8), epsg=None), heard=heard, pixel_size=2)
    assert reader.info.crs == "" and reader.read(Window(0, 0, 2, 2)).shape == (2, 2, 2)
    assert any("it has no CRS" in line for line in heard.logs) and not heard.warnings


def test_a_raster_without_a_crs_is_taken_to_be_in_the_first_ones(tmp_path: Path) -> None:
    first = write_raster(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    other = write_raster(tmp_path / "b.tif", np.ones((4, 4), np.uint8), left=LEFT + 4, epsg=None)
    heard = Heard()
    reader = one(first, other, combine="mosaic", heard=heard)
    assert any("it has no CRS, and is assumed to be in EPSG:32633" in line for line in heard.logs)
    assert reader.info.grid.width == 8 and crs_text(reader.info.crs).startswith("EPSG:32633")


def test_a_raster_that_cannot_come_into_the_first_ones_crs_is_refused(tmp_path: Path) -> None:
    first = write_raster(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    other = write_raster(tmp_path / "b.tif", np.zeros((4, 4), np.uint8), epsg=None)
    site = osr.SpatialReference()
    site.SetFromUserInput('LOCAL_CS["site",UNIT["metre",1]]')
    gdal.Open(other, gdal.GA_Update).SetSpatialRef(site)
    with pytest.raises(InputError, match=r"b.tif cannot be reprojected from site to EPSG:32633"):
        opened(first, other)


def test_a_mosaic_of_rasters_far_apart_is_warned_of(tmp_path: Path) -> None:
    first = write_raster(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    other = write_raster(tmp_path / "b.tif", np.zeros((4, 4), np.uint8), left=LEFT + 10_000)
    heard = Heard()
    one(first, other, combine="mosaic", heard=heard)
    assert len(heard.warnings) == 1 and "cover only" in heard.warnings[0]


def test_the_log_names_a_few_of_many_rasters(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"{number}.tif", np.zeros((4, 4), np.uint8)) for number in range(5)]
    heard = Heard()
    opened(*paths, heard=heard, pixel_size=2)
    (line,) = heard.logs
    assert "2.tif and 2 more: resampled to pixels of 2 by averaging" in line


def test_a_pixel_size_that_is_the_rasters_own_changes_nothing(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((9, 9), np.uint8), step=0.3)
    heard = Heard()
    assert one(path, pixel_size=0.1 * 3, heard=heard).source == path
    assert not heard.logs


def test_a_pixel_larger_than_the_raster_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    with pytest.raises(InputError, match=r"PIXEL_SIZE is 50, but .* covers only 9 × 9 units"):
        opened(path, pixel_size=50)


def test_ground_control_points_place_a_raster(tmp_path: Path) -> None:
    path = str(tmp_path / "scan.tif")
    target = gdal.GetDriverByName("GTiff").Create(path, 30, 20, 2, gdal.GDT_Float64)
    col, row = np.meshgrid(np.arange(30) + 0.5, np.arange(20) + 0.5)
    target.WriteArray(np.stack([LEFT + 2 * col, TOP - 2 * row]))
    corners = [(0, 0), (30, 0), (0, 20), (30, 20)]
    points = [gdal.GCP(LEFT + 2 * x, TOP - 2 * y, 0, x, y) for x, y in corners]
    target.SetGCPs(points, reference(UTM))
    target = None
    heard = Heard()
    reader = one(path, heard=heard)
    assert crs_text(reader.info.crs).startswith("EPSG:32633")
    assert np.nanmax(off(reader)[1:-1, 1:-1]) < 0.1
    assert "ground control points" in heard.logs[0]


def test_a_folder_gives_its_rasters(tmp_path: Path) -> None:
    for name in "ba":
        write_raster(tmp_path / f"{name}.tif", np.zeros((2, 2), np.uint8))
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset/>")
    (tmp_path / "notes.txt").write_text("no raster")
    assert [Path(reader.info.path).name for reader in opened(tmp_path)] == ["a.tif", "b.tif"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no rasters"):
        opened(tmp_path / "empty")


def test_nothing_is_written_beside_the_rasters(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"{name}.tif", np.zeros((3, 8, 8), np.uint8)) for name in "ab"]
    before = sorted(tmp_path.iterdir())
    for combine in ("separate", "mosaic", "stack"):
        for reader in opened(*paths, combine=combine, pixel_size=3):
            reader.read(reader.info.grid.window)
    assert sorted(tmp_path.iterdir()) == before


# --- real rasters


def test_radar_is_stacked_on_an_optical_scene(shared_data: Path) -> None:
    flood = shared_data / "flood_13band"
    reader = one(flood / "s2.tif", flood / "s1.tif", combine="stack")
    assert reader.info.band_names[-3:] == ("B12", "VV", "VH") and len(reader.info.bands) == 15
    window = Window(100, 50, 64, 32)
    data = reader.read(window)
    assert (data[:13] == gdal.Open(str(flood / "s2.tif")).ReadAsArray(*window)).all()
    assert (data[13:] == gdal.Open(str(flood / "s1.tif")).ReadAsArray(*window)).all()


def test_an_odd_crs_survives_resampling(shared_data: Path) -> None:
    path = shared_data / "landsat5_forest" / "lsat.tif"
    reader, plain = one(path, pixel_size=60), one(path)
    assert crs_text(reader.info.crs) == crs_text(plain.info.crs)
    assert reader.info.band_names == plain.info.band_names
    here = reader.read(Window(10, 10, 40, 40))
    there = plain.read(Window(20, 20, 80, 80)).reshape(7, 40, 2, 40, 2).mean(axis=(2, 4))
    assert np.allclose(here, there, atol=1e-3)
