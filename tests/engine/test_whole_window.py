"""Whole-window networks are found by a test, and mapped in windows of the size of their chips."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from heard import Heard
from known_segmenter import CLASSES, header
from osgeo import gdal
from synthetic import write_raster
from torch import nn

from plugin.engine.config import ActivationMapsConfig, SegmentRasterConfig
from plugin.engine.mapping import segment
from plugin.engine.mapping.activation.taps import Tap, spacing
from plugin.engine.mapping.activation_maps import activation_maps
from plugin.engine.models.factory import create_model
from plugin.engine.models.model_file import load_model, save_model
from plugin.engine.models.reach import sees_whole_window

CPU = torch.device("cpu")
# (architecture, encoder) → whether it sees its whole window
NETWORKS = {
    **{
        pair: pair[1] == "mobilenet_v3_small"
        for pair in itertools.product(
            ("unet", "fcn", "fcn8s"),
            ("resnet18", "mobilenet_v3_small", "efficientnet_lite0"),
        )
    },
    **{(name, "mobilenet_v2"): False for name in ("linknet", "fpn", "segformer")},
    **{(name, "mobilenet_v2"): True for name in ("pan", "deeplabv3plus")},
    ("segformer", "mit_b0"): True,
    ("linknet", "mobilenetv4_conv_small"): False,
}
ROW, COL = 37, 50  # of the raster that is mapped, some pixels that have no data


def picture(height: int = 100, width: int = 130) -> np.ndarray:
    """Quiet on the left, wild on the right, so that averages differ."""
    rng = np.random.default_rng(5)
    spread = np.linspace(3, 60, width)
    found: np.ndarray = np.clip(120 + rng.normal(0, 1, (height, width)) * spread, 1, 254).astype(np.uint8)
    return found


def by_hand(network: nn.Module, data: np.ndarray, size: int, missing: np.ndarray | None = None) -> np.ndarray:
    """(C, H, W) probabilities of overlapping windows, each weighted by how near a pixel is to its middle."""
    stride, height, width = size // 2, *data.shape
    values = (data.astype(np.float32) - 100) / 50
    if missing is not None:
        values[missing] = 0
    values = np.pad(values, 2 * size, mode="reflect")
    rise = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    total, weight = np.zeros((len(CLASSES), *values.shape)), np.zeros(values.shape)
    first = (stride - size) // 2
    for row in range(first, first + -(-height // stride) * stride, stride):
        for col in range(first, first + -(-width // stride) * stride, stride):
            here = np.s_[row + 2 * size : row + 3 * size, col + 2 * size : col + 3 * size]
            with torch.no_grad():
                found = network(torch.from_numpy(values[here].copy())[None, None]).softmax(1)[0].numpy()
            total[(slice(None), *here)] += found * np.outer(rise, rise)
            weight[here] += np.outer(rise, rise)
    inside = np.s_[2 * size : 2 * size + height, 2 * size : 2 * size + width]
    result: np.ndarray = total[(slice(None), *inside)] / weight[inside]
    return result


def map_raster(folder: Path, image: str, **settings: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Class values, probabilities, and the log."""
    heard = Heard()
    outputs = {"output": str(folder / "map.tif"), "probabilities": str(folder / "shares.tif")}
    segment.segment_raster(
        SegmentRasterConfig(**{"input": image, "model": "m", **outputs, "device": "cpu", **settings}), heard
    )
    return *(gdal.Open(path).ReadAsArray() for path in outputs.values()), heard.logs


class Contrast(nn.Module):
    """Compares each pixel with the mean of all that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[tuple[int, ...]] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.add(tuple(images.shape[-2:]))
        value = images[:, :1] - images[:, :1].mean((2, 3), keepdim=True)
        spread = images[:, :1].std((2, 3), keepdim=True).expand_as(value)
        return torch.cat([-value, spread - 0.5, value], 1)


# Which networks they are


@pytest.mark.parametrize("architecture, encoder", NETWORKS)
def test_every_network_of_the_catalogue_is_known_for_what_it_is(
    tmp_path: Path, architecture: str, encoder: str
) -> None:
    torch.manual_seed(0)
    network = create_model(architecture, encoder, 1, 3).eval()
    # By another way than the trial's: the gradient of what is said of one end, at the other. The weights may learn:
    # otherwise PyTorch 2.5 and 2.6 pass a wrong one through batch norms, where a layer before them has another layout.
    image = torch.randn(1, 1, 1280, 64, requires_grad=True)
    network(image)[:, :, :8].square().sum().backward()
    assert image.grad is not None and image.grad[:, :, :64].any()
    whole = bool(image.grad[:, :, -64:].any())
    assert sees_whole_window(network, 1) is whole
    assert whole is NETWORKS[architecture, encoder]
    if (architecture, encoder) not in (("unet", "mobilenet_v3_small"), ("segformer", "mit_b0")):
        return
    save_model(tmp_path / "m.safetensors", network, header(architecture=architecture, encoder=encoder))
    data = picture(70, 90)
    image_path = write_raster(tmp_path / "image.tif", data)
    values, shares, logs = map_raster(tmp_path, image_path, model=str(tmp_path / "m.safetensors"))
    wanted = by_hand(network, data, 64)
    assert np.abs(shares - wanted).max() < 1e-4
    assert (values == np.array(CLASSES.values)[wanted.argmax(0)]).mean() > 0.999
    assert any("maps windows of 64 × 64 pixels, as in training" in text for text in logs)


class Attention(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = nn.functional.avg_pool2d(images, 32).flatten(2)
        heeded = (tokens.transpose(1, 2) @ tokens).softmax(2) @ tokens.transpose(1, 2)
        return images + heeded.mean(1)[:, :, None, None]


class Faint(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + 1e-13 * images.mean((2, 3), keepdim=True)


FAR = nn.Sequential(*(nn.Conv2d(2, 2, 3, padding=128, dilation=128) for _ in range(7)))  # 896 pixels


@pytest.mark.parametrize(
    "network, whole",
    [
        (nn.Conv2d(2, 3, 7, padding=3), False),
        (FAR, False),
        (nn.BatchNorm2d(2), False),
        (nn.GroupNorm(1, 2), True),
        (nn.InstanceNorm2d(2), True),
        (Attention(), True),
        (nn.Sequential(nn.Flatten(), nn.Linear(2 * 64 * 64, 5)), True),  # takes one size only
        (smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, in_channels=2, classes=3), True),
        (smp.PSPNet("mobilenet_v2", encoder_weights=None, in_channels=2, classes=3), True),
        (smp.Linknet("mobilenet_v2", encoder_weights=None, in_channels=2, classes=3), False),
    ],
)
def test_the_trial_needs_no_names(network: nn.Module, whole: bool) -> None:
    before = torch.get_rng_state()
    assert sees_whole_window(network.eval(), 2) is whole
    assert torch.equal(torch.get_rng_state(), before), "the draws of a training stay what they were"


@pytest.mark.parametrize("seed", range(5))
def test_an_average_counts_that_float32_loses(seed: int) -> None:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), Faint(), nn.Conv2d(2, 2, 1)).eval()
    assert sees_whole_window(network, 2)
    assert spacing(Tap(network, "0"), 2, CPU) == 1  # type: ignore[arg-type]
    assert spacing(Tap(network, "1"), 2, CPU) is None  # type: ignore[arg-type]


def test_a_header_keeps_what_was_found_and_old_files_have_it_looked_up(tmp_path: Path) -> None:
    path = str(tmp_path / "m.safetensors")
    network = create_model("fcn8s", "mobilenet_v3_small", 1, 3)
    for said, found in ((None, True), (True, True), (False, False)):
        save_model(path, network, header(architecture="fcn8s", encoder="mobilenet_v3_small", whole_window=said))
        assert load_model(path)[1].whole_window is found


# How they are mapped


@pytest.mark.parametrize("size", [64, 50, 33])
def test_windows_are_of_the_chips_size_whatever_the_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    data = picture()
    image = write_raster(tmp_path / "image.tif", data)
    wanted = by_hand(Contrast(), data, size)
    for settings in ({}, {"tile_size": 64, "halo": 0}, {"tile_size": 32, "batch_size": 3}):
        network = Contrast()
        monkeypatch.setattr(
            segment, "load_model", lambda path, used=network: (used, header(chip_size=size, whole_window=True))
        )
        monkeypatch.setattr(
            "plugin.engine.mapping.sources.segmenter.WINDOWS_ACROSS", 1
        )  # so that there are several tiles
        values, shares, _ = map_raster(tmp_path, image, **settings)
        assert network.sizes == {(size, size)}
        assert np.abs(shares - wanted).max() < 1e-5
        assert (values == np.array(CLASSES.values)[wanted.argmax(0)]).mean() > 0.9999


def test_pixels_without_data_are_seen_as_in_training_and_stay_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = picture()
    data[:ROW, :COL] = 0
    monkeypatch.setattr(segment, "load_model", lambda path: (Contrast(), header(whole_window=True)))
    values, shares, _ = map_raster(tmp_path, write_raster(tmp_path / "image.tif", data, nodata=0))
    wanted = by_hand(Contrast(), data, 64, data == 0)
    assert np.isnan(shares[:, :ROW, :COL]).all() and (values[:ROW, :COL] == 0).all()
    there = data > 0
    assert np.abs(shares - wanted)[:, there].max() < 1e-5 and (values[there] > 0).all()
    assert np.allclose(shares.sum(0)[there], 1, atol=1e-5)


def test_a_part_of_a_raster_is_mapped_as_it_is_in_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "load_model", lambda path: (Contrast(), header(whole_window=True)))
    image = write_raster(tmp_path / "image.tif", picture())
    whole = map_raster(tmp_path, image)[1]
    left, _, _, top, _, _ = gdal.Open(image).GetGeoTransform()
    part = map_raster(tmp_path, image, extent=(left + 21, top - 90, left + 111, top - 13))[1]
    assert np.abs(part - whole[:, 13:90, 21:111]).max() < 1e-5


# What they look at


def test_class_activation_does_not_depend_on_the_tile(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = create_model("fcn8s", "mobilenet_v3_small", 1, 3)
    save_model(tmp_path / "m.safetensors", network, header(architecture="fcn8s", encoder="mobilenet_v3_small"))
    image = write_raster(tmp_path / "image.tif", picture(140, 150))
    maps = []
    for tile_size in (512, 32):
        heard = Heard()
        config = ActivationMapsConfig(
            model=str(tmp_path / "m.safetensors"), input=image, output=str(tmp_path / "heat.tif"), target_class="5",
            kind="class_activation", tile_size=tile_size, halo=0, device="cpu",
        )  # fmt: skip
        activation_maps(config, heard)
        assert any("Chips of 64 pixels every 32 are blended" in text for text in heard.logs)
        maps.append(gdal.Open(config.output).ReadAsArray())
    assert maps[0].max() > 0 and np.allclose(maps[0], maps[1], rtol=1e-3, atol=1e-5 * maps[0].max())


def test_layers_in_front_of_the_first_average_are_mapped_in_tiles(tmp_path: Path) -> None:
    network = create_model("unet", "mobilenet_v3_small", 1, 3).eval()
    assert spacing(Tap(network, "encoder.model.conv_stem"), 1, CPU) == 2
    assert spacing(Tap(network, "encoder.model.blocks.1"), 1, CPU) is None
    assert spacing(Tap(create_model("unet", "resnet18", 1, 3).eval(), "encoder.layer2"), 1, CPU) == 8
