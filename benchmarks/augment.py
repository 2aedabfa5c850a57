"""What augmentation costs: a training step on stored chips with each preset, and the step without data or augmentation.

    OMP_WAIT_POLICY=PASSIVE TERRAZZO_PYTHON -m benchmarks.augment [--size 256 --bands 4 --batch 8 --steps 10 …]

U-Net with ResNet-34, on made-up chips and masks. The step without is one on tensors that lie ready on the device: the
limit. Steps of all kinds take turns, so that a machine whose speed drifts is fair to them. The ratios are of medians,
of the time that passes and of the processor time, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from plugin.engine.chips.dataset import DatasetInfo
from plugin.engine.classes import IGNORE_INDEX, ClassTable
from plugin.engine.device import describe_device
from plugin.engine.models.factory import create_model
from plugin.engine.recipe.augmentation import PRESETS, AugmentationSettings
from plugin.engine.training.chips import ResidentChips
from plugin.engine.training.task import Task

CLASSES = [(value, f"class {value}", "#808080") for value in range(1, 6)]
CHIPS = 64


def main() -> None:
    """Time the steps that the command line asks for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 256), ("bands", 4), ("batch", 8), ("steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    steps = make_steps(given, device)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(given.steps + 1):
        for name, step in steps.items():
            begun = time.perf_counter(), time.process_time()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first one warms up
                seconds[name].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    print(f"{given.batch} chips of {given.size}² pixels, {given.bands} bands; {describe_device(device)}")
    print(f"{'':10}{'ms a step':>11}{'limit / step':>14}{'processor ms':>14}{'limit / step':>14}")
    middles = {name: [statistics.median(column) for column in zip(*found)] for name, found in seconds.items()}
    for name, (passed, used) in middles.items():
        limit = middles["limit"]
        shares = f"{1000 * passed:11.0f}{limit[0] / passed:14.3f}{1000 * used:14.0f}{limit[1] / used:14.3f}"
        print(f"{name:10}{shares}")


def make_steps(given: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], None]]:
    """A function for each kind of step, by name; all train one network."""
    info = describe(given.size, given.bands)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (CHIPS, given.bands, given.size, given.size), np.uint8)).to(device)
    masks = torch.from_numpy(rng.integers(0, len(CLASSES), (CHIPS, given.size, given.size), np.uint8)).to(device)
    chips = ResidentChips(images, masks)
    network = create_model("unet", "resnet34", given.bands, len(CLASSES)).to(device)
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)

    def learn(loss: torch.Tensor) -> None:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def limit() -> None:
        with precise(device):
            loss = cross_entropy(network(ready.images), ready.targets)[0]
        learn(loss)

    def real(task: Task) -> None:
        batch = chips.read(rng.permutation(CHIPS)[: given.batch])
        with precise(device):
            answers = task.learn(network, batch, generator)
        learn(answers.loss)

    tasks = {name: Task(info, cross_entropy, AugmentationSettings(augmentation=name), device) for name in PRESETS}
    ready = tasks["none"].prepare(chips.read(np.arange(given.batch)))
    return {"limit": limit, **{name: partial(real, task) for name, task in tasks.items()}}


def precise(device: torch.device) -> torch.autocast:
    """As a training: in 16 bits on a GPU, in full on the CPU."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The plain one."""
    loss = F.cross_entropy(logits.float(), targets.long(), ignore_index=IGNORE_INDEX)
    return loss, (targets != IGNORE_INDEX).sum()


def describe(size: int, bands: int) -> DatasetInfo:
    """A dataset of bytes."""
    return DatasetInfo(
        task="segmentation", band_names=tuple(f"band {number}" for number in range(bands)), bands=tuple(range(bands)),
        dtype="uint8", nodata=None, chip_size=size, stride=size, crs="", pixel_size=1.0,
        classes=ClassTable.from_rows(CLASSES), label_nodata=0, sources=(), split={}, mean=(127.5,) * bands,
        std=(74.0,) * bands, minimum=(0.0,) * bands, maximum=(255.0,) * bands, chip_counts={}, pixel_counts={},
    )  # fmt: skip


if __name__ == "__main__":
    main()
