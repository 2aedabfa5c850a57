"""Reads pretrained weights from untrusted files, with what is known about the bands of their network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import torch
from safetensors.torch import load

from .. import probe
from ..errors import EngineError, InputError, first_line
from ..strangers.checkpoints import check_checkpoint
from .header import KEY, ModelHeader, metadata_in
from .weights_path import check_weights_path
from .whole_file import read_whole

NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Weights:
    """Tensors by name.

    Attributes:
        tensors: On the CPU.
        source: Where they come from, for messages.
        band_names: Bands of the network, from a model file of Terrazzo; None if unknown.
        wavelengths: Wavelengths of these bands in nm, None if one is unknown; empty if all are.
        stds: Standard deviations of the bands as the network saw them; None if unknown.
    """

    tensors: Mapping[str, torch.Tensor]
    source: str
    band_names: tuple[str, ...] | None = None
    wavelengths: tuple[float | None, ...] = ()
    stds: tuple[float, ...] | None = None

    def channel_names(self, channels: int) -> tuple[str, ...] | None:
        """Return the names of the first layer's channels; None if unknown.

        Raises:
            InputError: The file names another number of bands.
        """
        if self.band_names is not None and len(self.band_names) != channels:
            raise InputError(
                f"{self.source} is damaged: it names {len(self.band_names)} bands, but its first layer has {channels} "
                "channels.",
                "Choose another file.",
            )
        return self.band_names


def read_weights(path: str, sha256: str = "") -> Weights:
    """Read a file of tensors without executing anything in it.

    Args:
        path: The file.
        sha256: The expected beginning of its SHA-256.

    Raises:
        InputError: The file does not exist, has another SHA-256, contains anything other than named numeric tensors, or
            the installed PyTorch cannot read it safely.
        ResourceError: It does not fit into memory.
    """
    check_weights_path(path)
    if not path.lower().endswith(".safetensors"):
        check_pickles(path)
    try:
        data = read_whole(path)
        if not hashlib.sha256(data).hexdigest().startswith(sha256):
            raise InputError(f"The weights file {path} is damaged.", "Remove it, and download it again.")
        if path.lower().endswith(".safetensors"):
            content, metadata = load(data), metadata_in(data)
        else:
            check_checkpoint(data)
            content, metadata = torch.load(BytesIO(data), map_location="cpu", weights_only=True), {}
    except FileNotFoundError as error:
        raise InputError(f"There is no weights file {path}.", "Check ENCODER_WEIGHTS.") from error
    except EngineError:
        raise
    except Exception as error:  # torch's reader raises many kinds of errors on garbage
        reason = first_line(error)
        if not path.lower().endswith(".safetensors"):  # torch's own message advises to execute the file's content
            reason = "it is not a PyTorch file, or contains more than tensors"
        raise InputError(
            f"The weights file {path} cannot be read ({reason}).",
            "Choose a .safetensors file, or a .pth file of tensors only.",
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {str(key): value for key, value in content.items() if torch.is_tensor(value)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise InputError(f"The weights file {path} contains no named tensors.", "Choose a file with a state dict.")
    claimed = 0
    for key, value in tensors.items():
        fault = find_fault(key, value)
        claimed += value.numel() * value.element_size()
        if fault is None and claimed > 2 * len(data):  # thousands may share the storage of one of them
            fault = "its tensors claim to be larger than everything stored"
        if fault is not None:
            raise InputError(f"The weights file {path} cannot be used: {fault}.", "Choose another file.")
    bands = ModelHeader.from_metadata(metadata[KEY], path).band_names if KEY in metadata else None
    return Weights(tensors, path, bands)


def check_pickles(source: str) -> None:
    """Refuse PyTorch's own format if the installed PyTorch cannot read it safely.

    Args:
        source: Name of the file, for the message.

    Raises:
        InputError: PyTorch is too old.
    """
    if probe.parse(torch.__version__) < probe.OLDEST_TORCH_FOR_PTH:
        needed = probe.spell(probe.OLDEST_TORCH_FOR_PTH)
        raise InputError(
            f"{source} is in PyTorch's own format, which may contain code that PyTorch {torch.__version__} would "
            "execute.",
            f"Choose a .safetensors file, or a Python with PyTorch {needed} or newer (see Check the set-up).",
        )


def find_fault(name: str, tensor: torch.Tensor) -> str | None:
    """Return why a network cannot compute with a tensor; None if it can."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return f"{name} is not stored as a plain table of numbers"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"{name} claims to be larger than its stored values"
    if not tensor.is_floating_point() and not tensor.is_complex():
        return None
    if tensor.dtype not in NUMBERS:
        return f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}"
    if not torch.isfinite(tensor.to(torch.float32)).all():
        return f"{name} contains NaN or infinite values"
    if name.endswith("running_var") and (tensor < 0).any():
        return f"{name} holds negative variances"
    return None
