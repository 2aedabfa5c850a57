"""How training chips are varied."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from ..settings import Choice, Settings, setting


class Preset(Choice):
    """Settings of the augmentation that go together."""

    strengths: dict[str, float] = field(default_factory=dict)  # of what is left empty; all others are off


PRESETS = {
    "none": Preset("Chips are shown as they are."),
    "flips": Preset("Mirrored, and turned by quarters: right for images from above, and costs nothing."),
    "light": Preset(
        "Flips; a little larger or smaller, moved, brighter or darker. For maps of the image that the chips are from.",
        strengths={"zoom": 0.1, "shift": 0.05, "brightness": 0.1, "contrast": 0.1},
    ),
    "standard": Preset(
        "Flips; larger or smaller, moved, rotated, sheared, brighter or darker, noisy. For images of other days and "
        "places.",
        strengths={
            "rotation": 15, "zoom": 0.25, "shift": 0.1, "shear": 5, "brightness": 0.2, "contrast": 0.2,
            "gamma_jitter": 0.2, "radiometric_jitter": 0.05, "saturation": 0.2, "noise": 0.05,
        },
    ),
    "strong": Preset(
        "More of it; also pulled about, blurred, partly covered and mixed with other chips. For long trainings from "
        "few chips.",
        strengths={
            "rotation": 45, "zoom": 0.5, "shift": 0.2, "shear": 10, "elastic": 0.02, "blur": 1.5, "sharpen": 1,
            "brightness": 0.4, "contrast": 0.4, "gamma_jitter": 0.4, "radiometric_jitter": 0.1, "hue": 10,
            "saturation": 0.4, "noise": 0.1, "band_dropout": 0.05, "cutout": 0.1, "cutmix": 0.5,
        },
    ),
}  # fmt: skip


class AugmentationSettings(Settings):
    """The augmentation: the most that is done to a chip. None = what the preset says; 0 = off.

    `training.augmentation.augment.STEPS` says which step takes which settings, and in which order.
    """

    augmentation: str = setting("flips", choices=PRESETS)  # the preset
    augment: bool = True  # flips and quarter turns, with every preset but none
    # A chip is shown as a part of itself, magnified, whose side is up to this share shorter.
    scale_jitter: float | None = setting(None, low=0, high=0.9)
    rotation: float | None = setting(None, low=0, high=180)  # degrees to either side
    zoom: float | None = setting(None, low=0, high=1)  # up to this share larger, or as many times smaller
    shift: float | None = setting(None, low=0, high=0.5)  # of the side, each way
    shear: float | None = setting(None, low=0, high=40)  # degrees, along either axis
    elastic: float | None = setting(None, low=0, high=0.1)  # of the side, how far the ground is pulled
    blur: float | None = setting(None, low=0, high=5)  # standard deviation in pixels, of every second chip
    sharpen: float | None = setting(None, low=0, high=3)  # details are up to so much stronger, of every second chip
    brightness: float | None = setting(None, low=0, high=2)  # in standard deviations of the band
    contrast: float | None = setting(None, low=0, high=1)
    gamma_jitter: float | None = setting(None, low=0, high=1)  # the exponent is up to 1 + this, or 1 / (1 + this)
    # Each band of a chip is made up to this share brighter or darker, and richer or poorer in contrast.
    radiometric_jitter: float | None = setting(None, low=0, high=1)
    hue: float | None = setting(None, low=0, high=180)  # degrees; where the bands are red, green and blue
    saturation: float | None = setting(None, low=0, high=1)  # the same
    noise: float | None = setting(None, low=0, high=1)  # in standard deviations of the band
    band_dropout: float | None = setting(None, low=0, high=0.9)  # the chance of each band to be missing
    cutout: float | None = setting(None, low=0, high=0.5)  # of the area of every second chip
    mixup: float | None = setting(None, low=0, high=0.5)  # of every second batch: the share of another chip
    cutmix: float | None = setting(None, low=0, high=0.5)  # the same, as a square of it

    def settled(self) -> AugmentationSettings:
        """The same with a number for each setting that is empty: the preset's, or 0. What is given stays."""
        preset = PRESETS[self.augmentation].strengths
        found: dict[str, Any] = {name: preset.get(name, 0.0) for name, value in vars(self).items() if value is None}
        return self.replace(augment=self.augment and self.augmentation != "none", **found)

    def strengths(self) -> dict[str, float]:
        """How much each setting asks for, by name, once settled; 0 where it is off."""
        return {name: float(value) for name, value in self.settled().to_json().items() if name != "augmentation"}
