"""What a network sees of the values in a raster: the same in training and in mapping."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class Normaliser:
    """Scales each band to mean 0 and standard deviation 1 over the training chips; missing values become 0.

    Args:
        mean, std: One number a band, in the raster's units. A constant band (std 0) is 0 everywhere,
            for what it means to have another value was never learned.
        device: Where the batches are.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)[:, None, None]  # (B, 1, 1)
        scale = [1 / value if value > 0 else 0.0 for value in std]
        self.scale = torch.tensor(scale, dtype=torch.float32, device=device)[:, None, None]

    def __call__(self, batch: torch.Tensor, missing: torch.Tensor | None = None) -> torch.Tensor:
        """(N, B, H, W) values of any data type, and bool of that shape where they are missing → float32, same shape."""
        values = (batch.to(torch.float32) - self.mean) * self.scale
        if missing is not None:
            values = values.masked_fill(missing, 0.0)
        if batch.dtype.is_floating_point:  # NaN and infinity say nothing, even where no nodata value is set
            values = torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        return values


def missing_values(batch: torch.Tensor, nodata: float | None) -> torch.Tensor | None:
    """Bool of the batch's shape, true where it holds `nodata`; None where it cannot. NaN is `Normaliser`'s to find."""
    if nodata is None or nodata != nodata:
        return None
    if not batch.dtype.is_floating_point:
        limits = torch.iinfo(batch.dtype)
        if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
            return None
    return batch == torch.tensor(nodata, dtype=batch.dtype, device=batch.device)
