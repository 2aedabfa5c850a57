"""Networks that run in strips answer as in one pass, and maps made so are the same wherever a column begins anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from heard import Heard
from hypothesis import given, settings
from hypothesis import strategies as st
from known_segmenter import header
from osgeo import gdal
from synthetic import LEFT, TOP, rectangle, write_polygons, write_raster
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from plugin.engine import precision
from plugin.engine.config import SegmentRasterConfig
from plugin.engine.errors import Cancelled, ResourceError, not_none
from plugin.engine.events import Stage
from plugin.engine.mapping import segment
from plugin.engine.mapping.reading.steps import Steps
from plugin.engine.mapping.reading.tile_reader import ColumnReader, TileReader
from plugin.engine.mapping.reading.tiling import LONGEST_TURN, Tiling
from plugin.engine.mapping.sources import inference, segmenter, strips
from plugin.engine.mapping.sources.columns import choose_halo, divide, is_width, pixels_seen, widest_columns, widths
from plugin.engine.mapping.sources.strips import STRIP, strip_rows
from plugin.engine.models.cost import most_memory
from plugin.engine.models.factory import create_model
from plugin.engine.models.folding import folded
from plugin.engine.models.reach import HALOS
from plugin.engine.models.streamable import streamable
from plugin.engine.models.streaming import Layer, Step, Stream
from plugin.engine.rasters.raster_io import RasterReader
from plugin.engine.windows import Window, tiles

BANDS, CPU = 2, torch.device("cpu")


class Branches(nn.Module):
    """Maps with several users: a shortcut, a join of two strides, and a result that is used in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(BANDS, 4, 3, padding=1), nn.Conv2d(4, 4, 5, 2, padding=2)
        self.third, self.last = nn.Conv2d(4, 4, 3, padding=2, dilation=2), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        one = torch.relu_(self.first(images))
        two = self.second(one)
        two = nn.functional.silu(two + self.third(two))
        larger = nn.functional.interpolate(two, scale_factor=2.0)
        found: torch.Tensor = self.last(torch.cat([larger, one], 1))
        return found


def conv(*args: int, **more: Any) -> nn.Module:
    return nn.Conv2d(*args, **more)


SMALL: dict[str, Callable[[], nn.Module]] = {
    "branches": Branches,
    "strided": lambda: nn.Sequential(conv(BANDS, 4, 7, 4, padding=3), nn.Upsample(scale_factor=4), conv(4, 3, 1)),
    "one-sided padding": lambda: nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), conv(BANDS, 4, 3, 2), nn.Hardtanh(), nn.ConvTranspose2d(4, 3, 4, 2, 1)
    ),
    "padding below": lambda: nn.Sequential(nn.ZeroPad2d((1, 1, 0, 2)), conv(BANDS, 3, 3)),
    "pools": lambda: nn.Sequential(
        conv(BANDS, 4, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.LeakyReLU(0.1),
        nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False), conv(4, 3, 3, padding=1),
    ),
    "bilinear": lambda: nn.Sequential(
        conv(BANDS, 4, 8, 8), nn.Upsample(scale_factor=8, mode="bilinear", align_corners=False), nn.BatchNorm2d(4)
    ),
    "enlarged": lambda: nn.Sequential(
        conv(BANDS, 4, 8, 8), nn.ReLU(), nn.Upsample(scale_factor=4), conv(4, 4, 5, padding=2), nn.ReLU(),
        nn.Upsample(scale_factor=2), conv(4, 3, (3, 5), padding=(2, 1)), conv(3, 3, (3, 3), padding=(0, 2)),
    ),
    "transposed": lambda: nn.Sequential(conv(BANDS, 4, 2, 2), nn.ConvTranspose2d(4, 3, 2, 2), nn.GELU(), nn.Sigmoid()),
}  # fmt: skip


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name in SMALL:
        return SMALL[name]().eval()
    return folded(create_model(*name.split("/"), BANDS, 3).eval(), BANDS)


def picture(rows: int, cols: int = 96) -> torch.Tensor:
    image = torch.randn(1, BANDS, rows, cols, generator=torch.Generator().manual_seed(1))
    return image.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=10, deadline=None)
@given(heights=st.lists(st.integers(1, 4), min_size=1, max_size=6))
@torch.no_grad()
def test_strips_of_any_height_give_the_result_of_one_pass(name: str, heights: list[int]) -> None:
    network = network_of(name)
    found = streamable(network, BANDS)
    image = picture(32 * sum(heights))
    assert found is not None
    untouched = image.clone()
    strips = torch.split(image, [32 * height for height in heights], -2)
    whole = found.begin(image.shape[-2]).whole(strips)
    torch.testing.assert_close(whole, network(image), rtol=1e-4, atol=1e-5)
    assert torch.equal(image, untouched)


def test_a_layer_that_gives_fewer_rows_than_it_says_ends_in_an_error() -> None:
    image = Step(Layer(lambda values, memory: values[0]), ())
    short = Layer(lambda values, memory: values[0][..., :0, :], first=lambda row: 0)
    with pytest.raises(ValueError, match="No further row"):
        Stream([image, Step(short, (0,))], 64).whole([picture(64)])


class Mixed(nn.Module):
    """Joins the image, which has 32 bits, with what a convolution makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv(BANDS, BANDS, 3, padding=1), conv(2 * BANDS, BANDS, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        one = torch.sigmoid(self.first(images))
        found: torch.Tensor = self.last(torch.cat([one, images], 1)) + images
        return found


@pytest.mark.parametrize("network", [Branches, Mixed])
@torch.no_grad()
def test_strips_in_16_bits_are_as_in_one_pass(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    made = network().eval()
    found, image = streamable(made, BANDS), picture(256)
    assert found is not None
    with precision.autocast(CPU, torch.bfloat16):
        whole, expected = found.begin(256).whole(torch.split(image, 64, -2)), made(image)
    assert whole.dtype is expected.dtype
    torch.testing.assert_close(whole, expected, rtol=1e-2, atol=1e-2)


class Conversions(TorchDispatchMode):
    """Counts conversions to another type."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_weights_are_converted_to_16_bits_once() -> None:
    found = streamable(network_of("branches"), BANDS)
    assert found is not None
    stream, counts = found.begin(256), []
    for strip in torch.split(picture(256), 64, -2):
        with precision.autocast(CPU, torch.bfloat16), Conversions() as counter:
            stream.push(strip)
        counts.append(counter.count)
    assert counts[0] > 1 and counts[1:] == [1, 1, 1]  # the image


@pytest.mark.parametrize(
    "name",
    [
        "unet/resnet18", "unet/efficientnet_lite0", "unetplusplus/resnet18", "linknet/resnet18", "fcn/resnet18",
        "fcn8s/resnet18", "unet/timm:resnet26d",
    ],
)  # fmt: skip
@torch.no_grad()
def test_usual_networks_run_in_strips(name: str) -> None:
    network = network_of(name)
    found = streamable(network, BANDS)
    assert found is not None
    assert widest_columns(found, BANDS, 3, 2048, 8e9) == 2048
    image = picture(384, 64)
    whole, expected = found.begin(384).whole(torch.split(image, 64, -2)), network(image)
    assert (whole - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["unet/resnet18", "unetplusplus/resnet18"])
@torch.no_grad()
def test_enlarged_maps_cost_fewer_multiplications_in_strips(name: str) -> None:
    network, image = network_of(name), picture(2048, 64)
    found = streamable(network, BANDS)
    assert found is not None
    counts = []
    for run in (network, lambda image: found.begin(2048).whole(torch.split(image, 64, -2))):
        with FlopCounterMode(display=False) as counter:
            run(image)
        counts.append(counter.get_total_flops())
    assert counts[1] < 0.9 * counts[0]


@pytest.mark.parametrize("name", ["unet/resnet18", "fcn8s/resnet18"])
@torch.no_grad()
def test_the_decoder_need_not_see_the_columns_of_a_halo(name: str) -> None:
    network = network_of(name)
    found = streamable(network, BANDS, 32)
    assert found is not None
    image = picture(192, 320)
    whole, expected = found.begin(192).whole(torch.split(image, 64, -2)), network(image)
    assert (whole[..., :32] == 0).all() and (whole[..., -32:] == 0).all()
    inner = slice(128, -128)
    assert (whole - expected)[..., inner].abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(expected, network(image, 0))


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(conv(BANDS, 3, 3, padding=1), nn.InstanceNorm2d(3)),
        nn.Sequential(conv(BANDS, 3, 1), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
        nn.Sequential(conv(BANDS, 3, 3, padding=1, padding_mode="replicate")),
        nn.Sequential(conv(BANDS, 3, 1), nn.Softmax(2)),
        nn.Sequential(conv(BANDS, 3, 1), nn.AdaptiveAvgPool2d(1)),
    ],
)
def test_networks_that_look_at_more_than_some_rows_are_not_run_in_strips(network: nn.Module) -> None:
    assert streamable(network.eval(), BANDS) is None


class Fickle(nn.Module):
    """Does something else with small images."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = conv(BANDS, 3, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.convolution(images)
        return found if images.shape[-2] < 100 else -found


def test_a_network_whose_result_would_be_another_is_not_run_in_strips() -> None:
    assert streamable(Fickle(), BANDS) is None


@pytest.mark.parametrize("name", ["branches", "bilinear", "one-sided padding", "unet/resnet18"])
@torch.no_grad()
def test_a_row_depends_on_no_row_farther_than_the_reach(name: str) -> None:
    network = network_of(name)
    found = streamable(network, BANDS)
    assert found is not None and found.reach % 32 == 0
    rows = 2 * found.reach + 96
    image, inner = picture(rows, 64), slice(found.reach + 32, found.reach + 64)
    other = image.clone()
    other[..., : inner.start - found.reach, :] = other[..., inner.stop + found.reach :, :] = 9.0
    assert torch.equal(network(image)[..., inner, :], network(other)[..., inner, :])
    # And it is not much too large.
    nearer = max(0, found.reach - 64)
    other[..., : inner.start - nearer, :] = other[..., inner.stop + nearer :, :] = 9.0
    assert not torch.equal(network(image)[..., inner, :], network(other)[..., inner, :])


def test_the_memory_does_not_grow_with_the_height() -> None:
    found = streamable(network_of("unet/resnet18"), BANDS)
    assert found is not None

    def memory(height: int) -> int:
        def run() -> None:
            stream = found.begin(height)
            for _ in range(height // 64):
                stream.push(torch.empty(1, BANDS, 64, 64, device="meta").contiguous(memory_format=torch.channels_last))
            while stream.done[-1] < height:
                stream.push(None)

        return not_none(most_memory(run))

    assert memory(4096) == memory(2048) <= 1.05 * memory(1024)


# --- columns


def test_columns_are_whole_blocks_as_wide_as_the_memory_allows() -> None:
    found = streamable(network_of("unet/resnet18"), BANDS)
    assert found is not None
    sizes = []
    for memory in (1e9, 2e8, 1e8, 1e7):
        sizes.append(widest_columns(found, BANDS, 3, 10_000, memory))
    assert sizes[0] == 5120 or sizes[0] == 10240
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] == 0 and all(map(is_width, sizes))
    assert widest_columns(found, BANDS, 3, 700, 1e9) == 1024
    assert not is_width(1000) and not is_width(-512) and not is_width("512")


def test_wide_columns_need_less_halo() -> None:
    costs = (9.0, 1.0, 0.2, 0.1, 0.05, 0.01, 0.0)
    part = Window(0, 0, 20480, 50_000)
    halos = [choose_halo(costs, list(tiles(part, width, 50_000)), part) for width in (512, 1024, 10240)]
    assert halos == [96, 64, 32]
    assert choose_halo((), [part], part) == HALOS[-1]
    # Also at the top and bottom of columns that end inside the part.
    assert choose_halo(costs, [Window(0, 0, 10240, 2048)], part) == 64


@pytest.mark.parametrize("width", [32, 1000, 4480, 8191, 8192, 10_000, 10**6])
def test_strips_have_about_as_many_pixels_and_a_power_of_two_of_rows(width: int) -> None:
    rows = strip_rows(width)
    assert rows % 32 == 0 and (rows // 32).bit_count() == 1
    assert rows == 32 or STRIP / 2 < rows * width <= STRIP


@settings(max_examples=50, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 7)] * 2), seed=st.integers(0, 99), width=st.integers(1, 4))
def test_columns_hold_each_touched_block_once(shape: tuple[int, int], seed: int, width: int) -> None:
    touched = np.random.default_rng(seed).random(shape) < 0.4
    part = Window(100, 50, 512 * shape[1] - 100, 512 * shape[0] - 30)
    columns, count = divide(part, 512 * width, touched), np.zeros(shape, int)
    assert columns == sorted(columns)
    for column in columns:
        assert column == column.intersection(part) and column.width <= 512 * width
        rows = slice((column.row_off - 50) // 512, -(-(column.row_end - 50) // 512))
        cols = slice((column.col_off - 100) // 512, -(-(column.col_end - 100) // 512))
        count[rows, cols] += 1
        here = touched[rows, cols]
        assert here.any(1).all() and here[:, 0].any() and here[:, -1].any()
    assert count.max(initial=0) <= 1 and count[touched].all()
    assert pixels_seen(columns) == sum(column.width * column.height for column in columns)
    assert divide(part, 512 * width, np.ones(shape, bool)) == list(tiles(part, 512 * width, part.height))


def test_columns_may_be_narrower_where_that_leaves_much_out() -> None:
    assert widths(10240) == [10240, 5120, 2560, 1536] and widths(1024) == [1024] and widths(512) == [512]
    part = Window(0, 0, 10240, 10240)
    seen = [pixels_seen(divide(part, width, np.eye(20, dtype=bool)), 192) for width in widths(10240)]
    assert seen[0] > 4 * seen[-1] and seen == sorted(seen, reverse=True)


def test_columns_leave_out_the_ground_between_polygons() -> None:
    touched = np.zeros((20, 20), bool)
    touched[3:9, :2] = touched[4:9, -2:] = True
    touched[12, 5:14] = True
    part = Window(0, 0, 10240, 10240)
    expected = [Window(0, 1536, 1024, 3072), Window(2560, 6144, 4608, 512), Window(9216, 2048, 1024, 2560)]
    assert divide(part, 10240, touched) == expected


@settings(max_examples=50, deadline=None)
@given(width=st.integers(1, 40), height=st.integers(1, 40), part=st.tuples(*[st.integers(1, 90)] * 4))
def test_tiles_in_columns_cover_each_pixel_once(width: int, height: int, part: tuple[int, ...]) -> None:
    window = Window(*part)
    count = np.zeros((200, 200), int)
    cores = list(Tiling(list(tiles(window, width, window.height)), width, height, 1, True).cores())
    for core in cores:
        count[core.slices_in(Window(0, 0, 200, 200))] += 1
    inside = np.zeros_like(count)
    inside[window.slices_in(Window(0, 0, 200, 200))] = 1
    assert np.array_equal(count, inside)
    assert cores == sorted(cores, key=lambda core: core[:2])


def test_a_rank_takes_many_tiles_of_a_column_in_turn() -> None:
    assert Tiling([Window(0, 0, 10_000, 10_000)], 64, 64, 1).in_turn(2) == 1
    assert Tiling([Window(0, 0, 5120, 100_000)] * 2, 5120, 512, 1, True).in_turn(4) == LONGEST_TURN
    assert Tiling([Window(0, 0, 5120, 3000)] * 2, 5120, 512, 1, True).in_turn(4) == 3


class Reading(RasterReader):
    rows = 0

    def read_marked(self, window: Window) -> Any:
        self.rows += window.height
        return super().read_marked(window)


@pytest.mark.parametrize("nodata", [None, 0])
def test_rows_of_a_column_are_read_once(tmp_path: Path, nodata: int | None) -> None:
    data = np.random.default_rng(0).integers(1, 200, (1200, 300)).astype(np.uint8)
    data[500:700, 100:] = 0
    path = write_raster(tmp_path / "image.tif", data, nodata=nodata)
    first, second = Reading(path), Reading(path)
    steps = Steps(1, 1, first.info.grid)
    once, again = ColumnReader(first, steps, None), TileReader(second, steps, None)
    windows = [Window(-32, top, 200, min(672, 1232 - top)) for top in (-32, 480, 992)]
    for window in [*windows, windows[0], Window(64, 512, 200, 300)]:
        (data, missing), (others, gaps) = once.read_mirrored(window), again.read_mirrored(window)
        assert np.array_equal(data, others)
        assert (missing is not None and missing.any()) == (gaps is not None and gaps.any())
        assert missing is None or gaps is None or np.array_equal(missing, gaps)
    assert second.rows - first.rows == 2 * 160


# --- maps

WIDTH, HEIGHT = 1100, 2300  # two columns, five tiles in each


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Regions, gaps, and a tile without data in the first column."""
    rng = np.random.default_rng(3)
    data = np.kron(rng.integers(10, 220, (HEIGHT // 20, WIDTH // 20)), np.ones((20, 20))).astype(np.uint8)
    data += rng.integers(0, 30, data.shape, np.uint8)
    data[100:140, 500:900] = data[1024:1536, :600] = 0
    return write_raster(tmp_path / "image.tif", data, nodata=0)


class Pushes:
    """Those of a network; before one of them, an error is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = self.fails_at = 0
        self.pixels = 0  # of all strips
        self.failure: Exception = ResourceError("The power is gone.", "Wait.")
        push = Stream.push

        def counted(stream: Stream, strip: Any) -> Any:
            self.count += 1
            if self.count == self.fails_at:
                raise self.failure
            self.pixels += 0 if strip is None else strip[0, 0].numel()
            return push(stream, strip)

        monkeypatch.setattr(Stream, "push", counted)


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> Pushes:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), conv(1, 4, 5, 2, padding=1), nn.ReLU(), conv(4, 6, 3, 2, padding=1), nn.SiLU(),
            nn.Upsample(scale_factor=4), conv(6, 3, 3, padding=1),
        ).eval()  # fmt: skip

    monkeypatch.setattr(segment, "load_model", lambda path: (network(), header()))
    monkeypatch.setattr(segmenter, "WORTHWHILE", 1)
    monkeypatch.setattr(segmenter, "widest_columns", lambda *args: 1024)
    monkeypatch.setattr(strips, "STRIP", 2**17)
    return Pushes(monkeypatch)


def map_raster(folder: Path, image: str, heard: Heard | None = None, **more: Any) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(exist_ok=True)
    config = {
        "input": image, "model": "m", "output": str(folder / "map.tif"), "probabilities": str(folder / "shares.tif"),
        "device": "cpu", "halo": 32, **more,
    }  # fmt: skip
    segment.segment_raster(SegmentRasterConfig.from_json(config), heard or Heard())
    classes, shares = gdal.Open(config["output"]), gdal.Open(config["probabilities"])
    return classes.ReadAsArray(), shares.ReadAsArray()


def test_a_map_in_columns_is_that_of_one_pass(tmp_path: Path, image: str, pushes: Pushes) -> None:
    heard = Heard()
    found = map_raster(tmp_path / "strips", image, heard)
    assert pushes.count and any("columns of 1024 pixels" in text for text in heard.logs)
    pushes.count = 0
    expected = map_raster(tmp_path / "tile", image, tile_size=4096)
    assert not pushes.count
    assert np.array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-5)
    assert (found[0] == 0).sum() == 40 * 400 + 512 * 600 and len(np.unique(found[0])) == 4


@pytest.fixture
def area(tmp_path: Path) -> str:
    """Two polygons beside each other, of different heights; one below, with a block between; and a small one."""
    shapes = [(40, 30, 500, 700), (620, 100, 1090, 500), (700, 1600, 900, 2290), (1030, 1200, 1036, 1206)]
    places = [(left, -bottom, right, -top) for left, top, right, bottom in shapes]
    shift = [LEFT, TOP, LEFT, TOP]
    polygons = [(1, rectangle(*(np.array(place) + shift))) for place in places]
    return write_polygons(tmp_path / "area.gpkg", polygons, layer="area")


def test_the_map_of_an_area_runs_in_strips_where_the_polygons_are(
    tmp_path: Path, image: str, area: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    whole = map_raster(tmp_path / "whole", image)
    everywhere, pushes.pixels = pushes.pixels, 0
    monkeypatch.setattr(segmenter, "widest_columns", lambda *args: 512)
    found = map_raster(tmp_path / "strips", image, heard, area=area)
    assert any("columns of 512 pixels" in text for text in heard.logs)
    assert 0 < pushes.pixels < 0.7 * everywhere
    pushes.pixels = 0
    tiled = map_raster(tmp_path / "tile", image, area=area, tile_size=4096)
    assert not pushes.pixels
    inside = tiled[0] != 0
    left, top = 40, 30  # of the polygons
    cut = [one[..., top:2290, left:1090] for one in whole]
    assert np.array_equal(found[0], tiled[0]) and np.array_equal(found[0], np.where(inside, cut[0], 0))
    np.testing.assert_allclose(found[1], tiled[1], rtol=0, atol=1e-5)
    assert len(heard.fractions) > 2 and heard.fractions == sorted(heard.fractions)


def test_the_type_is_chosen_by_places_all_over_the_raster(
    tmp_path: Path, image: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(inference, "precision", lambda device, mixed: None)
    monkeypatch.setattr(inference.Inference, "_compare", lambda self, images, *_: seen.append(images) or "float32")
    map_raster(tmp_path / "map", image, mixed_precision=True)
    (images,) = seen
    assert images.shape == (4, 1, 512, 512)
    assert len({float(one.mean()) for one in images}) == 4


@pytest.mark.parametrize("at", [8, 20, 40])
def test_a_resumed_map_in_columns_is_the_same(tmp_path: Path, image: str, pushes: Pushes, at: int) -> None:
    expected = map_raster(tmp_path / "one", image)
    pushes.fails_at = pushes.count + at
    with pytest.raises(ResourceError):
        map_raster(tmp_path / "two", image, resume=True)
    before = pushes.count
    found = map_raster(tmp_path / "two", image, resume=True)
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1], equal_nan=True)
    if at == 40:
        assert pushes.count - before < before - at


def test_a_resumed_map_keeps_its_strips_or_tiles(
    tmp_path: Path, image: str, area: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever memory there is, and whether the network's layers can be found: no finished piece is lost."""
    pushes.fails_at = 24
    with pytest.raises(ResourceError):
        map_raster(tmp_path / "strips", image, resume=True, area=area)
    with monkeypatch.context() as now:
        now.setattr(segmenter, "WORTHWHILE", 10**9)
        now.setattr(segmenter, "widest_columns", lambda *args: 0)
        now.setattr(inference, "streamable", lambda *args: None)
        with pytest.raises(ResourceError, match="was made in strips, in which the network cannot be run now"):
            map_raster(tmp_path / "strips", image, resume=True, area=area)
    with monkeypatch.context() as now:
        now.setattr(segmenter, "WORTHWHILE", 10**9)
        now.setattr(segmenter, "widest_columns", lambda *args: 0)
        heard = Heard()
        found = map_raster(tmp_path / "strips", image, heard, resume=True, area=area)
    assert any("strips down columns of" in text for text in heard.logs) and heard.logs[-1].startswith("Mapped")
    expected = map_raster(tmp_path / "whole", image, area=area)
    assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1], equal_nan=True)
    monkeypatch.setattr(segmenter, "widest_columns", lambda *args: 0)
    with monkeypatch.context() as now, pytest.raises(Cancelled):
        now.setattr(Stage, "INTERVAL", 0.0)
        map_raster(tmp_path / "tiles", image, Heard(cancel_after=3), resume=True, area=area)
    monkeypatch.setattr(segmenter, "widest_columns", lambda *args: 1024)
    heard = Heard()
    map_raster(tmp_path / "tiles", image, heard, resume=True, area=area)
    assert heard.logs[1].startswith("Tiles of") and heard.logs[2].startswith("Mapping resumes: ")


def test_progress_counts_a_tile_once_also_if_it_is_begun_again(
    tmp_path: Path, image: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stage, "INTERVAL", 0.0)
    done: list[float] = []
    advance = Stage.advance

    def counted(stage: Stage, steps: float = 1, text: str | None = None) -> None:
        done.extend([steps] if stage.text == "Mapping" else [])
        advance(stage, steps, text)

    monkeypatch.setattr(Stage, "advance", counted)
    pushes.fails_at, pushes.failure = 21, RuntimeError("can't allocate memory")
    map_raster(tmp_path / "map", image)
    assert min(done) >= 0 and sum(done) == pytest.approx(WIDTH * HEIGHT)


def test_strips_that_need_too_much_memory_become_smaller(tmp_path: Path, image: str, pushes: Pushes) -> None:
    expected, heard = map_raster(tmp_path / "one", image), Heard()
    pushes.fails_at, pushes.failure = pushes.count + 20, RuntimeError("can't allocate memory")
    found = map_raster(tmp_path / "two", image, heard)
    assert any("strips, so they have 32 rows" in text for text in heard.logs)
    assert np.array_equal(found[0], expected[0])


@pytest.mark.parametrize(
    "settings", [{"tile_size": 512}, {"test_time_augmentation": "mirror"}, {"test_time_scales": [1.0, 1.25]}], ids=str
)
def test_what_needs_tiles_gets_tiles(tmp_path: Path, image: str, pushes: Pushes, settings: dict[str, Any]) -> None:
    map_raster(tmp_path / "map", image, **settings)
    assert not pushes.count


def test_a_network_that_cannot_be_run_in_strips_gets_tiles(
    tmp_path: Path, image: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "streamable", lambda *args: None)
    map_raster(tmp_path / "map", image)
    assert not pushes.count


def test_a_network_whose_memory_cannot_be_counted_gets_tiles(
    tmp_path: Path, image: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = Stream.push

    def refuse(stream: Stream, strip: Any) -> Any:
        if strip is not None and strip.is_meta:
            raise IndexError("select(): index 0 out of range")
        return push(stream, strip)

    monkeypatch.setattr(Stream, "push", refuse)
    monkeypatch.setattr(segmenter, "widest_columns", widest_columns)
    heard = Heard()
    map_raster(tmp_path / "map", image, heard)
    assert any("cannot be counted, so the map is made in tiles" in text for text in heard.logs)
    assert not any("columns" in text for text in heard.logs)


def test_a_network_that_looks_at_single_pixels_gets_tiles(
    tmp_path: Path, image: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (conv(1, 3, 1).eval(), header()))
    heard = Heard()
    map_raster(tmp_path / "map", image, heard)
    assert not any("columns" in text for text in heard.logs)


def test_an_ensemble_runs_in_strips(tmp_path: Path, image: str, pushes: Pushes) -> None:
    found = map_raster(tmp_path / "two", image, ensemble=["n"])
    assert pushes.count
    pushes.count = 0
    expected = map_raster(tmp_path / "tile", image, ensemble=["n"], tile_size=4096)
    assert not pushes.count and np.array_equal(found[0], expected[0])
