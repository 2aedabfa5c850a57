"""Overviews of classes, against counts of the pixels below each pixel."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal
from synthetic import write_raster

from plugin.engine.classes import ClassTable
from plugin.engine.drafts import publish
from plugin.engine.errors import ResourceError
from plugin.engine.events import Reporter
from plugin.engine.mapping.outputs import map_raster, overviews
from plugin.engine.mapping.outputs.class_rasters import ClassRaster, MembersRaster
from plugin.engine.mapping.outputs.map_raster import Form
from plugin.engine.mapping.outputs.phases import Phases
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.windows import Window

ROOT = Path(__file__).resolve().parents[2]
NODATA = 0


def counted(values: np.ndarray, nodata: int) -> np.ndarray:
    """The most frequent of each 2 × 2 pixels; of several, the one that comes first."""
    height, width = values.shape
    found = np.full(((height + 1) // 2, (width + 1) // 2), nodata, values.dtype)
    for row, col in np.ndindex(found.shape):
        below = values[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel().tolist()
        known = Counter(value for value in below if value != nodata)
        if known:
            found[row, col] = known.most_common(1)[0][0]
    return found


@pytest.mark.parametrize(("dtype", "nodata"), [(np.uint8, 0), (np.uint8, 3), (np.uint16, 65535), (np.int32, -1)])
def test_the_most_frequent_value_counts(dtype: Any, nodata: int) -> None:
    every = np.stack(np.meshgrid(*[[0, 1, 2, 3, nodata]] * 4), -1).reshape(-1, 2, 2).astype(dtype)
    values = np.concatenate(np.concatenate(every.reshape(25, 25, 2, 2), 1), 1)
    assert np.array_equal(overviews.halved(values, nodata), counted(values, nodata))
    for height, width in ((1, 1), (1, 7), (9, 1), (37, 50)):
        some = np.random.default_rng(0).choice(np.array([0, 1, 2, nodata], dtype), (height, width))
        assert np.array_equal(overviews.halved(some, nodata), counted(some, nodata))


def class_raster(
    folder: Path, indices: np.ndarray, classes: ClassTable, cog: bool, side: int = 64, empty: int | None = None
) -> gdal.Dataset:
    """The raster of classes that a job writes, in tiles of so many pixels, of which one column is empty."""
    height, width = indices.shape
    like = RasterReader(write_raster(folder / "image.tif", np.zeros(indices.shape, np.uint8))).info
    form, path = Form(cog, True, Phases(Reporter())), str(folder / "map.tif")
    with ClassRaster(path, like, Window(0, 0, width, height), classes, 64, np.asarray, form) as raster:
        for row in range(0, height, side):
            for col in range(0, width, side):
                part = indices[row : row + side, col : col + side].copy()
                if col != empty:
                    raster.write_tile(Window(col, row, part.shape[1], part.shape[0]), None, part)
        raster.finish()
        publish(raster.draft)
    return gdal.Open(path)


@pytest.mark.parametrize(("side", "again"), [(64, False), (128, False), (48, True)])
@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize("values", [(2, 5, 9), (2, 5, 900)])
def test_overviews_of_all_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cog: bool, values: Any, side: int, again: bool
) -> None:
    """The raster is read again only where its tiles end within pixels of the overviews."""
    monkeypatch.setattr(map_raster, "SCREEN", 16)
    monkeypatch.setattr(overviews, "SIDE", 64)
    monkeypatch.setattr(map_raster, "write_modes" if again else "write_modes_again", None)
    classes = ClassTable.from_rows([(value, f"class {value}", None) for value in values])
    indices = np.kron(np.random.default_rng(0).integers(0, 4, (41, 58)), np.ones((5, 5))).astype(np.uint8)
    indices[np.random.default_rng(1).random(indices.shape) < 0.2] = 1
    indices[indices == 3] = 255
    indices = indices[:201, :287]
    indices[:, side : 2 * side] = 255
    source = class_raster(tmp_path, indices, classes, cog, side, side)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "map.qml", "map.tif", "map.tif.aux.xml"]
    band = source.GetRasterBand(1)
    expected = band.ReadAsArray()
    assert np.array_equal(expected == band.GetNoDataValue(), indices == 255)
    assert band.GetOverviewCount() == 5
    for level in range(5):
        expected = counted(expected, int(band.GetNoDataValue()))
        assert np.array_equal(band.GetOverview(level).ReadAsArray(), expected), level


def test_a_full_disk_is_said_to_be_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(map_raster, "SCREEN", 16)
    monkeypatch.setattr(overviews.Halves, "add", fail)
    classes = ClassTable.from_rows([(1, "a", None), (2, "b", None)])
    with pytest.raises(ResourceError, match=r"map.tif could not be written \(No space left on device\)"):
        class_raster(tmp_path, np.zeros((100, 100), np.uint8), classes, False)
    assert [path.name for path in tmp_path.iterdir()] == ["image.tif"]


def test_more_levels_than_a_window_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_raster, "SCREEN", 4)
    monkeypatch.setattr(overviews, "SIDE", 16)
    classes = ClassTable.from_rows([(value, f"class {value}", None) for value in (1, 2)])
    source = class_raster(tmp_path, np.ones((100, 130), np.uint8), classes, False)
    band = source.GetRasterBand(1)
    sizes = [(band.GetOverview(place).YSize, band.GetOverview(place).XSize) for place in range(band.GetOverviewCount())]
    assert sizes == [(50, 65), (25, 33), (13, 17), (7, 9), (4, 5), (2, 3)]
    assert all((band.GetOverview(place).ReadAsArray() == 2).all() for place in range(6))


def test_each_band_has_its_overviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_raster, "SCREEN", 128)
    classes = ClassTable.from_rows([(value, f"class {value}", None) for value in (1, 2, 3)])
    like = RasterReader(write_raster(tmp_path / "image.tif", np.zeros((150, 200), np.uint8))).info
    data = np.kron(np.random.default_rng(0).choice([0, 1, 255], (3, 50, 67)), np.ones((3, 3))).astype(np.uint8)
    data, path = data[:, :150, :200], str(tmp_path / "map.tif")
    with MembersRaster(path, like, Window(0, 0, 200, 150), classes, 64, np.asarray, Form(False, True)) as raster:
        raster.write_tile(Window(0, 0, 200, 150), None, data.copy())
        raster.finish()
        publish(raster.draft)
    source = gdal.Open(path)
    for number in range(3):
        overview = source.GetRasterBand(number + 1).GetOverview(0)
        assert np.array_equal(overview.ReadAsArray(), counted(data[number], 255))


LARGE = """
import sys
import numpy as np
from osgeo import gdal
from plugin.engine.classes import ClassTable
from plugin.engine.mapping.outputs.class_rasters import ClassRaster
from plugin.engine.mapping.outputs.map_raster import Form
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.windows import Window

gdal.SetConfigOption("GDAL_NUM_THREADS", "ALL_CPUS")
like, window = RasterReader(sys.argv[1]), Window(0, 0, 2000, 2000)
classes = ClassTable.from_rows([(value, f"class {value}", None) for value in (1, 2, 3)])
with ClassRaster(sys.argv[2], like.info, window, classes, 512, np.asarray, form=Form(overviews=True)) as found:
    found.write_tile(window, None, np.random.default_rng(0).integers(0, 3, (2000, 2000), np.uint8))
    gdal.SetCacheMax(2**19)
    found.finish()
    written = gdal.Open(str(found.draft.path))
    assert written.GetRasterBand(1).GetOverviewCount() == 2
    assert written.GetRasterBand(1).GetOverview(1).ReadAsArray().min() > 0
"""


def test_the_cache_may_be_smaller_than_the_raster(tmp_path: Path) -> None:
    """In a process of its own, because GDAL might wait for itself forever."""
    image = write_raster(tmp_path / "image.tif", np.zeros((2000, 2000), np.uint8))
    command = [sys.executable, "-c", LARGE, image, str(tmp_path / "map.tif")]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0


def test_only_what_was_written_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of a few areas may be a hundred thousand pixels wide."""
    seen, halve = [], overviews.halved_often

    def halved(values: np.ndarray, times: int, nodata: int) -> list[np.ndarray]:
        seen.append(values.shape)
        return halve(values, times, nodata)

    monkeypatch.setattr(overviews, "halved_often", halved)
    monkeypatch.setattr(overviews, "SIDE", 512)
    classes, size = ClassTable.from_rows([(value, f"class {value}", None) for value in (0, 7)]), 5000
    like = RasterReader(write_raster(tmp_path / "image.tif", np.zeros((size, size), np.uint8))).info
    path = str(tmp_path / "map.tif")
    with ClassRaster(path, like, Window(0, 0, size, size), classes, 512, np.asarray, Form(False, True)) as raster:
        raster.write_tile(Window(500, 1100, 20, 30), None, np.ones((30, 20), np.uint8))
        raster.finish()
        publish(raster.draft)
    assert seen == [(512, 512)] * 2
    source = gdal.Open(path)
    band = source.GetRasterBand(1)
    expected = band.ReadAsArray()
    assert (expected != band.GetNoDataValue()).sum() == 600
    for level in range(band.GetOverviewCount()):
        expected = overviews.halved(expected, int(band.GetNoDataValue()))
        assert np.array_equal(band.GetOverview(level).ReadAsArray(), expected), level
