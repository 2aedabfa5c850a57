"""Chips as batches on the device: all kept there or in memory where they fit, else read ahead of their use by threads.

There are no worker processes: GDAL gives up Python's lock while it reads, and NumPy while it copies; threads suffice.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np
import torch

from .. import ranks
from ..chips.dataset import ChipDataset
from ..classes import IGNORE_INDEX
from ..device import free_memory, pinned, to_device
from ..errors import InputError
from ..events import Reporter, Stage
from ..files import readable_size
from ..threads import READERS, work_ahead
from ..torchrun import own_rank

# Images and targets; more of them where a lesson has more than the chips of its dataset.
Batch = tuple[torch.Tensor, ...]

# Chips, and bytes, that one thread reads in one go when all are loaded.
LOAD_BATCH, LOAD_BYTES = 32, 2**25
# The share of the free memory that chips may fill; the network needs the rest.
MEMORY_SHARE = 0.5
# What torch computes with readily; types that are not here become float32.
STORED_TYPES = {"uint8": "uint8", "int8": "int16", "int16": "int16", "uint16": "int32", "int32": "int32"}


class Reads(Protocol):
    """Reads chips by their numbers; safe to share between threads."""

    def read(self, places: np.ndarray) -> Batch:
        """Images (N, B, H, W) in the stored type, and targets (N, ...), in memory."""


class Draws(Protocol):
    """Draws the chips of each epoch."""

    def __len__(self) -> int:
        """Return how many steps of one chip an epoch has."""

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return (n, ...) numbers of the chips of an epoch, which follow from seed and epoch alone."""


class ChipReader:
    """Reads chips and their masks as arrays; safe to share between threads.

    Args:
        dataset: The dataset.
    """

    target_dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, dataset: ChipDataset) -> None:
        self.dataset = dataset
        self.dtype = np.dtype(STORED_TYPES.get(dataset.info.dtype, "float32"))
        self.torch_dtype: torch.dtype = getattr(torch, self.dtype.name)
        self.size = dataset.info.chip_size
        self.bands = len(dataset.info.band_names)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Of a chip's target."""
        return self.size, self.size

    @property
    def chip_bytes(self) -> int:
        """What a chip and its target take in memory."""
        target = math.prod(self.target_shape) * self.target_dtype.itemsize
        return self.size * self.size * self.bands * self.dtype.itemsize + target

    def read(self, places: Sequence[int] | np.ndarray) -> Batch:
        """Read chips by their places in the dataset.

        Returns:
            Images (N, B, H, W) in the stored type, and targets (N, ...).

        Raises:
            InputError: A file is missing, damaged, or of another size than the dataset says.
        """
        images = np.empty((len(places), self.bands, self.size, self.size), self.dtype)
        targets = np.empty((len(places), *self.target_shape), self.target_dtype)
        for row, place in enumerate(places):
            images[row] = self.dataset.read_image(int(place))
            targets[row] = self.target(int(place))
        return torch.from_numpy(images), torch.from_numpy(targets)

    def target(self, place: int) -> np.ndarray:
        """What a network shall answer to a chip: its mask of class indices."""
        values = self.dataset.read_mask(place)
        return self.dataset.info.classes.to_indices(values)  # the value for "no label" is no class's: it is ignored


class SceneReader(ChipReader):
    """Reads chips; what classes they show stands in the index.

    A target is a class index, or for several labels a chip (C,) with 1 where it shows a class.
    """

    def __init__(self, dataset: ChipDataset) -> None:
        super().__init__(dataset)
        shown = dataset.shown
        single = np.where(shown.any(axis=1), shown.argmax(axis=1), IGNORE_INDEX)
        self.targets = (shown if dataset.info.task == "multilabel" else single).astype(np.uint8)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """() or (C,)."""
        return self.targets.shape[1:]

    def target(self, place: int) -> np.ndarray:
        """The class or classes of a chip."""
        found: np.ndarray = self.targets[place]
        return found


class StreamedChips:
    """Chips that are read each time, by threads, some batches ahead of their use.

    Args:
        reader: Reads them.
        places: (n,) the numbers that it knows them by.
        device: Where the batches go.
    """

    def __init__(self, reader: Reads, places: np.ndarray, device: torch.device) -> None:
        self.reader, self.places, self.device = reader, places, device

    def __len__(self) -> int:
        return len(self.places)

    def batches(self, orders: Iterable[np.ndarray]) -> Generator[Batch, None, None]:
        """Images (N, B, H, W) and targets (N, ...) for each array of chip numbers, 0 to n − 1."""
        places = (self.places[order] for order in orders)
        with closing(work_ahead(self._read, places, threads=READERS, waiting=READERS + 1)) as read:
            for _, (images, targets) in read:
                yield to_device(images, self.device), to_device(targets, self.device)

    def _read(self, places: np.ndarray) -> Batch:
        images, targets = self.reader.read(places)
        return pinned(images, self.device), pinned(targets, self.device)


class ResidentChips:
    """Chips that lie on the device.

    Args:
        images: (n, B, H, W).
        targets: (n, ...).
    """

    def __init__(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.images)

    def read(self, places: np.ndarray) -> Batch:
        """Images (N, B, H, W) and targets (N, ...) by their numbers, 0 to n − 1."""
        rows = to_device(torch.from_numpy(places), self.images.device)
        return self.images[rows], self.targets[rows]

    def batches(self, orders: Iterable[np.ndarray]) -> Iterator[Batch]:
        """The same for each array of numbers."""
        return map(self.read, orders)


Chips = StreamedChips | ResidentChips


class Batches(Protocol):
    """Training chips as batches."""

    def batches(self, orders: Iterable[np.ndarray]) -> Iterator[Batch]:
        """Return a batch for each array of chip numbers, as `Draws` gives them."""


def in_order(count: int, batch_size: int) -> list[np.ndarray]:
    """Chip numbers 0 to count − 1 in batches that differ in size by one at most."""
    return np.array_split(np.arange(count), -(-count // batch_size)) if count else []


def steps_an_epoch(chips: int, size: int) -> int:
    """The number of steps in which an epoch shows its chips, at most `size` per rank and at least one.

    Raises:
        InputError: There are more ranks than chips.
    """
    count = own_rank().count
    if chips < count:
        raise InputError(f"There are {chips} training chips for {count} ranks.", "Start fewer ranks.")
    return min(-(-chips // (size * count)), chips // count)


def shuffled(sampling: Draws, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The chips of each step of an epoch, for all ranks, in an order that follows from seed and epoch alone."""
    return np.array_split(sampling.order(seed, epoch), steps_an_epoch(len(sampling), size))


def load_orders(count: int, chip_bytes: int) -> list[np.ndarray]:
    """Chip numbers 0 to count − 1, in parts that one thread reads in one go."""
    return in_order(count, max(1, min(LOAD_BATCH, LOAD_BYTES // chip_bytes)))


def choose_place(total_bytes: int, device: torch.device, reporter: Reporter) -> torch.device | None:
    """Where to keep chips of `total_bytes`: on the device, in the machine's memory, or (None) on disk."""
    places = [*dict.fromkeys((device, torch.device("cpu"))), None]
    # The memory of the machine is shared by its ranks, and all ranks keep their chips in the same kind of place.
    needed = [total_bytes * own_rank().neighbours if place == torch.device("cpu") else total_bytes for place in places]
    fits = [place is None or size <= MEMORY_SHARE * free_memory(place) for place, size in zip(places, needed)]
    place = places[ranks.highest(fits.index(True))]
    if place is None:
        reporter.log(
            f"The chips need {readable_size(needed[-2])}, more than {MEMORY_SHARE:.0%} of the free memory: "
            "they stay on disk."
        )
    return place


def load_chips(reader: ChipReader, places: np.ndarray, device: torch.device, keep: torch.device, stage: Stage) -> Chips:
    """Load chips into memory.

    Args:
        places: (n,) which chips of the dataset.
        device: Where the batches go.
        keep: Where all chips are kept, from `choose_place`.
        stage: Advances by the number of chips.
    """
    size, count = reader.size, len(places)
    images = torch.empty((count, reader.bands, size, size), dtype=reader.torch_dtype, device=keep)
    dtype = getattr(torch, reader.target_dtype.name)
    targets = torch.empty((count, *reader.target_shape), dtype=dtype, device=keep)
    orders = load_orders(count, reader.chip_bytes)
    with closing(StreamedChips(reader, places, keep).batches(orders)) as batches:
        for order, (some_images, some_targets) in zip(orders, batches):
            images[order[0] : order[-1] + 1] = some_images
            targets[order[0] : order[-1] + 1] = some_targets
            stage.advance(len(order))
    kept = ResidentChips(images, targets)
    return kept if keep == device else StreamedChips(kept, np.arange(count), device)
