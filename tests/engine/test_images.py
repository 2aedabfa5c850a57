"""Rasters as input of networks: colour tables as colours, values in one unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import known_segmenter
import numpy as np
import pytest
from heard import Heard
from osgeo import gdal
from synthetic import LEFT, TOP, reference, write_raster

from plugin.engine.chips.dataset import read_info
from plugin.engine.chips.export import export_chips
from plugin.engine.chips.sources import open_sources
from plugin.engine.config import ExportChipsConfig
from plugin.engine.errors import InputError
from plugin.engine.mapping.reading.checks import check_not_input, compare_with_training, open_for
from plugin.engine.models.header import ModelHeader
from plugin.engine.rasters import images
from plugin.engine.rasters.images import open_image
from plugin.engine.rasters.raster_io import RasterReader

Entry = tuple[int, int, int, int]
COLORS: list[Entry] = [(12, 200, 7, 255), (250, 3, 90, 255), (0, 0, 0, 255), (77, 140, 31, 255)]


def painted(
    path: Path,
    numbers: np.ndarray,
    colors: Sequence[Entry] = COLORS,
    names: Sequence[str] = (),
    nodata: Optional[int] = None,
    step: float = 1.0,
) -> str:
    """A raster with a colour table."""
    name = write_raster(path, numbers, nodata=nodata, step=step)
    dataset = gdal.Open(name, gdal.GA_Update)
    table = gdal.ColorTable()
    for place, entry in enumerate(colors):
        table.SetColorEntry(place, entry)
    dataset.GetRasterBand(1).SetColorTable(table)
    if names:
        dataset.GetRasterBand(1).SetCategoryNames(list(names))
    return name


def scaled(path: Path, data: np.ndarray, scale: float, offset: float, nodata: Optional[float] = None) -> str:
    """A raster that declares a scale and an offset."""
    name = write_raster(path, data, nodata=nodata)
    dataset = gdal.Open(name, gdal.GA_Update)
    for band in range(1, dataset.RasterCount + 1):
        dataset.GetRasterBand(band).SetScale(scale)
        dataset.GetRasterBand(band).SetOffset(offset)
    return name


def opened(*paths: str, heard: Optional[Heard] = None, **settings: Any) -> list[RasterReader]:
    return open_sources(ExportChipsConfig(input=paths, output="unused", **settings), heard or Heard())


def whole(reader: RasterReader) -> np.ndarray:
    return reader.read(reader.info.grid.window)


NUMBERS = np.random.default_rng(0).integers(0, 4, (24, 32)).astype(np.uint8)
PICTURE = np.array(COLORS)[NUMBERS][..., :3].transpose(2, 0, 1)


# --- colour tables


def test_a_colour_table_becomes_its_colours(tmp_path: Path) -> None:
    path, heard = painted(tmp_path / "a.tif", NUMBERS), Heard()
    (reader,) = opened(path, heard=heard)
    assert reader.info.band_names == ("red", "green", "blue") and reader.info.path == path
    assert (whole(reader) == PICTURE).all() and reader.info.dtype == np.uint8
    assert heard.logs[0] == f"{path}: its colour table is expanded to red, green and blue bands."
    (swapped,) = opened(path, bands=(3, 1))
    assert (whole(swapped) == PICTURE[[2, 0]]).all()


def test_colours_and_not_places_in_the_table_are_averaged(tmp_path: Path) -> None:
    (reader,) = opened(painted(tmp_path / "a.tif", NUMBERS), pixel_size=2)
    means = PICTURE.reshape(3, 12, 2, 16, 2).mean(axis=(2, 4))
    assert abs(whole(reader).astype(float) - means).max() <= 0.5
    first = write_raster(tmp_path / "b.tif", np.zeros((3, 48, 64), np.uint8), step=0.5)
    _, other = opened(first, painted(tmp_path / "c.tif", NUMBERS), combine="separate")
    (mosaic,) = opened(first, painted(tmp_path / "d.tif", NUMBERS), combine="mosaic")
    assert (whole(other) == PICTURE).all()
    assert (whole(mosaic)[:, 23:25, 31:33] != 0).any()


def see_through(path: str) -> gdal.Dataset:
    """The same raster, whose first colour lets all shine through."""
    made = gdal.GetDriverByName("MEM").CreateCopy("", gdal.Open(path))
    table = made.GetRasterBand(1).GetColorTable().Clone()
    table.SetColorEntry(0, (*COLORS[0][:3], 0))
    made.GetRasterBand(1).SetColorTable(table)
    return made


@pytest.mark.parametrize("hidden", ["nodata", "see-through", "mask"])
def test_what_a_table_hides_is_no_data(tmp_path: Path, hidden: str) -> None:
    path = painted(tmp_path / "a.tif", NUMBERS, nodata=0 if hidden == "nodata" else None)
    if hidden == "see-through":  # which GeoTIFFs do not store
        path = str(gdal.GetDriverByName("PNG").CreateCopy(str(tmp_path / "a.png"), see_through(path)).GetDescription())
    if hidden == "mask":
        dataset = gdal.Open(path)
        dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
        dataset.GetRasterBand(1).GetMaskBand().WriteArray(np.where(NUMBERS == 0, 0, 255).astype(np.uint8))
        dataset = None
    (reader,) = opened(path)
    data, missing = reader.read_marked(reader.info.grid.window)
    valid = reader.valid(reader.info.grid.window, missing)
    assert valid is not None and (valid == (NUMBERS != 0)).all(), "black is a colour and no filling"
    assert (data[:, valid] == PICTURE[:, valid]).all() and len(data) == 3


def test_a_raster_that_names_classes_keeps_its_numbers_and_is_warned_of(tmp_path: Path) -> None:
    path, heard = painted(tmp_path / "a.tif", NUMBERS, names=["none", "water", "field", "forest"]), Heard()
    (reader,) = opened(path, heard=heard)
    assert (whole(reader)[0] == NUMBERS).all()
    assert f"{path} holds class values (none, water, field, …), which the network" in heard.warnings[0]


def test_a_table_beside_other_bands_is_warned_of(tmp_path: Path) -> None:
    path = painted(tmp_path / "a.tif", np.stack([NUMBERS, NUMBERS]))
    assert "has a colour table in band 1" in open_image(path).warning


def header(bands: Sequence[str], **values: Any) -> ModelHeader:
    crs = reference(32633).ExportToWkt(["FORMAT=WKT2_2019"])
    return known_segmenter.header(bands, **{"std": (60.0,) * len(bands), "chip_size": 16, "crs": crs, **values})


def test_a_model_of_colours_sees_the_colours_and_one_of_numbers_the_numbers(tmp_path: Path) -> None:
    path, heard = painted(tmp_path / "a.tif", NUMBERS), Heard()
    assert (whole(open_for(header(("blue", "red")), path, "", (), heard)) == PICTURE[[2, 0]]).all()
    assert "its colour table is expanded to red, green and blue bands" in heard.logs[0]
    assert (whole(open_for(header(("green",)), path, "", (), heard)) == PICTURE[[1]]).all()
    assert (whole(open_for(header(("band 1",)), path, "", (), heard))[0] == NUMBERS).all(), "as in training"


def test_a_raster_that_is_read_through_others_is_not_written_over(tmp_path: Path) -> None:
    made = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "a.tif"), 8, 8, 1)  # which lies nowhere
    table = gdal.ColorTable()
    table.SetColorEntry(0, COLORS[0])
    made.GetRasterBand(1).SetColorTable(table)
    made = None
    reader = open_for(header(("red",)), str(tmp_path / "a.tif"), "", (), Heard())
    with pytest.raises(InputError, match="is the raster to be mapped"):
        check_not_input({"OUTPUT": str(tmp_path / "a.tif")}, reader, "model.safetensors")


@pytest.mark.parametrize("how", ["plain", "scaled", "nodata", "coarser"])
def test_a_raster_behind_a_virtual_one_is_not_written_over(tmp_path: Path, how: str) -> None:
    scale = 2e-4 if how == "scaled" else 1e-4
    path = scaled(tmp_path / "a.tif", STORED, scale, -0.1)
    gdal.BuildVRT(str(tmp_path / "v.vrt"), [path]).FlushCache()
    model = header(NAMES, **RAW, nodata=-9999 if how == "nodata" else None)
    reader = open_for(model, str(tmp_path / "v.vrt"), "", (), Heard(), 2.0 if how == "coarser" else None)
    with pytest.raises(InputError, match="is the raster to be mapped"):
        check_not_input({"OUTPUT": path}, reader, ["model.safetensors"])


# --- scales

STORED = np.random.default_rng(1).integers(1000, 7000, (2, 32, 32)).astype(np.int16)
MEASURED = STORED * 1e-4 - 0.1


def test_one_scale_for_all_leaves_values_as_they_are_stored(tmp_path: Path) -> None:
    paths = [scaled(tmp_path / f"{name}.tif", STORED, 1e-4, -0.1) for name in "ab"]
    for combine in ("separate", "mosaic", "stack"):
        heard = Heard()
        for reader in opened(*paths, combine=combine, heard=heard):
            assert (whole(reader)[:2] == STORED).all() and reader.info.dtype == np.int16
            assert reader.info.scales[0] == (1e-4, -0.1)
        assert not heard.warnings and not any("scale" in line for line in heard.logs)


@pytest.mark.parametrize("combine", ["separate", "mosaic"])
@pytest.mark.parametrize("declared", [True, False])
def test_rasters_of_other_scales_become_what_they_declare(tmp_path: Path, combine: str, declared: bool) -> None:
    whole_numbers = STORED.copy()
    whole_numbers[:, 3, 4] = -9999
    first = scaled(tmp_path / "a.tif", whole_numbers, 1e-4, -0.1, nodata=-9999 if declared else None)
    other = write_raster(tmp_path / "b.tif", MEASURED.astype(np.float32), left=LEFT + 32)
    heard = Heard()
    readers = opened(first, other, combine=combine, heard=heard, nodata=None if declared else -9999)
    data = np.concatenate([whole(reader) for reader in readers], axis=2)
    assert data.dtype == np.float32
    assert np.isnan(data[:, 3, 4]).all(), "a nodata value is not scaled"
    data[:, 3, 4] = MEASURED[:, 3, 4]
    assert abs(data - np.concatenate([MEASURED, MEASURED], axis=2)).max() < 1e-6
    assert all(reader.info.scales == ((1.0, 0.0),) * 2 for reader in readers)
    assert any("a.tif: values are converted to physical values" in s for s in heard.logs)
    assert not heard.warnings


def test_whole_numbers_without_a_scale_beside_scaled_ones_are_warned_of(tmp_path: Path) -> None:
    heard = Heard()
    paths = scaled(tmp_path / "a.tif", STORED, 1e-4, -0.1), write_raster(tmp_path / "b.tif", STORED)
    opened(*paths, heard=heard)
    assert "b.tif (int16) declares no scale" in heard.warnings[0]


def test_a_stack_keeps_each_bands_own_units(tmp_path: Path) -> None:
    paths = scaled(tmp_path / "a.tif", STORED, 1e-4, -0.1), write_raster(tmp_path / "b.tif", STORED)
    (reader,) = opened(*paths, combine="stack")
    assert (whole(reader) == np.concatenate([STORED, STORED])).all()
    assert reader.info.scales == ((1e-4, -0.1),) * 2 + ((1.0, 0.0),) * 2


def test_a_dataset_says_its_scales_and_takes_no_others(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"output": str(tmp_path / "chips"), "task": "unlabelled", "chip_size": 8}
    export_chips(ExportChipsConfig(input=(scaled(tmp_path / "a.tif", STORED, 1e-4, -0.1),), **settings), Heard())
    assert read_info(tmp_path / "chips").scales == ((1e-4, -0.1),) * 2
    other = scaled(tmp_path / "b.tif", STORED, 1e-4, 0)
    with pytest.raises(InputError, match=r"a scale of 0.0001 and an offset of -0.1, but those of .*b.tif have a scale"):
        export_chips(ExportChipsConfig(input=(other,), append=True, **settings), Heard())


RAW = {"dtype": "int16", "mean": (4000.0,) * 2, "std": (1700.0,) * 2, "scales": ((1e-4, -0.1),) * 2}
TRUE = {"dtype": "float32", "mean": (0.3,) * 2, "std": (0.17,) * 2, "scales": ((1.0, 0.0),) * 2}
NAMES = ("band 1", "band 2")


@pytest.mark.parametrize(
    ("trained", "scale", "offset", "expected"),
    [
        (RAW, 1e-4, -0.1, STORED),
        (RAW, 1e-4, 0.0, STORED + 1000),  # another offset, as in newer scenes of Sentinel-2
        (RAW, 2e-4, -0.1, STORED * 2),
        (TRUE, 1e-4, -0.1, MEASURED),
    ],
)
def test_a_map_is_made_of_values_in_the_units_of_training(
    tmp_path: Path, trained: dict[str, Any], scale: float, offset: float, expected: np.ndarray
) -> None:
    path, heard = scaled(tmp_path / "a.tif", STORED, scale, offset, nodata=-9999), Heard()
    model = header(NAMES, **trained)
    reader = open_for(model, path, "", (), heard)
    assert np.allclose(whole(reader), expected, rtol=1e-6)
    compare_with_training(reader, reader.info.grid.window, model, heard)
    assert not heard.warnings
    brought = any("converted to the units of training" in line for line in heard.logs)
    assert brought == (expected is not STORED)


def test_a_map_of_values_without_a_scale_is_made_as_they_are(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", STORED)
    for trained, warned in ((RAW, False), (TRUE, True), ({}, False)):
        heard = Heard()
        assert (whole(open_for(header(NAMES, **trained), path, "", (), heard)) == STORED).all()
        assert any("declares no scale" in text for text in heard.warnings) == warned


def test_the_filling_of_training_is_none_in_other_units_either(tmp_path: Path) -> None:
    data = STORED.copy()
    data[:, 5, 6] = 0
    path = scaled(tmp_path / "a.tif", data, 1e-4, 0.0)
    reader = open_for(header(NAMES, **RAW, nodata=0), path, "", (), Heard())
    missing = reader.read_marked(reader.info.grid.window)[1]
    assert missing is not None and (missing == (data == 0)).all()


def test_an_old_model_takes_values_as_they_are_stored(tmp_path: Path) -> None:
    path = scaled(tmp_path / "a.tif", STORED, 1e-4, -0.1)
    assert (whole(open_for(header(NAMES), path, "", (), Heard())) == STORED).all()


@pytest.mark.parametrize("source", ["ComplexSource", "AveragedSource"])
def test_a_virtual_raster_is_scaled_as_it_is_and_not_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """What its sources do to values stays."""
    (tmp_path / "in").mkdir()
    scaled(tmp_path / "in" / "a.tif", STORED, 1, 0)
    own = "<ScaleOffset>5</ScaleOffset><ScaleRatio>2</ScaleRatio>" if source == "ComplexSource" else ""
    text = "".join(
        f'<VRTRasterBand dataType="Int32" band="{band}"><Scale>0.5</Scale><Offset>-3</Offset><{source}><SourceFilename '
        f'relativeToVRT="1">a.tif</SourceFilename><SourceBand>{band}</SourceBand>{own}</{source}></VRTRasterBand>'
        for band in (1, 2)
    )
    height, width = STORED.shape[1:]
    text = f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{text}</VRTDataset>'
    (tmp_path / "in" / "v.vrt").write_text(text)
    monkeypatch.chdir(tmp_path)
    image = images.in_units(images.open_image("in/v.vrt"), {1: (0.5, -3.0), 2: (0.5, -3.0)})
    found = gdal.Open(image.source).ReadAsArray()
    values = STORED.astype(float) * 2 + 5 if own else STORED.astype(float)
    assert np.allclose(found, values * 0.5 - 3, atol=1e-3)
    twice = gdal.Open(images.in_units(image, {2: (4.0, 1.0)}).source).ReadAsArray()
    assert np.allclose(twice, [found[0], found[1] * 4 + 1], atol=1e-3)


def test_a_header_keeps_its_scales() -> None:
    model = header(NAMES, **RAW)
    (text,) = model.to_metadata().values()
    assert ModelHeader.from_metadata(text, "m").scales == model.scales
    for wrong in ("[[0, 1], [1, 0]]", "[[1, 0]]", '[["a", 0], [1, 0]]', "7"):
        with pytest.raises(InputError, match="damaged"):
            ModelHeader.from_metadata(text.replace("[[0.0001, -0.1], [0.0001, -0.1]]", wrong), "m")


# --- where a raster lies


def test_the_crs_that_a_raster_is_given_holds(tmp_path: Path) -> None:
    wanted = reference(32633).ExportToWkt(["FORMAT=WKT2_2019"])
    right = write_raster(tmp_path / "a.tif", NUMBERS)
    for epsg in (None, 32632):
        wrong = write_raster(tmp_path / f"{epsg}.tif", NUMBERS, epsg=epsg)
        for combine in ("separate", "mosaic", "stack"):
            readers = opened(right, wrong, combine=combine, input_crs=("", wanted))
            for reader in readers:
                assert (whole(reader)[-1] == NUMBERS).all() and (reader.info.grid.left, reader.info.grid.top) == (
                    LEFT,
                    TOP,
                )
        (coarse,) = opened(wrong, input_crs=(wanted,), pixel_size=2)
        assert coarse.info.crs == opened(right)[0].info.crs
        assert open_for(header(("band 1",)), wrong, wanted, (), Heard()).info.crs == coarse.info.crs
