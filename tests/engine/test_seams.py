"""The edges of tiles change practically nothing, and tiles fit into the memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from hypothesis import given, settings
from hypothesis import strategies as st
from osgeo import gdal
from synthetic import LEFT, TOP, write_raster
from test_segment_raster import header, map_raster, noise, pixels
from torch import nn

from plugin.engine import device, precision
from plugin.engine.chips.dataset import open_dataset
from plugin.engine.config import SegmentRasterConfig, TrainSegmenterConfig
from plugin.engine.mapping import segment
from plugin.engine.mapping.reading.tiling import SEAM_SHARE, SMALLEST_ON_GPU, WAIT, Layout, choose_layout
from plugin.engine.mapping.sources import inference, layout
from plugin.engine.mapping.sources.inference import Inference
from plugin.engine.mapping.sources.tiles import TileSource
from plugin.engine.models.cost import USUAL_BYTES, _Living, need_per_pixel
from plugin.engine.models.factory import create_model
from plugin.engine.models.folding import folded
from plugin.engine.models.header import ModelHeader, read_header
from plugin.engine.models.reach import HALOS, SEEN, decoder_reach, other_answers, seam_costs, sees_whole_window
from plugin.engine.models.streamable import streamable
from plugin.engine.training import train_segmenter
from plugin.engine.training.augmentation.example import Example
from plugin.engine.training.chips import ChipReader
from plugin.engine.training.seams import measure_seams

CPU = torch.device("cpu")
SEAMS = (1.0, 0.2, 0.004, 0.0, 0.0, 0.0, 0.0)


class Blur(nn.Module):
    """A class from the mean of so many pixels to each side; of zeros where the image ends."""

    def __init__(self, reach: int, middle: float = 0.594) -> None:
        super().__init__()
        self.middle = middle  # of `noise`
        side = 2 * reach + 1
        self.mean = nn.Sequential(nn.AvgPool2d((1, side), 1, (0, reach)), nn.AvgPool2d((side, 1), 1, (reach, 0)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = self.mean(images[:, :1]) - self.middle
        return torch.cat([-value, torch.full_like(value, 0.01), value], 1)


# The choice


def room_for(pixels: float) -> Callable[[Layout], bool]:
    return lambda layout: (layout.tile_size + 2 * layout.halo) ** 2 <= pixels


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 5), min_size=len(HALOS), max_size=len(HALOS)), st.integers(200**2, 9000**2))
def test_tiles_are_as_large_as_the_memory_allows_and_useful(seams: list[float], most: int) -> None:
    seams = sorted(seams, reverse=True)
    found = choose_layout(seams, room_for(most))
    outer = found.tile_size + 2 * found.halo
    assert outer**2 <= most or found.tile_size <= 64
    place = HALOS.index(found.halo)
    assert found.halo == HALOS[-1] or 4 * seams[place] / found.tile_size <= SEAM_SHARE
    fewer = choose_layout(seams, room_for(most // 4))
    assert fewer.tile_size <= found.tile_size
    assert outer**2 > most / 4 or outer**2 / found.tile_size**2 < 1.15


def test_what_the_user_gives_counts() -> None:
    assert choose_layout(SEAMS, room_for(1e7)) == (2304, 32)
    assert choose_layout(SEAMS, room_for(2e6)) == (1280, 64)
    assert choose_layout(SEAMS, room_for(1e7), tile_size=512) == (512, 64)
    assert choose_layout(SEAMS, room_for(1e7), tile_size=256, halo=10) == (256, 10)
    assert choose_layout(SEAMS, room_for(1e7), halo=0) == (512, 0), "larger ones need more memory, and gain nothing"
    assert choose_layout((), room_for(1e7)).halo == HALOS[-1], "unknown"


def test_a_gpu_gets_tiles_for_which_it_waits_little() -> None:
    def pixels(size: int, side: int, halo: int) -> float:
        """What the network sees, and could see while the GPU waits."""
        return side**2 * (1 + 2 * halo / size) ** 2 + WAIT * size**2

    sizes = []
    for side in (10_000, 30_000, 100_000):
        layout = choose_layout((), room_for(1e9), halo=160, waits=side**2)
        sizes.append(layout.tile_size)
        best = min(pixels(size, side, 160) for size in range(SMALLEST_ON_GPU, 8192, 32))
        assert pixels(layout.tile_size, side, 160) < 1.02 * best
    assert sizes == sorted(set(sizes))
    assert choose_layout((), room_for(1e9), halo=0, waits=10**8) == (SMALLEST_ON_GPU, 0)
    assert choose_layout((), room_for(1e6), halo=0, waits=10**8).tile_size < 1024, "the memory counts"


def test_no_tensor_has_more_values_than_operations_support(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Blur(20), header(1, seams=SEAMS)))
    monkeypatch.setattr(layout, "LARGEST_TENSOR", 3 * 640**2)  # of the classes
    heard = Heard()
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", noise(600, 600)), heard, halo=None, tile_size=None)
    size, halo = (
        int(next(text for text in heard.logs if text.startswith("Tiles of ")).split()[at].rstrip(".")) for at in (2, -1)
    )
    assert 400 < size + 2 * halo < 640
    assert need_per_pixel(create_model("unet", "resnet18", 3, 5).eval(), 3).largest == 32


def test_the_reach_is_measured_in_pixels_that_change() -> None:
    images = [torch.randn(2, SEEN, SEEN, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    assert seam_costs(nn.Conv2d(2, 3, 1), images) == (0.0,) * len(HALOS)
    costs = seam_costs(Blur(40, 0), images)
    assert costs[0] >= 1 and costs[1] > 0 and costs[2:] == (0.0,) * (len(HALOS) - 2)
    faint = nn.Conv2d(2, 3, 3, padding=1)
    faint.bias.data[0] = 100.0  # the class is always the same, but not because the network sees nothing
    assert seam_costs(faint, images)[0] == 1 and not any(seam_costs(faint, images)[1:])
    assert seam_costs(faint, []) == ()
    numbers = seam_costs(lambda image: 100 * Blur(40, 0)(image)[:, 2:], images)
    assert numbers[1] > 0 and not any(numbers[2:])


# The map


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float((first != second).mean())


@pytest.mark.parametrize("known", [True, False])
def test_the_grid_of_tiles_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    """With the costs of seams from the model file, or measured in the raster."""
    seams = SEAMS if known else ()
    monkeypatch.setattr(segment, "load_model", lambda path: (Blur(40), header(1, seams=seams, whole_window=False)))
    monkeypatch.setattr(layout, "SMALL", 0)
    image = write_raster(tmp_path / "image.tif", noise(600, 700))
    maps, logs = [], []
    for tile_size in (1024, 128):
        heard = Heard()
        map_raster(tmp_path, image, heard, tile_size=tile_size, halo=None)
        maps.append(pixels(tmp_path / "map.tif"))
        logs.append(heard.logs)
    assert len(np.unique(maps[0])) == 3 and np.array_equal(*maps)
    assert any("Tiles of 128 × 128 pixels with a halo of 64" in text for text in logs[1])
    assert any("is measured" in text for text in logs[1]) is not known
    map_raster(tmp_path, image, tile_size=128, halo=None, extent=(LEFT + 77, TOP - 501, LEFT + 600, TOP - 90))
    assert np.array_equal(pixels(tmp_path / "map.tif"), maps[0][90:501, 77:600])
    map_raster(tmp_path, image, tile_size=128, halo=0)
    assert difference(pixels(tmp_path / "map.tif"), maps[0]) > 0.01


def test_the_reach_is_measured_in_many_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network looks far where it is not sure, here in the middle of the raster only."""
    monkeypatch.setattr(segment, "load_model", lambda path: (Blur(40), header(1, whole_window=False)))
    monkeypatch.setattr(layout, "SMALL", 0)
    data, heard = np.full((1600, 1600), 250, np.uint8), Heard()
    data[650:950, 650:950] = noise(300, 300)
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", data), heard, tile_size=512, halo=None)
    assert any("Tiles of 512 × 512 pixels with a halo of 64" in text for text in heard.logs), heard.logs


def test_a_network_without_surroundings_gets_no_halo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (nn.Conv2d(1, 3, 1), header(1)))
    monkeypatch.setattr(layout, "SMALL", 0)
    heard = Heard()
    map_raster(tmp_path, write_raster(tmp_path / "image.tif", noise(300, 300)), heard, halo=None, tile_size=128)
    assert any("with a halo of 0." in text for text in heard.logs)


@pytest.mark.parametrize("empty", [False, True])
def test_where_the_reach_is_unknown_the_halo_is_the_largest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """In a small raster, and where the samples have no data."""
    monkeypatch.setattr(segment, "load_model", lambda path: (nn.Conv2d(1, 3, 1), header(1)))
    data, heard = noise(300, 300), Heard()
    if empty:
        monkeypatch.setattr(layout, "SMALL", 0)
        data[:250] = 0
    image = write_raster(tmp_path / "image.tif", data, nodata=0)
    map_raster(tmp_path, image, heard, halo=None, tile_size=128)
    assert any("with a halo of 192." in text for text in heard.logs)


def test_the_edge_of_a_tile_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 3, 3, padding=(1, 0)))
    used = Inference(network, header(1), CPU, False, Heard())  # type: ignore[arg-type]
    images = torch.full((1, 1, 40, 30), 3.0)
    assert not torch.allclose(used(images)[..., 0, 0], used(images)[..., 20, 15])
    used.continue_edges()
    found = used(images)
    assert found.shape == (1, 3, 40, 28) and torch.allclose(found, found[..., 20:21, 15:16].expand_as(found), atol=1e-5)


def test_the_tiles_of_a_map_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(1, 3, 25, padding=12)
    monkeypatch.setattr(segment, "load_model", lambda path: (network, header(1)))
    image = write_raster(tmp_path / "image.tif", np.full((128, 128), 90, np.uint8))
    map_raster(tmp_path, image, tile_size=64, halo=0)
    assert len(np.unique(pixels(tmp_path / "map.tif"))) == 1


@pytest.mark.parametrize(
    "architecture, expected", [("unet", 64), ("fcn8s", 32), ("linknet", 32), ("fpn", 96), ("deeplabv3plus", None)]
)
def test_logits_that_only_the_encoder_needs_are_left_out(architecture: str, expected: int | None) -> None:
    torch.manual_seed(0)
    network = create_model(architecture, "resnet18", 3, 4).eval()
    reach = decoder_reach(network, 3)
    used = Inference(network, header(3), CPU, False, Heard())  # type: ignore[arg-type]
    used.leave_out(160)
    network.requires_grad_(False)
    images = torch.randn(1, 3, 32 + 2 * 160, 64 + 2 * 160)
    core = (..., slice(160, -160), slice(160, -160))
    found = used(images)
    assert torch.allclose(found[core], used.logits(images)[core], atol=1e-4 * found.abs().max().item())
    assert used.unneeded == (0 if reach is None else max(0, 160 - reach) // 32 * 32)
    assert found.shape[-2:] == images.shape[-2:] and bool((found[..., 0, :] == 0).all()) is (used.unneeded > 0)
    assert reach == expected


def test_a_map_is_the_same_without_these_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = create_model("unet", "resnet18", 1, 3).eval()
    monkeypatch.setattr(segment, "load_model", lambda path: (network, header(1)))
    image = write_raster(tmp_path / "image.tif", noise(140, 150))
    output = str(tmp_path / "map.tif")
    settings = {"input": image, "model": "m", "output": output, "device": "cpu", "tile_size": 128, "halo": 128}
    config = SegmentRasterConfig.from_json({**settings, "test_time_augmentation": "mirror"})
    maps = []
    for reach in (64, None):
        monkeypatch.setattr(inference, "decoder_reach", lambda network, bands, reach=reach: reach)
        segment.segment_raster(config, Heard())
        maps.append(pixels(output))
    assert len(np.unique(maps[0])) > 1 and np.array_equal(*maps)


@pytest.mark.parametrize("halo", [0, 160])
def test_edges_are_continued_where_the_map_depends_on_them(halo: int) -> None:
    """In the encoder, and in the decoder if it sees no more than the map needs."""
    used = Inference(create_model("unet", "resnet18", 3, 4).eval(), header(3), CPU, False, Heard())
    used.leave_out(halo)
    used.continue_edges()
    for part, continued in ((used.network.encoder, True), (used.network.decoder, halo == 0)):
        modes = {module.padding_mode for module in part.modules() if isinstance(module, nn.Conv2d) if module.padding[0]}
        assert modes == {"replicate" if continued else "zeros"}


# The memory


def test_the_decoder_needs_memory_for_what_it_sees_only() -> None:
    network = create_model("unet", "efficientnet_lite0", 4, 6).eval()
    used = Inference(network, header(4), CPU, False, Heard())
    needed, trial = (
        layout.memory_of(used, need_per_pixel(used.network, 4).memory, 6, 1),
        copy.deepcopy(used.network).to("meta"),
    )
    for side in (128, 512):
        with torch.device("meta"):
            image = torch.empty(1, 4, side + 384, side + 384)
        with torch.no_grad(), _Living() as living:
            trial(image, 128)
        beside = 32 * (side + 384) ** 2
        assert 0.999 * living.most <= needed(Layout(side, 192)) - beside < 1.4 * living.most
    assert needed(Layout(512, 192)) < (need_per_pixel(used.network, 4).memory + 32) * 896**2
    assert needed(Layout(512, 64)) > need_per_pixel(used.network, 4).memory * 640**2, "then it sees all"


def test_the_bytes_of_a_network_are_counted_without_it() -> None:
    assert need_per_pixel(nn.Conv2d(4, 6, 1), 4) == (40, 6)
    assert need_per_pixel(nn.Sequential(nn.Conv2d(1, 10, 1), nn.Conv2d(10, 10, 1), nn.Conv2d(10, 1, 1)), 1) == (84, 10)
    assert 200 < need_per_pixel(create_model("unet", "resnet18", 3, 5).eval(), 3).memory < 500

    class Asking(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * float(images.max())

    assert need_per_pixel(Asking(), 1).memory == USUAL_BYTES


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, IndexError, KeyError, TypeError, AttributeError])
def test_whatever_a_network_says_of_an_image_that_it_does_not_take_it_can_be_mapped(error: type[Exception]) -> None:
    class Refusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(1, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise error("select(): index 0 out of range")

    network = Refusing().eval()
    assert need_per_pixel(network, 1).memory == USUAL_BYTES and streamable(network, 1) is None
    assert folded(network, 1) is network and sees_whole_window(network, 1)


def test_free_memory_makes_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Blur(20), header(1, seams=SEAMS)))
    image = write_raster(tmp_path / "image.tif", noise(600, 600))
    sides = []
    for free in (10**11, 10**8):
        heard = Heard()
        monkeypatch.setattr(device, "free_memory", lambda _, free=free: free)
        map_raster(tmp_path, image, heard, halo=None, tile_size=None)
        sides.append(int(next(text for text in heard.logs if text.startswith("Tiles of ")).split()[2]))
    assert sides[0] == 2304 and 128 <= sides[1] <= 512


class Limited(Blur):
    """Has memory for so many pixels only."""

    def __init__(self, most: int) -> None:
        super().__init__(20)
        self.most, self.seen = most, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] * images.shape[-2] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.seen.append(tuple(images.shape[-2:]))
        return super().forward(images)


def test_tiles_that_are_too_large_are_computed_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, heard = write_raster(tmp_path / "image.tif", noise(500, 600)), Heard()
    for most in (10**9, 300**2):
        network = Limited(most)
        monkeypatch.setattr(segment, "load_model", lambda path, used=network: (used, header(1)))
        map_raster(tmp_path, image, heard, tile_size=512, halo=32, batch_size=2)
        if most == 10**9:
            whole = pixels(tmp_path / "map.tif")
    assert np.array_equal(pixels(tmp_path / "map.tif"), whole) and len(np.unique(whole)) == 3
    told = [text for text in heard.logs if "not enough" in text]
    assert told == [
        f"The memory is not enough for whole tiles, so they are computed in parts of {side} pixels."
        for side in (256, 128)
    ]
    assert max(max(size) for size in network.seen) <= 300


# The type of number


class Half(nn.Module):
    """Says something else of a share of the pixels in 16 bits, and takes its time."""

    def __init__(self, clock: Any, share: float, times: float) -> None:
        super().__init__()
        self.clock, self.share, self.times = clock, share, times

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        half = torch.is_autocast_enabled("cpu")
        self.clock.now += 1 / self.times if half else 1.0
        found = torch.cat([images, -images], 1)
        found[..., : round(self.share * images.shape[-1]) if half else 0] *= -1
        return found


@pytest.mark.parametrize(
    "share, times, mixed, used",
    [(0.004, 2.0, True, "bfloat16"), (0.02, 2.0, True, "float32"), (0.0, 1.05, True, "float32"), (0, 9, False, "")],
)
def test_16_bits_are_used_where_they_are_faster_and_the_map_is_the_same(
    monkeypatch: pytest.MonkeyPatch, share: float, times: float, mixed: bool, used: str
) -> None:
    class Clock:
        now = 0.0

    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    monkeypatch.setattr(inference.time, "process_time", lambda: Clock.now)
    heard = Heard()
    network = Inference(Half(Clock, share, times), header(1), CPU, mixed, heard)  # type: ignore[arg-type]
    images = torch.randn(2, 1, 64, 1000)
    whole = network.network
    network.choose_type(lambda: (images, torch.ones(2, 64, 1000, dtype=torch.bool)))
    assert (network.network is whole) == (used != "bfloat16")  # else it has rounded weights
    assert network.dtype is (torch.bfloat16 if used == "bfloat16" else torch.float32)
    assert network(images).dtype is torch.float32
    assert len(heard.logs) == bool(used)
    if used:
        assert f"{1 - share:.2%} of the pixels in 2 parts of the raster have the same class" in heard.logs[0]
        assert f"{times:.2f} times as fast: {used} is used." in heard.logs[0]


@pytest.mark.parametrize("mask", [False, True])
def test_the_types_are_compared_where_there_is_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: bool
) -> None:
    class Differing(nn.Module):
        """In 16 bits, the pixels above the mean get another class."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sign = torch.where(images > 1, -1, 1) if torch.is_autocast_enabled("cpu") else 1
            return torch.cat([images, 0 * images - 3], 1) * sign

    data = np.full((512, 512), 100, np.uint8)
    data[:, :230], data[::8, 496:] = 0, 200  # 45 % without data, and 0.71 % of the others
    image, heard = write_raster(tmp_path / "image.tif", data, nodata=None if mask else 0), Heard()
    if mask:
        source = gdal.Open(image, gdal.GA_Update)
        source.CreateMaskBand(gdal.GMF_PER_DATASET)
        source.GetRasterBand(1).GetMaskBand().WriteArray(np.where(data, 255, 0).astype(np.uint8))
        del source
    monkeypatch.setattr(inference, "precision", lambda device, mixed: torch.bfloat16)
    monkeypatch.setattr(segment, "load_model", lambda path: (Differing(), header(1)))
    map_raster(tmp_path, image, heard, tile_size=512, halo=0, mixed_precision=True)
    (told,) = [text for text in heard.logs if "bfloat16" in text]
    assert "99.29% of the pixels in a part of the raster" in told and "float32 is used" in told


@pytest.mark.parametrize("channels", [1, 3])
def test_answers_that_are_no_numbers_are_others(channels: int) -> None:
    whole, half = torch.zeros(1, channels, 1, 4), torch.zeros(1, channels, 1, 4)
    whole[0, 0, 0] = 5.0
    half[0, 0, 0] = torch.tensor([5.0, torch.nan, torch.inf, 5.0])
    whole[..., 3] = half[..., 3] = torch.nan  # of both
    assert other_answers(whole, half).tolist() == [[[False, True, True, False]]]


def test_a_header_keeps_the_costs_of_seams_and_may_lack_them() -> None:
    for seams in ((), SEAMS):
        text = header(1, seams=seams).to_metadata()["terrazzo"]
        assert ModelHeader.from_metadata(text, "m").seams == seams
    text = header(1).to_metadata()["terrazzo"].replace('"seams": []', '"unknown": 1')
    assert ModelHeader.from_metadata(text, "m").seams == ()


def test_parts_of_a_coarser_map_fit_together() -> None:
    """A map with a value for 4 × 4 pixels, as of a layer."""
    from plugin.engine.mapping.reading.tile_reader import Batch
    from plugin.engine.mapping.reading.tiling import Tile
    from plugin.engine.models.normalisation import Normaliser
    from plugin.engine.windows import Window

    pool = nn.AvgPool2d(4)
    source = TileSource(pool, Normaliser((0.0,), (1.0,), CPU), 32, unit=4)
    core = Window(3, 5, 70, 50)
    outer = source.outer(core)
    data = np.random.default_rng(0).integers(0, 50, (2, 1, outer.height, outer.width)).astype(np.uint8)
    batch = Batch(data, None, [Tile(core, outer)] * 2, [None, None])
    whole = source.values(batch, lambda share: None)
    source.parts = 3
    assert torch.equal(source.values(batch, lambda share: None), whole) and whole.shape == (2, 1, 50, 70)


# The training


def test_a_long_training_measures_seams_and_its_model_file_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chips = write_chip_folder(tmp_path / "chips", {"training": 4, "validation": 3})
    info = open_dataset(chips)
    reader = ChipReader(info)

    class Prepared:
        device = CPU

        def prepare(self, batch: Any) -> Any:
            return Example(batch[0].float() - batch[0].float().mean(), None, batch[1])

    costs = measure_seams(Blur(40, 0), Prepared(), reader, np.arange(5))  # type: ignore[arg-type]
    assert costs[0] >= 1 and not any(costs[2:])
    settings = {"architecture": "fcn8s", "encoder": "resnet18", "pretrained": "none", "epochs": 1, "device": "cpu"}
    for long in (False, True):
        if long:
            monkeypatch.setattr(train_segmenter, "LONG", 0)
            monkeypatch.setattr("plugin.engine.training.seams.CHIPS", 1)
        output = str(tmp_path / "m.safetensors")
        config = TrainSegmenterConfig.from_json({"chips": str(chips), "output": output, **settings})
        train_segmenter.train_segmenter(config, Heard())
        assert len(read_header(output).seams) == long * len(HALOS)


def test_what_a_network_looks_at_is_measured_with_all_digits() -> None:
    """The three digits of TF32, in which GPUs calculate convolutions by default, differ by more."""
    seen = []

    class Watched(nn.Conv2d):
        def forward(self, images: torch.Tensor, *_unneeded: int) -> torch.Tensor:
            seen.append(torch.backends.cudnn.allow_tf32)
            return super().forward(images)

    network: Any = Watched(1, 2, 1)
    seam_costs(network, [torch.zeros(1, SEEN, SEEN)])
    decoder_reach(network, 1)
    assert len(seen) == 4 and not any(seen) and torch.backends.cudnn.allow_tf32
