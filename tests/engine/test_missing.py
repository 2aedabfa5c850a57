"""Non-finite values are missing: in images, labels, targets, rotated chips and folders of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import bring_in
from heard import Heard
from osgeo import gdal
from synthetic import write_raster

from plugin.engine.chips.dataset import ChipDataset, open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.config import ExportChipsConfig
from plugin.engine.errors import InputError

BROKEN = [np.inf, -np.inf, np.nan]


def image() -> np.ndarray:
    """(1, 64, 128) floats from 90 to 110."""
    return np.random.default_rng(0).uniform(90, 110, (1, 64, 128)).astype(np.float32)


def export(folder: Path, data: np.ndarray, labels: np.ndarray, **settings: Any) -> ChipDataset:
    given: dict[str, Any] = {
        "input": (write_raster(folder / "image.tif", data),),
        "label_rasters": (write_raster(folder / "labels.tif", labels),),
        "output": str(folder / "chips"), "chip_size": 32, "validation_share": 0.0, "test_share": 0.0,
    }  # fmt: skip
    export_chips(ExportChipsConfig(**{**given, **settings}), Heard())
    return open_dataset(folder / "chips")


def halves(dtype: Any = np.uint8) -> np.ndarray:
    found = np.ones((64, 128), dtype)
    found[:, 64:] = 2
    return found


def pixels(dataset: ChipDataset, names: Any) -> np.ndarray:
    return np.stack([gdal.Open(str(dataset.folder / name)).ReadAsArray() for name in names])


@pytest.mark.parametrize("value", BROKEN)
def test_chips_come_out_with_finite_statistics(tmp_path: Path, value: float) -> None:
    data = image()
    data[0, 10, ::64] = value
    dataset = export(tmp_path, data, halves())
    known = data[np.isfinite(data)].astype(float)
    assert dataset.info.mean[0] == pytest.approx(known.mean()) and dataset.info.std[0] == pytest.approx(known.std())
    shown = pixels(dataset, dataset.images)
    assert len(shown) == 8 and np.isnan(shown).sum() == 2 and not np.isinf(shown).any()
    assert dataset.pixels.sum() == 64 * 128 - 2, "there is no ground to label"


@pytest.mark.parametrize("value", BROKEN)
def test_turned_chips_mix_in_nothing_that_is_missing(tmp_path: Path, value: float) -> None:
    data = image()
    data[0, 30, 40], data[0, 20, 90] = value, value
    dataset = export(tmp_path, data, halves(), rotations=(30.0, 45.0))
    shown = pixels(dataset, dataset.images)
    known = shown[np.isfinite(shown) & (shown != 0)]
    assert not np.isinf(shown).any() and known.min() >= 90 and known.max() <= 110


@pytest.mark.parametrize("value", BROKEN)
def test_labels_that_are_no_numbers_are_none(tmp_path: Path, value: float) -> None:
    labels = halves(np.float32)
    labels[:3] = value
    dataset = export(tmp_path, image(), labels)
    assert dataset.info.classes.values.tolist() == [1, 2] and dataset.pixels.sum() == 61 * 128


@pytest.mark.parametrize(
    ("value", "text"),
    [(-3.4028234663852886e38, "-3.4028235e+38"), (1e20, "1e+20"), (1.5, "1.5"), (2.0**31, "2147483648")],
)
def test_labels_that_can_be_no_classes_are_named_with_the_way_out(tmp_path: Path, value: float, text: str) -> None:
    labels = halves(np.float32)
    labels[:3] = value
    with pytest.raises(InputError) as error:
        export(tmp_path, image(), labels)
    assert text in error.value.problem and "LABEL_NODATA" in error.value.remedy
    dataset = export(tmp_path, image(), labels, label_nodata=float(np.float32(value)))
    assert dataset.info.classes.values.tolist() == [1, 2] and dataset.pixels.sum() == 61 * 128


@pytest.mark.parametrize("value", BROKEN)
def test_targets_that_are_no_numbers_are_unknown(tmp_path: Path, value: float) -> None:
    heights = image()[0] * 3
    heights[:5] = value
    dataset = export(tmp_path, image(), heights, task="regression")
    masks = pixels(dataset, dataset.labels)
    assert np.isnan(masks).sum() == 5 * 128 and not np.isinf(masks).any()
    assert dataset.info.target is not None and dataset.info.target["mean"] == pytest.approx(300, abs=2)


@pytest.mark.parametrize("value", BROKEN)
def test_chips_of_other_programs_follow_the_same_rule(tmp_path: Path, value: float) -> None:
    for number in range(6):
        folder = tmp_path / "folder" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        data = image()[:, :24, :24]
        data[0, :6, 0] = value
        if number == 3:
            data[0, 10, 10] = -3.4028234663852886e38
        write_raster(folder / f"{number}.tif", data)
    found = bring_in(tmp_path / "folder")
    assert found.info.mean[0] == pytest.approx(100, abs=1) and 4 < found.info.std[0] < 7
    assert 90 <= found.info.minimum[0] <= found.info.maximum[0] <= 110
