"""From a chip dataset and settings to a training that is ready to begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from ..chips.dataset import SPLITS, ChipDataset
from ..config import TrainingConfig
from ..drafts import check_writable
from ..errors import InputError
from ..events import Reporter
from ..models.factory import count_parameters
from ..torchrun import own_rank
from .augmentation.example import find_colors
from .chips import Batches, ChipReader, Chips, Draws
from .plan import Plan
from .pseudo_labels import PseudoLabels
from .sampling import Sampling
from .task import Lesson, Task
from .unlabelled import PairedChips, PairedDraws, Unlabelled
from .watch import check_tensorboard

Config = TypeVar("Config", bound=TrainingConfig)


@dataclass(frozen=True)
class Training:
    """All that a training needs, checked and ready."""

    config: TrainingConfig  # its epochs are settled
    dataset: ChipDataset
    unlabelled: Unlabelled | None
    splits: dict[str, np.ndarray]  # from `labelled_splits`
    sampling: Sampling  # of the training chips
    reader: ChipReader
    network: nn.Module  # on the device
    task: Task
    plan: Plan
    device: torch.device
    kind: dict[str, Any]  # what the header says of the task and the network
    name: str  # of the network, for messages
    begun: float  # when the job did, time.monotonic

    @property
    def work(self) -> str:
        """What needs the memory."""
        size, chips = self.dataset.info.chip_size, self.config.batch_size * (1 + self.config.unlabelled_ratio)
        return f"{chips} chips of {size} × {size} pixels a batch in {self.name}"

    @property
    def fingerprint(self) -> str:
        """Of all chips: that of the dataset, and of the unlabelled one."""
        sets = [self.dataset, *([self.unlabelled.dataset] if self.unlabelled else [])]
        return "-".join(dataset.fingerprint() for dataset in sets)

    def lesson(self, chips: Mapping[str, Chips]) -> tuple[Lesson, Draws, Batches]:
        """Return what a step learns, what draws its chips, and the chips.

        Args:
            chips: By split, and "unlabelled".
        """
        if self.unlabelled is None:
            return self.task, self.sampling, chips["training"]
        settings, info = self.config.unlabelled, self.dataset.info
        flips = self.config.augmentation.settled().augment
        return (
            PseudoLabels(self.task, settings, flips, info, self.unlabelled.dataset.info.nodata),
            PairedDraws(self.sampling, len(self.unlabelled.places), self.config.unlabelled_ratio),
            PairedChips(chips["training"], chips["unlabelled"]),
        )


def labelled_splits(
    dataset: ChipDataset, fold: int | None, labelled: np.ndarray, lack: str, reporter: Reporter
) -> dict[str, np.ndarray]:
    """The places of the chips of each split that have a label to learn from or compare with.

    Args:
        fold: See `ChipDataset.indices`.
        labelled: (n,) bool.
        lack: What the others have: "no labelled pixel".

    Raises:
        InputError: There is no such fold.
    """
    splits = {}
    for split in SPLITS:
        places = dataset.indices(split, fold)
        splits[split] = places[labelled[places]]
        bare = len(places) - len(splits[split])
        if bare:
            reporter.log(f"{bare} of {len(places)} {split} chips have {lack} and are left out.")
    if not len(splits["validation"]):
        reporter.warning("There are no validation chips: the epoch with the lowest training loss is kept.")
    return splits


def check_classes(dataset: ChipDataset, chips: int, counts: np.ndarray, lack: str, remedy: str) -> None:
    """Refuse training chips with fewer than two classes.

    Args:
        chips: How many training chips there are.
        counts: (C,) of each class in them.
        lack: What they hold where they hold none: "no labelled pixel".
        remedy: What to do.

    Raises:
        InputError: A network could learn nothing from them.
    """
    present = [name for name, count in zip(dataset.info.classes.names, counts) if count]
    if len(present) < 2:
        what = f'only the class "{present[0]}"' if present else lack
        raise InputError(
            f"The {chips} training chips in {dataset.folder} hold {what}; a network learns from two classes or more.",
            remedy,
        )


def warn_of_absent_classes(dataset: ChipDataset, counts: np.ndarray, reporter: Reporter) -> None:
    """Tell which of (C,) classes no training chip shows."""
    absent = [name for name, count in zip(dataset.info.classes.names, counts) if not count]
    if absent:
        reporter.warning(f"No training chip shows {', '.join(absent)}: the network cannot learn it.")


def settle_augmentation(config: Config, dataset: ChipDataset, reporter: Reporter) -> Config:
    """The settings with a number for each of the augmentation's that is left to the preset."""
    asked = config.augmentation.settled()
    if (asked.hue or asked.saturation) and find_colors(dataset.info.band_names) is None:
        reporter.log("HUE and SATURATION stay as they are: the bands are not red, green and blue, by their names.")
        asked = asked.replace(hue=0.0, saturation=0.0)
    numbers = [f"{name.upper()} {value:g}" for name, value in asked.strengths().items() if value and name != "augment"]
    if numbers:
        reporter.log(f"AUGMENTATION is {asked.augmentation}: {', '.join(numbers)}.")
    return config.replace(**asked.to_json())


def check_outputs(training: Training) -> None:
    """Try to write where the results will be, before hours of work.

    Raises:
        ResourceError: A folder cannot be written, or its disk is full.
    """
    config = training.config
    if own_rank().number:  # writes nothing
        return
    check_writable(config.output, needed_bytes=4 * count_parameters(training.network))
    for path in (config.report, config.history):
        if path:
            check_writable(path)
    if config.tensorboard:
        check_tensorboard()
