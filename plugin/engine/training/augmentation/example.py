"""What augmentation takes and gives: chips on the device, and what a network shall answer to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from ...chips.dataset import DatasetInfo
from ...models.band_partners import find_partners

COLORS, WAVELENGTHS = ("red", "green", "blue"), (660, 560, 490)


class Mixed(NamedTuple):
    """What else is in chips that were mixed with others."""

    targets: torch.Tensor  # of the others
    share: float  # how much their answers count, 0 to 1


class Example(NamedTuple):
    """Chips as a network takes them, and what it shall answer."""

    images: torch.Tensor  # (N, B, S, S), normalised; 0 where missing; or bytes as stored, where there are `levels`
    missing: torch.Tensor | None  # bool, of the same shape; None where nothing is missing
    # (N, S, S), which move with the image, or (N, ...) of whole chips, which do not. Masks hold class indices, and
    # `IGNORE_INDEX`; of floating point they are numbers to be found, and NaN where there is none.
    targets: torch.Tensor
    mixed: Mixed | None = None
    levels: torch.Tensor | None = None  # (N, B, 1, 256): what each byte stands for

    @property
    def has_masks(self) -> bool:
        """Whether each pixel has a target."""
        return self.targets.shape == (len(self.images), *self.images.shape[2:])

    def showing(self, images: torch.Tensor) -> Example:
        """The same with other values, of which nobody else makes use; what is missing becomes 0 in them."""
        return self._replace(images=images if self.missing is None else images.masked_fill_(self.missing, 0.0))

    def changing(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Example:
        """The same with each value changed by itself; 256 levels of a chip's bands take less than its pixels."""
        return self.showing(change(self.images)) if self.levels is None else self._replace(levels=change(self.levels))

    def without_levels(self) -> Example:
        """The same, showing values."""
        if self.levels is None:
            return self
        count, bands, _, levels = self.levels.shape
        first = torch.arange(0, count * bands * levels, levels, dtype=torch.int32, device=self.images.device)
        places = (self.images + first.view(count, bands, 1, 1)).flatten()
        values = self.levels.flatten().index_select(0, places)
        return self._replace(levels=None).showing(values.view(self.images.shape))


class Bands:
    """What the bands of a dataset are.

    Args:
        info: The dataset's description.
        device: Where the batches are.

    Attributes:
        mean, std: (B, 1, 1), the units of normalised values.
        low, span: (B, 1, 1), where the usual range (`DatasetInfo.usual_range`) begins, and its width, normalised.
        start, rise: (B, 1, 1); start + rise · v goes from 0 to 1 in the usual range.
        colors: The channels of red, green and blue where the bands are these three, by their names; else None.
    """

    def __init__(self, info: DatasetInfo, device: torch.device) -> None:
        rows = np.array([info.mean, info.std, *info.usual_range()])
        self.mean, self.std, low, high = torch.tensor(rows, dtype=torch.float32, device=device)[..., None, None]
        scale = torch.where(self.std > 0, 1 / self.std, 0.0)
        self.low, self.span = (low - self.mean) * scale, (high - low) * scale
        self.rise = 1 / self.span.clamp(min=1e-6)
        self.start = -self.low * self.rise
        self.colors = find_colors(info.band_names)


def find_colors(names: tuple[str, ...]) -> list[int] | None:
    """The channels of red, green and blue, where the bands have these names or wavelengths and there is no other."""
    partners = find_partners(names, COLORS, WAVELENGTHS)
    if len(names) != len(COLORS) or None in partners or len(set(partners)) != len(COLORS):
        return None
    return [partners.index(color) for color in range(len(COLORS))]


class Drawn(NamedTuple):
    """What a step has drawn for a batch."""

    numbers: tuple[torch.Tensor, ...]  # float32, on the CPU
    show: Callable[..., Example]  # takes an example and the numbers, both on the device; gives another example
    with_levels: bool = False  # whether the example may have `levels`


UNCHANGED = Drawn((), lambda example: example)

# Takes the shape of the images, how much each setting asks for, the bands and a generator on the CPU.
Step = Callable[[torch.Size, Mapping[str, float], Bands, torch.Generator], Drawn]
