"""Pretrained weights: tensors from a file that nobody vouches for, and what is known of the bands they saw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import torch
from safetensors.torch import load

from .. import probe
from ..errors import EngineError, InputError
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
        band_names: The bands that the network saw, which a model file of Terrazzo tells; None where nobody does.
        wavelengths: Of these bands in nm, None where one is not known; empty where none is.
        stds: The standard deviations of the bands as the network saw them; None where nobody tells.
    """

    tensors: Mapping[str, torch.Tensor]
    source: str
    band_names: tuple[str, ...] | None = None
    wavelengths: tuple[float | None, ...] = ()
    stds: tuple[float, ...] | None = None

    def channel_names(self, channels: int) -> tuple[str, ...] | None:
        """The names of the channels of the first layer; None where nobody tells.

        Raises:
            InputError: The file names another number of bands.
        """
        if self.band_names is not None and len(self.band_names) != channels:
            raise InputError(
                f"{self.source} is damaged: it names {len(self.band_names)} bands, and its first layer takes "
                f"{channels} channels.",
                "Choose another file.",
            )
        return self.band_names


def read_weights(path: str, sha256: str = "") -> Weights:
    """Read a file of tensors without running anything in it.

    Args:
        sha256: How the file's SHA-256 must begin.

    Raises:
        InputError: There is no such file, it is another than the one that is wanted, it holds something else than
            named tensors of numbers, or this PyTorch is too old to be trusted with it.
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
    except Exception as error:  # on garbage, torch's reader fails in a dozen ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not path.lower().endswith(".safetensors"):  # torch's own words advise to run what is in the file
            reason = "it is no PyTorch file, or holds more than tensors"
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
        raise InputError(f"The weights file {path} holds no named tensors.", "Choose a file with a state dict.")
    claimed = 0
    for key, value in tensors.items():
        fault = find_fault(key, value)
        claimed += value.numel() * value.element_size()
        if fault is None and claimed > 2 * len(data):  # thousands may share what one of them stores
            fault = "its tensors claim to be larger than all that is stored"
        if fault is not None:
            raise InputError(f"The weights file {path} cannot be used: {fault}.", "Choose another file.")
    bands = ModelHeader.from_metadata(metadata[KEY], path).band_names if KEY in metadata else None
    return Weights(tensors, path, bands)


def check_pickles(source: str) -> None:
    """Refuse PyTorch's own format where the installed PyTorch does not read it safely.

    Raises:
        InputError: It is too old.
    """
    if probe.parse(torch.__version__) < probe.OLDEST_TORCH_FOR_PTH:
        needed = probe.spell(probe.OLDEST_TORCH_FOR_PTH)
        raise InputError(
            f"{source} is a file of PyTorch's own format, which could harm PyTorch {torch.__version__}.",
            f"Choose a .safetensors file, or a Python with PyTorch {needed} or newer (see Check the set-up).",
        )


def find_fault(name: str, tensor: torch.Tensor) -> str | None:
    """Why a network cannot calculate with a tensor, in words that name it; None where it can."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return f"{name} is not stored as a plain table of numbers"
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        return f"{name} claims to be larger than what is stored of it"
    if not tensor.is_floating_point() and not tensor.is_complex():
        return None
    if tensor.dtype not in NUMBERS:
        return f"{name} is of type {str(tensor.dtype).removeprefix('torch.')}"
    if not torch.isfinite(tensor.to(torch.float32)).all():
        return f"{name} holds values that are no numbers"
    if name.endswith("running_var") and (tensor < 0).any():
        return f"{name} holds negative variances"
    return None
