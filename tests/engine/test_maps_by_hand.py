"""Maps of random rasters with random settings, against one pass in float64 over the whole raster that shares no code
with them.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from heard import Heard
from known_segmenter import CLASSES, header
from osgeo import gdal
from torch import nn

from plugin.engine.config import SegmentRasterConfig
from plugin.engine.mapping import segment
from plugin.engine.mapping.sources import columns, segmenter, strips

RANGES = {"uint8": (0, 255), "uint16": (0, 60000), "int16": (-8000, 12000), "float32": (-1, 1), "float64": (-300, 500)}
CODES = {"uint8": "Byte", "uint16": "UInt16", "int16": "Int16", "float32": "Float32", "float64": "Float64"}
NODATA = {"uint8": 0, "uint16": 65535, "int16": -9999, "float32": -9999.0, "float64": 1e20}
BANDS = ("red", "green", "blue", "nir")
REACH, PAD = 16, 64  # of the network, and what is mirrored around the raster
SURE = 2e-4  # pixels whose two likeliest classes are so close may get either


class Small(nn.Module):
    """A network that looks `REACH` pixels far at most, at strides 1 and 2."""

    def __init__(self, bands: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.fine = nn.Sequential(nn.Conv2d(bands, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=2, dilation=2))
        self.last = nn.Conv2d(14, 3, 3, padding=1)
        self.fine[1].running_mean.uniform_(-0.2, 0.2)
        self.fine[1].running_var.uniform_(0.5, 1.5)
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        fine = self.fine(images)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2, mode="nearest")
        found: torch.Tensor = self.last(torch.cat([coarse, fine], 1)) * 4
        return found


class Raster:
    """A random raster, as a file and as arrays."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.dtype = str(rng.choice(list(RANGES)))
        self.names = [str(name) for name in rng.permutation(BANDS)]
        height, width = (int(side) for side in rng.integers(30, 90, 2))
        low, high = RANGES[self.dtype]
        coarse = rng.random((4, height // 5 + 1, width // 5 + 1)).repeat(5, 1).repeat(5, 2)[:, :height, :width]
        self.data = (low + np.clip(coarse + rng.normal(0, 0.1, coarse.shape), 0, 1) * (high - low)).astype(self.dtype)
        self.missing, self.shown = np.zeros(self.data.shape, bool), np.ones((height, width), bool)
        kind, nodata = rng.choice(["none", "nodata", "mask"]), NODATA[self.dtype]
        if kind == "nodata":
            self.missing = rng.random(self.data.shape) < 0.02
            self.missing[:, :9, :9] = True
            self.data[self.missing] = nodata
            self.missing = self.data == nodata
        if self.dtype.startswith("float"):
            some = rng.random(self.data.shape) < 0.01
            self.data[some] = rng.choice([np.nan, np.inf, -np.inf], int(some.sum()))
            self.missing |= some
        self.path, self.left, self.top, self.step = str(folder / "image.tif"), 4e5, 5e6, float(rng.choice([-1, 1]))
        layout = [f"INTERLEAVE={rng.choice(['BAND', 'PIXEL'])}", "BLOCKYSIZE=16", "PHOTOMETRIC=MINISBLACK", "ALPHA=NO"]
        code = gdal.GetDataTypeByName(CODES[self.dtype])
        target = gdal.GetDriverByName("GTiff").Create(self.path, width, height, 4, code, layout)
        target.SetGeoTransform((self.left, 1, 0, self.top, 0, self.step))
        for number, name in enumerate(self.names, 1):
            band = target.GetRasterBand(number)
            band.SetDescription(name)
            if kind == "nodata":
                band.SetNoDataValue(nodata)
            band.WriteArray(self.data[number - 1])
        if kind == "mask":
            self.shown[: height // 3, : width // 2] = False
            target.CreateMaskBand(gdal.GMF_PER_DATASET)
            target.GetRasterBand(1).GetMaskBand().WriteArray(self.shown.astype(np.uint8) * 255)

    def normalised(self, head: Any) -> torch.Tensor:
        """(1, B, H + 2 PAD, …) bands of a model, mirrored around the raster to a multiple of the stride."""
        places = [self.names.index(name) for name in head.band_names]
        mean, std = (np.array(values)[:, None, None] for values in (head.mean, head.std))
        values = np.where(self.missing[places], mean, self.data[places].astype(np.float64))
        after = [PAD + -side % 32 for side in self.shown.shape]
        for axis, more in zip((1, 2), after):
            place = np.abs(np.arange(-PAD, values.shape[axis] + more))
            last = values.shape[axis] - 1
            place = place % (2 * last)
            values = values.take(np.minimum(place, 2 * last - place), axis)
        return torch.from_numpy(((values - mean) / std).clip(-50, 50))[None]


def expected(raster: Raster, networks: list[Small], heads: list[Any], flips: bool) -> np.ndarray:
    """(3, H, W) mean probabilities."""
    height, width = raster.shown.shape
    total = np.zeros((3, height, width))
    axes: list[list[int]] = [[], [-1], [-2], [-2, -1]] if flips else [[]]
    for network, head in zip(networks, heads):
        images = raster.normalised(head)
        for turned in axes:
            logits = copy.deepcopy(network).double()(images.flip(turned)).flip(turned) / (head.temperature or 1.0)
            total += logits.softmax(1)[0, :, PAD : PAD + height, PAD : PAD + width].numpy()
    return total / (len(axes) * len(networks))


@pytest.mark.parametrize("seed", range(12))
def test_a_map_is_what_one_pass_over_the_raster_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    raster = Raster(tmp_path, rng)
    low, high = RANGES[raster.dtype]
    heads, networks = [], []
    for number in range(int(rng.integers(1, 3))):
        bands = [str(name) for name in rng.permutation(BANDS)[: rng.integers(1, 4)]]
        mean, std = ([float(value)] * len(bands) for value in ((low + high) / 2, (high - low) / 4))
        given = {"mean": tuple(mean), "std": tuple(std), "temperature": float(rng.choice([1, 2]))}
        heads.append(header(bands, dtype=raster.dtype, whole_window=False, **given))
        networks.append(Small(len(bands), seed + 100 * number))
    monkeypatch.setattr(segment, "load_model", lambda path: (copy.deepcopy(networks[int(path)]), heads[int(path)]))
    flips, in_strips = bool(rng.random() < 0.3), bool(rng.random() < 0.5)
    if in_strips:
        monkeypatch.setattr(segmenter, "WORTHWHILE", 0)
        monkeypatch.setattr(segmenter, "widest_columns", lambda *_: 64)
        for module, name in ((segmenter, "BLOCK_SIZE"), (columns, "BLOCK_SIZE"), (columns, "NARROWEST")):
            monkeypatch.setattr(module, name, 32)
        monkeypatch.setattr(strips, "STRIP", 2**12)
    height, width = raster.shown.shape
    col, row, end_col, end_row = (int(rng.integers(*ends)) for ends in ((0, 9), (0, 9), (20, width), (20, height)))
    y = sorted(raster.top + raster.step * place for place in (row, end_row))
    config = {
        "input": raster.path, "model": "0", "ensemble": [str(number) for number in range(1, len(heads))],
        "output": str(tmp_path / "map.tif"), "probabilities": str(tmp_path / "p.tif"), "device": "cpu",
        "extent": (raster.left + col, y[0], raster.left + end_col, y[1]), "halo": REACH,
        "tile_size": None if in_strips else 32, "batch_size": int(rng.integers(1, 4)),
        "test_time_augmentation": "flips" if flips else "none", "mixed_precision": False,
    }  # fmt: skip
    heard = Heard()
    segment.segment_raster(SegmentRasterConfig.from_json(config), heard)
    assert any("in strips" in text for text in heard.logs) == (in_strips and not flips)
    part = slice(row, end_row), slice(col, end_col)
    shares = expected(raster, networks, heads, flips)[(slice(None), *part)]
    valid = (raster.shown & ~_nowhere(raster, heads))[part]
    found, probabilities = (gdal.Open(str(tmp_path / name)).ReadAsArray() for name in ("map.tif", "p.tif"))
    assert np.array_equal(np.isnan(probabilities).all(0), ~valid)
    assert np.abs(probabilities - shares)[:, valid].max() < SURE
    ordered = np.sort(shares, 0)
    sure = ~valid | (ordered[-1] - ordered[-2] > SURE)
    wanted = np.where(valid, CLASSES.values[shares.argmax(0)], 0)
    assert np.array_equal(found[sure], wanted[sure]) and sure.mean() > 0.99


def test_a_single_size_that_is_not_the_rasters_is_seen_in_large_maps_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raster, found = Raster(tmp_path, np.random.default_rng(1)), []
    low, high = RANGES[raster.dtype]
    head = header(["red"], whole_window=False, mean=((low + high) / 2,), std=((high - low) / 4,))
    monkeypatch.setattr(segment, "load_model", lambda path: (Small(1, 0), head))
    monkeypatch.setattr(segmenter, "WORTHWHILE", 0)
    for scales, side in (([0.5], None), ([0.5], 64), ([], None)):
        config = {
            "input": raster.path, "model": "m", "output": str(tmp_path / "map.tif"), "tile_size": side, "halo": REACH,
            "test_time_scales": scales, "mixed_precision": False, "device": "cpu",
        }  # fmt: skip
        segment.segment_raster(SegmentRasterConfig.from_json(config), Heard())
        found.append(gdal.Open(config["output"]).ReadAsArray())
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def _nowhere(raster: Raster, heads: list[Any]) -> np.ndarray:
    """(H, W) bool, true where all bands that a model sees are missing."""
    seen = {raster.names.index(name) for head in heads for name in head.band_names}
    found: np.ndarray = raster.missing[sorted(seen)].all(0)
    return found
