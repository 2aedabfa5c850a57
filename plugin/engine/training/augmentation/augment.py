"""Other views of the same ground, for each chip by itself, on the device."""

from __future__ import annotations

import torch

from ...chips.dataset import DatasetInfo
from ...device import to_device
from ...recipe.augmentation import AugmentationSettings
from .example import Bands, Example, Step
from .geometry import MOVES, move
from .hiding import hide
from .mixing import mix
from .radiometry import add_noise, amplify, bend, refocus, tint

# The steps in the order in which they are done, and the settings that each takes.
STEPS: dict[Step, tuple[str, ...]] = {
    bend: ("gamma_jitter",),
    move: ("augment", *MOVES),
    refocus: ("blur", "sharpen"),
    tint: ("hue", "saturation"),
    amplify: ("contrast", "brightness", "radiometric_jitter"),
    add_noise: ("noise",),
    hide: ("band_dropout", "cutout"),
    mix: ("mixup", "cutmix"),
}


class Augmentation:
    """Varies the chips of a batch as the settings say.

    Args:
        settings: A step of whose settings all are 0 is not done, and draws nothing.
        info: The dataset's description.
        device: Where the batches are.
    """

    def __init__(self, settings: AugmentationSettings, info: DatasetInfo, device: torch.device) -> None:
        self.strength, self.bands = settings.strengths(), Bands(info, device)
        self.steps = [step for step, names in STEPS.items() if any(self.strength[name] for name in names)]
        self.changes_levels = bend in self.steps  # whether that is done sooner to the levels of bytes than to pixels

    def __call__(self, example: Example, generator: torch.Generator) -> Example:
        """Another example of as many chips.

        All that is drawn goes to the device in one copy, because each takes the CPU longer than a step of its own.
        """
        drawn = [step(example.images.shape, self.strength, self.bands, generator) for step in self.steps]
        numbers = [values for one in drawn for values in one.numbers]
        if numbers:
            together = to_device(torch.cat([values.flatten() for values in numbers]), example.images.device)
            sizes = [values.numel() for values in numbers]
            numbers = [part.view(values.shape) for part, values in zip(torch.split(together, sizes), numbers)]
        sent = iter(numbers)
        for one in drawn:
            if not one.with_levels:
                example = example.without_levels()
            example = one.show(example, *(next(sent) for _ in one.numbers))
        return example.without_levels()
