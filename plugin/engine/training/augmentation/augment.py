"""Other views of the same ground, for each chip by itself, on the device."""

from __future__ import annotations

import torch

from ...chips.dataset import DatasetInfo
from ...recipe.augmentation import AugmentationSettings
from .example import Bands, Example, Step
from .geometry import flip_and_turn, move
from .hiding import hide
from .mixing import mix
from .radiometry import add_noise, recolor, refocus

# The steps in the order in which they are done, and the settings that each takes.
STEPS: dict[Step, tuple[str, ...]] = {
    flip_and_turn: ("augment",),
    move: ("scale_jitter", "rotation", "zoom", "shift", "shear", "elastic"),
    refocus: ("blur", "sharpen"),
    recolor: ("gamma_jitter", "hue", "saturation", "contrast", "brightness", "radiometric_jitter"),
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

    def __call__(self, example: Example, generator: torch.Generator) -> Example:
        """Another example of as many chips."""
        for step in self.steps:
            example = step(example, self.strength, self.bands, generator)
        return example
