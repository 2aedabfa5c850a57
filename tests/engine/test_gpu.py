"""What only a GPU can show; `benchmarks/gpu_check.sh` runs these tests where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chip_folder import write_chip_folder
from heard import Heard
from optimizing import Costs, optimization
from osgeo import gdal
from ranked import ROOT, loopback
from safetensors.torch import load_file
from synthetic import write_raster

from plugin.engine.chips.dataset import open_dataset
from plugin.engine.config import SegmentRasterConfig, TrainSegmenterConfig
from plugin.engine.device import Later
from plugin.engine.events import Stage
from plugin.engine.mapping.reading.tile_reader import Batch
from plugin.engine.mapping.reading.tiling import Tile
from plugin.engine.mapping.segment import segment_raster
from plugin.engine.mapping.sources.tiles import TileSource
from plugin.engine.models.factory import create_model
from plugin.engine.models.header import read_header
from plugin.engine.models.normalisation import Normaliser
from plugin.engine.recipe.optimizer import OPTIMIZERS
from plugin.engine.training.chips import ChipReader, ResidentChips, StreamedChips, load_chips
from plugin.engine.training.optimization import Optimization
from plugin.engine.training.pace import Pace
from plugin.engine.training.plan import FineTuning
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.segmentation import SegmentationTask
from plugin.engine.training.tally import PixelTally
from plugin.engine.training.train_segmenter import train_segmenter
from plugin.engine.windows import Window

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


@pytest.fixture(scope="module")
def chips(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("c") / "chips"
    return str(write_chip_folder(folder, {"training": 24, "validation": 8}, dtype="int16", nodata=-9))


def train(chips: str, path: Path, **changes: Any) -> Any:
    values = {"chips": chips, "output": str(path), "encoder": "resnet18", "epochs": 10, "pretrained": "none", **changes}
    heard = Heard()
    train_segmenter(TrainSegmenterConfig.from_json({"batch_size": 8, "learning_rate": 3e-3, **values}), heard)
    return read_header(str(path)), heard


def test_batches_are_the_same_from_the_gpu_from_memory_and_from_files(chips):
    reader, places = ChipReader(open_dataset(chips)), np.arange(24)
    on_gpu, in_memory = (
        load_chips(reader, places, GPU, keep, Stage(Heard(), 24, "Reading chips")) for keep in (GPU, CPU)
    )
    assert isinstance(on_gpu, ResidentChips) and isinstance(in_memory, StreamedChips)
    orders = [np.array([3, 20, 7]), np.array([1, 2])]
    kinds = [kind.batches(orders) for kind in (on_gpu, in_memory, StreamedChips(reader, places, GPU))]
    for order, *batches in zip(orders, *kinds):
        for images, targets in batches:
            assert images.device == targets.device == GPU
            expected = reader.read(order)
            assert torch.equal(images.cpu(), expected[0]) and torch.equal(targets.cpu(), expected[1])


def test_no_step_waits_for_the_gpu(chips):
    config = TrainSegmenterConfig(chips=chips, output="").replace(epochs=5, augmentation="strong", ema_decay=0.9)
    config = config.replace(
        **config.augmentation.settled().to_json(),
        **config.optimizer.settled("segmentation"),
        **config.fine_tuning.settled(None, False),
    )
    dataset = open_dataset(chips)
    network = create_model("unet", "resnet18", 3, 3).to(GPU).train()
    pace = Pace(config.schedule, 3, 0, 0.0)
    pace.begin(1, [])
    sampling = Sampling(config.sampling, dataset.info, dataset.pixels)
    task = SegmentationTask(dataset.info, sampling, config, GPU)
    moved = Optimization(
        network, FineTuning(network, config.fine_tuning), config.optimizer, pace, 4, True, 0, GPU, Heard()
    )
    if moved.precision is torch.float16:
        pytest.skip("the gradient scaler of GPUs before Ampere waits")
    kept = load_chips(ChipReader(dataset), np.arange(24), GPU, GPU, Stage(Heard(), 24, ""))
    tally, orders = task.tally(), [np.arange(8), np.arange(8, 16)]
    for number, batch in enumerate(kept.batches(orders)):
        torch.cuda.set_sync_debug_mode("error" if number else "default")  # the first step makes what others use again
        try:
            tally.include(moved.step(task, batch))
            later = Later(tally.totals())
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(later.read()).all()


def test_a_training_in_16_bits_is_as_good_as_one_in_32(chips, tmp_path):
    half, _ = train(chips, tmp_path / "half.safetensors", device="cuda")
    whole, _ = train(chips, tmp_path / "whole.safetensors", device="cuda", mixed_precision=False)
    assert half.metrics["precision"] in ("bfloat16", "float16") and whole.metrics["precision"] == "float32"
    scores = [header.metrics["validation"]["mean_iou"] for header in (half, whole)]
    print(f"mean IoU in {half.metrics['precision']} {scores[0]:.3f}, in float32 {scores[1]:.3f}")
    assert min(scores) > 0.8 and abs(scores[0] - scores[1]) < 0.1


@pytest.mark.parametrize(("architecture", "encoder"), [("unet", "resnet18"), ("fcn8s", "efficientnet_lite0")])
def test_two_deterministic_trainings_are_equal(chips, tmp_path, architecture, encoder):
    values = {"device": "cuda", "epochs": 3, "deterministic": True, "augmentation": "strong"}
    values |= {"architecture": architecture, "encoder": encoder}
    found = [train(chips, tmp_path / f"{number}.safetensors", **values) for number in range(2)]
    print([text for _, heard in found for text in heard.warnings if "DETERMINISTIC" in text])
    first, second = (load_file(tmp_path / f"{number}.safetensors") for number in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_compiled_network_learns_as_well(chips, tmp_path):
    header, heard = train(chips, tmp_path / "m.safetensors", device="cuda", compile=True)
    assert not [text for text in heard.warnings if "COMPILE" in text]
    assert header.metrics["validation"]["mean_iou"] > 0.8


def test_counts_on_the_gpu_are_those_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 64, 64, generator=generator)
    logits[0, :, :9] = torch.nan  # no answer
    targets = torch.randint(0, 6, (4, 64, 64), generator=generator)
    targets = torch.where(targets == 5, 255, targets).to(torch.uint8)
    tallies = [PixelTally(5, device) for device in (CPU, GPU)]
    for tally in tallies:
        for _ in range(2):
            tally.count(logits.to(tally.counts.device), targets.to(tally.counts.device))
    assert torch.equal(tallies[0].counts, tallies[1].counts.cpu()) and tallies[0].counts.sum() == 2 * targets.numel()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_move_on_the_gpu_as_on_the_cpu(optimizer):
    moved = []
    images, targets = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        steps = optimization(optimizer=optimizer, learning_rate=0.01, weight_decay=0.01, device=device)
        for _ in range(3):
            steps.step(Costs(device=device), (images.to(device), targets.to(device)))
        moved.append([value.detach().cpu() for value in steps.weights])
    for one, other in zip(*moved):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_gpu_that_is_too_small_for_the_batch_gets_it_in_pieces(chips, tmp_path):
    values = {"device": "cuda", "epochs": 2, "learning_rate": 1e-4, "mixed_precision": False}
    needed = {}
    for size in (2, 24):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        train(chips, tmp_path / f"{size}.safetensors", batch_size=size, **values)
        needed[size] = torch.cuda.max_memory_reserved()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction((needed[2] + needed[24]) / 2 / total)
    try:
        header, heard = train(chips, tmp_path / "scarce.safetensors", batch_size=24, **values)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("memory is not enough" in text for text in heard.logs)
    assert all(np.isfinite(epoch["training"]["loss"]) for epoch in header.history)


# One rank of torchrun, which is told that there are two once it has connected: so it exchanges all that ranks do.
RANK = """
import os, sys
sys.path[:0] = [{root!r}, {tests!r}]
import torch, torch.distributed as dist
from plugin.engine import ranks
from plugin.engine.torchrun import Rank, own_rank
from plugin.engine.training.train_segmenter import TrainSegmenterConfig, train_segmenter
from heard import Heard
device = torch.device({device!r})
ranks.own_rank = lambda: Rank(0, 2)
ranks.join(device)
print(dist.get_backend_config())
values = torch.arange(6.0, device=device)
assert torch.equal(ranks.total(values), values) and torch.equal(ranks.gather(values), values)
assert ranks.of_first(2.5) == 2.5 and ranks.highest(3) == 3
ranks.own_rank = own_rank
os.environ["WORLD_SIZE"] = "2"
ranks.check_same = lambda facts: None  # with a rank that is not there
ranks.average([values])
assert torch.equal(values, torch.arange(6.0, device=device) / 2)
settings = dict(chips={chips!r}, output={output!r}, encoder="resnet18", pretrained="none", epochs=2, batch_size=8)
train_segmenter(TrainSegmenterConfig.from_json({{**settings, "loss": "dice", "device": device.type}}), Heard())
dist.destroy_process_group()
"""


def test_a_rank_on_a_gpu_exchanges_through_nccl(chips, tmp_path):
    script, output = tmp_path / "rank.py", tmp_path / "m.safetensors"
    values = {"root": str(ROOT), "tests": str(ROOT / "tests"), "device": str(GPU), "chips": chips}
    script.write_text(RANK.format(**values, output=str(output)))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", str(script)]
    done = subprocess.run(torchrun, cwd=ROOT, env={**os.environ, **loopback()}, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "nccl" in done.stdout and read_header(str(output)).metrics["validation"]["mean_iou"] > 0


def test_a_map_in_16_bits_is_the_same_in_tiles_and_in_parts(chips, tmp_path):
    """A network that has learned something maps noise in patches on the CPU in one piece, and on the GPU in tiles."""
    train(chips, tmp_path / "m.safetensors", device="cuda")
    tones = np.random.default_rng(1).integers(20, 230, (3, 40, 44)).repeat(32, 1).repeat(32, 2).astype(np.int16)
    image, maps = write_raster(tmp_path / "image.tif", tones), []
    for device, tile_size in (("cpu", 2048), ("cuda", None), ("cuda", 512)):
        reporter, output = Heard(), str(tmp_path / "map.tif")
        segment_raster(
            SegmentRasterConfig(
                input=image, model=str(tmp_path / "m.safetensors"), output=output, device=device, tile_size=tile_size
            ),
            reporter,
        )
        maps.append(gdal.Open(output).ReadAsArray())
        print(*(text for text in reporter.logs if "16" in text or "float" in text or "Tiles" in text))
    assert all((found == maps[0]).mean() > 0.99 for found in maps)


def test_tiles_beyond_the_memory_of_the_gpu_are_computed_in_parts():
    class Greedy(torch.nn.Module):
        def forward(self, images):
            if images.shape[-1] > 600:
                torch.empty(2**45, dtype=torch.uint8, device=images.device)
            return images

    told: list[str] = []
    source = TileSource(Greedy(), Normaliser((0.0,), (1.0,), GPU), 32, tell=told.append)
    core = Window(0, 0, 1024, 1024)
    outer = source.outer(core)
    data = np.random.default_rng(0).integers(0, 50, (1, 1, outer.height, outer.width)).astype(np.uint8)
    found = source.values(Batch(data, None, [Tile(core, outer)], [None]), lambda share: None)
    assert len(told) == 1 and np.array_equal(found.cpu().numpy(), data[..., 32:-32, 32:-32])
