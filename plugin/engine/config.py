"""The settings of every job: frozen dataclasses, each field with its default and its bounds.

A setting is declared here once. The Processing parameter of the same name in upper case takes its default,
range and choices from here, the worker receives it as JSON, and `validate` holds for every way in.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .errors import InputError

ARCHITECTURES = ("unet", "fcn", "fcn8s")
ENCODERS = ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0")
CLASS_WEIGHTS = ("none", "root", "balanced")
EDGES = ("shift", "pad")
BACKGROUNDS = ("auto", "ignore", "class")

Config = TypeVar("Config", bound="JobConfig")


def setting(default: Any, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field with bounds: numbers from `low` to `high`, or one of `choices`; None is always "not given"."""
    return field(default=default, metadata={"low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class JobConfig:
    """What all jobs share: a strict way from and to JSON, and a check of every bound."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, spec.name, value)
            _check_bounds(spec.name, value, spec.metadata)

    @classmethod
    def from_json(cls: type[Config], values: dict[str, Any]) -> Config:
        """Build a config from parsed JSON.

        Raises:
            InputError: A name that the config does not know, a missing one, or a value out of bounds.
        """
        known = {spec.name for spec in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(
                f"{cls.__name__} has no setting {', '.join(unknown)}.", f"Its settings are {', '.join(sorted(known))}."
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"{cls.__name__} is incomplete: {error}.", "Give the missing settings.") from error

    def to_json(self) -> dict[str, Any]:
        """The settings as a dictionary that `json.dumps` takes."""
        return dataclasses.asdict(self)


def _check_bounds(name: str, value: Any, bounds: Any) -> None:
    if value is None or not bounds:
        return
    if bounds["choices"] and value not in bounds["choices"]:
        raise InputError(f'{name.upper()} is "{value}".', f"Choose one of {', '.join(bounds['choices'])}.")
    low, high = bounds["low"], bounds["high"]
    if low is None and high is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise InputError(f"{name.upper()} is {value!r}, which is no number.", "Give a number.")
    if (low is not None and value < low) or (high is not None and value > high):
        allowed = f"from {low:g} to {high:g}" if high is not None else f"of {low:g} or more"
        raise InputError(f"{name.upper()} is {value:g}.", f"Give a number {allowed}.")


@dataclass(frozen=True)
class ExportChipsConfig(JobConfig):
    """Layers → chip dataset. Sizes and strides in pixels of the raster, paths absolute."""

    input: tuple[str, ...]
    output: str
    # Polygons in the CRS of the first raster: a GeoPackage with the integer field "value" (see chips/labels.py).
    labels: str | None = None
    # One class raster for each raster of `input`, in the same order, or one for all.
    label_rasters: tuple[str, ...] = ()
    # (value, name, colour) of the classes, as far as the user's layers name them.
    classes: tuple[Any, ...] = ()
    # The value in the class rasters that means "no label"; None takes the rasters' own nodata.
    label_nodata: int | None = None
    background: str = setting("auto", choices=BACKGROUNDS)
    bands: tuple[int, ...] = ()  # from 1; empty = all but alpha
    chip_size: int = setting(256, low=8, high=8192)
    stride: int | None = setting(None, low=1, high=8192)  # None = chip size
    extent: tuple[float, ...] | None = None  # bounds in the CRS of the first raster
    area: str | None = None  # polygons, a GeoPackage in the CRS of the first raster
    min_labelled_share: float = setting(0.0, low=0, high=1)
    edges: str = setting("shift", choices=EDGES)
    block_size: int | None = setting(None, low=8)  # None = automatic
    validation_share: float = setting(0.15, low=0, high=0.9)
    test_share: float = setting(0.15, low=0, high=0.9)
    seed: int = setting(0, low=0, high=2**31 - 1)
    overwrite: bool = False


@dataclass(frozen=True)
class TrainSegmenterConfig(JobConfig):
    """Chip dataset → FCN or U-Net model file."""

    chips: str
    output: str
    report: str | None = None
    architecture: str = setting("unet", choices=ARCHITECTURES)
    encoder: str = setting("resnet18", choices=ENCODERS)
    encoder_weights: str | None = None  # a .safetensors or .pth file
    download_weights: bool = False  # ImageNet weights of the encoder from its hub, only at the user's word
    epochs: int | None = setting(None, low=1, high=100000)  # None = by the amount of chips, see training/schedule.py
    batch_size: int = setting(8, low=1, high=4096)
    learning_rate: float = setting(1e-3, low=1e-8, high=10)  # the peak of the one-cycle schedule
    weight_decay: float = setting(1e-2, low=0, high=1)
    class_weights: str = setting("root", choices=CLASS_WEIGHTS)
    augment: bool = True  # flips and quarter turns
    # Each band of a chip is made up to this share brighter or darker, and richer or poorer in contrast.
    radiometric_jitter: float = setting(0.0, low=0, high=1)
    patience: int = setting(10, low=0, high=100000)  # epochs without a better one; 0 never stops early
    mixed_precision: bool = True  # on a GPU
    device: str = "auto"  # auto, cpu, cuda, cuda:n
    seed: int = setting(0, low=0, high=2**31 - 1)


@dataclass(frozen=True)
class SegmentRasterConfig(JobConfig):
    """Raster + model file → class raster, and class probabilities where wanted."""

    input: str
    model: str
    output: str
    probabilities: str | None = None
    bands: tuple[int, ...] = ()  # the raster's band for each band of the model, from 1; empty = by name, else in order
    extent: tuple[float, ...] | None = None  # bounds in the raster's CRS
    area: str | None = None  # polygons, a GeoPackage in the raster's CRS
    # What the project calls the classes is in the model; nothing here changes it.
    # Trained networks look far: beside the edges of tiles of 512 with a halo of 64, 3 % of a real map's pixels had
    # another class than in one piece, here 0.5 %, in the same memory and a fifth more time.
    tile_size: int = setting(1024, low=32, high=16384)
    halo: int = setting(192, low=0, high=2048)
    batch_size: int = setting(1, low=1, high=4096)
    device: str = "auto"


@dataclass(frozen=True)
class StatusConfig(JobConfig):
    """What the worker's Python offers."""
