"""How often each place of a map is looked at: mirrored, turned, in other sizes, and by other networks."""

from __future__ import annotations

from fractions import Fraction

from ..errors import InputError
from ..settings import Choice, Settings, setting

SYMMETRIES = {
    "none": Choice("Each place is seen once, as it is."),
    "mirror": Choice("Also mirrored left to right: for photographs with a sky. Takes twice as long."),
    "flips": Choice("Also mirrored left to right, top to bottom, and both. Takes four times as long."),
    "symmetries": Choice(
        "All eight symmetries of the square: mirrored, and in quarter turns. For images from above; takes eight times "
        "as long."
    ),
}
SMALLEST_SCALE, LARGEST_SCALE = 0.25, 4.0
DENOMINATOR = 8  # of a scale as a fraction, at most


class AveragingSettings(Settings):
    """Which mirror images and turns of an image the network sees, and which other networks see it."""

    ensemble: tuple[str, ...] = ()  # more model files
    test_time_augmentation: str = setting("none", choices=SYMMETRIES)

    @property
    def times(self) -> int:
        """How often the network sees an image."""
        return {"none": 1, "mirror": 2, "flips": 4, "symmetries": 8}[self.test_time_augmentation]


class SegmentationAveragingSettings(AveragingSettings):
    """As `AveragingSettings`, and in which sizes."""

    test_time_scales: tuple[float, ...] = ()  # magnifications; empty = 1 only

    def __post_init__(self) -> None:
        super().__post_init__()
        for scale in self.test_time_scales:
            if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
                raise InputError(
                    f"TEST_TIME_SCALES has {scale:g}.",
                    f"Give numbers from {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}, such as 0.75, 1, 1.25.",
                )

    @property
    def times(self) -> int:
        """As of `AveragingSettings`."""
        return super().times * len(self.scales)

    @property
    def scales(self) -> tuple[Fraction, ...]:
        """Magnifications as fractions of small numbers, each once."""
        found = [Fraction(scale).limit_denominator(DENOMINATOR) for scale in self.test_time_scales or (1.0,)]
        return tuple(dict.fromkeys(found))
