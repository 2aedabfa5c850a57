"""Normalises raster values for networks, in the same way in training and in mapping."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Maximum distance from the mean in standard deviations. Measured values stay inside (33 in a real scene); an undeclared
# fill value would dominate everything around it.
BOUND = 50.0
# Types that a GPU converts to float32 while it computes something else.
CONVERTED = (torch.uint8, torch.int16, torch.int32)


class Normaliser:
    """Scales each band to mean 0 and standard deviation 1 over the training chips, within ±`BOUND`; missing values are
    0.

    Args:
        mean, std: One number per band, in the raster's units. A constant band (std 0) is 0 everywhere, because the
            network has not learned what other values mean.
        device: Device of the batches.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)[:, None, None]  # (B, 1, 1)
        scale = [1 / value if value > 0 else 0.0 for value in std]
        self.scale = torch.tensor(scale, dtype=torch.float32, device=device)[:, None, None]
        ends = [abs(end - middle) * factor for middle, factor in zip(mean, scale) for end in (0, 255)]
        self.reach = max(ends)  # of bytes, in standard deviations

    def __call__(self, batch: torch.Tensor, missing: torch.Tensor | None = None) -> torch.Tensor:
        """(N, B, H, W) values of any data type, and bool of the same shape where they are missing → float32, same
        shape.
        """
        values = torch.sub(batch if batch.dtype in CONVERTED else batch.to(torch.float32), self.mean).mul_(self.scale)
        if batch.dtype.is_floating_point:  # the difference may overflow to infinity, and infinity × 0 is NaN
            values.nan_to_num_(nan=0.0)
        if batch.dtype is not torch.uint8 or self.reach > BOUND:
            values.clamp_(-BOUND, BOUND)
        return values if missing is None else values.masked_fill_(missing, 0.0)


def missing_values(batch: torch.Tensor, nodata: float | None) -> torch.Tensor | None:
    """Find missing values in a batch, as `raster_io.missing_values`, but with one `nodata` for all bands.

    Returns:
        Bool of the batch's shape; None if nothing is missing. On a GPU the mask may be all false, because checking that
        would make the CPU wait.
    """
    missing = None
    if batch.dtype.is_floating_point:
        missing = ~batch.isfinite()
    if nodata is not None and _can_hold(batch.dtype, nodata):
        # Filled in there: a number that is copied to a GPU makes the CPU wait.
        here = batch == torch.full((), nodata, dtype=batch.dtype, device=batch.device)
        missing = here if missing is None else missing.logical_or_(here)
    if missing is None or (missing.device.type == "cpu" and not missing.any()):
        return None
    return missing


def _can_hold(dtype: torch.dtype, value: float) -> bool:
    """Return whether a data type can represent a number, as `raster_io.can_hold`."""
    if dtype.is_floating_point:
        return value == value
    limits = torch.iinfo(dtype)
    return value == value and limits.min <= value <= limits.max and value == int(value)
