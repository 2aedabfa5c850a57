from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal
from synthetic import write_raster

from plugin.engine.errors import InputError
from plugin.engine.raster_io import RasterReader, crs_text
from plugin.engine.windows import Window


def test_a_window_is_read_with_all_its_bands(tmp_path: Path) -> None:
    data = np.arange(3 * 20 * 30, dtype=np.int16).reshape(3, 20, 30)
    reader = RasterReader(write_raster(tmp_path / "a.tif", data))
    assert (reader.read(Window(5, 6, 7, 8)) == data[:, 6:14, 5:12]).all()
    assert reader.info.pixel_size == 1.0
    assert crs_text(reader.info.crs) == "EPSG:32633 (WGS 84 / UTM zone 33N)"


def test_bands_are_chosen_by_number_and_keep_their_order(tmp_path: Path) -> None:
    data = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 30)])
    reader = RasterReader(write_raster(tmp_path / "a.tif", data), (3, 1))
    assert reader.read(Window(0, 0, 1, 1)).ravel().tolist() == [30, 10]


def test_a_pixel_is_valid_while_one_band_has_data(tmp_path: Path) -> None:
    data = np.ones((2, 1, 3), np.int16)
    data[0, 0, 1] = data[:, 0, 2] = -99
    reader = RasterReader(write_raster(tmp_path / "a.tif", data, nodata=-99))
    window = Window(0, 0, 3, 1)
    missing = reader.missing(reader.read(window))
    assert missing is not None and missing[:, 0].tolist() == [[False, True, True], [False, False, True]]
    valid = reader.valid(window, missing)
    assert valid is not None and valid.tolist() == [[True, True, False]]


def test_nan_is_missing_without_a_word_on_nodata(tmp_path: Path) -> None:
    data = np.array([[[1.0, np.nan]]], np.float32)
    reader = RasterReader(write_raster(tmp_path / "a.tif", data))
    missing = reader.missing(reader.read(Window(0, 0, 2, 1)))
    assert missing is not None and missing.ravel().tolist() == [False, True]


def test_an_alpha_band_masks_and_is_no_channel(tmp_path: Path) -> None:
    data = np.full((4, 2, 2), 200, np.uint8)
    data[3, 0, 0] = 0
    path = write_raster(tmp_path / "a.tif", data, options=["PHOTOMETRIC=RGB", "ALPHA=YES"])
    reader = RasterReader(path)
    assert reader.info.bands == (1, 2, 3) and reader.info.band_names == ("red", "green", "blue")
    valid = reader.valid(Window(0, 0, 2, 2), None)
    assert valid is not None and valid.tolist() == [[False, True], [True, True]]


def test_what_is_no_raster_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("text")
    with pytest.raises(InputError, match="cannot be opened"):
        RasterReader(str(tmp_path / "a.tif"))


def test_complex_and_rotated_rasters_and_absent_bands_are_refused(tmp_path: Path) -> None:
    made = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "c.tif"), 2, 2, 1, gdal.GDT_CFloat32)
    made.FlushCache()
    with pytest.raises(InputError, match="complex"):
        RasterReader(str(tmp_path / "c.tif"))
    path = write_raster(tmp_path / "r.tif", np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match="Band 4"):
        RasterReader(path, (4,))
    gdal.Open(path, gdal.GA_Update).SetGeoTransform((0, 1, 0.5, 0, 0.5, -1))
    with pytest.raises(InputError, match="rotated"):
        RasterReader(path)
