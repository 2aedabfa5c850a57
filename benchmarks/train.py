"""Chips a second of the training loop, beside the limit of the device and a plain DataLoader of PyTorch.

    OMP_WAIT_POLICY=PASSIVE TERRAZZO_PYTHON -m benchmarks.train [--networks unet,resnet34 fcn,resnet50] [--size 256 …]

For each network and batch size, on made-up chips:
- limit: the same step, as few lines of PyTorch, on one batch of random tensors that lie on the device; on a GPU also,
  but for --without-limits, with cuDNN's search for the fastest algorithms, which the loop does without, and with
  channels first instead of last;
- loop: the real loop (`loop.Fit`) with each preset of augmentation, on chips in memory or, with --cached, in a cache;
- DataLoader: the step of the limit on batches that two processes read from the chip files with GDAL; not with
  --without-loader.

All take turns of an epoch each, so that a machine whose speed drifts is fair to all. Printed are medians over the turns
and the ratio to the limit, by time and by processor time, which other work on the machine changes little. With
--profile, the operations follow that take the device the most time in a step with the last preset, and what they take
in one of the limit. With --many N, a cache of N chips of 64 pixels is read for an epoch as well, and the growth of
the memory is printed.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from osgeo import gdal
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity
from torch.utils.data import DataLoader, Dataset

from plugin.engine.chips.dataset import ChipDataset, open_dataset
from plugin.engine.chips.export import export_chips
from plugin.engine.config import ExportChipsConfig, TrainSegmenterConfig
from plugin.engine.device import describe_device
from plugin.engine.events import Reporter, Stage
from plugin.engine.files import readable_size
from plugin.engine.models.factory import create_model
from plugin.engine.precision import autocast
from plugin.engine.training.chip_cache import CachedChips, cached_chips, open_cache
from plugin.engine.training.chips import ChipReader, Chips, StreamedChips, in_order, load_chips
from plugin.engine.training.loop import Fit
from plugin.engine.training.plan import FineTuning
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.segmentation import SegmentationTask

CLASSES = 5
PROFILED, SHOWN = 4, 15  # steps that are profiled, and operations that are printed
Turn = Callable[[], tuple[float, float]]  # an epoch; gives seconds, and seconds of processor time


class EpochEnd(Exception):
    """Leaves the loop after an epoch."""


class Clock(Stage):
    """Notes when the last step of an epoch was done, and only then: to ask for processor time may take milliseconds."""

    def advance(self, steps: float = 1, text: str | None = None) -> None:
        """Called after each step."""
        self.done += 1
        if self.done == self.steps:
            self.last = now()


def main() -> None:
    """Time what the command line asks for, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 256), ("bands", 4), ("chips", 16), ("turns", 5), ("many", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch", nargs="*", type=int, default=[8])
    parser.add_argument("--networks", nargs="*", default=["unet,resnet34", "fcn,resnet50"])
    parser.add_argument("--presets", nargs="*", default=["none", "flips", "standard"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cached", action="store_true")
    parser.add_argument("--without-loader", action="store_true")
    parser.add_argument("--without-limits", action="store_true")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    device = torch.device(given.device)
    print(f"{given.chips} chips of {given.size}² pixels, {given.bands} bands; ", end="")
    print(f"{describe_device(device)}; PyTorch {torch.__version__}; load {load()}")
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), given.size, given.bands, given.chips)
        for network, batch in itertools.product(given.networks, given.batch):
            compare(network, dataset, Path(folder), argparse.Namespace(**{**vars(given), "batch": batch}), device)
        if given.many:
            read_many(Path(folder), given.many)


def make_dataset(folder: Path, size: int, bands: int, chips: int) -> ChipDataset:
    """Export chips of noise in patches, of whose classes nothing can be learned."""
    columns = -(-chips // 4) if chips > 4 else chips
    shape = size * -(-chips // columns), size * columns
    rng = np.random.default_rng(0)
    image, labels = str(folder / "image.tif"), str(folder / "labels.tif")
    write(image, rng.integers(0, 256, (bands, *shape), np.uint8))
    write(labels, rng.integers(1, CLASSES + 1, (1, *shape), np.uint8))
    config = ExportChipsConfig(
        input=(image,), label_rasters=(labels,), background="ignore", output=str(folder / "chips"), chip_size=size,
        bands=tuple(range(1, bands + 1)), validation_share=0.0, test_share=0.0,
    )  # fmt: skip
    export_chips(config, Reporter())
    return open_dataset(folder / "chips")


def write(path: str, values: np.ndarray) -> None:
    """Write a raster of bytes, (bands, rows, columns)."""
    bands, rows, columns = values.shape
    target = gdal.GetDriverByName("GTiff").Create(path, columns, rows, bands, gdal.GDT_Byte)
    target.SetGeoTransform((400000.0, 1, 0, 5500000.0, 0, -1))
    for number, band in enumerate(values, 1):
        target.GetRasterBand(number).WriteArray(band)
    target.FlushCache()


def compare(named: str, dataset: ChipDataset, folder: Path, given: argparse.Namespace, device: torch.device) -> None:
    """Time the loop and what it is compared with for one network, and print a table."""
    architecture, encoder = named.split(",")
    network = create_model(architecture, encoder, given.bands, len(dataset.info.classes)).to(device)
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    places, reader = dataset.indices("training"), ChipReader(dataset)
    if given.cached:
        source = cached_chips(reader, str(folder / "cache"), Reporter(), Stage(Reporter(), 1, ""))
        chips: Chips = StreamedChips(source, places, device)
    else:
        chips = load_chips(reader, places, device, device, Stage(Reporter(), len(places), ""))
    fits = {name: make_fit(network, dataset, name, chips, given, device) for name in given.presets}
    first = next(iter(fits.values()))
    turns: dict[str, Turn] = {f"loop, {name}": lambda fit=fit: loop(fit) for name, fit in fits.items()}
    first_turn = turns[next(iter(turns))]
    first_turn()  # settles the type of number, which the others take over
    dtype = first.optimization.precision or torch.float32
    step = make_step(network, first.task, dtype, device)
    turns = {"limit": make_limit(step, len(places), given, device), **turns}
    if device.type == "cuda" and not given.without_limits:
        turns["limit, cuDNN's search"] = with_search(turns["limit"])
        first_step = make_step(
            copy.deepcopy(network).to(memory_format=torch.contiguous_format), first.task, dtype, device
        )
        turns["limit, channels first"] = make_limit(first_step, len(places), given, device)
    if not given.without_loader:
        turns["DataLoader, 2 workers"] = make_loader(step, dataset, given, device)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for number in range(given.turns + 1):
        for name, turn in turns.items():
            found = turn()
            if number:  # the first one warms up
                seconds[name].append(found)
    middles = {name: [statistics.median(column) for column in zip(*found)] for name, found in seconds.items()}
    limit = middles["limit"]
    kind = str(dtype).removeprefix("torch.")
    print(f"\n{architecture} with {encoder}, batches of {given.batch}, {kind}; load {load()}")
    print(f"{'':24}{'chips a second':>16}{'of the limit':>14}{'by processor time':>19}")
    for name, (passed, used) in middles.items():
        by_processor = f"{limit[1] / used:19.3f}" if "Loader" not in name else f"{'':>19}"
        print(f"{name:24}{len(places) / passed:16.2f}{limit[0] / passed:14.3f}{by_processor}", flush=True)
    if given.profile:
        preset, fit = list(fits.items())[-1]
        steps = min(PROFILED, fit.pace.steps_an_epoch)
        few = make_limit(step, min(len(places), steps * given.batch), given, device)
        ours, limits = operations(lambda: loop(fit, steps), steps, device), operations(few, steps, device)
        print_profile(preset, ours, limits)


def make_fit(
    network: nn.Module, dataset: ChipDataset, preset: str, chips: Chips, given: argparse.Namespace,
    device: torch.device,
) -> Fit:  # fmt: skip
    """The real loop with a preset."""
    config = TrainSegmenterConfig(chips="", output="").replace(
        augmentation=preset, batch_size=given.batch, epochs=given.turns + 3, patience=0, schedule="constant"
    )
    config = config.replace(
        **config.augmentation.settled().to_json(),
        **config.optimizer.settled("segmentation"),
        **config.fine_tuning.settled(None, False),
    )
    sampling = Sampling(config.sampling, dataset.info, dataset.pixels[dataset.indices("training")])
    task = SegmentationTask(dataset.info, sampling, config, device)
    nothing = StreamedChips(ChipReader(dataset), np.array([], int), device)
    plan = FineTuning(network, config.fine_tuning)
    return Fit(network, task, task, plan, sampling, config, chips, nothing, device, Reporter())


def loop(fit: Fit, steps: int = 0) -> tuple[float, float]:
    """An epoch of the real loop, or so many steps; its figures, and the copy of the best weights, come after the last
    step.
    """

    def leave(fit: Fit) -> None:
        if fit.batches == steps:  # at the end of an epoch there are none
            raise EpochEnd

    clock, begun = Clock(Reporter(), steps or fit.pace.steps_an_epoch, ""), now()
    try:
        fit.run(leave, clock)
    except EpochEnd:
        pass
    return clock.last[0] - begun[0], clock.last[1] - begun[1]


def make_step(
    network: nn.Module, task: Any, dtype: torch.dtype, device: torch.device
) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """A step as plain PyTorch."""
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=device.type == "cuda")  # as the loop does

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        with autocast(device, dtype):
            loss = task.loss(network(images), targets)[0]
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def make_limit(step: Callable[..., None], chips: int, given: argparse.Namespace, device: torch.device) -> Turn:
    """An epoch on the same batch of random numbers."""
    ready = {
        size: (
            torch.randn(size, given.bands, given.size, given.size, device=device),
            torch.randint(0, CLASSES, (size, given.size, given.size), dtype=torch.uint8, device=device),
        )
        for size in {len(order) for order in in_order(chips, given.batch)}
    }

    def turn() -> tuple[float, float]:
        begun = now()
        for order in in_order(chips, given.batch):
            step(*ready[len(order)])
        return since(begun, device)

    return turn


def with_search(turn: Turn) -> Turn:
    """A turn in which cuDNN tries its algorithms when it first sees the shape of a layer's tensors."""

    def searching() -> tuple[float, float]:
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True
        try:
            return turn()
        finally:
            torch.backends.cudnn.benchmark = before

    return searching


def operations(turn: Callable[[], object], steps: int, device: torch.device) -> dict[str, tuple[float, float]]:
    """What each operation takes of the device in a turn of some steps: milliseconds a step, and how often."""
    on_gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=kinds) as found:
        turn()
        if on_gpu:
            torch.cuda.synchronize(device)
    rows = [row for row in found.key_averages() if row.device_type == DeviceType.CPU]
    times = {row.key: row.self_device_time_total if on_gpu else row.self_cpu_time_total for row in rows}
    return {row.key: (times[row.key] / 1e3 / steps, row.count / steps) for row in rows if times[row.key]}


def print_profile(preset: str, ours: dict[str, tuple[float, float]], limit: dict[str, tuple[float, float]]) -> None:
    """Print the operations that take the most time in a step of the loop."""
    all_of = [tuple(sum(column) for column in zip(*found.values())) for found in (ours, limit)]
    print(f"{f'a step, {preset}':44}{'ms':>9}{'times':>8}{'limit ms':>12}{'times':>8}")
    names = sorted(ours, key=lambda name: -ours[name][0])[:SHOWN]
    rows = [(name, ours[name], limit.get(name, (0.0, 0.0))) for name in names]
    for name, mine, others in [*rows, ("all", *all_of)]:
        print(f"{name[:43]:44}{mine[0]:9.3f}{mine[1]:8.1f}{others[0]:12.3f}{others[1]:8.1f}", flush=True)


class Files(Dataset[tuple[np.ndarray, np.ndarray]]):
    """The files of chips as a dataset of PyTorch, as one would write it."""

    def __init__(self, dataset: ChipDataset) -> None:
        info, places = dataset.info, dataset.indices("training")
        self.paths = [(str(dataset.image_path(place)), str(dataset.label_path(place))) for place in places]
        self.mean, self.std = (np.array(values, np.float32)[:, None, None] for values in (info.mean, info.std))
        self.index = np.full(256, 255, np.uint8)
        self.index[info.classes.values] = np.arange(len(info.classes))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = (gdal.Open(path).ReadAsArray() for path in self.paths[place])
        return (image - self.mean) / self.std, self.index[label]


def make_loader(
    step: Callable[..., None], dataset: ChipDataset, given: argparse.Namespace, device: torch.device
) -> Turn:
    """An epoch of a DataLoader."""
    loader = DataLoader(
        Files(dataset), given.batch, shuffle=True, num_workers=2, persistent_workers=True,
        pin_memory=device.type == "cuda",
    )  # fmt: skip

    def turn() -> tuple[float, float]:
        begun = now()
        for images, targets in loader:
            step(images.to(device, non_blocking=True), targets.to(device, non_blocking=True))
        return since(begun, device)

    return turn


def now() -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    return time.perf_counter(), time.process_time()


def since(begun: tuple[float, float], device: torch.device) -> tuple[float, float]:
    """The same since then, once the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    done = now()
    return done[0] - begun[0], done[1] - begun[1]


def read_many(folder: Path, count: int) -> None:
    """Read a cache of many chips for an epoch, and print how the memory of this process grew."""
    dtype = np.dtype([("image", np.uint8, (4, 64, 64)), ("target", np.uint8, (64, 64))])
    path = folder / "many.npy"
    np.lib.format.open_memmap(path, "w+", dtype, (count,)).flush()  # a file of holes, read as zeros
    records = open_cache(path, count, dtype)
    if records is None:
        sys.exit(f"{path} cannot be read.")
    orders = np.array_split(np.random.default_rng(0).permutation(count), count // 64)
    begun, memory = time.perf_counter(), []
    for number, _ in enumerate(
        StreamedChips(CachedChips(records), np.arange(count), torch.device("cpu")).batches(orders)
    ):
        if number % 100 == 99:
            memory.append(own_memory())
    rate = count / (time.perf_counter() - begun)
    print(
        f"\n{count:,} chips in a cache of {readable_size(path.stat().st_size)}: {rate:,.0f} chips a second, memory ",
        end="",
    )
    print(f"{readable_size(memory[0])} after 100 batches, {readable_size(memory[-1])} at the end, without page cache")


def own_memory() -> int:
    """Bytes of this process that are no part of a file (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def load() -> str:
    """The load of the machine over the last minute."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors" if hasattr(os, "getloadavg") else "unknown"


if __name__ == "__main__":
    main()
