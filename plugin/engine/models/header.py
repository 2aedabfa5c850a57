"""The header of a model file: all that is needed to use the weights, readable without torch.

A model file is a `.safetensors` file. Its metadata holds one JSON text under the key "terrazzo": `format_version`, and
the fields of `ModelHeader` in the sections of `SECTIONS`. Nothing in it is ever executed or unpickled.

Format 2 has sections; format 1 had all fields side by side, and called the recipe "training". Both are read.
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

FORMAT_VERSION = 2
KEY = "terrazzo"
# safetensors' own limit for its header.
MAX_HEADER_BYTES = 100_000_000
LARGEST_CHIP = 65536


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says of itself."""

    task: str  # "segmentation", "classification" (one class a chip) or "multilabel" (any number of classes a chip)
    architecture: str
    encoder: str  # empty for classifiers
    band_names: tuple[str, ...]
    dtype: str  # numpy's name of the data type of the training rasters
    nodata: Optional[float]
    mean: tuple[float, ...]  # of each band over the training chips, in the raster's units
    std: tuple[float, ...]
    classes: ClassTable
    chip_size: int  # pixels
    pixel_size: float  # CRS units
    crs: str  # WKT2
    recipe: dict[str, Any] = field(default_factory=dict)  # the settings of the training, by name
    history: list[dict[str, Any]] = field(default_factory=list)  # one record an epoch
    metrics: dict[str, Any] = field(default_factory=dict)  # of the best epoch, per split
    dataset_fingerprint: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    finished: bool = True  # false in a checkpoint
    license: str = ""
    description: str = ""
    # What the network is made with beside its name, see `classifier_arguments`; empty = all as the network has it.
    arguments: dict[str, Any] = field(default_factory=dict)
    threshold: Optional[float] = None  # the probability from which a class counts; None takes the likeliest
    placement: dict[str, Any] = field(default_factory=dict)  # how the training chips were laid out, see DatasetInfo
    # (scale, offset) of each band, see DatasetInfo; empty where the training rasters declare none
    scales: tuple[tuple[float, float], ...] = ()
    # Whether what a segmentation network says of a pixel depends on all that it is shown, see reach; None = not known.
    whole_window: Optional[bool] = None

    def to_metadata(self) -> dict[str, str]:
        """The metadata dictionary of the safetensors file."""
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        values["classes"] = self.classes.to_json()
        sections = {section: {name: values[name] for name in names} for section, names in SECTIONS.items()}
        return {KEY: json.dumps({"format_version": FORMAT_VERSION, **sections}, allow_nan=False)}

    @classmethod
    def from_metadata(cls, text: str, path: str) -> ModelHeader:
        """Read what `to_metadata` wrote.

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
                    f"The model file {path} has format {reprlib.repr(version)}, and this Terrazzo reads up to "
                    f"{FORMAT_VERSION}.",
                    "Update Terrazzo.",
                )
            values = _flat_1(values) if version == 1 else _flat(values)
            values["classes"] = read_classes(values["classes"])
            for name in ("band_names", "mean", "std"):
                values[name] = tuple(values[name])
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
    "output": ("task", "classes", "threshold"),
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
    """Read the header of a model file; needs the standard library only.

    Args:
        path: The file.
        content: What is in it, where it has been read; the file itself is not looked at then.

    Raises:
        InputError: There is no such file, it is truncated, is no safetensors file, or was not made by Terrazzo.
    """
    try:
        with open_plain(path) if content is None else BytesIO(content) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("its first bytes are not those of a safetensors file")
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
            f"{path} is no model file of Terrazzo ({error}).", "Choose a .safetensors file that Terrazzo trained."
        ) from error
    if 8 + length + end != size:
        raise InputError(
            f"The model file {path} is truncated: it should have {8 + length + end} bytes and has {size}.",
            "Copy it again from where it came from, or train again.",
        )
    if not isinstance(metadata, dict) or KEY not in metadata:
        raise InputError(
            f"{path} holds weights, but no description of a Terrazzo model.",
            "Choose a model file that Terrazzo trained; bare weights go into ENCODER_WEIGHTS when training.",
        )
    return ModelHeader.from_metadata(metadata[KEY], path)


def metadata_in(content: bytes) -> dict[str, str]:
    """The metadata of a whole and sound `.safetensors` file."""
    (length,) = struct.unpack("<Q", content[:8])
    found: dict[str, str] = parse_json(content[8 : 8 + length]).get("__metadata__") or {}
    return found


def _find_fault(header: ModelHeader) -> Optional[str]:
    """What is wrong with the values of a header, in words; None where a job can rely on them."""
    if not len(header.mean) == len(header.std) == len(header.band_names) > 0:
        return "bands and their statistics differ in number"
    if len(header.scales) not in (0, len(header.band_names)):
        return "bands and their scales differ in number"
    if not len(header.classes):
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
    ]
    return find_fault([*_types(header), *rules])


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
