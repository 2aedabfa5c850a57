"""The type of number that a network calculates with: 16 bits where the device has them and they are faster."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

BFLOAT16_FROM = 8, 0  # compute capability: NVIDIA's Ampere
# On a processor bfloat16 is used if it makes a step so many times as fast. With AMX, a training step of U-Net with
# ResNet-34 becomes 1.9 times as fast and one of EfficientNet-Lite0 1.2 times.
WORTHWHILE = 1.15


def precision(device: torch.device, mixed: bool) -> torch.dtype | None:
    """Choose the type for a device: bfloat16 on GPUs that have it, else float16; float32 on most processors.

    Returns:
        The type; None on a processor where `measure` must tell.
    """
    if not mixed:
        return torch.float32
    if device.type == "cuda":
        # Asked for by the card's generation: torch also says yes where it only imitates bfloat16, slowly.
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= BFLOAT16_FROM else torch.float16
    return None if has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16: AMX or AVX-512 BF16.

    The functions of torch that tell are private; without them the answer is no.
    """
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check is not None)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A block whose operations on the device are calculated in `dtype` where that is safe."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


@contextmanager
def all_digits() -> Iterator[None]:
    """A block in which GPUs calculate convolutions of float32 with all of its digits, not with the three of TF32."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    with warnings.catch_warnings():
        # PyTorch 2.9 and later have a new setting beside this one, and refuse to read one where the other was changed.
        warnings.filterwarnings("ignore", "Please use the new API settings to control TF32 behavior")
        cudnn.allow_tf32 = False
        try:
            yield
        finally:
            cudnn.allow_tf32 = before
