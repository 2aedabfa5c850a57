"""Mapping from end to end, with a network with known predictions."""

from __future__ import annotations

import resource
from functools import partial
from pathlib import Path
from typing import Any

import known_segmenter
import numpy as np
import pytest
import torch
from heard import Heard
from known_classifier import CLASSES, NODATA
from osgeo import gdal
from synthetic import LEFT, TOP, UTM, rectangle, reference, write_polygons, write_raster
from torch import nn

from plugin.engine import files
from plugin.engine.classes import ClassTable
from plugin.engine.config import SegmentRasterConfig
from plugin.engine.errors import Cancelled, InputError, ResourceError
from plugin.engine.files import raster_names
from plugin.engine.mapping import segment
from plugin.engine.mapping.settings import MeasureSettings
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import ModelHeader
from plugin.engine.models.model_file import save_model

header = partial(known_segmenter.header, classes=CLASSES)


class Threshold(nn.Module):
    """First band below 60: class 0; above 160: class 2; else class 1. Remembers the batches it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(images.shape))
        value = images[:, 0] * 50 + 100
        return torch.stack([59.5 - value, torch.zeros_like(value), value - 160.5], 1)


class Breaking(Threshold):
    """Gives no numbers above 200."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        logits[:, 1][images[:, 0] * 50 + 100 > 200] = float("nan")
        return logits


class Coarse(nn.Module):
    """Decides from means of 32 × 32 pixels and their neighbours, so a pixel's class depends on its surroundings."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = nn.functional.avg_pool2d(images[:, :1], 32)
        around = nn.functional.avg_pool2d(means, 3, 1, 1, count_include_pad=False)
        contrast = nn.functional.interpolate(means - around, scale_factor=32, mode="nearest")
        return torch.cat([-contrast, torch.full_like(contrast, 0.05), contrast], 1)


@pytest.fixture
def threshold(monkeypatch: pytest.MonkeyPatch) -> Threshold:
    network = Threshold()
    monkeypatch.setattr(segment, "load_model", lambda path: (network, header(1)))
    return network


def map_raster(folder: Path, image: str, reporter: Any = None, **settings: Any) -> dict[str, Any]:
    usual = {
        "input": image,
        "model": "m",
        "output": str(folder / "map.tif"),
        "tile_size": 64,
        "halo": 32,
        "device": "cpu",
    }
    return segment.segment_raster(SegmentRasterConfig(**{**usual, **settings}), reporter or Heard())


def pixels(path: Path | str) -> np.ndarray:
    found: np.ndarray = gdal.Open(str(path)).ReadAsArray()
    return found


def noise(height: int = 150, width: int = 200, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(10, 250, (height, width)).astype(dtype)


def expected(data: np.ndarray) -> np.ndarray:
    return np.select([data < 60, data > 160], [0, 9], 7)


def test_every_pixel_gets_the_class_value_of_its_own_place(tmp_path: Path, threshold: Threshold) -> None:
    data = noise()
    result = map_raster(tmp_path, write_raster(tmp_path / "image.tif", data))
    assert np.array_equal(pixels(tmp_path / "map.tif"), expected(data))
    counts = [(row["value"], row["name"], row["pixels"], row["area"]) for row in result["classes"]]
    values, numbers = np.unique(expected(data), return_counts=True)
    assert counts == [(v, n, c, c) for v, n, c in zip(values.tolist(), CLASSES.names, numbers.tolist())]
    assert result["area_unit"] == "metre" and result["nodata_pixels"] == 0 and result["probabilities"] is None
    source = gdal.Open(str(tmp_path / "map.tif"))
    assert source.GetGeoTransform() == (LEFT, 1, 0, TOP, 0, -1)
    assert source.GetSpatialRef().GetAuthorityCode(None) == "32633"


@pytest.mark.parametrize("height, width", [(1, 1), (1, 90), (5, 7), (33, 31), (64, 64), (65, 129)])
def test_a_raster_smaller_than_halo_or_tile_is_mapped_whole(
    tmp_path: Path, threshold: Threshold, height: int, width: int
) -> None:
    data = noise(height, width)
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", data), halo=100)
    assert np.array_equal(pixels(tmp_path / "map.tif").reshape(height, width), expected(data))


def test_tile_edges_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Coarse(), header(1)))
    tones = np.random.default_rng(1).integers(20, 230, (12, 14)).repeat(32, 0).repeat(32, 1)[:350, :420]
    image = write_raster(tmp_path / "image.tif", tones.astype(np.uint8))
    map_raster(tmp_path, image, tile_size=64, halo=64)
    small = pixels(tmp_path / "map.tif")
    assert len(np.unique(small)) == 3
    map_raster(tmp_path, image, tile_size=160, halo=64, batch_size=1)
    assert np.array_equal(pixels(tmp_path / "map.tif"), small)
    map_raster(tmp_path, image, tile_size=64, halo=0)
    assert (pixels(tmp_path / "map.tif") != small).mean() > 0.01


def test_a_part_of_a_raster_is_mapped_as_it_is_in_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Coarse(), header(1)))
    tones = np.random.default_rng(1).integers(20, 230, (12, 14)).repeat(32, 0).repeat(32, 1)
    image = write_raster(tmp_path / "image.tif", tones.astype(np.uint8))
    map_raster(tmp_path, image, halo=64)
    whole = pixels(tmp_path / "map.tif")
    map_raster(tmp_path, image, halo=64, extent=(LEFT + 77, TOP - 201, LEFT + 300, TOP - 90))
    assert np.array_equal(pixels(tmp_path / "map.tif"), whole[90:201, 77:300])


def test_a_real_network_gives_nearly_the_same_map_in_other_tiles(tmp_path: Path) -> None:
    torch.manual_seed(3)
    save_model(tmp_path / "m.safetensors", create_model("unet", "resnet18", 3, 3), header(3))
    image = write_raster(tmp_path / "image.tif", np.stack([noise(200, 230)] * 3))
    maps = []
    shares = str(tmp_path / "shares.tif")
    for tile_size, halo in ((256, 64), (96, 64), (96, 0)):
        settings = {"tile_size": tile_size, "halo": halo, "model": str(tmp_path / "m.safetensors")}
        map_raster(tmp_path, image, probabilities=shares, **settings)
        maps.append((pixels(tmp_path / "map.tif"), gdal.Open(shares).ReadAsArray()))
    whole, tiled, without_halo = maps
    assert (tiled[0] == whole[0]).mean() > 0.999
    near, far = (np.abs(found[1] - whole[1]).max() for found in (tiled, without_halo))
    assert near < far / 2


def test_pixels_without_data_stay_without(tmp_path: Path, threshold: Threshold) -> None:
    data = noise(150, 200, "int16")
    data[20:90, 30:] = -1
    result = map_raster(tmp_path, write_raster(tmp_path / "image.tif", data, nodata=-1))
    found = pixels(tmp_path / "map.tif")
    assert np.array_equal(found, np.where(data == -1, NODATA, expected(data)))
    assert result["nodata_pixels"] == (data == -1).sum()
    source = gdal.Open(str(tmp_path / "map.tif"))
    assert source.GetRasterBand(1).GetNoDataValue() == NODATA


def test_the_models_nodata_holds_where_the_raster_names_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Threshold(), header(1, nodata=-1.0, dtype="int16")))
    data = noise(80, 80, "int16")
    data[:10] = -1
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", data))
    assert (pixels(tmp_path / "map.tif")[:10] == NODATA).all()


def test_tiles_without_data_never_reach_the_network(tmp_path: Path, threshold: Threshold) -> None:
    data = noise(128, 256)
    data[:, 64:] = 0
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", data, nodata=0))
    assert sum(shape[0] for shape in threshold.seen) == 2
    assert (pixels(tmp_path / "map.tif")[:, 64:] == NODATA).all()


def test_the_area_of_interest_crops_the_map_and_blanks_what_is_outside(tmp_path: Path, threshold: Threshold) -> None:
    data = noise()
    image = write_raster(tmp_path / "image.tif", data)
    corner = rectangle(LEFT + 20, TOP - 50, LEFT + 60, TOP - 10)
    other = rectangle(LEFT + 150, TOP - 140, LEFT + 180, TOP - 100)
    area = write_polygons(tmp_path / "area.gpkg", [(1, corner), (1, other)], layer="area")
    map_raster(tmp_path, image, area=area)
    inside = np.zeros(data.shape, bool)
    inside[10:50, 20:60] = inside[100:140, 150:180] = True
    assert np.array_equal(pixels(tmp_path / "map.tif"), np.where(inside, expected(data), NODATA)[10:140, 20:180])


def test_an_area_or_extent_elsewhere_is_refused_with_both_places(tmp_path: Path, threshold: Threshold) -> None:
    image = write_raster(tmp_path / "image.tif", noise())
    area = write_polygons(tmp_path / "area.gpkg", [(1, rectangle(0, 0, 10, 10))], layer="area")
    with pytest.raises(InputError, match=r"area of interest 0, 0 to 10, 10 is outside .*400000, 5499850"):
        map_raster(tmp_path, image, area=area)
    with pytest.raises(InputError, match="extent 1, 2 to 3, 4"):
        map_raster(tmp_path, image, extent=(1, 2, 3, 4))


def test_probabilities_have_a_band_a_class_and_sum_to_one(tmp_path: Path, threshold: Threshold) -> None:
    data = noise()
    data[:70, :70] = 0
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    map_raster(tmp_path, image, probabilities=str(tmp_path / "p.tif"))
    source = gdal.Open(str(tmp_path / "p.tif"))
    assert [source.GetRasterBand(band).GetDescription() for band in (1, 2, 3)] == CLASSES.names
    shares = source.ReadAsArray()
    valid = data != 0
    assert np.isnan(shares[:, ~valid]).all()
    assert np.allclose(shares[:, valid].sum(0), 1, atol=1e-5)
    assert np.array_equal(CLASSES.values[shares[:, valid].argmax(0)], expected(data)[valid])


def test_where_a_network_gives_no_numbers_there_is_no_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Breaking(), header(1)))
    data, reporter = noise(), Heard()
    data[:9] = 0
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    result = map_raster(tmp_path, image, reporter, probabilities=str(tmp_path / "p.tif"))
    valid = (data <= 200) & (data > 0)
    assert np.array_equal(pixels(tmp_path / "map.tif"), np.where(valid, expected(data), NODATA))
    assert np.array_equal(np.isnan(pixels(tmp_path / "p.tif")), np.broadcast_to(~valid, (3, *data.shape)))
    assert result["nodata_pixels"] == np.count_nonzero(~valid)
    assert f"no valid numbers for {np.count_nonzero(data > 200):,} pixels" in reporter.warnings[0]
    with pytest.raises(InputError, match="no valid numbers for 100 pixels"):
        map_raster(tmp_path, write_raster(tmp_path / "b.tif", np.full((10, 10), 240, np.uint8)))


@pytest.mark.parametrize("far", [np.nan, np.inf, -np.inf, -3.4028235e38])
def test_a_pixel_far_off_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: float) -> None:
    torch.manual_seed(0)
    network = create_model("unet", "resnet18", 1, 3).eval()
    monkeypatch.setattr(segment, "load_model", lambda path: (network, header(1, dtype="float32")))
    data = noise(96, 96, "float32")
    map_raster(tmp_path, write_raster(tmp_path / "a.tif", data), probabilities=str(tmp_path / "p.tif"))
    plain = pixels(tmp_path / "p.tif")
    data[48, 48] = far
    map_raster(tmp_path, write_raster(tmp_path / "b.tif", data), probabilities=str(tmp_path / "q.tif"))
    found = pixels(tmp_path / "q.tif")
    assert np.isnan(found).all(axis=0).sum() == (0 if np.isfinite(far) else 1)
    assert np.nanmedian(np.abs(found - plain)) < 0.05


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_every_data_type_is_mapped(tmp_path: Path, threshold: Threshold, dtype: str) -> None:
    data = noise(40, 40, dtype)
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", data))
    assert np.array_equal(pixels(tmp_path / "map.tif"), expected(data))


def test_chosen_bands_go_to_the_network_in_their_order(tmp_path: Path, threshold: Threshold) -> None:
    data = np.stack([noise(), np.full((150, 200), 200, np.uint8)])
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", data), bands=(2,))
    assert (pixels(tmp_path / "map.tif") == 9).all()


def test_class_values_beyond_a_byte_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ClassTable.from_rows([(-5, "a", None), (100, "b", None), (40000, "c", None)])
    monkeypatch.setattr(segment, "load_model", lambda path: (Threshold(), header(1, classes=table)))
    data = noise(40, 40)
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", data))
    assert np.array_equal(pixels(tmp_path / "map.tif"), np.select([data < 60, data > 160], [-5, 40000], 100))


def test_a_raster_without_any_data_is_refused_and_nothing_is_written(tmp_path: Path, threshold: Threshold) -> None:
    image = write_raster(tmp_path / "image.tif", np.zeros((90, 90), np.uint8), nodata=0)
    with pytest.raises(InputError, match="has no data in the area to map"):
        map_raster(tmp_path, image, probabilities=str(tmp_path / "p.tif"))
    assert {path.name for path in tmp_path.iterdir()} == {"image.tif"}


def test_cancelling_leaves_the_earlier_map_whole_and_nothing_else(tmp_path: Path, threshold: Threshold) -> None:
    image = write_raster(tmp_path / "image.tif", noise(500, 500))
    (tmp_path / "map.tif").write_text("earlier")
    with pytest.raises(Cancelled):
        map_raster(tmp_path, image, Heard(cancel_after=1), batch_size=1)
    assert (tmp_path / "map.tif").read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"image.tif", "map.tif"}


def test_a_worker_whose_qgis_is_gone_stops(tmp_path: Path, threshold: Threshold) -> None:
    reporter = Heard()
    reporter.orphaned = lambda: True
    with pytest.raises(Cancelled):
        map_raster(tmp_path, write_raster(tmp_path / "image.tif", noise()), reporter)


def test_outputs_that_would_destroy_the_input_are_refused(tmp_path: Path, threshold: Threshold) -> None:
    image = write_raster(tmp_path / "image.tif", noise())
    gdal.BuildVRT(str(tmp_path / "mosaic.vrt"), [image]).FlushCache()
    for source in (image, str(tmp_path / "mosaic.vrt")):
        with pytest.raises(InputError, match="is the raster to be mapped"):
            map_raster(tmp_path, source, output=image)
    with pytest.raises(InputError, match="OUTPUT and PROBABILITIES are both"):
        map_raster(tmp_path, image, probabilities=str(tmp_path / "map.tif"))
    assert pixels(image).shape == (150, 200)


def test_only_geotiffs_are_written(tmp_path: Path, threshold: Threshold) -> None:
    with pytest.raises(InputError, match=r"Use the extension \.tif"):
        map_raster(tmp_path, "image.tif", output=str(tmp_path / "map.img"))


def test_an_output_folder_that_is_a_file_is_refused_before_work(tmp_path: Path, threshold: Threshold) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        map_raster(tmp_path, write_raster(tmp_path / "i.tif", noise()), output=str(tmp_path / "file" / "map.tif"))
    assert not threshold.seen


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # GDAL complains again when it closes
def test_a_disk_that_fills_up_is_said_and_leaves_nothing(
    tmp_path: Path, threshold: Threshold, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FULL", float("inf"))
    image = write_raster(tmp_path / "image.tif", noise(600, 600))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(ResourceError, match=r"could not be written \(its disk has only .* free\)"):
            map_raster(tmp_path, image, probabilities=str(tmp_path / "p.tif"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {"image.tif"}


def test_a_raster_that_breaks_off_is_said(tmp_path: Path, threshold: Threshold) -> None:
    image = tmp_path / "image.tif"
    write_raster(image, noise(400, 400))
    image.write_bytes(image.read_bytes()[:100_000])
    with pytest.raises(InputError, match="cannot be read"):
        map_raster(tmp_path, str(image))
    assert {path.name for path in tmp_path.iterdir()} == {"image.tif"}


def test_a_lack_of_memory_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Greedy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")

    monkeypatch.setattr(segment, "load_model", lambda path: (Greedy(), header(1)))
    with pytest.raises(ResourceError, match="tiles of 128 × 128 pixels in 1 band, 1 at a time") as caught:
        map_raster(tmp_path, write_raster(tmp_path / "image.tif", noise()))
    assert caught.value.remedy == "Halve TILE_SIZE or BATCH_SIZE."


def test_a_raster_is_mapped_at_another_pixel_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = header(1, pixel_size=2.0, crs=reference(UTM).ExportToWkt())
    monkeypatch.setattr(segment, "load_model", lambda path: (Threshold(), trained))
    data = noise(150, 200)
    image = write_raster(tmp_path / "image.tif", data)
    heard = Heard()
    map_raster(tmp_path, image, heard)
    assert any("set PIXEL_SIZE to 0" in text for text in heard.warnings)
    means = np.rint(data.reshape(75, 2, 100, 2).mean(axis=(1, 3))).astype(np.uint8)
    for size in (0, 2):
        heard = Heard()
        map_raster(tmp_path, image, heard, pixel_size=size, output=str(tmp_path / f"{size}.tif"))
        assert np.array_equal(pixels(tmp_path / f"{size}.tif"), expected(means))
        assert gdal.Open(str(tmp_path / f"{size}.tif")).GetGeoTransform() == (LEFT, 2, 0, TOP, 0, -2)
        assert any("resampled to pixels of 2 by averaging" in text for text in heard.logs) and not heard.warnings
    with pytest.raises(InputError, match=r"PIXEL_SIZE is 500, but .* covers only"):
        map_raster(tmp_path, image, pixel_size=500)


@pytest.mark.parametrize(
    "transform", [(LEFT, 0, 1, TOP, 1, 0), (LEFT, 0.8, 0.6, TOP, 0.6, -0.8)], ids=["quarter", "37°"]
)
def test_a_rotated_raster_is_mapped_north_up(tmp_path: Path, threshold: Threshold, transform: Any) -> None:
    data = np.repeat(np.repeat(noise(15, 20), 10, 0), 10, 1)
    image = write_raster(tmp_path / "image.tif", data)
    gdal.Open(image, gdal.GA_Update).SetGeoTransform(transform)
    heard = Heard()
    map_raster(tmp_path, image, heard)
    assert any("rotated against its CRS, and warped to north-up" in text for text in heard.logs)
    found = gdal.Open(str(tmp_path / "map.tif"))
    left, step, _, top, _, down = found.GetGeoTransform()
    values = found.ReadAsArray()
    rows, cols = np.mgrid[5:150:10, 5:200:10] + 0.5  # middles of the squares
    x = transform[0] + cols * transform[1] + rows * transform[2]
    y = transform[3] + cols * transform[4] + rows * transform[5]
    there = values[((y - top) / down).astype(int), ((x - left) / step).astype(int)]
    assert np.array_equal(there, expected(data[5::10, 5::10]))
    outside = values.size - data.size
    assert abs((values == NODATA).sum() - outside) < 0.02 * values.size


def test_a_south_up_raster_is_mapped_on_its_own_grid(tmp_path: Path, threshold: Threshold) -> None:
    data = noise()
    image = write_raster(tmp_path / "image.tif", data)
    gdal.Open(image, gdal.GA_Update).SetGeoTransform((LEFT, 1, 0, TOP, 0, 1))
    map_raster(tmp_path, image)
    assert np.array_equal(pixels(tmp_path / "map.tif"), expected(data))
    assert gdal.Open(str(tmp_path / "map.tif")).GetGeoTransform() == (LEFT, 1, 0, TOP, 0, 1)


def test_neighbouring_rasters_become_one_map_without_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Coarse(), header(1)))
    tones = np.random.default_rng(1).integers(20, 230, (12, 14)).repeat(32, 0).repeat(32, 1)[:350, :420]
    data = tones.astype(np.uint8)
    whole = write_raster(tmp_path / "whole.tif", data)
    parts = [
        write_raster(tmp_path / f"{row}_{col}.tif", data[row : row + 200, col : col + 250], LEFT + col, TOP - row)
        for row in (150, 0)
        for col in (0, 170)
    ]
    heard = Heard()
    usual: dict[str, Any] = {"tile_size": 160, "halo": 64}
    map_raster(tmp_path, whole, **usual)
    map_raster(tmp_path, parts[0], heard, more_images=tuple(parts[1:]), output=str(tmp_path / "mosaic.tif"), **usual)
    assert np.array_equal(pixels(tmp_path / "mosaic.tif"), pixels(tmp_path / "map.tif"))
    assert gdal.Open(str(tmp_path / "mosaic.tif")).GetGeoTransform() == (LEFT, 1, 0, TOP, 0, -1)
    assert any("a mosaic of 4 rasters, 420 × 350 pixels" in text for text in heard.logs)
    with pytest.raises(InputError, match="the raster to be mapped"):
        map_raster(tmp_path, parts[0], more_images=tuple(parts[1:]), output=parts[2], **usual)
    lone = gdal.Open(parts[1]).ReadAsArray()
    assert np.array_equal(lone, data[150:350, 170:420]), "the input is as it was"


def test_a_mosaic_has_no_data_between_its_rasters(tmp_path: Path, threshold: Threshold) -> None:
    data = noise(40, 100)
    left = write_raster(tmp_path / "left.tif", data[:, :30])
    right = write_raster(tmp_path / "right.tif", data[:, 60:], LEFT + 60, nodata=11)
    map_raster(tmp_path, left, more_images=(right,))
    wanted = expected(data)
    wanted[:, 30:60] = NODATA
    wanted[:, 60:][data[:, 60:] == 11] = NODATA
    assert (data[:, :30] == 11).any(), "which is data on the left"
    assert np.array_equal(pixels(tmp_path / "map.tif"), wanted)
    wide = write_raster(tmp_path / "wide.tif", np.stack([data, data]))
    with pytest.raises(InputError, match=r"Band 2 does not exist: .*left.tif has 1"):
        map_raster(tmp_path, wide, more_images=(left,), bands=(2,))


@pytest.mark.parametrize("size", [None, 2.0])
@pytest.mark.parametrize("how", ["alpha", "mask", "nodata of each band"])
def test_what_a_raster_hides_gets_no_class_at_any_pixel_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, size: float | None
) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Threshold(), header(2)))
    data = np.stack([noise(40, 60), np.full((40, 60), 100, np.uint8)]).repeat(2, 1).repeat(2, 2)
    data[data == 11] = 13
    hidden = np.zeros((80, 120), bool)
    hidden[10:30, 40:90] = True
    image = str(tmp_path / "image.tif")
    if how == "alpha":
        write_raster(image, np.concatenate([data, np.where(hidden, 0, 255)[None].astype(np.uint8)]))
        source = gdal.Open(image, gdal.GA_Update)
        source.GetRasterBand(3).SetColorInterpretation(gdal.GCI_AlphaBand)
        del source
    elif how == "mask":
        write_raster(image, data)
        source = gdal.Open(image, gdal.GA_Update)
        source.CreateMaskBand(gdal.GMF_PER_DATASET)
        source.GetRasterBand(1).GetMaskBand().WriteArray(np.where(hidden, 0, 255).astype(np.uint8))
        del source
    else:
        data[:, hidden] = np.array([[11], [12]])
        data[0, 60:70, 60:70] = 11  # the other band has data, so there is a class
        text = gdal.Translate("", write_raster(image, data), format="VRT")
        text.GetRasterBand(1).SetNoDataValue(11)
        text.GetRasterBand(2).SetNoDataValue(12)
        image = str(tmp_path / "image.vrt")
        Path(image).write_text(text.GetMetadata("xml:VRT")[0])
    map_raster(tmp_path, image, pixel_size=size)
    found = pixels(tmp_path / "map.tif")
    found = found if size is None else found.repeat(2, 0).repeat(2, 1)
    assert np.array_equal(found == NODATA, hidden)
    known = ~hidden
    known[60:70, 60:70] = False
    assert np.array_equal(found[known], expected(data[0])[known])


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The model files that were loaded."""
    paths: list[str] = []

    def load(path: str) -> tuple[Threshold, ModelHeader]:
        paths.append(path)
        return Threshold(), header(1)

    monkeypatch.setattr(segment, "load_model", load)
    return paths


def test_several_rasters_become_a_map_each_with_one_loading_of_the_model(tmp_path: Path, loaded: list[str]) -> None:
    data = [noise(40, 60), noise(70, 50) // 2]
    first = write_raster(tmp_path / "a.tif", data[0])
    second = write_raster(tmp_path / "b c.tif", data[1], LEFT + 500, epsg=32632)
    result = map_raster(
        tmp_path, first, more_images=(second,), combine="separate",
        measures=MeasureSettings(confidence=str(tmp_path / "sure.tif")),
        areas=str(tmp_path / "areas.csv"),
    )  # fmt: skip
    assert loaded == ["m"]
    for name, values in zip(("a", "b_c"), data):
        assert np.array_equal(pixels(tmp_path / f"map_{name}.tif"), expected(values))
        assert (tmp_path / f"sure_{name}.tif").exists() and (tmp_path / f"areas_{name}.csv").exists()
    assert result["output"] == str(tmp_path / "map_a.tif")
    assert [one["output"] for one in result["more"]] == [str(tmp_path / "map_b_c.tif")]
    assert not (tmp_path / "map.tif").exists() and not list(tmp_path.glob(".*"))


def test_a_raster_that_cannot_be_mapped_does_not_stop_the_others(tmp_path: Path, loaded: list[str]) -> None:
    whole = write_raster(tmp_path / "a.tif", noise(40, 60))
    broken = write_raster(tmp_path / "b.tif", noise(400, 600), options=["COMPRESS=DEFLATE", "TILED=YES"])
    content = Path(broken).read_bytes()
    Path(broken).write_bytes(content[: len(content) // 2])
    last = write_raster(tmp_path / "c.tif", noise(30, 30))
    heard = Heard()
    everything = (broken, str(tmp_path / "none.tif"), last)
    with pytest.raises(InputError, match=r"2 of 4 rasters could not be mapped: .*b\.tif .*none\.tif .*other 2 are"):
        map_raster(tmp_path, whole, heard, more_images=everything, combine="separate")
    made = sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".tif" and path.name.startswith("map"))
    assert made == ["map_a.tif", "map_c.tif"] and not list(tmp_path.glob(".*")), "nothing half-written"
    assert np.array_equal(pixels(tmp_path / "map_c.tif"), expected(noise(30, 30)))
    assert sum("could not be mapped" in text for text in heard.warnings) == 2


def test_of_several_rasters_those_outside_the_area_are_left_out(tmp_path: Path, loaded: list[str]) -> None:
    first, second = (write_raster(tmp_path / f"{n}.tif", noise(40, 40), LEFT + 100 * n) for n in range(2))
    area = write_polygons(tmp_path / "area.gpkg", [(1, rectangle(LEFT + 110, TOP - 30, LEFT + 130, TOP - 5))], "area")
    heard = Heard()
    result = map_raster(tmp_path, first, heard, more_images=(second,), combine="separate", area=area)
    assert result["output"] == str(tmp_path / "map_1.tif") and not result["more"]
    assert any("There is nothing to map" in text for text in heard.logs)
    far = write_raster(tmp_path / "far.tif", noise(40, 40), epsg=32632)
    with pytest.raises(InputError, match=r"far\.tif is in EPSG:32632 .* but EXTENT and AREA are in EPSG:32633"):
        map_raster(tmp_path, second, more_images=(far,), combine="separate", area=area)


def test_results_of_several_rasters_overwrite_none(tmp_path: Path, loaded: list[str]) -> None:
    first = write_raster(tmp_path / "a.tif", noise(40, 40))
    second = write_raster(tmp_path / "img_a.tif", noise(30, 30))
    with pytest.raises(InputError, match="which is one of the rasters to be mapped"):
        map_raster(tmp_path, first, more_images=(second,), combine="separate", output=str(tmp_path / "img.tif"))
    assert np.array_equal(pixels(second), noise(30, 30))


def test_a_cancelled_job_of_several_rasters_keeps_the_finished_maps(tmp_path: Path, loaded: list[str]) -> None:
    paths = [write_raster(tmp_path / f"{n}.tif", noise(40, 40)) for n in range(2)]
    heard = Heard()
    heard.cancel_requested = lambda: (tmp_path / "map_0.tif").exists()  # type: ignore[method-assign]
    with pytest.raises(Cancelled):
        map_raster(tmp_path, paths[0], heard, more_images=(paths[1],), combine="separate")
    assert (tmp_path / "map_0.tif").exists() and not (tmp_path / "map_1.tif").exists()
    assert not list(tmp_path.glob(".*"))


def test_names_of_rasters_are_fit_for_files_and_hold_no_keys() -> None:
    paths = ["/x/a.tif", "/y/A.tif", "/vsicurl/https://h/b.tif?key=secret", 'NETCDF:"n.nc":v', "/z/a_2.tif"]
    assert raster_names(paths) == ["a", "A_2", "b", "NETCDF_n", "a_2_2"]
    values = {"input": "/x/a.tif", "more_images": ["/x/b.tif"], "output": "/m/map.tif", "combine": "separate"}
    assert SegmentRasterConfig.results(values) == ["/m/map_a.tif", "/m/map_b.tif"]
