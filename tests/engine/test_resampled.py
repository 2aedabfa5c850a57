from __future__ import annotations

import math
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from osgeo import gdal
from synthetic import LEFT, TOP, write_raster

from plugin.engine.rasters import resampled
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.rasters.resampled import AVERAGE, BILINEAR, NEAREST, ResampledReader, find_taps
from plugin.engine.windows import Grid, Window

MANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, data: np.ndarray, nodata: Optional[float] = None, hidden: Optional[np.ndarray] = None) -> str:
    path = write_raster(folder / "a.tif", data, nodata=nodata)
    (folder / "a.tif.msk").unlink(missing_ok=True)
    if hidden is not None:
        dataset = gdal.Open(path)
        dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
        dataset.GetRasterBand(1).GetMaskBand().WriteArray(np.where(hidden, 0, 255).astype(np.uint8))
    return path


def covered(begin: float, end: float, size: int) -> np.ndarray:
    """(size,): which share of each pixel lies between two places."""
    edges = np.arange(size + 1)
    return np.clip(np.minimum(end, edges[1:]) - np.maximum(begin, edges[:-1]), 0, None)


@MANY
@given(
    seed=st.integers(0, 999),
    scale=st.tuples(st.floats(1, 9), st.floats(1, 9)),
    start=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
    masked=st.booleans(),
)
def test_averages_are_those_of_the_ground_that_has_data(
    tmp_path: Path,
    seed: int,
    scale: tuple[float, float],
    start: tuple[float, float],
    dtype: str,
    masked: bool,
) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(1, 200, (2, 23, 29)).astype(dtype)
    data[rng.random(data.shape) < 0.4] = 0
    hidden = rng.random((23, 29)) < 0.3 if masked else np.zeros((23, 29), bool)
    base = RasterReader(written(tmp_path, data, 0, hidden if masked else None))
    grid = Grid(LEFT + start[0], TOP - start[1], scale[0], -scale[1], 7, 6)
    reader = ResampledReader(base, grid, AVERAGE)
    found, missing = reader.read_marked(grid.window)
    valid = (data != 0) & ~hidden
    for row in range(6):
        for col in range(7):
            rows = covered(start[1] + row * scale[1], start[1] + (row + 1) * scale[1], 23)
            cols = covered(start[0] + col * scale[0], start[0] + (col + 1) * scale[0], 29)
            weight = (rows[:, None] * cols) * valid
            total = weight.sum(axis=(1, 2))
            for band in range(2):
                if total[band] > 1e-3:
                    mean = (weight[band] * data[band]).sum() / total[band]
                    assert abs(found[band, row, col] - mean) <= (0.51 if dtype != "float32" else 2e-3)
                elif total[band] == 0:
                    assert missing is not None and missing[band, row, col]


@MANY
@given(
    method=st.sampled_from([NEAREST, BILINEAR, AVERAGE]),
    scale=st.floats(0.2, 12),
    start=st.floats(-40, 40),
    size=st.integers(1, 30),
)
def test_weights_sum_to_one_inside_and_to_nothing_outside(method: str, scale: float, start: float, size: int) -> None:
    taps = find_taps(method, start, scale, 20, size)
    total = taps.weight.sum(axis=1)
    assert (np.isclose(total, 1) | (total == 0)).all()
    assert taps.pixels.min() >= 0 and taps.pixels.max() < size
    middle = start + scale * (np.arange(20) + 0.5)
    assert (total[(middle > 0.01) & (middle < size - 0.01)] > 0).all()
    beyond = scale / 2 + 0.01 if method == AVERAGE else 0.01
    assert (total[(middle < -beyond) | (middle > size + beyond)] == 0).all()


@pytest.mark.parametrize("method", [NEAREST, BILINEAR, AVERAGE])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_values_at_the_ends_of_a_type_stay(tmp_path: Path, method: str, dtype: str) -> None:
    kind = np.dtype(dtype)
    ends = (np.finfo if kind.kind == "f" else np.iinfo)(kind)
    data = np.where(np.indices((8, 8))[1] < 4, ends.min, ends.max).astype(dtype)[None]
    base = RasterReader(written(tmp_path, data))
    found = ResampledReader(base, Grid(LEFT, TOP, 2, -2, 4, 4), method).read(Window(0, 0, 4, 4))
    assert (found == data[:, ::2, ::2]).all()


def test_a_mean_that_looks_like_nodata_is_not_missing(tmp_path: Path) -> None:
    data = np.array([[[6, 8], [6, 8]]], np.uint8)
    reader = ResampledReader(RasterReader(written(tmp_path, data, 7)), Grid(LEFT, TOP, 2, -2, 1, 1), AVERAGE)
    found, missing = reader.read_marked(Window(0, 0, 1, 1))
    assert found.item() == 7 and missing is None
    real, missing = reader.read_marked(Window(0, 0, 1, 1), np.empty((1, 1, 1), np.float32))
    assert real.item() == pytest.approx(7, abs=1e-5) and missing is None


def test_ground_beyond_the_raster_is_no_data(tmp_path: Path) -> None:
    for dtype, nodata in (("uint8", None), ("int16", -5), ("float32", None)):
        base = RasterReader(written(tmp_path, np.full((1, 4, 4), 9, dtype), nodata))
        reader = ResampledReader(base, Grid(LEFT - 4, TOP, 2, -2, 6, 2), AVERAGE)
        window = Window(0, 0, 6, 2)
        data, missing = reader.read_marked(window)
        valid = reader.valid(window, missing)
        assert valid is not None and valid[0].tolist() == [False, False, True, True, False, False]
        assert (data[:, valid] == 9).all()
        away = Window(4, 0, 2, 2)
        assert not np.asarray(reader.valid(away, reader.read_marked(away)[1])).any()


def test_reading_in_small_pieces_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 60, 60)).astype(np.uint8)
    base = RasterReader(written(tmp_path, data, 0))
    for method, step in ((AVERAGE, 2.7), (BILINEAR, 0.7)):
        size = int(60 / step)
        reader = ResampledReader(base, Grid(LEFT, TOP, step, -step, size, size), method)
        whole = reader.read(reader.info.grid.window)
        with monkeypatch.context() as patched:
            patched.setattr(resampled, "VALUES_AT_ONCE", 500)
            assert (reader.read(reader.info.grid.window) == whole).all()


def test_nothing_of_a_far_larger_raster_is_held(tmp_path: Path) -> None:
    """A pixel that averages a million of the original's reads them a part at a time."""
    path = str(tmp_path / "a.tif")
    target = gdal.GetDriverByName("GTiff").Create(path, 8000, 8000, 1, gdal.GDT_Byte, ["SPARSE_OK=TRUE", "TILED=YES"])
    target.SetGeoTransform((0, 1, 0, 0, 0, -1))
    target = None
    base = RasterReader(path)
    sizes: list[int] = []
    plain = base.read

    def read(window: Window, out: Optional[np.ndarray] = None) -> np.ndarray:
        sizes.append(window.width * window.height)
        return plain(window, out)

    base.read = read  # type: ignore[method-assign]
    ResampledReader(base, Grid(0, 0, 1000, -1000, 8, 8), AVERAGE).read(Window(0, 0, 8, 8))
    assert max(sizes) <= resampled.VALUES_AT_ONCE and math.fsum(sizes) == 8000 * 8000
