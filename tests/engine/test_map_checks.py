"""Whether a raster fits a model: bands, data type, pixel size and values."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import known_segmenter
import numpy as np
import pytest
from heard import Heard
from synthetic import reference, write_raster

from plugin.engine.errors import InputError
from plugin.engine.mapping.outputs.names import check_rasters
from plugin.engine.mapping.reading.checks import compare_with_training, match_bands, open_for
from plugin.engine.models.header import ModelHeader
from plugin.engine.rasters.likeness import far_off
from plugin.engine.rasters.raster_io import RasterInfo
from plugin.engine.windows import Grid


def raster(*names: str) -> RasterInfo:
    bands = tuple(range(1, len(names) + 1))
    return RasterInfo("r.tif", Grid(0, 0, 1, -1, 9, 9), bands, names, np.dtype("uint8"), (None,) * len(names), "")


header = partial(known_segmenter.header, ("red",), std=(20.0,), crs=reference(32633).ExportToWkt(["FORMAT=WKT2_2019"]))


def test_bands_are_matched_by_name_whatever_their_order_and_case() -> None:
    heard = Heard()
    assert match_bands(("red", "nir"), raster("NIR", "green", "Red"), (), heard) == (3, 1)
    assert match_bands(("band 1", "band 3"), raster("band 1", "band 2", "band 3"), (), heard) == (1, 3)
    assert not heard.warnings


def test_chosen_bands_are_taken_as_they_are() -> None:
    assert match_bands(("red", "nir"), raster("red", "nir", "x"), (3, 2), Heard()) == (3, 2)
    with pytest.raises(InputError, match="BANDS has 1 band, but the model needs 2: red, nir"):
        match_bands(("red", "nir"), raster("red", "nir"), (1,), Heard())


def test_too_few_bands_are_refused_with_both_lists() -> None:
    with pytest.raises(InputError, match=r"needs 3 bands \(red, green, nir\).*has 2 \(1 red, 2 green\)"):
        match_bands(("red", "green", "nir"), raster("red", "green"), (), Heard())


def test_bands_without_names_are_taken_in_order() -> None:
    heard = Heard()
    assert match_bands(("red", "green"), raster("band 1", "band 2"), (), heard) == (1, 2)
    assert not heard.warnings


def test_other_names_and_more_bands_are_warned_about() -> None:
    heard = Heard()
    assert match_bands(("red", "green"), raster("VV", "VH"), (), heard) == (1, 2)
    assert match_bands(("red", "green"), raster("a", "b", "c"), (), heard) == (1, 2)
    assert "named 1 VV, 2 VH, but those of the model red, green" in heard.warnings[0]
    assert "has 3 bands (1 a, 2 b, 3 c), of which the first 2" in heard.warnings[1]


def compare(folder: Path, model: ModelHeader, data: np.ndarray, **place: Any) -> list[str]:
    path, heard = write_raster(folder / "r.tif", data, **place), Heard()
    reader = open_for(model, path, "", (1,), Heard())
    compare_with_training(reader, reader.info.grid.window, model, heard)
    warnings: list[str] = heard.warnings
    return warnings


def usual_values(dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, (90, 80)).astype(dtype)


def test_a_raster_like_those_of_training_raises_no_warning(tmp_path: Path) -> None:
    assert compare(tmp_path, header(), usual_values()) == []


def test_another_data_type_is_warned_about(tmp_path: Path) -> None:
    (warning,) = compare(tmp_path, header(), usual_values("uint16"))
    assert "holds uint16 values, but the model was trained on uint8" in warning


def test_another_pixel_size_is_warned_about_with_both_sizes(tmp_path: Path) -> None:
    (warning,) = compare(tmp_path, header(), usual_values(), step=2.0)
    assert "2 m wide, but the model was trained on 1 m" in warning
    assert compare(tmp_path, header(), usual_values(), step=1.15) == []


def test_degrees_are_compared_with_metres(tmp_path: Path) -> None:
    place = {"epsg": 4326, "left": 10.0, "top": 0.05}
    assert compare(tmp_path, header(), usual_values(), step=1 / 111320, **place) == []
    (warning,) = compare(tmp_path, header(), usual_values(), step=3 / 111320, **place)
    assert "3 m wide" in warning


def test_a_raster_without_crs_is_not_compared(tmp_path: Path) -> None:
    assert compare(tmp_path, header(), usual_values(), step=7.0, epsg=None) == []


@pytest.mark.parametrize("factor, shift", [(0.001, 0), (300, 0), (1, 500)])
def test_values_in_other_units_are_warned_about(tmp_path: Path, factor: float, shift: float) -> None:
    (warning,) = compare(tmp_path, header(dtype="float32"), usual_values("float32") * factor + shift)
    assert "the model was trained on 100 ± 20 for its band red" in warning


def test_a_smooth_scene_is_not_far_off() -> None:
    assert not far_off(90, 0.5, 100, 20)
    assert far_off(0.1, 0.02, 1000, 600)


def test_pixels_without_data_do_not_count(tmp_path: Path) -> None:
    data = usual_values("int16")
    data[:, :60] = -9999
    assert compare(tmp_path, header(dtype="int16"), data, nodata=-9999) == []
    assert compare(tmp_path, header(dtype="int16", nodata=-9999), data) == []
    data[:] = -9999
    assert compare(tmp_path, header(dtype="int16"), data, nodata=-9999) == []


def test_the_style_of_another_layer_is_not_replaced(tmp_path: Path) -> None:
    outputs = {"OUTPUT": str(tmp_path / "parcels.tif"), "PROBABILITIES": str(tmp_path / "p.tif")}
    (tmp_path / "parcels.qml").write_text("the user's")
    check_rasters(outputs)  # nobody's
    (tmp_path / "parcels.shp").write_text("")
    with pytest.raises(InputError, match=r"would replace parcels\.qml, the style of parcels\.shp"):
        check_rasters(outputs)
    (tmp_path / "parcels.tif").write_text("an earlier map")
    check_rasters(outputs)
