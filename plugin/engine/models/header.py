"""The header of a model file: all that is needed to use the weights, readable without torch.

A model file is a `.safetensors` file. Its metadata holds one JSON text under the key "terrazzo"; see
`ModelHeader` for the fields. Nothing in it is ever executed or unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..classes import ClassTable
from ..errors import InputError

FORMAT_VERSION = 1
KEY = "terrazzo"
# safetensors' own limit for its header.
MAX_HEADER_BYTES = 100_000_000


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
    training: dict[str, Any] = field(default_factory=dict)  # the settings of the job
    history: list[dict[str, Any]] = field(default_factory=list)  # one record an epoch
    metrics: dict[str, Any] = field(default_factory=dict)  # of the best epoch, per split
    dataset_fingerprint: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    finished: bool = True  # false in a checkpoint
    license: str = ""
    description: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)  # the shape of a teaching network, see classifier_arguments
    threshold: Optional[float] = None  # the probability from which a class counts; None takes the likeliest
    placement: dict[str, Any] = field(default_factory=dict)  # how the training chips were laid out, see DatasetInfo
    format_version: int = FORMAT_VERSION

    def to_metadata(self) -> dict[str, str]:
        """The metadata dictionary of the safetensors file."""
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        values["classes"] = self.classes.to_json()
        return {KEY: json.dumps(values, allow_nan=False)}

    @classmethod
    def from_metadata(cls, text: str, path: str) -> ModelHeader:
        """Read what `to_metadata` wrote.

        Raises:
            InputError: The text is not a header of this version.
        """
        try:
            values = json.loads(text)
            version = values["format_version"]
            if version > FORMAT_VERSION:
                raise InputError(
                    f"The model file {path} has format {version}, and this Terrazzo reads up to {FORMAT_VERSION}.",
                    "Update Terrazzo.",
                )
            known = {spec.name for spec in dataclasses.fields(cls)}
            values = {name: value for name, value in values.items() if name in known}
            values["classes"] = ClassTable.from_json(values["classes"])
            for name in ("band_names", "mean", "std"):
                values[name] = tuple(values[name])
            header = cls(**values)
            if not (len(header.mean) == len(header.std) == len(header.band_names) > 0 and len(header.classes) > 0):
                raise ValueError("bands and their statistics differ in number")
            return header
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"The header of the model file {path} is damaged ({error}).",
                "Choose another model file, or train again.",
            ) from error


def read_header(path: str) -> ModelHeader:
    """Read the header of a model file; needs the standard library only.

    Raises:
        InputError: There is no such file, it is truncated, is no safetensors file, or was not made by Terrazzo.
    """
    try:
        size = Path(path).stat().st_size
        with open(path, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("its first bytes are not those of a safetensors file")
            table = json.loads(file.read(length).decode("utf-8"))
        metadata = table.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in table.values()), default=0)
    except FileNotFoundError as error:
        raise InputError(f"There is no model file {path}.", "Check the path.") from error
    except OSError as error:
        raise InputError(
            f"The model file {path} cannot be read ({error.strerror}).", "Check its permissions."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
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
