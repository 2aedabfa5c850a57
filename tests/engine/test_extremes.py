"""Extreme values are found in chips, judged together, excluded from the statistics and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from heard import Heard
from osgeo import gdal
from synthetic import write_raster

from plugin.engine.chips.dataset import read_info
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.extremes import Extreme, Ranges, from_json, measure, to_json, together
from plugin.engine.chips.resplit import split_chips
from plugin.engine.chips.statistics import BandStatistics
from plugin.engine.config import ExportChipsConfig, SplitChipsConfig
from plugin.engine.rasters.raster_io import missing_values

LOWEST = float(np.finfo(np.float32).min)


def ground(height: int = 64, width: int = 64, dtype: Any = np.float32) -> np.ndarray:
    """(1, H, W) values about 100, from 60 to 140 or so."""
    return np.random.default_rng(5).normal(100, 10, (1, height, width)).clip(60, 140).astype(dtype)


def judged(*chips: np.ndarray) -> tuple[BandStatistics, list[Extreme]]:
    measured = [measure(chip, None) for chip in chips]
    ranges = Ranges(len(chips[0]))
    for statistics, extremes in measured:
        ranges.add(BandStatistics.from_json(statistics.to_json(), len(statistics.count)), extremes)
    far = ranges.far()
    total = BandStatistics.empty(len(chips[0]))
    for statistics, extremes in measured:
        stored = BandStatistics.from_json(statistics.to_json(), len(statistics.count))
        kept = from_json(to_json(extremes), len(stored.count))
        total.add(together(stored, kept, {(band, value) for band, value, _ in far}))
    return total, far


def assert_like(found: BandStatistics, values: np.ndarray) -> None:
    """The statistics are those of some values of one band."""
    known = values.astype(np.float64)
    assert found.count[0] == known.size
    assert found.mean[0] == pytest.approx(known.mean()) and found.std[0] == pytest.approx(known.std())
    assert (found.minimum[0], found.maximum[0]) == (known.min(), known.max())


@pytest.mark.parametrize("value", [-9999.0, LOWEST, -32768.0, 1e20, 9.969209968386869e36, -999.0, 5000.0])
@pytest.mark.parametrize("share", [0.01, 0.4, 0.9])
def test_filling_is_left_out_however_much_of_a_chip_it_is(value: float, share: float) -> None:
    chip, other = ground(), ground()
    flat = chip.reshape(-1)
    flat[: int(share * flat.size)] = value
    total, far = judged(chip, other, np.full_like(other, value))
    filled = np.float32(value)
    assert far == [Extreme(0, float(filled), np.count_nonzero(chip == filled) + other.size)]
    assert_like(total, np.concatenate([chip[chip != filled], other.ravel()]))


def test_two_fillings_are_both_found() -> None:
    chip = ground()
    chip[0, :4], chip[0, 60:], chip[0, 30, :20] = LOWEST, 1e20, -9999
    total, far = judged(chip, ground())
    assert {value for _, value, _ in far} == {LOWEST, float(np.float32(1e20)), -9999}
    kept = chip[(chip > 0) & (chip < 200)]
    assert_like(total, np.concatenate([kept, ground().ravel()]))


def test_a_single_pixel_that_no_instrument_measures_is_left_out() -> None:
    chip = ground()
    chip[0, 7, 8] = LOWEST
    total, far = judged(chip, ground())
    assert far == [Extreme(0, LOWEST, 1)]
    assert_like(total, np.concatenate([chip[chip > 0], ground().ravel()]))


CHIPS = {
    "dark with zeros": [np.where(ground() < 90, 0, ground() - 85).astype(np.uint8)],
    "saturated": [np.where(ground(dtype=np.uint8) > 120, 255, ground(dtype=np.uint8))],
    "a boat on smooth water, beside land": [
        np.where(np.arange(4096).reshape(1, 64, 64) == 77, 139, 100 + ground().astype(np.uint8) % 3),
        ground(dtype=np.uint8),
    ],
    "two values": [np.where(ground() > 100, 1, 0).astype(np.uint8), np.where(ground() > 120, 1, 0).astype(np.uint8)],
    "one value": [np.full((1, 8, 8), 7, np.uint8), np.full((1, 8, 8), 9, np.uint8)],
    "a few bright roofs": [np.where(ground() > 139.5, 420.5, ground()), ground()],
    "heavy tails": [np.random.default_rng(2).lognormal(0, 2, (1, 256, 256)).astype(np.float32)],
    "heights below the sea": [np.linspace(-431, 8848, 4096, dtype=np.float32).reshape(1, 64, 64)],
}  # fmt: skip


@pytest.mark.parametrize("name", CHIPS)
def test_what_is_measured_is_counted(name: str) -> None:
    total, far = judged(*CHIPS[name])
    assert far == []
    assert_like(total, np.concatenate([chip.ravel() for chip in CHIPS[name]]))


def test_missing_pixels_and_bands_keep_apart() -> None:
    chip = np.concatenate([ground(), ground() + 1000])
    chip[0, :8], chip[1, :16] = -9999, -9999
    excluded = np.zeros(chip.shape, bool)
    excluded[0, :8] = True
    statistics, extremes = measure(chip, excluded)
    assert extremes == [Extreme(1, -9999.0, 16 * 64)] and statistics.count.tolist() == [56 * 64, 48 * 64]
    assert not excluded[1].any(), "the caller's own"


def export(folder: Path, data: np.ndarray, **settings: Any) -> Heard:
    labels = np.ones(data.shape[-2:], np.uint8)
    labels[:, data.shape[-1] // 2 :] = 2
    usual = {
        "input": (write_raster(folder / "image.tif", data),),
        "label_rasters": (write_raster(folder / "labels.tif", labels),),
        "output": str(folder / "chips"), "chip_size": 32, "stride": None,
    }  # fmt: skip
    reporter = Heard()
    export_chips(ExportChipsConfig(**{**usual, **settings}), reporter)
    return reporter


def test_an_export_names_filling_and_its_statistics_are_those_of_the_rest(tmp_path: Path) -> None:
    data = ground(256, 256)
    data[0, :40, :40] = -9999
    reporter = export(tmp_path, data, validation_share=0.0, test_share=0.0)
    info = read_info(tmp_path / "chips")
    known = data[data > 0]
    assert info.mean[0] == pytest.approx(known.mean(), rel=1e-6) and info.std[0] == pytest.approx(known.std(), rel=1e-6)
    assert info.minimum[0] == known.min() and info.maximum[0] == known.max()
    (warning,) = [text for text in reporter.warnings if "is probably an undeclared nodata value" in text]
    assert warning.startswith("-9999 is probably an undeclared nodata value") and "1600 pixels of band 1" in warning
    assert "NODATA" in warning and "-a_nodata -9999" in warning
    again = Heard()
    split_chips(SplitChipsConfig(chips=str(tmp_path / "chips"), validation_share=0.0, test_share=0.0), again)
    assert warning in again.warnings and read_info(tmp_path / "chips").mean == info.mean


def test_one_pixel_does_not_spoil_the_statistics_of_an_export(tmp_path: Path) -> None:
    data = ground(256, 256)
    data[0, 70, 80] = LOWEST
    reporter = export(tmp_path, data, validation_share=0.0, test_share=0.0)
    info = read_info(tmp_path / "chips")
    assert info.mean[0] == pytest.approx(100, abs=0.5) and info.std[0] == pytest.approx(10, abs=0.5)
    assert any(text.startswith("-3.4028235e+38 is probably an undeclared nodata value") for text in reporter.warnings)
    json.loads((tmp_path / "chips/dataset.json").read_text())


@pytest.mark.parametrize("combine", ["separate", "mosaic", "stack"])
@pytest.mark.parametrize("own", [None, 7.0])
def test_filling_that_the_user_names_is_missing(tmp_path: Path, combine: str, own: float | None) -> None:
    data = np.concatenate([ground(64, 128), ground(64, 128) + 50])
    data[:, :40, :40] = LOWEST
    data[0, 50, 50] = np.inf
    image = write_raster(tmp_path / "own.tif", data, nodata=own)
    shares = {"validation_share": 0.0, "test_share": 0.0}
    reporter = export(tmp_path, data, input=(image,), combine=combine, nodata=LOWEST, **shares)
    info = read_info(tmp_path / "chips")
    assert info.nodata == LOWEST and not any("filling" in text for text in reporter.warnings)
    known = [band[(band > 0) & (band < 1e30)] for band in data]
    assert info.mean == pytest.approx([band.mean(dtype=float) for band in known], rel=1e-6)
    assert info.std == pytest.approx([band.std(dtype=float) for band in known], rel=1e-6)
    chips = [gdal.Open(str(path)).ReadAsArray() for path in sorted((tmp_path / "chips/images").iterdir())]
    assert len(chips) == 7, "one shows nothing but filling"
    assert sum(np.count_nonzero(chip == np.float32(LOWEST)) for chip in chips) == 2 * (40 * 40 - 32 * 32) + 1
    assert np.isfinite(chips).all()
    assert any("instead of 7" in text for text in reporter.logs) == (own is not None)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_bands_and_rasters_with_other_nodata_values_lose_no_measurement(tmp_path: Path, dtype: Any) -> None:
    first, second = (np.full((1, 32, 32), value, dtype) for value in (100, 120))
    first[0, :8], first[0, 8:10] = 0, 255
    second[0, :8], second[0, 8:10] = 255, 0
    paths = tuple(
        write_raster(tmp_path / name, data, nodata=nodata)
        for name, data, nodata in (("a.tif", first, 0), ("b.tif", second, 255))
    )
    export(tmp_path, first, input=paths, combine="stack", validation_share=0.0, test_share=0.0)
    (path,) = (tmp_path / "chips/images").iterdir()
    chip, nodata = gdal.Open(str(path)).ReadAsArray(), read_info(tmp_path / "chips").nodata
    missing = missing_values(chip, (nodata, nodata))
    assert missing is not None and missing[:, :8].all() and not missing[:, 8:].any()
    assert chip[0, 8:10].tolist() == first[0, 8:10].tolist()
    assert np.abs(chip[1, 8:10].astype(float)).max() <= 1 and (chip[1, 10:] == 120).all()


def test_an_inspection_tells_which_chips_hold_filling(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from plugin.engine.chips.dataset import open_dataset
    from plugin.engine.events import Stage
    from plugin.engine.inspection.chip_table import read_table

    data = ground(64, 96)
    data[0, :10, 64:74], data[0, 50, 5] = -9999, 142.5
    export(tmp_path, data)
    dataset = open_dataset(tmp_path / "chips")
    table = read_table(dataset, Stage(Heard(), len(dataset.images), "Reading"))
    ((chip, extremes),) = table.far.items()
    assert extremes == [Extreme(0, -9999.0, 100)]
    shown = gdal.Open(str(dataset.folder / dataset.images[chip])).ReadAsArray()
    assert np.count_nonzero(shown == -9999) == 100
    total = table.bands.total()
    assert_like(total, data[data > 0])
