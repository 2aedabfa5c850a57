"""What the training loop does on a GPU around the network: how often it passes over a batch, counted without a GPU.

    TERRAZZO_PYTHON -m benchmarks.passes [--preset standard] [--batch 64] [--dtype uint8] [--nodata 0] [--operations]

Chips in the GPU's memory become the network's input; its answers become a loss, and are counted. Each operation
of PyTorch on the GPU is a launch of a kernel (or more: sums and such need two), which reads its inputs and writes its
outputs; what only the first step makes is not counted. Nothing is computed (PyTorch's `FakeTensorMode`). The table
shows for each function of the engine what that adds up to, and the time that it takes at the rates below. What would
make the CPU wait for the GPU is an error.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from plugin.engine import device as devices
from plugin.engine.chips.dataset import DatasetInfo
from plugin.engine.classes import ClassTable
from plugin.engine.config import TrainSegmenterConfig
from plugin.engine.training.augmentation.draws import centres
from plugin.engine.training.augmentation.geometry import _spline_weights
from plugin.engine.training.augmentation.radiometry import _random_row
from plugin.engine.training.chips import ResidentChips
from plugin.engine.training.sampling import Sampling
from plugin.engine.training.segmentation import SegmentationTask
from plugin.engine.training.task import Moment

ENGINE = str(Path(devices.__file__).parent)
GPU = torch.device("cuda", 0)
BYTES_A_SECOND, LAUNCH = 3e12, 5e-6  # of an H100, and seconds
CLASSES = 5


class Passes(TorchDispatchMode):
    """Counts operations on a GPU that need not be there, by the function of the engine that asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.counted: list[tuple[str, str, int, int]] = []  # where, operation, bytes read, bytes written
        self.copies = 0  # from the CPU
        self.waits: list[str] = []  # which functions copy from memory that is not pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, for real on the CPU and for show on the GPU."""
        kwargs = kwargs or {}
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        asked = kwargs.get("device")
        if not any(isinstance(value, FakeTensor) for value in given) and (asked is None or asked.type != "cuda"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        found = func(*args, **kwargs)
        made = [value for value in tree_leaves(found) if isinstance(value, torch.Tensor)]
        if func.is_view or not made or func in (torch.ops.aten.detach.default, torch.ops.aten.lift_fresh.default):
            return found
        self.copies += any(not value.is_cuda and value.ndim for value in given)
        if any(not isinstance(value, FakeTensor) and value.ndim for value in given):
            self.waits.append(caller())
        read, written = [weight(value) for value in given if value.is_cuda], sum(map(weight, made))
        name = str(func).removeprefix("aten.")
        if read and name.startswith("index"):  # looks only some of it up
            read[0] = min(read[0], written)
        self.counted.append((caller(), name, sum(read), written))
        return found


def weight(values: torch.Tensor) -> int:
    """The bytes of a tensor, those that it shows repeatedly counted once."""
    sizes = [size for size, stride in zip(values.shape, values.stride()) if stride or size == 0]
    return min(int(np.prod(sizes, dtype=np.int64)) * values.element_size(), values.untyped_storage().nbytes())


def caller() -> str:
    """The innermost function of the engine that is running."""
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(ENGINE):
            return f"{Path(path).stem}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


def main() -> None:
    """Count what the command line asks for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 256), ("bands", 4), ("batch", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--dtype", default="uint8")
    parser.add_argument("--nodata", type=float)
    parser.add_argument("--operations", action="store_true")
    given = parser.parse_args()
    passes = count(given.preset, given.batch, given.bands, given.size, given.dtype, given.nodata)
    functions: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for where, operation, read, written in passes.counted:
        row = functions[where]
        row[0], row[1], row[2] = row[0] + 1, row[1] + read, row[2] + written
        if given.operations:
            print(f"{where:34}{operation:34}{read / 1e6:9.1f}{written / 1e6:9.1f}")
    print(f"\n{given.preset}: {given.batch} chips of {given.size}², {given.bands} bands, {given.dtype}")
    print(f"{'':34}{'launches':>9}{'MB read':>9}{'written':>9}{'µs':>7}")
    for where, row in [*functions.items(), ("all", [sum(column) for column in zip(*functions.values())])]:
        micro = 1e6 * (row[0] * LAUNCH + (row[1] + row[2]) / BYTES_A_SECOND)
        print(f"{where:34}{row[0]:9}{row[1] / 1e6:9.0f}{row[2] / 1e6:9.0f}{micro:7.0f}")
    print(f"copies from the CPU: {passes.copies}")
    if passes.waits:
        sys.exit(f"The CPU waits for the GPU in {', '.join(passes.waits)}.")


def count(preset: str, batch: int, bands: int, size: int, dtype: str, nodata: float | None) -> Passes:
    """Count what a step passes over, but for the network and the optimizer."""
    info = described(bands, size, dtype, nodata)
    config = TrainSegmenterConfig(chips="", output="").replace(augmentation=preset)
    config = config.replace(**config.augmentation.settled().to_json())
    passes = Passes()
    with pretended(passes.fake):
        with passes.fake:
            sampling = Sampling(config.sampling, info, np.ones((batch, CLASSES), np.int64))
            task = SegmentationTask(info, sampling, config, GPU)
            chips = ResidentChips(
                torch.empty(2 * batch, bands, size, size, dtype=getattr(torch, dtype), device=GPU),
                torch.empty(2 * batch, size, size, dtype=torch.uint8, device=GPU),
            )
            logits = torch.empty(batch, CLASSES, size, size, dtype=torch.bfloat16, device=GPU)
            network, tally = torch.nn.Identity(), task.tally()
        network.forward = lambda images: logits  # type: ignore[method-assign,assignment]
        for _ in range(2):  # the first step makes what all others use again
            passes.counted.clear()
            passes.waits.clear()
            passes.copies = 0
            with passes.fake, passes:
                answered = task.tally()
                moment = Moment(torch.Generator().manual_seed(0), network, 0.0)
                answered.add(*task.learn(network, chips.read(np.arange(batch)), moment))
                tally.include(answered)
    return passes


def described(bands: int, size: int, dtype: str = "uint8", nodata: float | None = None) -> DatasetInfo:
    """A dataset of which there is only this description."""
    return DatasetInfo(
        task="segmentation", band_names=tuple("abcdefghijklmnopqrstuvwxyz"[:bands]), bands=tuple(range(1, bands + 1)),
        dtype=dtype, nodata=nodata, chip_size=size, stride=size, crs="", pixel_size=1.0,
        classes=ClassTable.from_rows([(number + 1, str(number), "#000000") for number in range(CLASSES)]),
        label_nodata=0, sources=(), split={}, mean=(100.0,) * bands, std=(20.0,) * bands, minimum=(0.0,) * bands,
        maximum=(255.0,) * bands, chip_counts={}, pixel_counts={},
    )  # fmt: skip


@contextmanager
def pretended(fake: FakeTensorMode) -> Iterator[None]:
    """A block in which there seems to be a GPU, to which tensors of `fake` can go."""
    kept = centres, _random_row, _spline_weights
    with (
        warnings.catch_warnings(),
        mock.patch.object(devices, "pinned", lambda values, device: fake.from_tensor(values)),
    ):
        warnings.filterwarnings("ignore", "User provided device_type of 'cuda'")
        try:
            yield
        finally:
            for cached in kept:  # nothing that holds no numbers
                cached.cache_clear()


if __name__ == "__main__":
    main()
