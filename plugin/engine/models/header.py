"""The header of a model file: everything needed to use its weights, readable without torch.

A model file is a `.safetensors` file. Its metadata contains a JSON text under the key "terrazzo": `format_version`, and
the fields of `ModelHeader` in the sections of `SECTIONS`. Nothing in it is ever executed or unpickled.

Format 2 has sections; format 1 had all fields at the top level, and "training" instead of "recipe". Both can be read.
"""

from __future__ import annotations

import dataclasses
import json
import os
import reprlib
import struct
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Optional

from ..classes import ClassTable
from ..errors import InputError
from ..strangers.crs import fault_of_crs
from ..strangers.paths import open_plain
from ..strangers.rules import (
    DAMAGES,
    DTYPES,
    LARGEST,
    LARGEST_FLOAT,
    Rule,
    find_fault,
    is_name,
    is_std,
    of_type,
    or_none,
    read_classes,
    whole,
    within,
)
from ..strangers.texts import parse_json
from ..tasks import NUMBER_TASKS

FORMAT_VERSION = 2
KEY = "terrazzo"
# Tensors of a checkpoint that are no weights of the model, see `training.checkpoint`.
STATE_PREFIX = "training."
# The limit of safetensors for its own header.
MAX_HEADER_BYTES = 100_000_000
LARGEST_CHIP = 65536


@dataclass(frozen=True)
class ModelHeader:
    """The description of a model in its file."""

    task: str  # one of tasks.SEGMENTER_TASKS or tasks.CLASSIFIER_TASKS
    architecture: str
    encoder: str  # empty for classifiers
    band_names: tuple[str, ...]
    dtype: str  # NumPy's name of the data type of the training rasters
    nodata: Optional[float]
    mean: tuple[float, ...]  # of each band over the training chips, in the raster's units
    std: tuple[float, ...]
    classes: ClassTable
    chip_size: int  # pixels
    pixel_size: float  # CRS units
    crs: str  # WKT2
    recipe: dict[str, Any] = field(default_factory=dict)  # settings of the training, by name
    history: list[dict[str, Any]] = field(default_factory=list)  # one record per epoch
    metrics: dict[str, Any] = field(default_factory=dict)  # of the best epoch, by split
    dataset_fingerprint: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    finished: bool = True  # false in a checkpoint
    license: str = ""
    description: str = ""
    # Arguments of the network, see `classifier_arguments`; empty for its defaults.
    arguments: dict[str, Any] = field(default_factory=dict)
    threshold: Optional[float] = None  # probability from which a class counts; None takes the likeliest
    placement: dict[str, Any] = field(default_factory=dict)  # how the training chips were placed, see DatasetInfo
    # (scale, offset) of each band, see DatasetInfo; empty if the training rasters declare none
    scales: tuple[tuple[float, float], ...] = ()
    # Whether a segmentation network's prediction for a pixel depends on its whole input, see reach; None = unknown.
    whole_window: Optional[bool] = None
    # How many pixels get another answer at the edges of tiles, see reach.seam_costs; empty = unknown.
    seams: tuple[float, ...] = ()
    temperature: Optional[float] = None  # by which logits are divided, see training/calibration.py; None = 1
    # Of numbers: mean, std, minimum, maximum of the target over the training chips; the network gives
    # (value − mean) / std. None for classes.
    target: Optional[dict[str, float]] = None

    @property
    def outputs(self) -> int:
        """The number of values that the network gives for a pixel or chip."""
        return len(self.classes) if self.target is None else 1

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata dictionary of the safetensors file."""
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        values["classes"] = self.classes.to_json()
        sections = {section: {name: values[name] for name in names} for section, names in SECTIONS.items()}
        return {KEY: json.dumps({"format_version": FORMAT_VERSION, **sections}, allow_nan=False)}

    @classmethod
    def from_metadata(cls, text: str, path: str) -> ModelHeader:
        """Parse the result of `to_metadata`.

        Args:
            text: The JSON text.
            path: Path of the file, for messages.

        Raises:
            InputError: The text is not a header of this version.
        """
        try:
            values = parse_json(text.encode("utf-8"))
            version = values["format_version"]
            if not whole(1, 10**9)(version):
                raise ValueError(f"its format is {reprlib.repr(version)}")
            if version > FORMAT_VERSION:
                raise InputError(
                    f"The model file {path} has format {reprlib.repr(version)}, but this version of Terrazzo reads "
                    f"formats up to {FORMAT_VERSION}.",
                    "Update Terrazzo.",
                )
            values = _flat_1(values) if version == 1 else _flat(values)
            values["classes"] = read_classes(values["classes"])
            for name in ("band_names", "mean", "std"):
                values[name] = tuple(values[name])
            values["seams"] = tuple(values.get("seams", ()))
            values["scales"] = tuple((scale, offset) for scale, offset in values.get("scales", ()))
            header = cls(**values)
            fault = _find_fault(header)
            if fault is not None:
                raise ValueError(fault)
            return header
        except DAMAGES as error:
            raise InputError(
                f"The header of the model file {path} is damaged ({error}).",
                "Choose another model file, or train again.",
            ) from error


# Section of the JSON text → its fields. A field belongs to one section.
SECTIONS = {
    "network": ("architecture", "encoder", "arguments", "whole_window"),
    "input": (
        "band_names", "dtype", "nodata", "mean", "std", "scales", "chip_size", "pixel_size", "crs", "placement",
    ),
    "output": ("task", "classes", "threshold", "temperature", "target", "seams"),
    "training": ("recipe", "history", "metrics", "dataset_fingerprint", "versions", "finished"),
    "about": ("license", "description"),
}  # fmt: skip


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of all sections. What a later Terrazzo added is left out, but for what shapes the network."""
    wrong = [section for section in SECTIONS if not isinstance(values.get(section), dict)]
    if wrong:
        raise ValueError(f"its section {wrong[0]} is missing")
    unknown = sorted(set(values["network"]) - set(SECTIONS["network"]))
    if unknown:
        raise ValueError(f"its network has {', '.join(unknown)}, which this Terrazzo does not know")
    return {
        name: values[section][name] for section, names in SECTIONS.items() for name in names if name in values[section]
    }


def _flat_1(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a header of format 1."""
    known = {name for names in SECTIONS.values() for name in names}
    return {"recipe": values.get("training", {}), **{name: values[name] for name in known & set(values)}}


def read_header(path: str, content: Optional[bytes] = None) -> ModelHeader:
    """Read the header of a model file; needs only the standard library.

    Args:
        path: The file.
        content: Its content, if it has already been read; the file itself is then not opened.

    Raises:
        InputError: The file does not exist, is truncated, is not a safetensors file, or was not written by Terrazzo.
    """
    try:
        with open_plain(path) if content is None else BytesIO(content) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("it does not start like a safetensors file")
            table = parse_json(file.read(length))
        metadata = table.pop("__metadata__", {})
        end = max((int(entry["data_offsets"][1]) for entry in table.values()), default=0)
    except FileNotFoundError as error:
        raise InputError(f"There is no model file {path}.", "Check the path.") from error
    except OSError as error:
        raise InputError(
            f"The model file {path} cannot be read ({error.strerror}).", "Check its permissions."
        ) from error
    except DAMAGES as error:
        raise InputError(
            f"{path} is not a model file of Terrazzo ({error}).",
            "Choose a .safetensors file that Terrazzo has trained.",
        ) from error
    if 8 + length + end != size:
        raise InputError(
            f"The model file {path} is truncated: it has {size} of {8 + length + end} bytes.",
            "Copy it again from its source, or train again.",
        )
    if not isinstance(metadata, dict) or KEY not in metadata:
        raise InputError(
            f"{path} contains weights, but no description of a Terrazzo model.",
            "Choose a model file that Terrazzo has trained; other weights can be used as ENCODER_WEIGHTS in training.",
        )
    return ModelHeader.from_metadata(metadata[KEY], path)


def metadata_in(content: bytes) -> dict[str, str]:
    """Return the metadata of a complete, valid `.safetensors` file."""
    (length,) = struct.unpack("<Q", content[:8])
    found: dict[str, str] = parse_json(content[8 : 8 + length]).get("__metadata__") or {}
    return found


def _find_fault(header: ModelHeader) -> Optional[str]:
    """Return what is wrong with the values of a header; None if they are valid."""
    if not len(header.mean) == len(header.std) == len(header.band_names) > 0:
        return "bands and their statistics differ in number"
    if len(header.scales) not in (0, len(header.band_names)):
        return "bands and their scales differ in number"
    if (header.task in NUMBER_TASKS) != (header.target is not None):
        return f"it is for {header.task} and has {'no' if header.target is None else 'a'} target"
    if header.target is None and not len(header.classes):
        return "it has 0 classes"
    rules: list[Rule] = [
        ("a band name", header.band_names, is_name),
        ("a mean", header.mean, within(-LARGEST, LARGEST)),
        ("a deviation", header.std, is_std),
        ("a record of its history", header.history, of_type(dict)),
        ("its data type", [header.dtype], DTYPES.__contains__),
        ("its CRS", [header.crs], lambda value: fault_of_crs(value) is None),
        ("its chip size", [header.chip_size], whole(1, LARGEST_CHIP)),
        ("its pixel size", [header.pixel_size], within(1e-15, 1e15)),
        ("its nodata", [header.nodata], or_none(within(-LARGEST_FLOAT, LARGEST_FLOAT))),
        ("a scale", [scale for scale, _ in header.scales], lambda value: within(-LARGEST, LARGEST)(value) and value),
        ("an offset", [offset for _, offset in header.scales], within(-LARGEST, LARGEST)),
        ("its whole_window", [header.whole_window], or_none(of_type(bool))),
        ("its threshold", [header.threshold], or_none(within(0, 1))),
        ("its seams", header.seams, within(0, LARGEST_CHIP)),
        ("its temperature", [header.temperature], or_none(within(1e-3, 1e3))),
        ("its target", [header.target], or_none(_is_target)),
    ]
    return find_fault([*_types(header), *rules])


def _is_target(value: Any) -> bool:
    """Whether a value is the statistics of a target."""
    finite = within(-LARGEST_FLOAT, LARGEST_FLOAT)
    return (
        isinstance(value, dict)
        and value.keys() == {"mean", "std", "minimum", "maximum"}
        and all(map(finite, value.values()))
        and value["std"] > 0
    )


def _types(header: ModelHeader) -> list[Rule]:
    return [
        (f"its {name}", [getattr(header, name)], of_type(kind))
        for kind, names in (
            (str, ("task", "architecture", "encoder", "dtype", "crs", "dataset_fingerprint", "license", "description")),
            (dict, ("recipe", "metrics", "versions", "arguments", "placement")),
            (list, ("history",)),
            (bool, ("finished",)),
        )
        for name in names
    ]
