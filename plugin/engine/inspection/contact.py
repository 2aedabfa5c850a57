"""Small pictures of chips and their masks for a page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..chips.dataset import ChipDataset
from ..errors import InputError
from ..rasters.raster_io import missing_values
from ..reports import pictures
from ..tasks import SEGMENTER_TASKS
from .measures import PixelSample

SIDE = 128  # maximum side of a picture in pixels
# Chips up to this size are stored unscaled, as PNG.
SMALL = 64
# The number of pictures per class, and in total; with more classes, each gets fewer.
A_CLASS, IN_ALL, AT_LEAST = 12, 240, 3


@dataclass(frozen=True)
class Shown:
    """A chip's picture and mask as data URLs, and its caption."""

    image: str
    mask: str  # "" without a mask
    alt: str
    caption: str
    note: str


class ChipPictures:
    """Makes pictures of chips with a common stretch, so that they can be compared.

    Args:
        dataset: The dataset.
        sample: Pixels from which the stretch is computed.
        showing: (n,) bool, chips whose pixels are used for it.
        target_range: The range of the colour ramp, for regression.
    """

    def __init__(
        self, dataset: ChipDataset, sample: PixelSample, showing: np.ndarray, target_range: tuple[float, float]
    ) -> None:
        self.dataset, self.target_range = dataset, target_range
        info = dataset.info
        self.bands = pictures.visible_bands(info.band_names)
        chosen = sample.read & showing[sample.chips]
        values = sample.values[self.bands][:, chosen if chosen.any() else sample.read]
        missing = missing_values(values, (info.nodata,) * len(self.bands))
        self.limits = np.zeros((3, 2))
        for row, band in enumerate(values):
            known = band.ravel() if missing is None else band[~missing[row]]
            self.limits[row] = np.percentile(known, pictures.STRETCH) if known.size else (0, 1)

    def show(self, chip: int, note: str = "") -> Shown | None:
        """Make the pictures of a chip; None if it cannot be read."""
        info = self.dataset.info
        try:
            image = self.dataset.read_image(chip)
            masked = info.task in SEGMENTER_TASKS and self.dataset.labels[chip]
            mask = self.dataset.read_mask(chip) if masked else None
        except InputError:
            return None
        picture = pictures.between(pictures.smaller(image[self.bands], SIDE, info.nodata), self.limits, info.nodata)
        name, split = str(self.dataset.images[chip]), str(self.dataset.splits[chip])
        classes = self.classes_of(chip)
        return Shown(
            pictures.png(picture) if info.chip_size <= SMALL else pictures.jpeg(picture),
            "" if mask is None else pictures.png(self._mask(mask)),
            ", ".join(part for part in (f"Chip {name}", split, classes) if part),
            f"{name.partition('/')[2] or name} · {split}",
            note or classes,
        )

    def classes_of(self, chip: int) -> str:
        """Describe a chip's classes: "forest 80%, water 20%", or its number."""
        info = self.dataset.info
        if info.task == "chip_regression":
            return f"{self.dataset.targets[chip]:.4g}"
        names = info.classes.names
        if info.task != "segmentation":
            return ", ".join(name for name, there in zip(names, self.dataset.shown[chip]) if there)
        counts = self.dataset.pixels[chip]
        total = max(int(counts.sum()), 1)
        largest = [index for index in np.argsort(-counts, kind="stable")[:3].tolist() if counts[index]]
        return ", ".join(f"{names[index]} {_share(counts[index] / total)}" for index in largest)

    def _mask(self, mask: np.ndarray) -> np.ndarray:
        small = pictures.sparser(mask, SIDE)
        if self.dataset.info.task == "regression":
            return pictures.ramp(small, *self.target_range)
        return pictures.colored(self.dataset.info.classes.to_indices(small), self.dataset.info.classes)


def _share(share: float) -> str:
    return "under 1%" if share < 0.01 else f"{share:.0%}"


def typical_chips(dataset: ChipDataset, usable: np.ndarray, seed: int) -> list[tuple[int, np.ndarray]]:
    """For each class, indices of chips with a large share of it; -1 stands for all chips if there are no classes.

    Args:
        dataset: The dataset.
        usable: (n,) bool, chips that may be chosen.
        seed: Seed of the random choice.
    """
    rng = np.random.default_rng(seed)
    classes = len(dataset.info.classes)
    if classes == 0:
        chips = np.flatnonzero(usable)
        return [(-1, np.sort(rng.choice(chips, min(len(chips), 2 * A_CLASS), replace=False)))]
    most = int(np.clip(IN_ALL // classes, AT_LEAST, A_CLASS))
    found = []
    for index in range(min(classes, IN_ALL // AT_LEAST)):
        chips = np.flatnonzero(usable & dataset.shown[:, index])
        if dataset.info.task == "segmentation":
            largest_first = np.argsort(-dataset.pixels[chips, index], kind="stable")
            chips = chips[largest_first[: max(most, len(chips) // 2)]]
        found.append((index, np.sort(rng.choice(chips, min(len(chips), most), replace=False))))
    return found
